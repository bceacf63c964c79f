/* The 8259 pair, register by register. */
#include "pc.h"

#define MASTER   0x20
#define SLAVE    0xa0
#define ELCR     0x4d0
#define EOI      0x20
#define READ_IRR 0x0a
#define READ_ISR 0x0b

static struct fixture *pic_create(void)
{
    struct fixture *f = pc_create(1);

    pc_init_pics(f);
    return f;
}

static uint8_t read_irr(struct fixture *f, uint16_t port)
{
    fixture_out(f, port, 1, READ_IRR);
    return (uint8_t)fixture_in(f, port, 1);
}

static uint8_t read_isr(struct fixture *f, uint16_t port)
{
    fixture_out(f, port, 1, READ_ISR);
    return (uint8_t)fixture_in(f, port, 1);
}

static void after_reset_all_is_masked(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, MASTER + 1, 1), 0xff);
    assert_int_equal(fixture_in(f, SLAVE + 1, 1), 0xff);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_destroy(f);
}

static void icw_sets_vectors(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x24);
    assert_true(vmm_irq_is_external(f->vcpu));
    assert_int_equal(pc_take(f->vcpu), 0x24);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_out(f, MASTER, 1, EOI);
    vmm_irq_set(f->vm, 12, true);
    assert_int_equal(pc_take(f->vcpu), 0x2c);
    assert_int_equal(read_isr(f, MASTER), 0x04);
    assert_int_equal(read_isr(f, SLAVE), 0x10);
    fixture_destroy(f);
}

static void icw1_without_icw4_and_single(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER, 1, 0x12); /* single, no ICW4 */
    fixture_out(f, MASTER + 1, 1, 0x47);
    fixture_out(f, MASTER + 1, 1, 0xfe); /* already OCW1 */
    assert_int_equal(fixture_in(f, MASTER + 1, 1), 0xfe);
    vmm_irq_set(f->vm, 0, true);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void ocw1_masks(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER + 1, 1, 0x10);
    assert_int_equal(fixture_in(f, MASTER + 1, 1), 0x10);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(read_irr(f, MASTER), 0x10); /* requested all the same */
    fixture_out(f, MASTER + 1, 1, 0x00);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    fixture_out(f, MASTER + 1, 1, 0x04); /* the cascade masks all of the slave */
    vmm_irq_set(f->vm, 10, true);
    fixture_out(f, MASTER, 1, EOI);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_destroy(f);
}

static void priority_is_fixed_and_nests(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 5, true);
    assert_int_equal(pc_take(f->vcpu), 0x25);
    vmm_irq_set(f->vm, 6, true); /* lower: waits */
    assert_int_equal(pc_take(f->vcpu), -1);
    vmm_irq_set(f->vm, 1, true); /* higher: nests */
    assert_int_equal(pc_take(f->vcpu), 0x21);
    vmm_irq_set(f->vm, 8, true); /* the slave ranks with line 2 */
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_out(f, MASTER, 1, EOI); /* of 1 */
    assert_int_equal(pc_take(f->vcpu), 0x28);
    assert_int_equal(read_isr(f, MASTER), 0x24);
    fixture_destroy(f);
}

static void specific_eoi(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 5, true);
    assert_int_equal(pc_take(f->vcpu), 0x25);
    vmm_irq_set(f->vm, 3, true);
    assert_int_equal(pc_take(f->vcpu), 0x23);
    fixture_out(f, MASTER, 1, 0x60 | 5);
    assert_int_equal(read_isr(f, MASTER), 0x08);
    fixture_out(f, MASTER, 1, 0x60 | 3);
    assert_int_equal(read_isr(f, MASTER), 0);
    fixture_destroy(f);
}

static void rotation(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER, 1, 0xc0 | 3); /* lowest: 3, so highest: 4 */
    vmm_irq_set(f->vm, 3, true);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    fixture_out(f, MASTER, 1, 0xa0); /* rotate on non-specific EOI: 4 is lowest */
    assert_int_equal(read_isr(f, MASTER), 0);
    vmm_irq_set(f->vm, 4, false);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_take(f->vcpu), 0x23);
    fixture_out(f, MASTER, 1, 0xe0 | 3); /* rotate on specific EOI: 3 is lowest */
    assert_int_equal(pc_take(f->vcpu), 0x24);
    fixture_destroy(f);
}

static void automatic_eoi(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER, 1, 0x11);
    fixture_out(f, MASTER + 1, 1, 0x20);
    fixture_out(f, MASTER + 1, 1, 0x04);
    fixture_out(f, MASTER + 1, 1, 0x03);
    vmm_irq_set(f->vm, 4, true);
    vmm_irq_set(f->vm, 5, true);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    assert_int_equal(read_isr(f, MASTER), 0);
    /* The next one is announced though the pin never fell. */
    assert_int_equal(pc_take(f->vcpu), 0x25);
    assert_int_equal(pc_take(f->vcpu), -1);
    /* Rotate in automatic EOI mode. */
    fixture_out(f, MASTER, 1, 0x80);
    vmm_irq_pulse(f->vm, 4);
    for (unsigned line = 4; line <= 5; line++) {
        vmm_irq_set(f->vm, line, false);
        vmm_irq_set(f->vm, line, true);
    }
    assert_int_equal(pc_take(f->vcpu), 0x24);
    vmm_irq_set(f->vm, 4, false);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_take(f->vcpu), 0x25);
    fixture_out(f, MASTER, 1, 0x00);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    fixture_destroy(f);
}

static void special_mask_mode(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 3, true);
    assert_int_equal(pc_take(f->vcpu), 0x23);
    vmm_irq_set(f->vm, 6, true);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_out(f, MASTER + 1, 1, 0x08);
    fixture_out(f, MASTER, 1, 0x68);
    assert_int_equal(pc_take(f->vcpu), 0x26);
    fixture_out(f, MASTER, 1, EOI); /* non-specific passes over what is masked */
    assert_int_equal(read_isr(f, MASTER), 0x08);
    fixture_out(f, MASTER, 1, 0x48);
    vmm_irq_set(f->vm, 7, true);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void special_fully_nested_mode(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER, 1, 0x11);
    fixture_out(f, MASTER + 1, 1, 0x20);
    fixture_out(f, MASTER + 1, 1, 0x04);
    fixture_out(f, MASTER + 1, 1, 0x11);
    vmm_irq_set(f->vm, 12, true);
    assert_int_equal(pc_take(f->vcpu), 0x2c);
    vmm_irq_set(f->vm, 9, true); /* higher in the same slave */
    assert_int_equal(pc_take(f->vcpu), 0x29);
    fixture_destroy(f);
}

static void poll_command(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, MASTER, 1, 0x0c);
    assert_int_equal(fixture_in(f, MASTER, 1), 0);
    vmm_irq_set(f->vm, 6, true);
    fixture_out(f, MASTER, 1, 0x0c);
    assert_int_equal(fixture_in(f, MASTER, 1), 0x86);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(read_isr(f, MASTER), 0x40);
    fixture_destroy(f);
}

static void an_edge_that_goes_away_is_spurious(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 4, true);
    vmm_irq_set(f->vm, 4, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), -1);
    fixture_destroy(f);
}

static void one_edge_is_one_interrupt(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_serve(f, f->vcpu), 0x24);
    assert_int_equal(pc_take(f->vcpu), -1);
    vmm_irq_set(f->vm, 4, true); /* still high */
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void elcr_makes_a_line_level(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_out(f, ELCR, 2, 0xffff);
    assert_int_equal(fixture_in(f, ELCR, 1), 0xf8);
    assert_int_equal(fixture_in(f, ELCR + 1, 1), 0xde);
    vmm_irq_set(f->vm, 9, true);
    assert_int_equal(pc_serve(f, f->vcpu), 0x29);
    assert_int_equal(pc_serve(f, f->vcpu), 0x29); /* as long as it is asserted */
    vmm_irq_set(f->vm, 9, false);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void irr_and_isr_can_be_read(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    vmm_irq_set(f->vm, 3, true);
    assert_int_equal(read_irr(f, MASTER), 0x08);
    assert_int_equal(read_isr(f, MASTER), 0x00);
    assert_int_equal(pc_take(f->vcpu), 0x23);
    assert_int_equal(read_irr(f, MASTER), 0x00);
    assert_int_equal(read_isr(f, MASTER), 0x08);
    vmm_irq_set(f->vm, 8, true);
    assert_int_equal(read_irr(f, SLAVE), 0x01);
    assert_int_equal(read_irr(f, MASTER), 0x04);
    fixture_destroy(f);
}

static void a_cpu_that_does_not_listen_gets_nothing(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0x350, 4, 0x10700); /* LINT0 masked */
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0x350, 4, 0x00700);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pic_create();

    (void)state;
    pc_fuzz_ports(f, MASTER, 2, 20000);
    pc_fuzz_ports(f, SLAVE, 2, 20000);
    pc_fuzz_ports(f, ELCR, 2, 5000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(after_reset_all_is_masked), cmocka_unit_test(icw_sets_vectors),
             cmocka_unit_test(icw1_without_icw4_and_single), cmocka_unit_test(ocw1_masks),
             cmocka_unit_test(priority_is_fixed_and_nests), cmocka_unit_test(specific_eoi),
             cmocka_unit_test(rotation), cmocka_unit_test(automatic_eoi),
             cmocka_unit_test(special_mask_mode), cmocka_unit_test(special_fully_nested_mode),
             cmocka_unit_test(poll_command), cmocka_unit_test(an_edge_that_goes_away_is_spurious),
             cmocka_unit_test(one_edge_is_one_interrupt), cmocka_unit_test(elcr_makes_a_line_level),
             cmocka_unit_test(irr_and_isr_can_be_read),
             cmocka_unit_test(a_cpu_that_does_not_listen_gets_nothing),
             cmocka_unit_test(random_accesses))
