/* Messages between local APICs: destinations, kinds, priority. */
#include "apic.h"

/* --- messages --------------------------------------------------------------------------------- */

static void physical_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    apic_send(f, 2, 0x51);
    assert_int_equal(pc_takers(f, 0x51), 0x4);
    apic_send(f, 0xff, 0x52);
    assert_int_equal(pc_takers(f, 0x52), 0xf);
    apic_send(f, 9, 0x53); /* nobody */
    assert_int_equal(pc_takers(f, 0x53), 0);
    fixture_destroy(f);
}

/* With 32 bits 0xff is one of many: section 10.12.9. */
static void wide_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        apic_choose(f, i);
        apic_enable_x2apic(f);
    }
    assert_true(apic_wrmsr(f, ICR, UINT64_C(2) << 32 | 0x54));
    assert_int_equal(pc_takers(f, 0x54), 0x4);
    assert_true(apic_wrmsr(f, ICR, UINT64_C(0xffffffff) << 32 | 0x65));
    assert_int_equal(pc_takers(f, 0x65), 0xf);
    assert_true(apic_wrmsr(f, ICR, UINT64_C(0xff) << 32 | 0x76));
    assert_int_equal(pc_takers(f, 0x76), 0);
    pc_route(f, 4, UINT64_C(0xff) << 56 | 0x87); /* the IOAPIC has but 8 */
    vmm_irq_pulse(f->vm, 4);
    assert_int_equal(pc_takers(f, 0x87), 0xf);
    fixture_destroy(f);
}

static void shorthands(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    apic_choose(f, 1);
    apic_set(f, ICR, 0x40000 | 0x61);
    assert_int_equal(pc_takers(f, 0x61), 0x2);
    apic_set(f, ICR, 0x80000 | 0x62);
    assert_int_equal(pc_takers(f, 0x62), 0xf);
    apic_set(f, ICR, 0xc0000 | 0x63);
    assert_int_equal(pc_takers(f, 0x63), 0xd);
    fixture_destroy(f);
}

static void logical_flat_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        apic_choose(f, i);
        apic_set(f, LDR, 0x01000000u << i);
    }
    apic_send(f, 0x0a, 0x800 | 0x71);
    assert_int_equal(pc_takers(f, 0x71), 0xa);
    apic_send(f, 0xff, 0x800 | 0x72);
    assert_int_equal(pc_takers(f, 0x72), 0xf);
    fixture_destroy(f);
}

static void logical_cluster_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        apic_choose(f, i);
        apic_set(f, DFR, 0x0fffffff);
        apic_set(f, LDR, (i / 2) << 28 | 0x01000000u << (i % 2));
    }
    apic_send(f, 0x12, 0x800 | 0x71);
    assert_int_equal(pc_takers(f, 0x71), 0x8);
    apic_send(f, 0x03, 0x800 | 0x72);
    assert_int_equal(pc_takers(f, 0x72), 0x3);
    apic_send(f, 0xff, 0x800 | 0x73);
    assert_int_equal(pc_takers(f, 0x73), 0xf);
    fixture_destroy(f);
}

static void lowest_priority_takes_turns(void **state)
{
    struct fixture *f = apic_create(3);
    unsigned seen = 0;

    (void)state;
    apic_choose(f, 1);
    apic_set(f, TPR, 0x40); /* busier than the others */
    for (unsigned i = 0; i < 4; i++) {
        unsigned who;

        apic_send(f, 0xff, 0x100 | 0x81);
        who = pc_takers(f, 0x81);
        assert_true(who == 1 || who == 4);
        seen |= who;
    }
    assert_int_equal(seen, 5);
    fixture_destroy(f);
}

static void nmi_init_and_startup(void **state)
{
    struct fixture *f = apic_create(2);
    struct vcpu *target = f->vm->vcpu[1];

    (void)state;
    target->requests = 0;
    apic_send(f, 1, 0x4400);
    assert_int_equal(target->requests, VMM_REQ_NMI);
    target->requests = 0;
    apic_send(f, 1, 0x8500); /* INIT, level de-assert: nothing */
    assert_int_equal(target->requests, 0);
    apic_send(f, 1, 0xc500);
    assert_int_equal(target->requests, VMM_REQ_INIT);
    target->requests = 0;
    apic_send(f, 1, 0x4600 | 0x9f);
    assert_int_equal(target->requests, VMM_REQ_SIPI);
    assert_int_equal(target->sipi_vector, 0x9f);
    apic_send(f, 1, 0xc500); /* and INIT again: it waits for another one */
    assert_int_equal(target->requests, VMM_REQ_INIT);
    assert_int_equal(f->vcpu->requests & (VMM_REQ_NMI | VMM_REQ_INIT), 0);
    target->requests = 0;
    apic_send(f, 1, 0x4200); /* SMI: there is no SMM */
    assert_int_equal(target->requests, 0);
    fixture_destroy(f);
}

static void init_resets_all_but_identity(void **state)
{
    struct fixture *f = apic_create(2);

    (void)state;
    apic_choose(f, 1);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    apic_set(f, TPR, 0x80);
    vlapic_init(f->vcpu);
    assert_int_equal(apic_get(f, ID), 1 << 24);
    assert_int_equal(apic_get(f, TPR), 0);
    assert_int_equal(apic_get(f, SVR), 0xff);
    assert_int_equal(apic_get(f, IRR + 0x20), 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(physical_destinations), cmocka_unit_test(wide_destinations),
             cmocka_unit_test(shorthands), cmocka_unit_test(logical_flat_destinations),
             cmocka_unit_test(logical_cluster_destinations),
             cmocka_unit_test(lowest_priority_takes_turns), cmocka_unit_test(nmi_init_and_startup),
             cmocka_unit_test(init_resets_all_but_identity))
