/* The local APIC's timer. */
#include "apic.h"

/* --- timer ------------------------------------------------------------------------------------ */

static void one_shot(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, DIVIDE, 0xb); /* by 1 */
    apic_set(f, LVT_TIMER, 0x40);
    apic_set(f, INITIAL, 100000);
    assert_int_equal(apic_get(f, INITIAL), 100000);
    pc_advance_ns(f, 40000);
    assert_int_equal(apic_get(f, CURRENT), 60000);
    pc_advance_ns(f, 59999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    assert_int_equal(apic_get(f, CURRENT), 0);
    pc_advance_ns(f, 1000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void every_divisor(void **state)
{
    struct fixture *f = apic_create(1);
    static const uint8_t code_table[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};

    (void)state;
    apic_set(f, LVT_TIMER, 0x10040);
    for (unsigned i = 0; i < 8; i++) {
        apic_set(f, DIVIDE, code_table[i]);
        assert_int_equal(apic_get(f, DIVIDE), code_table[i]);
        apic_set(f, INITIAL, 1000);
        pc_advance_ns(f, 400ull << i);
        assert_int_equal(apic_get(f, CURRENT), 600);
    }
    apic_set(f, DIVIDE, UINT32_MAX);
    assert_int_equal(apic_get(f, DIVIDE), 0xb);
    fixture_destroy(f);
}

static void a_new_divisor_counts_on(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, DIVIDE, 0xb);
    apic_set(f, LVT_TIMER, 0x40);
    apic_set(f, INITIAL, 100000);
    pc_advance_ns(f, 50000);
    apic_set(f, DIVIDE, 0x0); /* by 2 */
    assert_int_equal(apic_get(f, CURRENT), 50000);
    pc_advance_ns(f, 99999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void periodic_does_not_drift(void **state)
{
    struct fixture *f = apic_create(1);
    unsigned ticks = 0;

    (void)state;
    apic_set(f, DIVIDE, 0xb);
    apic_set(f, LVT_TIMER, 0x20040);
    apic_set(f, INITIAL, 1000003);
    for (unsigned i = 0; i < 3000; i++) { /* looked at off the beat */
        pc_advance_ns(f, 777777);
        ticks += pc_serve(f, f->vcpu) == 0x40;
    }
    assert_int_equal(ticks, 3000u * 777777 / 1000003);
    apic_set(f, INITIAL, 0);
    pc_advance_ns(f, 5000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void a_masked_timer_wakes_nobody(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t next;

    (void)state;
    apic_set(f, DIVIDE, 0xb);
    apic_set(f, LVT_TIMER, 0x30040);
    apic_set(f, INITIAL, 1000000);
    assert_false(posix_host_next_timer_ns(f->host, &next));
    pc_advance_ns(f, 2500000);
    assert_int_equal(apic_get(f, CURRENT), 500000); /* it counts all the same */
    apic_set(f, LVT_TIMER, 0x20040);
    pc_advance_ns(f, 499999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void tsc_deadline(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t cycles_per_us = POSIX_CYCLES_KHZ / 1000, tsc;

    (void)state;
    f->vcpu->tsc_offset = 12345;
    vlapic_deadline_write(f->vcpu, 1); /* not in this mode: ignored */
    assert_int_equal(vlapic_deadline_read(f->vcpu), 0);
    apic_set(f, LVT_TIMER, 0x40040);
    apic_set(f, INITIAL, 1000); /* ignored now */
    assert_int_equal(apic_get(f, INITIAL), 0);
    tsc = f->vm->ops->cycles(f->host) + f->vcpu->tsc_offset;
    vlapic_deadline_write(f->vcpu, tsc + 100 * cycles_per_us);
    assert_int_equal(vlapic_deadline_read(f->vcpu), tsc + 100 * cycles_per_us);
    pc_advance_ns(f, 99999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    assert_int_equal(vlapic_deadline_read(f->vcpu), 0);
    vlapic_deadline_write(f->vcpu, 1); /* long past: at once */
    pc_advance_ns(f, 0);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    vlapic_deadline_write(f->vcpu, tsc + 1000 * cycles_per_us);
    vlapic_deadline_write(f->vcpu, 0); /* disarms */
    pc_advance_ns(f, 10000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

/* Not the past, for being negative. */
static void a_deadline_that_never_comes(void **state)
{
    static const uint64_t never_table[] = {UINT64_MAX, UINT64_C(1) << 63, INT64_MAX};
    struct fixture *f = apic_create(1);
    uint64_t next;

    (void)state;
    f->vcpu->tsc_offset = -f->vm->clock_base_cycles;
    apic_set(f, LVT_TIMER, 0x40040);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(never_table); i++) {
        vlapic_deadline_write(f->vcpu, never_table[i]);
        pc_advance_ns(f, 10000000);
        assert_int_equal(pc_take(f->vcpu), -1);
        assert_int_equal(vlapic_deadline_read(f->vcpu), never_table[i]);
        assert_true(!posix_host_next_timer_ns(f->host, &next) || next > INT64_MAX / 4);
    }
    fixture_destroy(f);
}

static void deadline_follows_the_tsc(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t cycles_per_us = POSIX_CYCLES_KHZ / 1000;

    (void)state;
    apic_set(f, LVT_TIMER, 0x40040);
    vlapic_deadline_write(f->vcpu, f->vm->ops->cycles(f->host) + 100 * cycles_per_us);
    f->vcpu->tsc_offset += 50 * cycles_per_us; /* the guest's TSC jumps ahead */
    vlapic_tsc_changed(f->vcpu);
    pc_advance_ns(f, 49999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void a_change_of_mode_disarms(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, DIVIDE, 0xb);
    apic_set(f, LVT_TIMER, 0x40);
    apic_set(f, INITIAL, 100000);
    apic_set(f, LVT_TIMER, 0x40040);
    apic_set(f, LVT_TIMER, 0x40);
    pc_advance_ns(f, 1000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(apic_get(f, CURRENT), 0);
    fixture_destroy(f);
}

static void a_deadline_that_passed_unheard_is_over(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, LVT_TIMER, 0x50040);
    vlapic_deadline_write(f->vcpu, 1);
    pc_advance_ns(f, 1000000);
    apic_set(f, LVT_TIMER, 0x40040);
    pc_advance_ns(f, 1000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(vlapic_deadline_read(f->vcpu), 0);
    fixture_destroy(f);
}

static void timers_are_of_their_vcpu(void **state)
{
    struct fixture *f = apic_create(2);

    (void)state;
    apic_choose(f, 1);
    apic_set(f, DIVIDE, 0xb);
    apic_set(f, LVT_TIMER, 0x40);
    apic_set(f, INITIAL, 1000);
    pc_advance_ns(f, 1000);
    assert_int_equal(pc_take(f->vm->vcpu[0]), -1);
    assert_int_equal(pc_take(f->vm->vcpu[1]), 0x40);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(one_shot), cmocka_unit_test(every_divisor),
             cmocka_unit_test(a_new_divisor_counts_on), cmocka_unit_test(periodic_does_not_drift),
             cmocka_unit_test(a_masked_timer_wakes_nobody), cmocka_unit_test(tsc_deadline),
             cmocka_unit_test(a_deadline_that_never_comes),
             cmocka_unit_test(deadline_follows_the_tsc), cmocka_unit_test(a_change_of_mode_disarms),
             cmocka_unit_test(a_deadline_that_passed_unheard_is_over),
             cmocka_unit_test(timers_are_of_their_vcpu))
