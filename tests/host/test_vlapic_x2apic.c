/* The local APIC by MSRs, in x2APIC mode; random accesses to all of it. */
#include "apic.h"

static void x2apic_mode_changes(void **state)
{
    struct fixture *f = apic_create(2);
    uint64_t base = BASE | 0x100, value;

    (void)state;
    assert_false(vlapic_msr_read(f->vcpu, 0x802, &value));           /* still xAPIC */
    assert_false(vlapic_base_write(f->vcpu, base | 0x400));          /* x2APIC while off */
    assert_false(vlapic_base_write(f->vcpu, base + 0x1000 + 0x800)); /* cannot move */
    assert_false(vlapic_base_write(f->vcpu, base | 0x801));          /* reserved bit */
    assert_true(vlapic_base_write(f->vcpu, base | 0xc00));
    assert_int_equal(apic_get(f, ID), UINT32_MAX); /* no window any more */
    assert_int_equal(apic_rdmsr(f, ID), 0);
    assert_false(vlapic_base_write(f->vcpu, base | 0x800)); /* not straight back */
    assert_true(vlapic_base_write(f->vcpu, base));
    assert_int_equal(apic_get(f, ID), UINT32_MAX);
    assert_false(vlapic_base_write(f->vcpu, base | 0xc00)); /* not straight up either */
    assert_true(vlapic_base_write(f->vcpu, base | 0x800));
    assert_int_equal(apic_get(f, SVR), 0xff);
    fixture_destroy(f);
}

static void x2apic_identity(void **state)
{
    struct fixture *f = apic_create(20);

    (void)state;
    apic_choose(f, 18);
    apic_enable_x2apic(f);
    assert_int_equal(apic_rdmsr(f, ID), 18);
    assert_int_equal(apic_rdmsr(f, LDR), 0x10004);
    assert_int_equal(apic_rdmsr(f, VERSION), 0x50014);
    fixture_destroy(f);
}

static void x2apic_registers_that_fault(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t value;

    (void)state;
    apic_enable_x2apic(f);
    assert_false(vlapic_msr_read(f->vcpu, 0x80b, &value)); /* EOI: write only */
    assert_false(vlapic_msr_read(f->vcpu, 0x80e, &value)); /* DFR: gone */
    assert_false(vlapic_msr_read(f->vcpu, 0x831, &value)); /* ICR high: gone */
    assert_false(vlapic_msr_read(f->vcpu, 0x83f, &value)); /* SELF IPI: write only */
    assert_false(vlapic_msr_read(f->vcpu, 0x8ff, &value));
    assert_false(apic_wrmsr(f, ID, 0));
    assert_false(apic_wrmsr(f, VERSION, 0));
    assert_false(apic_wrmsr(f, LDR, 0));
    assert_false(apic_wrmsr(f, PPR, 0));
    assert_false(apic_wrmsr(f, EOI, 1));
    assert_false(apic_wrmsr(f, ESR, 1));
    assert_false(apic_wrmsr(f, TPR, 0x100));
    assert_false(apic_wrmsr(f, TPR, UINT64_C(1) << 32));
    assert_false(apic_wrmsr(f, SVR, 0x1400));
    assert_false(apic_wrmsr(f, CURRENT, 0));
    assert_false(apic_wrmsr(f, DIVIDE, 4));
    assert_false(apic_wrmsr(f, ICR, 0x2000));
    assert_false(apic_wrmsr(f, SELF_IPI, 0x100));
    assert_true(apic_wrmsr(f, TPR, 0x20));
    assert_int_equal(apic_rdmsr(f, TPR), 0x20);
    assert_true(apic_wrmsr(f, ESR, 0));
    fixture_destroy(f);
}

static void x2apic_eoi_and_self_ipi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_enable_x2apic(f);
    assert_true(apic_wrmsr(f, SELF_IPI, 0x91));
    assert_int_equal(pc_take(f->vcpu), 0x91);
    assert_int_equal(apic_rdmsr(f, ISR + 0x40), 1u << 0x11);
    assert_true(apic_wrmsr(f, EOI, 0));
    assert_int_equal(apic_rdmsr(f, ISR + 0x40), 0);
    fixture_destroy(f);
}

static void x2apic_messages(void **state)
{
    struct fixture *f = apic_create(20);
    uint64_t others = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        apic_choose(f, i);
        apic_enable_x2apic(f);
    }
    assert_true(apic_wrmsr(f, ICR, UINT64_C(17) << 32 | 0x55));
    assert_int_equal(apic_rdmsr(f, ICR), UINT64_C(17) << 32 | 0x55);
    assert_true(
        apic_wrmsr(f, ICR, UINT64_C(0x10006) << 32 | 0x800 | 0x55)); /* 17 and 18, logically */
    assert_true(apic_wrmsr(f, ICR, UINT64_C(0x00001) << 32 | 0x800 | 0x55)); /* 0 */
    for (unsigned i = 0; i < 20; i++) {
        others |= (uint64_t)(pc_take(f->vm->vcpu[i]) == 0x55) << i;
    }
    assert_int_equal(others, 0x60001);
    assert_true(apic_wrmsr(f, ICR, UINT64_C(0xffffffff) << 32 | 0x65));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(pc_take(f->vm->vcpu[i]), 0x65);
    }
    fixture_destroy(f);
}

static void random_msrs(void **state)
{
    struct fixture *f = apic_create(3);
    uint64_t r = 88172645463325252;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        uint64_t value;

        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        apic_choose(f, r % 3);
        switch (r >> 8 & 15) {
        case 0:
            vlapic_base_write(f->vcpu, BASE | (r >> 16 & 0xd00));
            break;
        case 1 ... 4:
            vlapic_msr_read(f->vcpu, 0x800 + (r >> 16 & 0xff), &value);
            break;
        case 5:
            pc_advance_ns(f, r >> 16 & 0xfffff);
            break;
        case 6 ... 7:
            pc_serve(f, f->vcpu);
            break;
        case 8:
            vlapic_deadline_write(f->vcpu, r);
            break;
        default:
            vlapic_msr_write(f->vcpu, 0x800 + (r >> 16 & 0x3f), r >> 24 & 0xc8fff);
            break;
        }
    }
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(x2apic_mode_changes), cmocka_unit_test(x2apic_identity),
             cmocka_unit_test(x2apic_registers_that_fault),
             cmocka_unit_test(x2apic_eoi_and_self_ipi), cmocka_unit_test(x2apic_messages),
             cmocka_unit_test(random_msrs))
