/* Messages of PCI functions: who gets them, what virtio sends, and what becomes of them when the VM
 * is reset, saved and restored. */
#include "messages.h"

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
    assert_int_equal(pc_takers(f, -1), 0);
}

static void levels_and_vectors(void **state)
{
    (void)state;
    msix(ENABLE);
    set_entry(0, TO(0), 0xc071); /* level, asserted */
    vpci_message(board, 0);
    apic_choose(f, 0);
    assert_int_equal(apic_get(f, TMR + 0x30) >> 17 & 1, 1);
    assert_int_equal(pc_takers(f, 0x71), 1);
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
    assert_int_equal(pc_takers(f, 0x91), 4);
    assert_int_equal(get(AREA + 0x1000, 1), 2); /* the interrupt status says it, too */
    set(CONFIG_VECTOR, 2, 1);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(2)), 0);
    assert_int_equal(pc_takers(f, 0x92), 4);
    set(CONFIG_VECTOR, 2, NO_VECTOR);
    assert_int_equal(vmm_vm_balloon(f->vm, VMM_MIB(1)), 0);
    assert_int_equal(pc_takers(f, -1), 0);
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
    assert_int_equal(pc_takers(f, -1), 0);
    assert_int_equal(get(PENDING, 4), 4);
    assert_int_equal(get(ENTRY(2) + 8, 4), 0x82);
    assert_true(vpci_messages_on(board));
    msix(ENABLE);
    assert_int_equal(pc_takers(f, 0x82), 4);
    vpci_message(board, 1);
    assert_int_equal(pc_takers(f, VECTOR(1)), 1);
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
    assert_int_equal(pc_takers(f, VECTOR(0)), 1);
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

PC_TEST_MAIN(TEST(physical_destinations), TEST(logical_destinations), TEST(x2apic_destinations),
             TEST(the_lowest_priority_takes_it), TEST(other_kinds_of_delivery),
             TEST(levels_and_vectors), TEST(addresses_that_are_no_interrupts),
             TEST(virtio_takes_vectors_that_there_are),
             TEST(virtio_tells_of_its_configuration_by_message),
             TEST(what_is_pending_survives_save_and_load), TEST(the_balloons_state_survives_too),
             TEST(a_reset_masks_every_vector), TEST(a_vm_without_messages),
             TEST(functions_that_cannot_be))
