/* The IOAPIC, register by register. */
#include "dev/vlapic.h"
#include "pc.h"

#define BASE   PLATFORM_IOAPIC_BASE
#define SELECT 0x00
#define DATA   0x10
#define EOI    0x40

#define LEVEL  UINT64_C(0x8000)
#define MASKED UINT64_C(0x10000)

static struct fixture *ioapic_create(unsigned vcpus)
{
    struct fixture *f = pc_create(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        f->vcpu = f->vm->vcpu[i];
        fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    }
    f->vcpu = f->vm->vcpu[0];
    return f;
}

static uint32_t get(struct fixture *f, unsigned reg)
{
    fixture_mmio_write(f, BASE + SELECT, 4, reg);
    return (uint32_t)fixture_mmio_read(f, BASE + DATA, 4);
}

static void set(struct fixture *f, unsigned reg, uint32_t value)
{
    fixture_mmio_write(f, BASE + SELECT, 4, reg);
    fixture_mmio_write(f, BASE + DATA, 4, value);
}

static void identity_registers(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    assert_int_equal(get(f, 0), 0);
    set(f, 0, UINT32_MAX);
    assert_int_equal(get(f, 0), 0x0f000000);
    assert_int_equal(get(f, 2), 0x0f000000);
    assert_int_equal(get(f, 1), 0x00170020);
    set(f, 1, 0);
    assert_int_equal(get(f, 1), 0x00170020);
    assert_int_equal(get(f, 3), UINT32_MAX);
    assert_int_equal(get(f, 0x40), UINT32_MAX);
    fixture_mmio_write(f, BASE + SELECT, 1, 0x11);
    assert_int_equal(fixture_mmio_read(f, BASE + SELECT, 4), 0x11);
    fixture_destroy(f);
}

static void entries_after_reset_and_their_bits(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    for (unsigned pin = 0; pin < 24; pin++) {
        assert_int_equal(get(f, 0x10 + 2 * pin), 0x10000);
        assert_int_equal(get(f, 0x11 + 2 * pin), 0);
        set(f, 0x11 + 2 * pin, UINT32_MAX);
        set(f, 0x10 + 2 * pin, UINT32_MAX);
        assert_int_equal(get(f, 0x10 + 2 * pin), 0x1afff); /* status and remote IRR: read only */
        assert_int_equal(get(f, 0x11 + 2 * pin), 0xff000000);
    }
    fixture_destroy(f);
}

static void accesses_of_other_sizes(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    fixture_mmio_write(f, BASE + SELECT, 4, 1);
    assert_int_equal(fixture_mmio_read(f, BASE + DATA, 1), 0x20);
    assert_int_equal(fixture_mmio_read(f, BASE + DATA + 2, 2), 0x17);
    assert_int_equal(fixture_mmio_read(f, BASE + DATA + 8, 4), 0);
    fixture_mmio_write(f, BASE + SELECT, 4, 0x10);
    fixture_mmio_write(f, BASE + DATA, 1, 0x55);
    assert_int_equal(get(f, 0x10), 0x10000);
    assert_int_equal(fixture_mmio_read(f, BASE + 0x20, 4), 0);
    fixture_destroy(f);
}

static void an_edge_is_one_message(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 4, 0x44);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    vmm_irq_set(f->vm, 4, false);
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    assert_int_equal(get(f, 0x18), 0x44); /* no remote IRR for edges */
    fixture_destroy(f);
}

static void a_masked_edge_is_lost(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 4, MASKED | 0x44);
    vmm_irq_set(f->vm, 4, true);
    pc_route(f, 4, 0x44);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void a_level_asks_until_it_falls(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 9, LEVEL | 0x49);
    vmm_irq_set(f->vm, 9, true);
    assert_int_equal(get(f, 0x22), LEVEL | 0x4049); /* remote IRR */
    assert_int_equal(pc_take(f->vcpu), 0x49);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xb0, 4, 0); /* EOI, still asserted */
    assert_int_equal(get(f, 0x22), LEVEL | 0x4049);
    assert_int_equal(pc_take(f->vcpu), 0x49);
    vmm_irq_set(f->vm, 9, false);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xb0, 4, 0);
    assert_int_equal(get(f, 0x22), LEVEL | 0x49);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

/* Nobody ends an NMI: by a level it would come once and never again. */
static void an_nmi_is_an_edge_whatever_the_entry_says(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 4, LEVEL | 0x400);
    for (unsigned i = 0; i < 2; i++) {
        f->vcpu->requests = 0;
        vmm_irq_set(f->vm, 4, true);
        assert_int_equal(f->vcpu->requests, VMM_REQ_NMI);
        assert_int_equal(get(f, 0x18), LEVEL | 0x400); /* no remote IRR */
        vmm_irq_set(f->vm, 4, false);
    }
    fixture_destroy(f);
}

static void a_level_that_nobody_takes_is_not_stuck(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    set(f, 0x23, 0x77000000); /* nobody's id */
    set(f, 0x22, LEVEL | 0x49);
    vmm_irq_set(f->vm, 9, true);
    assert_int_equal(get(f, 0x22), LEVEL | 0x49);
    set(f, 0x23, 0);
    assert_int_equal(get(f, 0x22), LEVEL | 0x4049);
    assert_int_equal(pc_take(f->vcpu), 0x49);
    fixture_destroy(f);
}

static void a_masked_level_waits(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 9, MASKED | LEVEL | 0x49);
    vmm_irq_set(f->vm, 9, true);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_route(f, 9, LEVEL | 0x49);
    assert_int_equal(pc_take(f->vcpu), 0x49);
    fixture_destroy(f);
}

static void the_eoi_register(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 9, LEVEL | 0x49);
    vmm_irq_set(f->vm, 9, true);
    vmm_irq_set(f->vm, 9, false);
    fixture_mmio_write(f, BASE + EOI, 4, 0x48); /* another vector */
    assert_int_equal(get(f, 0x22), LEVEL | 0x4049);
    fixture_mmio_write(f, BASE + EOI, 4, 0x49);
    assert_int_equal(get(f, 0x22), LEVEL | 0x49);
    fixture_destroy(f);
}

static void a_switch_to_edge_clears_remote_irr(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 9, LEVEL | 0x49);
    vmm_irq_set(f->vm, 9, true);
    pc_route(f, 9, MASKED | 0x49);
    assert_int_equal(get(f, 0x22), MASKED | 0x49);
    pc_route(f, 9, MASKED | LEVEL | 0x49);
    assert_int_equal(get(f, 0x22), MASKED | LEVEL | 0x49);
    fixture_destroy(f);
}

static void line_0_is_at_pin_2(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 2, 0x42);
    pc_route(f, 1, 0x41);
    vmm_irq_pulse(f->vm, 0);
    assert_int_equal(pc_serve(f, f->vcpu), 0x42);
    vmm_irq_pulse(f->vm, 2); /* the cascade is no line */
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    vmm_irq_pulse(f->vm, 1);
    assert_int_equal(pc_serve(f, f->vcpu), 0x41);
    fixture_destroy(f);
}

static void lines_above_the_isa_bus(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    pc_route(f, 23, LEVEL | 0x57);
    vmm_irq_set(f->vm, 23, true);
    assert_int_equal(pc_take(f->vcpu), 0x57);
    vmm_irq_set(f->vm, 24, true); /* no such pin */
    fixture_destroy(f);
}

static void destinations(void **state)
{
    struct fixture *f = ioapic_create(3);

    (void)state;
    pc_route(f, 4, UINT64_C(2) << 56 | 0x44);
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(pc_serve(f, f->vm->vcpu[2]), 0x44);
    f->vcpu = f->vm->vcpu[1];
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xd0, 4, 0x08000000);
    pc_route(f, 4, UINT64_C(8) << 56 | 0x800 | 0x44);
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(pc_serve(f, f->vm->vcpu[0]), -1);
    assert_int_equal(pc_serve(f, f->vm->vcpu[1]), 0x44);
    pc_route(f, 4, UINT64_C(0xff) << 56 | 0x100 | 0x44); /* lowest priority: one of them */
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal((pc_serve(f, f->vm->vcpu[0]) == 0x44) + (pc_serve(f, f->vm->vcpu[1]) == 0x44) +
                         (pc_serve(f, f->vm->vcpu[2]) == 0x44),
                     1);
    fixture_destroy(f);
}

static void delivery_modes(void **state)
{
    struct fixture *f = ioapic_create(2);
    struct vcpu *target = f->vm->vcpu[1];

    (void)state;
    target->requests = 0;
    pc_route(f, 4, UINT64_C(1) << 56 | 0x400);
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(target->requests, VMM_REQ_NMI);
    pc_route(f, 4, UINT64_C(1) << 56 | 0x500);
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(target->requests, VMM_REQ_NMI | VMM_REQ_INIT);
    fixture_destroy(f);
}

static void irq_0_is_seen_where_it_is_unmasked(void **state)
{
    struct fixture *f = ioapic_create(1);

    (void)state;
    assert_false(vmm_irq_visible(f->vm, 0)); /* PICs and entries masked */
    pc_route(f, 2, 0x42);
    assert_true(vmm_irq_visible(f->vm, 0));
    pc_route(f, 2, MASKED | 0x42);
    pc_init_pics(f);
    assert_true(vmm_irq_visible(f->vm, 0)); /* virtual wire */
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0x350, 4, 0x10700);
    assert_false(vmm_irq_visible(f->vm, 0));
    pc_route(f, 0, 0x700); /* the PICs' output through pin 0 */
    assert_true(vmm_irq_visible(f->vm, 0));
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = ioapic_create(2);

    (void)state;
    pc_init_pics(f);
    for (unsigned i = 0; i < 200; i++) {
        pc_fuzz_mmio(f, BASE, 0x50, 150);
        vmm_irq_set(f->vm, i * 7 % 24, i % 3 != 0);
    }
    pc_fuzz_mmio(f, BASE, 0x1000, 5000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(identity_registers),
             cmocka_unit_test(entries_after_reset_and_their_bits),
             cmocka_unit_test(accesses_of_other_sizes), cmocka_unit_test(an_edge_is_one_message),
             cmocka_unit_test(a_masked_edge_is_lost), cmocka_unit_test(a_level_asks_until_it_falls),
             cmocka_unit_test(an_nmi_is_an_edge_whatever_the_entry_says),
             cmocka_unit_test(a_level_that_nobody_takes_is_not_stuck),
             cmocka_unit_test(a_masked_level_waits), cmocka_unit_test(the_eoi_register),
             cmocka_unit_test(a_switch_to_edge_clears_remote_irr),
             cmocka_unit_test(line_0_is_at_pin_2), cmocka_unit_test(lines_above_the_isa_bus),
             cmocka_unit_test(destinations), cmocka_unit_test(delivery_modes),
             cmocka_unit_test(irq_0_is_seen_where_it_is_unmasked),
             cmocka_unit_test(random_accesses))
