/* MSI and MSI-X as the guest sets them up: capabilities, table, masks and pending bits. */
#include <pthread.h>
#include <stdlib.h>
#include "messages.h"

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
    assert_int_equal(pc_takers(f, -1), 0);
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
    assert_int_equal(pc_takers(f, VECTOR(1)), 1);
    assert_int_equal(get(PENDING, 4), 4);
    set(ENTRY(2), 4, TO(3)); /* where it goes is looked up when it goes */
    set(ENTRY(2) + 12, 4, 0);
    assert_int_equal(get(PENDING, 4), 0);
    assert_int_equal(pc_takers(f, VECTOR(2)), 8);
    set(ENTRY(2) + 12, 4, 1);
    set(ENTRY(2) + 12, 4, 0);
    assert_int_equal(pc_takers(f, -1), 0);
}

static void the_functions_mask_holds_all_back(void **state)
{
    (void)state;
    msix(ENABLE | MASK_ALL);
    set(ENTRY(3) + 12, 4, 1);
    vpci_message(board, 0);
    vpci_message(board, 3);
    assert_int_equal(pc_takers(f, -1), 0);
    assert_int_equal(get(PENDING, 4), 9);
    msix(ENABLE);
    assert_int_equal(pc_takers(f, VECTOR(0)), 1);
    assert_int_equal(get(PENDING, 4), 8); /* its own mask is still there */
    set(ENTRY(3) + 12, 4, 0);
    assert_int_equal(pc_takers(f, VECTOR(3)), 1);
}

static void without_the_bus_nothing_is_sent(void **state)
{
    (void)state;
    msix(ENABLE);
    config_write(SLOT, COMMAND, 2, MEMORY);
    vpci_message(board, 0);
    assert_int_equal(pc_takers(f, -1), 0);
    assert_int_equal(get(PENDING, 4), 1);
    config_write(SLOT, COMMAND, 2, MEMORY | MASTER);
    assert_int_equal(pc_takers(f, VECTOR(0)), 1);
}

static void off_means_off(void **state)
{
    (void)state;
    vpci_message(board, 0);
    assert_false(vpci_messages_on(board));
    msix(ENABLE);
    assert_true(vpci_messages_on(board));
    assert_int_equal(pc_takers(f, -1), 0);
    vpci_message(board, BOARD_MSIX); /* there is no such vector */
    vpci_message(board, UINT32_MAX);
    assert_int_equal(pc_takers(f, -1), 0);
    msix(ENABLE | MASK_ALL);
    vpci_message(board, 0);
    msix(0); /* what is pending is forgotten */
    msix(ENABLE);
    assert_int_equal(pc_takers(f, -1), 0);
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
        assert_int_equal(pc_takers(f, (int)(0x60 + i)), 2);
    }
    vpci_message(board, BOARD_MSI);
    assert_int_equal(pc_takers(f, -1), 0);
    msi(1); /* two granted: the others fold onto them */
    vpci_message(board, 5);
    assert_int_equal(pc_takers(f, 0x67), 2);
    vpci_message(board, 4);
    assert_int_equal(pc_takers(f, 0x66), 2);
    msi(0);
    vpci_message(board, 7);
    assert_int_equal(pc_takers(f, 0x67), 2);
}

static void msi_has_masks_and_pending_bits(void **state)
{
    (void)state;
    msi(3);
    config_write(SLOT, MSI + 16, 4, 0x81);
    vpci_message(board, 7);
    vpci_message(board, 0);
    assert_int_equal(pc_takers(f, -1), 0);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0x81);
    config_write(SLOT, MSI + 16, 1, 0x80);
    assert_int_equal(pc_takers(f, 0x60), 2);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0x80);
    config_write(SLOT, MSI + 16, 1, 0);
    assert_int_equal(pc_takers(f, 0x67), 2);
    assert_int_equal(config_read(SLOT, MSI + 20, 4), 0);
    msix(ENABLE); /* both: MSI-X counts */
    vpci_message(board, 1);
    assert_int_equal(pc_takers(f, VECTOR(1)), 1);
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

PC_TEST_MAIN(TEST(the_capabilities), TEST(the_table), TEST(odd_accesses_to_the_table),
             TEST(pending_bits_are_only_read), TEST(a_masked_vector_is_pending_once),
             TEST(the_functions_mask_holds_all_back), TEST(without_the_bus_nothing_is_sent),
             TEST(off_means_off), TEST(the_pin_is_off_while_messages_are_on),
             TEST(msi_has_one_address_and_counts_in_the_data), TEST(msi_has_masks_and_pending_bits),
             TEST(nothing_raised_is_lost), TEST(whatever_a_guest_does_is_survived))
