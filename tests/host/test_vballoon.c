/* The balloon, and through it the PCI function and the virtio transport, register by register. */
#include <stdlib.h>
#include <string.h>
#include "core/reclaim.h"
#include "dev/virtio.h"
#include "pc.h"

#define SLOT 2
#define BAR  UINT64_C(0xc0000000)

#define COMMON BAR
#define ISR    (BAR + 0x1000)
#define DEVICE (BAR + 0x2000)
#define NOTIFY (BAR + 0x3000)

#define COMMAND  0x04
#define BAR0     0x10
#define IRQ_LINE 0x3c
#define MEMORY   2
#define NO_INTX  0x400

/* Of the common structure. */
#define FEATURE_SELECT 0x00
#define FEATURES       0x04
#define DRIVER_SELECT  0x08
#define DRIVER         0x0c
#define STATUS         0x14
#define GENERATION     0x15
#define QUEUE          0x16
#define SIZE           0x18
#define ENABLE         0x1c
#define NOTIFY_OFFSET  0x1e
#define DESC           0x20
#define AVAIL          0x28
#define USED           0x30

#define NEEDS_RESET 0x40

/* The queues' parts in guest memory, one page each. */
#define RING(q) (0x10000 + (q)*0x3000)
#define NUMBERS 0x30000
#define GSI     18 /* slot 2, pin A */
#define VECTOR  0x61
#define ISA_IRQ 11

static struct fixture *f;

static uint32_t config_read(unsigned reg, unsigned size)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | SLOT << 11 | (reg & 0xfc));
    return (uint32_t)fixture_in(f, (uint16_t)(0xcfc + reg % 4), size);
}

static void config_write(unsigned reg, unsigned size, uint32_t value)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | SLOT << 11 | (reg & 0xfc));
    fixture_out(f, (uint16_t)(0xcfc + reg % 4), size, value);
}

static uint64_t get(uint64_t reg, unsigned size)
{
    return fixture_mmio_read(f, reg, size);
}

static void set(uint64_t reg, unsigned size, uint64_t value)
{
    fixture_mmio_write(f, reg, size, value);
}

static int setup(void **state)
{
    (void)state;
    f = pc_create(1);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    pc_route(f, GSI, VECTOR | 1 << 15); /* level */
    config_write(BAR0, 4, BAR);
    config_write(COMMAND, 2, MEMORY);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

/* Rings and a driver that has said DRIVER_OK. */
static void set_up_queue(unsigned q, unsigned size)
{
    set(COMMON + QUEUE, 2, q);
    set(COMMON + SIZE, 2, size);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t zero = 0;

        set(COMMON + DESC + 4 * i, 4, i == 0 ? RING(q) : 0);
        set(COMMON + AVAIL + 4 * i, 4, i == 0 ? RING(q) + 0x1000 : 0);
        set(COMMON + USED + 4 * i, 4, i == 0 ? RING(q) + 0x2000 : 0);
        assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(q) + 0x1000 * (i + 1)), &zero, 8), 0);
    }
    set(COMMON + ENABLE, 2, 1);
}

static void start_driver_with(unsigned queue_size)
{
    set(COMMON + STATUS, 1, 3);
    set(COMMON + DRIVER_SELECT, 4, 1);
    set(COMMON + DRIVER, 4, 1);
    set(COMMON + STATUS, 1, 11);
    assert_int_equal(get(COMMON + STATUS, 1), 11);
    set_up_queue(0, queue_size);
    set_up_queue(1, queue_size);
    set(COMMON + STATUS, 1, 15);
    assert_int_equal(get(COMMON + STATUS, 1), 15);
}

static void start_driver(void)
{
    start_driver_with(4);
}

struct descriptor {
    uint64_t gpa;
    uint32_t length;
    uint16_t flags, next;
};

static void put_descriptor(unsigned q, unsigned i, uint64_t gpa, uint32_t length, uint16_t flags,
                           uint16_t next)
{
    const struct descriptor d = {gpa, length, flags, next};

    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(q) + i * sizeof(d)), &d, sizeof(d)), 0);
}

static void offer(unsigned q, uint16_t index, uint16_t head)
{
    uint16_t next = index + 1;

    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(q) + 0x1004 + 2 * (index % 4)), &head, 2),
                     0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(q) + 0x1002), &next, 2), 0);
    set(NOTIFY, 2, q);
}

static uint16_t used_index(unsigned q)
{
    uint16_t index;

    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(RING(q) + 0x2002), &index, 2), 0);
    return index;
}

/* --- the PCI function ---------------------------------------------------------------------------
 */

static void the_function_says_what_it_is(void **state)
{
    (void)state;
    assert_int_equal(config_read(0x00, 4), 0x10451af4);
    assert_int_equal(config_read(0x08, 4), 0x00ff0001);
    assert_int_equal(config_read(0x0e, 1), 0);
    assert_int_equal(config_read(0x2c, 4), 0x00051af4);
    assert_int_equal(config_read(0x34, 1), 0x40);
    assert_int_equal(config_read(0x3d, 1), 1);
    config_write(0x00, 4, 0);
    config_write(0x34, 1, 0);
    assert_int_equal(config_read(0x00, 4), 0x10451af4);
    assert_int_equal(config_read(0x34, 1), 0x40);
    config_write(IRQ_LINE, 1, 11);
    assert_int_equal(config_read(IRQ_LINE, 1), 11);
}

static void the_capabilities_are_five_and_msix(void **state)
{
    unsigned at = config_read(0x34, 1), seen = 0;

    (void)state;
    while (config_read(at, 1) == 9) {
        unsigned type = config_read(at + 3, 1);

        assert_int_equal(config_read(at + 4, 1), 0); /* the range */
        assert_int_equal(config_read(at + 8, 4), type == 2   ? 0x3000
                                                 : type == 3 ? 0x1000
                                                 : type == 4 ? 0x2000
                                                             : 0);
        seen |= 1u << type;
        at = config_read(at + 1, 1);
    }
    assert_int_equal(seen, 0x3e);
    assert_int_equal(config_read(at, 4), 0x00020011); /* three vectors, the last capability */
    assert_int_equal(config_read(at + 4, 4), 1);      /* the table is in the second range */
    assert_int_equal(config_read(at + 8, 4), 0x801);
}

static void the_range_is_sized_and_moves(void **state)
{
    (void)state;
    assert_int_equal(get(COMMON + 0x12, 2), 2);
    config_write(COMMAND, 2, 0);
    assert_int_equal(get(COMMON + 0x12, 2), 0xffff);
    config_write(BAR0, 4, 0xffffffff);
    assert_int_equal(config_read(BAR0, 4), 0xffffc000);
    config_write(BAR0, 4, 0xd0000000);
    config_write(COMMAND, 2, MEMORY);
    assert_int_equal(get(0xd0000012, 2), 2);
    assert_int_equal(get(COMMON + 0x12, 2), 0xffff);
    config_write(BAR0 + 4, 4, 0xffffffff); /* MSI-X's table */
    assert_int_equal(config_read(BAR0 + 4, 4), 0xfffff000);
    config_write(BAR0 + 8, 4, 0xffffffff); /* there is no other */
    assert_int_equal(config_read(BAR0 + 8, 4), 0);
}

/* Sized with decoding on, or put over something else: it answers nowhere, and nobody is hurt. */
static void a_bad_place_is_no_place(void **state)
{
    uint64_t version = get(PLATFORM_LAPIC_BASE + 0x30, 4);

    (void)state;
    config_write(BAR0, 4, 0xffffffff);
    config_write(BAR0, 4, PLATFORM_LAPIC_BASE);
    assert_int_equal(get(PLATFORM_LAPIC_BASE + 0x30, 4), version);
    config_write(BAR0, 4, 0);
    config_write(BAR0, 4, BAR);
    assert_int_equal(get(COMMON + 0x12, 2), 2);
    assert_null(strstr(posix_host_log(f->host), "claims"));
}

static void a_move_without_memory_can_be_made_again(void **state)
{
    (void)state;
    for (long n = 0; n < 2; n++) {
        posix_host_fail_alloc(f->host, n);
        config_write(BAR0, 4, 0xd0000000);
        posix_host_fail_alloc(f->host, -1);
        config_write(BAR0, 4, BAR);
        assert_int_equal(get(COMMON + 0x12, 2), 2);
        assert_int_equal(get(0xd0000012, 2), 0xffff);
    }
}

static unsigned window(void)
{
    unsigned at = config_read(0x34, 1);

    while (config_read(at + 3, 1) != 5) {
        at = config_read(at + 1, 1);
    }
    return at;
}

static void the_window_reaches_the_range(void **state)
{
    unsigned at = window();

    (void)state;
    config_write(COMMAND, 2, 0); /* without decoding, too */
    config_write(at + 8, 4, 0x12);
    config_write(at + 12, 4, 2);
    assert_int_equal(config_read(at + 16, 2), 2);
    config_write(at + 8, 4, STATUS);
    config_write(at + 12, 4, 1);
    config_write(at + 16, 1, 3);
    assert_int_equal(config_read(at + 16, 1), 3);
    /* Lengths, offsets and ranges that are none. */
    for (uint32_t length = 0; length < 9; length += length == 2 ? 1 : 2) {
        config_write(at + 12, 4, length == 2 ? 3 : length);
        config_write(at + 8, 4, 0xfffffff1);
        config_read(at + 16, 4);
        config_write(at + 16, 4, 0);
    }
    config_write(at + 4, 1, 1);
    config_write(at + 8, 4, 0);
    config_write(at + 12, 4, 4);
    config_write(at + 16, 4, 5);
    config_write(COMMAND, 2, MEMORY);
    assert_int_equal(get(COMMON + FEATURE_SELECT, 4), 0);
    assert_int_equal(get(COMMON + STATUS, 1), 3);
}

/* --- the transport ------------------------------------------------------------------------------
 */

static void features_are_negotiated(void **state)
{
    (void)state;
    assert_int_equal(get(COMMON + FEATURES, 4), 4);
    set(COMMON + FEATURE_SELECT, 4, 1);
    assert_int_equal(get(COMMON + FEATURES, 4), 1);
    set(COMMON + FEATURE_SELECT, 4, 2);
    assert_int_equal(get(COMMON + FEATURES, 4), 0);
    assert_int_equal(get(COMMON + FEATURE_SELECT, 4), 2);
    set(COMMON + STATUS, 1, 11); /* of the old kind */
    assert_int_equal(get(COMMON + STATUS, 1), 3);
    set(COMMON + DRIVER_SELECT, 4, 1);
    assert_int_equal(get(COMMON + DRIVER_SELECT, 4), 1);
    set(COMMON + DRIVER, 4, 3); /* one that was not offered */
    set(COMMON + STATUS, 1, 11);
    assert_int_equal(get(COMMON + STATUS, 1), 3);
    set(COMMON + DRIVER, 4, 1);
    set(COMMON + DRIVER_SELECT, 4, 0);
    set(COMMON + DRIVER, 4, 4);
    set(COMMON + STATUS, 1, 11);
    assert_int_equal(get(COMMON + STATUS, 1), 11);
    set(COMMON + DRIVER, 4, 0); /* too late */
    assert_int_equal(get(COMMON + DRIVER, 4), 4);
    set(COMMON + STATUS, 1, 0);
    assert_int_equal(get(COMMON + DRIVER, 4), 0);
    assert_int_equal(get(COMMON + STATUS, 1), 0);
}

static void queues_have_their_registers(void **state)
{
    (void)state;
    for (unsigned q = 0; q < 2; q++) {
        set(COMMON + QUEUE, 2, q);
        assert_int_equal(get(COMMON + QUEUE, 2), q);
        assert_int_equal(get(COMMON + SIZE, 2), VIRTIO_QUEUE_SIZE);
        assert_int_equal(get(COMMON + 0x1a, 2), 0xffff);
        assert_int_equal(get(COMMON + ENABLE, 2), 0);
        assert_int_equal(get(COMMON + NOTIFY_OFFSET, 2), q);
        set(COMMON + SIZE, 2, 3);
        set(COMMON + SIZE, 2, 2 * VIRTIO_QUEUE_SIZE);
        set(COMMON + SIZE, 2, 0);
        assert_int_equal(get(COMMON + SIZE, 2), VIRTIO_QUEUE_SIZE);
        set(COMMON + SIZE, 2, 16);
        assert_int_equal(get(COMMON + SIZE, 2), 16);
        for (unsigned reg = DESC; reg <= USED + 4; reg += 4) {
            set(COMMON + reg, 4, reg * 0x1000 + q);
        }
        for (unsigned reg = DESC; reg <= USED + 4; reg += 4) {
            assert_int_equal(get(COMMON + reg, 4), reg * 0x1000 + q);
        }
        set(COMMON + ENABLE, 2, 1);
        assert_int_equal(get(COMMON + ENABLE, 2), 1);
        set(COMMON + DESC, 4, 0); /* enabled: it stays as it is */
        set(COMMON + ENABLE, 2, 0);
        assert_int_equal(get(COMMON + DESC, 4), DESC * 0x1000 + q);
        assert_int_equal(get(COMMON + ENABLE, 2), 1);
    }
    set(COMMON + QUEUE, 2, 2);
    assert_int_equal(get(COMMON + SIZE, 2), 0);
    set(COMMON + SIZE, 2, 16);
    set(COMMON + ENABLE, 2, 1);
    assert_int_equal(get(COMMON + ENABLE, 2), 0);
}

/* --- the balloon --------------------------------------------------------------------------------
 */

static void put_numbers(const uint32_t *number, unsigned count)
{
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(NUMBERS), number, count * 4), 0);
}

static void inflating_gives_pages_back(void **state)
{
    const uint32_t number[] = {0x200, 0x201, 0x202};
    uint64_t pages = f->vm->nested.page_count, value = 5;

    (void)state;
    start_driver();
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x201000), &value, 8), 0);
    put_numbers(number, 3);
    put_descriptor(0, 0, NUMBERS, 12, 0, 0);
    offer(0, 0, 0);
    assert_int_equal(used_index(0), 1);
    assert_int_equal(f->vm->nested.page_count, pages - 3);
    assert_int_equal(get(ISR, 1), 1);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x201000), &value, 8), 0);
    assert_int_equal(value, 0);
    /* Deflating says which pages are used again; they come as they are touched. */
    put_descriptor(1, 2, NUMBERS, 12, 0, 0);
    offer(1, 0, 2);
    assert_int_equal(used_index(1), 1);
    assert_int_equal(f->vm->nested.page_count, pages - 3);
}

static void a_chain_of_descriptors_is_followed(void **state)
{
    const uint32_t number[] = {0x200, 0x201, 0x202};
    uint64_t pages = f->vm->nested.page_count;

    (void)state;
    start_driver();
    put_numbers(number, 3);
    put_descriptor(0, 3, NUMBERS, 4, 1, 1);
    put_descriptor(0, 1, NUMBERS + 4, 8, 1, 0);
    put_descriptor(0, 0, NUMBERS, 4, 2, 0); /* for the device to write: not read */
    offer(0, 0, 3);
    assert_int_equal(used_index(0), 1);
    assert_int_equal(f->vm->nested.page_count, pages - 3);
}

static void the_wanted_size_interrupts(void **state)
{
    struct vm_memory m;

    (void)state;
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(get(DEVICE, 4), 256);
    assert_int_equal(get(ISR, 1), 0); /* no driver yet */
    start_driver();
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(2)), 0);
    assert_int_equal(get(DEVICE, 4), 512);
    assert_int_equal(get(COMMON + GENERATION, 1), 2);
    assert_int_equal(pc_take(f->vcpu), VECTOR);
    assert_int_equal(config_read(0x06, 1) & 8, 8);
    assert_int_equal(get(ISR, 1), 2);
    assert_int_equal(get(ISR, 1), 0);
    assert_int_equal(config_read(0x06, 1) & 8, 0);
    set(DEVICE + 4, 4, 500);
    set(DEVICE, 4, 1); /* not the driver's */
    assert_int_equal(get(DEVICE, 4), 512);
    assert_int_equal(get(DEVICE + 4, 4), 500);
    assert_int_equal(get(DEVICE + 8, 4), 0);
    vmm_vm_memory(f->vm, &m);
    assert_int_equal(m.balloon_wanted, VMM_MIB(2));
    assert_int_equal(m.balloon_actual, 500 * 4096);
    assert_true(m.balloon_driver);
    assert_int_equal(vmm_vm_balloon(f->vm, PC_RAM), -VMM_E2BIG);
    set(COMMON + STATUS, 1, 0);
    vmm_vm_memory(f->vm, &m);
    assert_false(m.balloon_driver);
    assert_int_equal(m.balloon_actual, 0);
}

static void the_pin_can_be_disabled_and_routed_to_the_pics(void **state)
{
    (void)state;
    start_driver();
    config_write(COMMAND, 2, MEMORY | NO_INTX);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 0);
    config_write(COMMAND, 2, MEMORY);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 1);
    /* PIRQC of the ISA bridge. */
    fixture_out(f, 0xcf8, 4, 0x80000800u | 0x60);
    fixture_out(f, 0xcfe, 1, ISA_IRQ);
    assert_int_equal(f->vm->irq->lines >> ISA_IRQ & 1, 1);
    fixture_out(f, 0xcfe, 1, 0x80);
    assert_int_equal(f->vm->irq->lines >> ISA_IRQ & 1, 0);
    assert_int_equal(get(ISR, 1), 2);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 0);
}

/* --- drivers that are wrong ---------------------------------------------------------------------
 */

static void expect_broken(void)
{
    assert_int_equal(get(COMMON + STATUS, 1) & NEEDS_RESET, NEEDS_RESET);
    assert_int_equal(get(ISR, 1) & 2, 2);
    set(NOTIFY, 2, 0); /* not looked at again */
    set(COMMON + STATUS, 1, 0);
    assert_int_equal(get(COMMON + STATUS, 1), 0);
    start_driver();
}

static void broken_queues_ask_for_a_reset(void **state)
{
    uint16_t index = 9;

    (void)state;
    start_driver();
    put_descriptor(0, 0, NUMBERS, 4, 1, 0); /* a circle */
    offer(0, 0, 0);
    expect_broken();
    put_descriptor(0, 0, NUMBERS, 4, 1, 4); /* beyond the table */
    offer(0, 0, 0);
    expect_broken();
    offer(0, 0, 77);
    expect_broken();
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(0) + 0x1002), &index, 2), 0);
    set(NOTIFY, 2, 0); /* more than the queue holds */
    expect_broken();
    set(COMMON + STATUS, 1, 0);
    set(COMMON + AVAIL + 4, 4, 0xffff); /* rings outside RAM */
    set(COMMON + ENABLE, 2, 1);
    set(COMMON + DRIVER_SELECT, 4, 1);
    set(COMMON + DRIVER, 4, 1);
    set(COMMON + STATUS, 1, 15);
    assert_int_equal(get(COMMON + STATUS, 1) & NEEDS_RESET, NEEDS_RESET);
}

static void numbers_that_are_no_pages_are_passed_over(void **state)
{
    const uint32_t number[] = {0xffffffff, 0x200, 0xb0, 0x200};
    uint64_t pages = f->vm->nested.page_count;

    (void)state;
    start_driver();
    put_numbers(number, 4);
    put_descriptor(0, 0, NUMBERS, 16 + 3, 0, 0); /* and part of one */
    offer(0, 0, 0);
    assert_int_equal(f->vm->nested.page_count, pages - 2); /* 0xb0 is RAM in this PC */
    put_descriptor(0, 0, UINT64_MAX - 8, 400, 0, 0);
    offer(0, 1, 0);
    put_descriptor(0, 0, NUMBERS, 0xfffffffc, 0, 0);
    offer(0, 2, 0);
    assert_int_equal(used_index(0), 3);
    assert_int_equal(f->vm->nested.page_count, pages - 2);
    set(NOTIFY, 2, 5); /* no such queue */
    set(NOTIFY, 4, 0x10000);
}

/* What one notification may cost is bounded, whatever the lists say: the CPU is not to be had
 * meanwhile. */
static void (*memory_unlock)(void *host, struct vmm_lock *lock);
static unsigned unlocks;

static void count_unlock(void *host, struct vmm_lock *lock)
{
    unlocks += lock == &f->vm->memory.lock;
    memory_unlock(host, lock);
}

static void long_lists_are_cut(void **state)
{
    struct vmm_host_ops *ops = posix_host_ops(f->host);
    const unsigned buffers = 2, pieces = 16, names = PC_RAM / VMM_PAGE_SIZE - 1;
    /* Flags, index, heads. */
    const uint16_t ring[] = {0, buffers, 0, pieces};

    (void)state;
    start_driver_with(buffers * pieces);
    for (unsigned i = 0; i < buffers * pieces; i++) {
        put_descriptor(0, i, NUMBERS, names * 4, (i + 1) % pieces != 0, (uint16_t)(i + 1));
    }
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(RING(0) + 0x1000), ring, sizeof(ring)), 0);
    memory_unlock = ops->unlock;
    ops->unlock = count_unlock;
    set(NOTIFY, 2, 0);
    ops->unlock = memory_unlock;
    assert_int_equal(used_index(0), buffers);
    assert_in_range(unlocks, 4096, 5000);
}

static void without_memory_the_pages_stay(void **state)
{
    const uint32_t number[] = {0x200};
    uint64_t pages = f->vm->nested.page_count;

    (void)state;
    start_driver();
    put_numbers(number, 1);
    put_descriptor(0, 0, NUMBERS, 4, 0, 0);
    posix_host_fail_alloc(f->host, 0);
    offer(0, 0, 0);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(used_index(0), 1);
    assert_int_equal(f->vm->nested.page_count, pages);
}

static void state_survives_save_and_load(void **state)
{
    (void)state;
    start_driver();
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    set(DEVICE + 4, 4, 7);
    pc_check_save(f);
}

static void whatever_a_guest_does_is_survived(void **state)
{
    (void)state;
    start_driver();
    srand(5);
    pc_fuzz_mmio(f, BAR, 0x4000, 20000);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned reg = (unsigned)rand() % 256, size = 1u << rand() % 3;

        if (rand() % 2 == 0) {
            config_write(reg & ~(size - 1), size, (uint32_t)rand() * 3u);
        } else {
            config_read(reg & ~(size - 1), size);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

PC_TEST_MAIN(TEST(the_function_says_what_it_is), TEST(the_capabilities_are_five_and_msix),
             TEST(the_range_is_sized_and_moves), TEST(a_bad_place_is_no_place),
             TEST(a_move_without_memory_can_be_made_again), TEST(the_window_reaches_the_range),
             TEST(features_are_negotiated), TEST(queues_have_their_registers),
             TEST(inflating_gives_pages_back), TEST(a_chain_of_descriptors_is_followed),
             TEST(the_wanted_size_interrupts), TEST(the_pin_can_be_disabled_and_routed_to_the_pics),
             TEST(broken_queues_ask_for_a_reset), TEST(numbers_that_are_no_pages_are_passed_over),
             TEST(long_lists_are_cut), TEST(without_memory_the_pages_stay),
             TEST(state_survives_save_and_load), TEST(whatever_a_guest_does_is_survived))
