/* The HPET, register by register. */
#include "pc.h"

#define BASE          PLATFORM_HPET_BASE
#define CAPABILITIES  0x000
#define CONFIG        0x010
#define STATUS        0x020
#define COUNTER       0x0f0
#define TIMER(n)      (0x100 + 0x20 * (n))
#define COMPARATOR(n) (TIMER(n) + 8)

#define LEVEL     0x002
#define INTERRUPT 0x004
#define PERIODIC  0x008
#define SET_VALUE 0x040
#define BITS_32   0x100
#define ROUTE(g)  ((uint64_t)(g) << 9)

#define VECTOR 0x54 /* of GSI 20 */

static uint64_t get(struct fixture *f, unsigned reg)
{
    return fixture_mmio_read(f, BASE + reg, 8);
}

static void set(struct fixture *f, unsigned reg, uint64_t value)
{
    fixture_mmio_write(f, BASE + reg, 8, value);
}

static struct fixture *hpet_create(void)
{
    struct fixture *f = pc_create(1);

    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    pc_route(f, 2, 0x42);
    pc_route(f, 8, 0x48);
    pc_route(f, 20, VECTOR);
    return f;
}

static void values_after_reset(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    assert_int_equal(get(f, CAPABILITIES), UINT64_C(10000000) << 32 | PLATFORM_HPET_ID);
    assert_int_equal(get(f, CONFIG), 0);
    assert_int_equal(get(f, STATUS), 0);
    assert_int_equal(get(f, COUNTER), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(get(f, TIMER(i)), UINT64_C(0x00f00000) << 32 | 0x30);
        assert_int_equal(get(f, COMPARATOR(i)), UINT64_MAX);
    }
    assert_int_equal(get(f, TIMER(3)), 0);
    assert_int_equal(get(f, 0x3f8), 0);
    fixture_destroy(f);
}

static void the_counter_runs_and_stands(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    pc_advance_ns(f, 1000);
    assert_int_equal(get(f, COUNTER), 0);
    set(f, COUNTER, 5);
    set(f, CONFIG, 1);
    pc_advance_ns(f, 1000);
    assert_int_equal(get(f, COUNTER), 105);
    set(f, CONFIG, 0);
    pc_advance_ns(f, 1000);
    assert_int_equal(get(f, COUNTER), 105);
    set(f, CONFIG, 1);
    pc_advance_ns(f, 1000);
    assert_int_equal(get(f, COUNTER), 205);
    set(f, COUNTER, 1000000); /* while it runs */
    pc_advance_ns(f, 1000);
    assert_int_equal(get(f, COUNTER), 1000100);
    fixture_destroy(f);
}

static void halves_of_registers(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    assert_int_equal(fixture_mmio_read(f, BASE + CAPABILITIES + 4, 4), 10000000);
    assert_int_equal(fixture_mmio_read(f, BASE + CAPABILITIES, 1), 1);
    fixture_mmio_write(f, BASE + COUNTER + 4, 4, 7);
    fixture_mmio_write(f, BASE + COUNTER, 4, 9);
    assert_int_equal(get(f, COUNTER), UINT64_C(7) << 32 | 9);
    fixture_mmio_write(f, BASE + COUNTER, 2, 0xffff); /* too narrow */
    fixture_mmio_write(f, BASE + COUNTER + 2, 4, 0xffff);
    assert_int_equal(get(f, COUNTER), UINT64_C(7) << 32 | 9);
    fixture_destroy(f);
}

static void timer_config_keeps_its_bits(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    set(f, TIMER(1), UINT64_MAX);
    assert_int_equal(get(f, TIMER(1)), UINT64_C(0x00f00000) << 32 | 0x3f7e);
    assert_int_equal(get(f, COMPARATOR(1)), UINT32_MAX); /* 32 bits wide now */
    set(f, CONFIG, UINT64_MAX);
    assert_int_equal(get(f, CONFIG), 3);
    fixture_destroy(f);
}

static void one_shot(void **state)
{
    struct fixture *f = hpet_create();
    uint64_t next;

    (void)state;
    set(f, TIMER(2), INTERRUPT | ROUTE(20));
    set(f, COMPARATOR(2), 1000);
    assert_false(posix_host_next_timer_ns(f->host, &next)); /* the counter stands */
    set(f, CONFIG, 1);
    pc_advance_ns(f, 9999);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(get(f, STATUS), 0); /* an edge leaves no trace */
    assert_false(posix_host_next_timer_ns(f->host, &next));
    set(f, COMPARATOR(2), 500); /* passed long ago */
    pc_advance_ns(f, 1000000000);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void without_interrupt_no_timer(void **state)
{
    struct fixture *f = hpet_create();
    uint64_t next;

    (void)state;
    set(f, TIMER(0), ROUTE(20));
    set(f, COMPARATOR(0), 1000);
    set(f, CONFIG, 1);
    assert_false(posix_host_next_timer_ns(f->host, &next));
    pc_advance_ns(f, 100000);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void level_until_cleared(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    pc_route(f, 20, 0x8000 | VECTOR);
    set(f, TIMER(0), INTERRUPT | LEVEL | ROUTE(20));
    set(f, COMPARATOR(0), 1000);
    set(f, CONFIG, 1);
    pc_advance_ns(f, 10000);
    assert_int_equal(get(f, STATUS), 1);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    set(f, STATUS, 6); /* others' bits */
    assert_int_equal(get(f, STATUS), 1);
    fixture_mmio_write(f, BASE + STATUS, 4, 1);
    assert_int_equal(get(f, STATUS), 0);
    pc_serve(f, f->vcpu);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void periodic_does_not_drift(void **state)
{
    struct fixture *f = hpet_create();
    unsigned ticks = 0;

    (void)state;
    set(f, TIMER(0), INTERRUPT | PERIODIC | SET_VALUE | ROUTE(20));
    set(f, COMPARATOR(0), 100000); /* 1 ms, the first */
    set(f, COMPARATOR(0), 100003); /* the period */
    assert_int_equal(get(f, COMPARATOR(0)), 100000);
    set(f, CONFIG, 1);
    for (unsigned i = 0; i < 3000; i++) {
        pc_advance_ns(f, 777777);
        ticks += pc_serve(f, f->vcpu) == VECTOR;
    }
    assert_int_equal(ticks, 3000u * 777777 / 1000030);
    assert_int_equal(get(f, COMPARATOR(0)), 100000 + (uint64_t)ticks * 100003);
    fixture_destroy(f);
}

static void a_tiny_period_is_no_storm(void **state)
{
    struct fixture *f = hpet_create();
    unsigned ticks = 0;

    (void)state;
    set(f, TIMER(0), INTERRUPT | PERIODIC | SET_VALUE | ROUTE(20));
    set(f, COMPARATOR(0), 1);
    set(f, CONFIG, 1);
    for (unsigned i = 0; i < 1000; i++) {
        pc_advance_ns(f, 10000);
        ticks += pc_serve(f, f->vcpu) == VECTOR;
    }
    assert_in_range(ticks, 100, 210);
    fixture_destroy(f);
}

/* Centuries away is never: no wake-up that comes out in the past, and so at once, again and again.
 */
static void a_huge_period_is_no_storm(void **state)
{
    static const uint64_t period_table[] = {UINT64_C(1) << 60, UINT64_C(1) << 63, UINT64_MAX};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(period_table); i++) {
        struct fixture *f = hpet_create();
        uint64_t next;

        set(f, TIMER(0), INTERRUPT | PERIODIC | SET_VALUE | ROUTE(20));
        set(f, COMPARATOR(0), 100);
        set(f, COMPARATOR(0), period_table[i]);
        set(f, CONFIG, 1);
        pc_advance_ns(f, 1000);
        assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
        assert_false(posix_host_next_timer_ns(f->host, &next));
        assert_int_equal(get(f, COMPARATOR(0)), 100 + period_table[i]);
        fixture_destroy(f);
    }
}

static void thirty_two_bits_go_round(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    set(f, TIMER(0), INTERRUPT | BITS_32 | ROUTE(20));
    set(f, COUNTER, UINT64_C(0x5ffffff00));
    set(f, COMPARATOR(0), 0x100);
    set(f, CONFIG, 1);
    pc_advance_ns(f, 0x1ff * 10);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    pc_advance_ns(f, 10);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    pc_advance_ns(f, (UINT64_C(1) << 32) * 10); /* equal again */
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    fixture_destroy(f);
}

static void legacy_replacement(void **state)
{
    struct fixture *f = hpet_create();
    uint64_t next;

    (void)state;
    fixture_out(f, 0x43, 1, 0x34); /* the PIT at 1000 Hz */
    fixture_out(f, 0x40, 1, 1193 & 0xff);
    fixture_out(f, 0x40, 1, 1193 >> 8);
    assert_true(posix_host_next_timer_ns(f->host, &next));
    set(f, CONFIG, 3);
    pc_settle(f);
    pc_serve(f, f->vcpu);
    assert_false(posix_host_next_timer_ns(f->host, &next)); /* is silent */
    set(f, TIMER(0), INTERRUPT);
    set(f, COMPARATOR(0), get(f, COUNTER) + 1000);
    set(f, TIMER(1), INTERRUPT);
    set(f, COMPARATOR(1), get(f, COUNTER) + 2000);
    pc_advance_ns(f, 10000);
    assert_int_equal(pc_serve(f, f->vcpu), 0x42);
    pc_advance_ns(f, 10000);
    assert_int_equal(pc_serve(f, f->vcpu), 0x48);
    set(f, CONFIG, 1);
    pc_advance_ns(f, 2000000);
    assert_int_equal(pc_serve(f, f->vcpu), 0x42); /* the PIT is back */
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = hpet_create();

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        set(f, CONFIG, i % 8 == 0 ? 0 : 1 + i % 3);
        set(f, TIMER(i % 3), INTERRUPT | (i * 2 & 0x10a) | ROUTE(18 + i % 8));
        set(f, COMPARATOR(i % 3), get(f, COUNTER) + i * 37);
        pc_fuzz_mmio(f, BASE, 0x160, 100);
    }
    pc_fuzz_mmio(f, BASE, 0x400, 5000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(values_after_reset), cmocka_unit_test(the_counter_runs_and_stands),
             cmocka_unit_test(halves_of_registers), cmocka_unit_test(timer_config_keeps_its_bits),
             cmocka_unit_test(one_shot), cmocka_unit_test(without_interrupt_no_timer),
             cmocka_unit_test(level_until_cleared), cmocka_unit_test(periodic_does_not_drift),
             cmocka_unit_test(a_tiny_period_is_no_storm),
             cmocka_unit_test(a_huge_period_is_no_storm),
             cmocka_unit_test(thirty_two_bits_go_round), cmocka_unit_test(legacy_replacement),
             cmocka_unit_test(random_accesses))
