/* MSI and MSI-X: capabilities, table, masks and pending bits, and where the messages go. */
#include <pthread.h>
#include <stdlib.h>
#include "apic.h"
#include "pci_board.h"

#define VCPUS 4

#define BALLOON  2 /* slots */
#define SLOT     3
#define TABLE    UINT64_C(0xc0010000)
#define ENTRY(n) (TABLE + 16 * (n))
#define PENDING  (TABLE + 0x800)
#define GSI      19 /* of the slot's pin */

#define COMMAND 0x04
#define MEMORY  2
#define MASTER  4
#define STATUS  0x06
#define BAR0    0x10

#define MSI       0x40 /* where the capabilities are */
#define MSIX      (MSI + 24)
#define CONTROL   2
#define ENABLE    0x8000
#define MASK_ALL  0x4000
#define VECTOR(n) (0x60 + 0x10 * (n)) /* that the tests give to the n-th message */
#define TO(cpu)   (0xfee00000 | (cpu) << 12)
#define LOGICAL   (1u << 2)
#define HINT      (1u << 3)

static struct fixture *f;
static struct vpci_function *board;

/* --- accesses -----------------------------------------------------------------------------------
 */

static uint32_t config_read(unsigned slot, unsigned reg, unsigned size)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
    return (uint32_t)fixture_in(f, (uint16_t)(0xcfc + reg % 4), size);
}

static void config_write(unsigned slot, unsigned reg, unsigned size, uint32_t value)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
    fixture_out(f, (uint16_t)(0xcfc + reg % 4), size, value);
}

static uint64_t get(uint64_t at, unsigned size)
{
    return fixture_mmio_read(f, at, size);
}

static void set(uint64_t at, unsigned size, uint64_t value)
{
    fixture_mmio_write(f, at, size, value);
}

static void msix(uint32_t control)
{
    config_write(SLOT, MSIX + CONTROL, 2, control);
}

static void set_entry(unsigned n, uint64_t address, uint32_t data)
{
    set(ENTRY(n), 4, address & UINT32_MAX);
    set(ENTRY(n) + 4, 4, address >> 32);
    set(ENTRY(n) + 8, 4, data);
    set(ENTRY(n) + 12, 4, 0);
}

/* Which vCPUs take this vector now, and no other one. */
static unsigned takers(int vector)
{
    unsigned set_bits = 0;

    for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
        int taken = pc_serve(f, f->vm->vcpu[i]);

        assert_true(taken == -1 || taken == vector);
        set_bits |= (unsigned)(taken >= 0) << i;
    }
    return set_bits;
}

/* One message with this address and data: who takes its vector? */
static unsigned send(uint64_t address, uint32_t data)
{
    set_entry(0, address, data);
    vpci_message(board, 0);
    return takers((uint8_t)data);
}

static int setup(void **state)
{
    (void)state;
    f = apic_create(VCPUS);
    board = pci_board_add(f);
    config_write(SLOT, BAR0, 4, TABLE);
    config_write(SLOT, COMMAND, 2, MEMORY | MASTER);
    for (unsigned i = 0; i < BOARD_MSIX; i++) {
        set_entry(i, TO(0), VECTOR(i));
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

/* --- registers ----------------------------------------------------------------------------------
 */

static void the_capabilities(void **state)
{
    (void)state;
    assert_int_equal(config_read(SLOT, 0x34, 1), MSI);
    assert_int_equal(config_read(SLOT, STATUS, 2), 0x10);
    assert_int_equal(config_read(SLOT, MSI, 4), 0x01860005 | MSIX << 8); /* 8 vectors, masks */
    assert_int_equal(config_read(SLOT, MSIX, 4), (BOARD_MSIX - 1) << 16 | 0x11);
    assert_int_equal(config_read(SLOT, MSIX + 4, 4), 0);
    assert_int_equal(config_read(SLOT, MSIX + 8, 4), 0x800);
    for (unsigned at = 0; at < 24 + 12; at += 4) {
        config_write(SLOT, MSI + at, 4, UINT32_MAX);
    }
    assert_int_equal(config_read(SLOT, MSI, 4), 0x01b70005 | MSIX << 8); /* 8 granted at most */
    assert_int_equal(config_read(SLOT, MSI + 4, 4), 0xfffffffc);
    assert_int_equal(config_read(SLOT, MSI + 8, 4), UINT32_MAX);
    assert_int_equal(config_read(SLOT, MSI + 12, 4), 0xffff);
    assert_int_equal(config_read(SLOT, MSI + 16, 4), 0xff);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0);
    assert_int_equal(config_read(SLOT, MSIX, 4), 0xc0000011 | (BOARD_MSIX - 1) << 16);
    assert_int_equal(config_read(SLOT, MSIX + 4, 4), 0);
    assert_int_equal(config_read(SLOT, MSIX + 8, 4), 0x800);
    vmm_devices_reset(f->vm);
    assert_int_equal(config_read(SLOT, MSI, 4), 0x01860005 | MSIX << 8);
    assert_int_equal(config_read(SLOT, MSI + 4, 4), 0);
    assert_int_equal(config_read(SLOT, MSI + 16, 4), 0);
    assert_int_equal(config_read(SLOT, MSIX, 4), (BOARD_MSIX - 1) << 16 | 0x11);
}

static void the_table(void **state)
{
    (void)state;
    vmm_devices_reset(f->vm);
    config_write(SLOT, BAR0, 4, TABLE);
    config_write(SLOT, COMMAND, 2, MEMORY);
    for (unsigned i = 0; i < BOARD_MSIX; i++) {
        assert_int_equal(get(ENTRY(i), 8), 0);
        assert_int_equal(get(ENTRY(i) + 8, 8), UINT64_C(1) << 32); /* masked */
        set(ENTRY(i), 8, UINT64_MAX);
        set(ENTRY(i) + 8, 8, UINT64_MAX);
        assert_int_equal(get(ENTRY(i), 8), UINT64_MAX - 3);
        assert_int_equal(get(ENTRY(i) + 8, 8), 0x1ffffffff);
        set(ENTRY(i), 4, 0x11223344 + i);
        set(ENTRY(i) + 4, 4, 0x55667788);
        set(ENTRY(i) + 8, 4, 0x99aabbcc);
        set(ENTRY(i) + 12, 4, 0);
    }
    for (unsigned i = 0; i < BOARD_MSIX; i++) {
        assert_int_equal(get(ENTRY(i), 4), (0x11223344 + i) & ~3u);
        assert_int_equal(get(ENTRY(i) + 4, 8), 0x99aabbcc55667788);
        assert_int_equal(get(ENTRY(i) + 12, 4), 0);
    }
    assert_int_equal(get(ENTRY(BOARD_MSIX), 8), 0); /* behind it there is nothing */
    set(ENTRY(BOARD_MSIX) - 4, 8, UINT64_MAX);
    assert_int_equal(get(ENTRY(BOARD_MSIX) - 4, 8), 1);
}

static void odd_accesses_to_the_table(void **state)
{
    (void)state;
    set(ENTRY(1), 8, 0);
    set(ENTRY(1) + 3, 4, 0x44332211);
    assert_int_equal(get(ENTRY(1), 8), 0x44332211000000);
    assert_int_equal(get(ENTRY(1) + 5, 2), 0x4433);
    set(ENTRY(1) + 13, 1, 0xff);
    set(ENTRY(1) + 12, 1, 0xff);
    assert_int_equal(get(ENTRY(1) + 12, 4), 1);
    set(TABLE - 3, 8, UINT64_MAX); /* across both ends */
    set(TABLE + 0xffd, 8, UINT64_MAX);
    assert_int_equal(get(TABLE + 0xff8, 8), 0);
    assert_int_equal(get(TABLE, 8), UINT64_C(0xfffffffffc));
}

static void pending_bits_are_only_read(void **state)
{
    (void)state;
    msix(ENABLE | MASK_ALL);
    vpci_message(board, 1);
    vpci_message(board, 4);
    set(PENDING, 8, 0);
    assert_int_equal(get(PENDING, 8), 0x12);
    set(PENDING, 4, UINT32_MAX);
    assert_int_equal(get(PENDING, 4), 0x12);
    assert_int_equal(get(PENDING + 4, 4), 0);
    assert_int_equal(takers(-1), 0);
}

/* --- who gets it --------------------------------------------------------------------------------
 */

static void physical_destinations(void **state)
{
    (void)state;
    msix(ENABLE);
    for (unsigned i = 0; i < VCPUS; i++) {
        assert_int_equal(send(TO(i), 0x71), 1u << i);
        assert_int_equal(send(TO(i) | HINT, 0x72), 1u << i);
    }
    assert_int_equal(send(TO(0xff), 0x73), 0xf);
    assert_int_equal(send(TO(9), 0x74), 0);
}

static void logical_destinations(void **state)
{
    (void)state;
    msix(ENABLE);
    for (unsigned i = 0; i < VCPUS; i++) {
        apic_choose(f, i);
        apic_set(f, LDR, 0x01000000u << i);
    }
    assert_int_equal(send(TO(0x5) | LOGICAL, 0x71), 0x5);
    assert_int_equal(send(TO(0xff) | LOGICAL, 0x72), 0xf);
    for (unsigned i = 0; i < VCPUS; i++) {
        apic_choose(f, i);
        apic_set(f, DFR, 0x0fffffff);
        apic_set(f, LDR, i / 2 << 28 | 0x01000000u << i % 2);
    }
    assert_int_equal(send(TO(0x12) | LOGICAL, 0x73), 0x8);
    assert_int_equal(send(TO(0x03) | LOGICAL, 0x74), 0x3);
}

static void x2apic_destinations(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VCPUS; i++) {
        apic_choose(f, i);
        apic_enable_x2apic(f);
    }
    msix(ENABLE);
    for (unsigned i = 0; i < VCPUS; i++) {
        set_entry(0, TO(i), 0x71);
        vpci_message(board, 0);
        assert_int_equal(pc_take(f->vm->vcpu[i]), 0x71);
    }
    set_entry(0, TO(0x6) | LOGICAL, 0x81); /* cluster 0 */
    vpci_message(board, 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        assert_int_equal(pc_take(f->vm->vcpu[i]), i == 1 || i == 2 ? 0x81 : -1);
    }
}

/* By delivery mode, or by the hint with a logical destination. */
static void the_lowest_priority_takes_it(void **state)
{
    static const struct {
        uint64_t address;
        uint32_t data;
    } table[] = {{TO(0xff), 0x171}, {TO(0xff) | LOGICAL | HINT, 0x71}, {TO(0xff) | HINT, 0x71}};

    (void)state;
    msix(ENABLE);
    apic_choose(f, 1);
    apic_set(f, TPR, 0x40);
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(table); n++) {
        unsigned seen = 0;

        for (unsigned i = 0; i < VCPUS - 1; i++) {
            seen |= send(table[n].address, table[n].data);
            assert_int_equal(__builtin_popcount(seen), i + 1); /* they take turns */
        }
        assert_int_equal(seen, 0xd);
    }
}

static void other_kinds_of_delivery(void **state)
{
    struct vcpu *target = f->vm->vcpu[1];
    static const struct {
        uint32_t data, requests;
    } table[] = {
        {0x400, VMM_REQ_NMI},
        {0x500, VMM_REQ_INIT},
        {0x200, 0},  /* SMI: there is no SMM */
        {0x69f, 0},  /* start-up is for processors */
        {0x300, 0},  /* reserved */
        {0x8071, 0}, /* the end of a level is not told */
        {0x700, VMM_REQ_INTR},
    };

    (void)state;
    msix(ENABLE);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(table); i++) {
        target->requests = 0;
        send(TO(1), table[i].data);
        assert_int_equal(target->requests, table[i].requests);
    }
    assert_int_equal(takers(-1), 0);
}

static void levels_and_vectors(void **state)
{
    (void)state;
    msix(ENABLE);
    set_entry(0, TO(0), 0xc071); /* level, asserted */
    vpci_message(board, 0);
    apic_choose(f, 0);
    assert_int_equal(apic_get(f, TMR + 0x30) >> 17 & 1, 1);
    assert_int_equal(takers(0x71), 1);
    assert_int_equal(send(TO(0), 0x71), 1);
    assert_int_equal(apic_get(f, TMR + 0x30) >> 17 & 1, 0);
    assert_int_equal(send(TO(0), 0x0f), 0); /* illegal */
    apic_set(f, ESR, 0);
    assert_int_equal(apic_get(f, ESR), VLAPIC_ERROR_RECEIVE_VECTOR);
}

/* Memory, or what is not there: such a message is none. */
static void addresses_that_are_no_interrupts(void **state)
{
    static const uint64_t address_table[] = {0,          0x1000,      0xfed00000, 0xfef00000,
                                             0xfec00000, 0x1fee00000, UINT64_MAX, 0xfee00000000};
    uint64_t word = 0;

    (void)state;
    msix(ENABLE);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(address_table); i++) {
        assert_int_equal(send(address_table[i], 0x71), 0);
    }
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x1000), &word, sizeof(word)), 0);
    assert_int_equal(word, 0);
}

/* --- masks --------------------------------------------------------------------------------------
 */

static void a_masked_vector_is_pending_once(void **state)
{
    (void)state;
    msix(ENABLE);
    set(ENTRY(2) + 12, 4, 1);
    vpci_message(board, 2);
    vpci_message(board, 2);
    vpci_message(board, 1);
    assert_int_equal(takers(VECTOR(1)), 1);
    assert_int_equal(get(PENDING, 4), 4);
    set(ENTRY(2), 4, TO(3)); /* where it goes is looked up when it goes */
    set(ENTRY(2) + 12, 4, 0);
    assert_int_equal(get(PENDING, 4), 0);
    assert_int_equal(takers(VECTOR(2)), 8);
    set(ENTRY(2) + 12, 4, 1);
    set(ENTRY(2) + 12, 4, 0);
    assert_int_equal(takers(-1), 0);
}

static void the_functions_mask_holds_all_back(void **state)
{
    (void)state;
    msix(ENABLE | MASK_ALL);
    set(ENTRY(3) + 12, 4, 1);
    vpci_message(board, 0);
    vpci_message(board, 3);
    assert_int_equal(takers(-1), 0);
    assert_int_equal(get(PENDING, 4), 9);
    msix(ENABLE);
    assert_int_equal(takers(VECTOR(0)), 1);
    assert_int_equal(get(PENDING, 4), 8); /* its own mask is still there */
    set(ENTRY(3) + 12, 4, 0);
    assert_int_equal(takers(VECTOR(3)), 1);
}

static void without_the_bus_nothing_is_sent(void **state)
{
    (void)state;
    msix(ENABLE);
    config_write(SLOT, COMMAND, 2, MEMORY);
    vpci_message(board, 0);
    assert_int_equal(takers(-1), 0);
    assert_int_equal(get(PENDING, 4), 1);
    config_write(SLOT, COMMAND, 2, MEMORY | MASTER);
    assert_int_equal(takers(VECTOR(0)), 1);
}

static void off_means_off(void **state)
{
    (void)state;
    vpci_message(board, 0);
    assert_false(vpci_messages_on(board));
    msix(ENABLE);
    assert_true(vpci_messages_on(board));
    assert_int_equal(takers(-1), 0);
    vpci_message(board, BOARD_MSIX); /* there is no such vector */
    vpci_message(board, UINT32_MAX);
    assert_int_equal(takers(-1), 0);
    msix(ENABLE | MASK_ALL);
    vpci_message(board, 0);
    msix(0); /* what is pending is forgotten */
    msix(ENABLE);
    assert_int_equal(takers(-1), 0);
    vmm_devices_reset(f->vm);
    assert_false(vpci_messages_on(board));
}

static void the_pin_is_off_while_messages_are_on(void **state)
{
    (void)state;
    vpci_interrupt(board, true);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 1);
    assert_int_equal(config_read(SLOT, STATUS, 1), 0x18);
    msix(ENABLE);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 0);
    assert_int_equal(config_read(SLOT, STATUS, 1), 0x10);
    vpci_interrupt(board, false);
    vpci_interrupt(board, true);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 0);
    msix(0);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 1);
    config_write(SLOT, MSI + CONTROL, 2, 1);
    assert_int_equal(f->vm->irq->lines >> GSI & 1, 0);
}

/* --- MSI ----------------------------------------------------------------------------------------
 */

static void msi(unsigned granted_shift)
{
    config_write(SLOT, MSI + 4, 4, TO(1));
    config_write(SLOT, MSI + 12, 2, 0x67);
    config_write(SLOT, MSI + CONTROL, 2, 1 | granted_shift << 4);
}

static void msi_has_one_address_and_counts_in_the_data(void **state)
{
    (void)state;
    msi(3);
    for (unsigned i = 0; i < BOARD_MSI; i++) {
        vpci_message(board, i);
        assert_int_equal(takers((int)(0x60 + i)), 2);
    }
    vpci_message(board, BOARD_MSI);
    assert_int_equal(takers(-1), 0);
    msi(1); /* two granted: the others fold onto them */
    vpci_message(board, 5);
    assert_int_equal(takers(0x67), 2);
    vpci_message(board, 4);
    assert_int_equal(takers(0x66), 2);
    msi(0);
    vpci_message(board, 7);
    assert_int_equal(takers(0x67), 2);
}

static void msi_has_masks_and_pending_bits(void **state)
{
    (void)state;
    msi(3);
    config_write(SLOT, MSI + 16, 4, 0x81);
    vpci_message(board, 7);
    vpci_message(board, 0);
    assert_int_equal(takers(-1), 0);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0x81);
    config_write(SLOT, MSI + 16, 1, 0x80);
    assert_int_equal(takers(0x60), 2);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0x80);
    config_write(SLOT, MSI + 16, 1, 0);
    assert_int_equal(takers(0x67), 2);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0);
    msix(ENABLE); /* both: MSI-X counts */
    vpci_message(board, 1);
    assert_int_equal(takers(VECTOR(1)), 1);
}

/* --- virtio: section 4.1.4.3 --------------------------------------------------------------------
 */

#define AREA          UINT64_C(0xc0000000)
#define CONFIG_VECTOR (AREA + 0x10)
#define DEVICE_STATUS (AREA + 0x14)
#define QUEUE         (AREA + 0x16)
#define QUEUE_VECTOR  (AREA + 0x1a)
#define NO_VECTOR     0xffff
#define BALLOON_MSIX  0x98

static void start_balloon(void)
{
    config_write(BALLOON, BAR0, 4, AREA);
    config_write(BALLOON, BAR0 + 4, 4, TABLE + 0x1000);
    config_write(BALLOON, COMMAND, 2, MEMORY | MASTER);
    set(AREA + 0x08, 4, 1);
    set(AREA + 0x0c, 4, 1);
    set(DEVICE_STATUS, 1, 15);
    set_entry(256, TO(2), 0x91);
    set_entry(257, TO(2), 0x92);
    config_write(BALLOON, BALLOON_MSIX + CONTROL, 2, ENABLE);
}

static void virtio_takes_vectors_that_there_are(void **state)
{
    (void)state;
    start_balloon();
    assert_int_equal(get(CONFIG_VECTOR, 2), NO_VECTOR);
    for (unsigned q = 0; q < 2; q++) {
        set(QUEUE, 2, q);
        assert_int_equal(get(QUEUE_VECTOR, 2), NO_VECTOR);
        set(QUEUE_VECTOR, 2, q + 1);
        set(QUEUE_VECTOR + 2, 2, 1); /* enabled: it can still be changed */
        assert_int_equal(get(QUEUE_VECTOR, 2), q + 1);
    }
    set(QUEUE_VECTOR, 2, 3);
    assert_int_equal(get(QUEUE_VECTOR, 2), NO_VECTOR);
    set(QUEUE, 2, 2); /* there is none */
    set(QUEUE_VECTOR, 2, 1);
    assert_int_equal(get(QUEUE_VECTOR, 2), 0);
    set(QUEUE, 2, 0);
    assert_int_equal(get(QUEUE_VECTOR, 2), 1);
    set(CONFIG_VECTOR, 2, 2);
    assert_int_equal(get(CONFIG_VECTOR, 2), 2);
    set(CONFIG_VECTOR, 2, 0xfffe);
    assert_int_equal(get(CONFIG_VECTOR, 2), NO_VECTOR);
    set(DEVICE_STATUS, 1, 0);
    assert_int_equal(get(QUEUE_VECTOR, 2), NO_VECTOR);
}

static void virtio_tells_of_its_configuration_by_message(void **state)
{
    (void)state;
    start_balloon();
    set(CONFIG_VECTOR, 2, 0);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(f->vm->irq->lines, 0);
    assert_int_equal(takers(0x91), 4);
    assert_int_equal(get(AREA + 0x1000, 1), 2); /* the interrupt status says it, too */
    set(CONFIG_VECTOR, 2, 1);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(2)), 0);
    assert_int_equal(takers(0x92), 4);
    set(CONFIG_VECTOR, 2, NO_VECTOR);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(takers(-1), 0);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void what_is_pending_survives_save_and_load(void **state)
{
    struct fixture *first = f, *second = apic_create(VCPUS);
    struct vpci_function *first_board = board;

    (void)state;
    msix(ENABLE | MASK_ALL);
    set_entry(2, TO(2), 0x82);
    vpci_message(board, 2);
    posix_host_advance_ns(second->host, posix_host_now_ns(first->host));
    board = pci_board_add(second);
    pc_copy_devices(first, second);
    f = second;
    assert_int_equal(takers(-1), 0);
    assert_int_equal(get(PENDING, 4), 4);
    assert_int_equal(get(ENTRY(2) + 8, 4), 0x82);
    assert_true(vpci_messages_on(board));
    msix(ENABLE);
    assert_int_equal(takers(0x82), 4);
    vpci_message(board, 1);
    assert_int_equal(takers(VECTOR(1)), 1);
    fixture_destroy(second);
    f = first;
    board = first_board;
}

static void the_balloons_state_survives_too(void **state)
{
    struct fixture *own = f;

    (void)state;
    f = apic_create(VCPUS);
    start_balloon();
    set(CONFIG_VECTOR, 2, 1);
    config_write(BALLOON, BALLOON_MSIX + CONTROL, 2, ENABLE | MASK_ALL);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(get(PENDING + 0x1000, 4), 2);
    pc_check_save(f);
    fixture_destroy(f);
    f = own;
}

static void a_reset_masks_every_vector(void **state)
{
    struct vm_pci_function info;

    (void)state;
    msix(ENABLE);
    vpci_message(board, 0);
    assert_int_equal(takers(VECTOR(0)), 1);
    assert_true(vmm_vm_pci_function(f->vm, 1, &info));
    assert_string_equal(info.name, "board");
    assert_int_equal(info.slot, SLOT);
    assert_int_equal(info.vendor << 16 | info.device, 0x123411e8);
    assert_int_equal(info.signal, VPCI_MSIX);
    assert_int_equal(info.vectors, BOARD_MSIX);
    assert_int_equal(info.masked, 0);
    assert_int_equal(info.sent, 1);
    config_write(SLOT, COMMAND, 2, 0);
    vpci_message(board, 3);
    assert_true(vmm_vm_pci_function(f->vm, 1, &info));
    assert_int_equal(info.masked, 0x1f);
    assert_int_equal(info.pending, 8);
    vmm_devices_reset(f->vm);
    assert_true(vmm_vm_pci_function(f->vm, 1, &info));
    assert_int_equal(info.signal, VPCI_PIN);
    assert_int_equal(info.vectors | info.masked | info.pending | info.sent, 0);
    assert_false(vmm_vm_pci_function(f->vm, 2, &info));
}

static void a_vm_without_messages(void **state)
{
    struct fixture *own = f;

    (void)state;
    f = fixture_create(PC_RAM, 1);
    f->vm->config.no_msi = true;
    assert_int_equal(vmm_platform_create(f->vm), 0);
    pci_board_add(f);
    assert_int_equal(config_read(SLOT, 0x34, 1), 0);
    assert_int_equal(config_read(SLOT, STATUS, 2), 0);
    assert_int_equal(config_read(BALLOON, BALLOON_MSIX, 4), 0);
    config_write(BALLOON, BAR0, 4, AREA);
    config_write(BALLOON, COMMAND, 2, MEMORY);
    set(CONFIG_VECTOR, 2, 0);
    assert_int_equal(get(CONFIG_VECTOR, 2), NO_VECTOR);
    fixture_destroy(f);
    f = own;
}

static uint8_t msi_asked, msix_asked, bar_asked;

static int picky_create(struct vdev *dev)
{
    struct pci_board *b = vdev_state(dev);

    b->pci.dev = dev;
    b->pci.bar[1].size = 0x1000;
    b->pci.msix_vectors = msix_asked;
    b->pci.msi_vectors = msi_asked;
    b->pci.msix_bar = bar_asked;
    return vpci_add(&b->pci);
}

static void functions_that_cannot_be(void **state)
{
    static const struct {
        uint8_t msi, msix, bar;
    } table[] = {{3, 0, 0}, {64, 0, 0}, {0, 33, 0}, {0, 1, 6}, {0, 1, 1}};
    struct vdev_class picky = pci_board_class;
    struct vdev *dev;

    (void)state;
    picky.create = picky_create;
    assert_int_equal(vmm_vm_add_device(f->vm, &picky, &dev), -VMM_EBUSY);
    f->vm->state = VM_CREATED;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(table); i++) {
        msi_asked = table[i].msi;
        msix_asked = table[i].msix;
        bar_asked = table[i].bar;
        assert_int_equal(vmm_vm_add_device(f->vm, &picky, &dev), -VMM_EINVAL);
        assert_int_equal(config_read(SLOT + 1, 0, 4), UINT32_MAX);
    }
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_vm_add_device(f->vm, &pci_board_class, &dev), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    for (unsigned i = 2; i < 8; i++) {
        pci_board_add(f);
    }
    f->vm->state = VM_CREATED;
    assert_int_equal(vmm_vm_add_device(f->vm, &pci_board_class, &dev), -VMM_ENOSPC);
}

/* --- at the same time, and anything -------------------------------------------------------------
 */

#define ROUNDS 20000

static void *raise_many(void *arg)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        vpci_message(arg, i % BOARD_MSIX);
    }
    return NULL;
}

static void nothing_raised_is_lost(void **state)
{
    pthread_t thread;

    (void)state;
    msix(ENABLE);
    assert_int_equal(pthread_create(&thread, NULL, raise_many, board), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        set(ENTRY(i % BOARD_MSIX) + 12, 4, i / BOARD_MSIX % 2);
        msix(ENABLE | (i % 7 == 0 ? MASK_ALL : 0));
        while (pc_serve(f, f->vm->vcpu[0]) >= 0) {
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    msix(ENABLE | MASK_ALL);
    raise_many(board);
    msix(ENABLE);
    for (unsigned i = 0; i < BOARD_MSIX; i++) {
        set(ENTRY(i) + 12, 4, 0);
    }
    for (unsigned i = BOARD_MSIX; i-- > 0;) {
        assert_int_equal(pc_serve(f, f->vm->vcpu[0]), VECTOR(i));
    }
    assert_int_equal(get(PENDING, 8), 0);
}

static void whatever_a_guest_does_is_survived(void **state)
{
    (void)state;
    srand(6);
    for (unsigned i = 0; i < 4000; i++) {
        unsigned at = (unsigned)rand() % 48, size = 1u << rand() % 3;

        config_write(SLOT, (MSI + at) & ~(size - 1), size, (uint32_t)rand() * 3u);
        config_read(SLOT, (MSI + at) & ~(size - 1), size);
        vpci_message(board, (unsigned)rand() % 9);
        if (i % 100 == 0) {
            config_write(SLOT, BAR0, 4, TABLE);
            config_write(SLOT, COMMAND, 2, MEMORY | MASTER);
            pc_fuzz_mmio(f, TABLE, 0x100, 100);
            pc_fuzz_mmio(f, PENDING, 0x10, 20);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

PC_TEST_MAIN(TEST(the_capabilities), TEST(the_table), TEST(odd_accesses_to_the_table),
             TEST(pending_bits_are_only_read), TEST(physical_destinations),
             TEST(logical_destinations), TEST(x2apic_destinations),
             TEST(the_lowest_priority_takes_it), TEST(other_kinds_of_delivery),
             TEST(levels_and_vectors), TEST(addresses_that_are_no_interrupts),
             TEST(a_masked_vector_is_pending_once), TEST(the_functions_mask_holds_all_back),
             TEST(without_the_bus_nothing_is_sent), TEST(off_means_off),
             TEST(the_pin_is_off_while_messages_are_on),
             TEST(msi_has_one_address_and_counts_in_the_data), TEST(msi_has_masks_and_pending_bits),
             TEST(virtio_takes_vectors_that_there_are),
             TEST(virtio_tells_of_its_configuration_by_message),
             TEST(what_is_pending_survives_save_and_load), TEST(the_balloons_state_survives_too),
             TEST(a_reset_masks_every_vector), TEST(a_vm_without_messages),
             TEST(functions_that_cannot_be), TEST(nothing_raised_is_lost),
             TEST(whatever_a_guest_does_is_survived))
