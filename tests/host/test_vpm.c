/* ACPI fixed hardware, register by register. */
#include "pc.h"

#define STATUS  PLATFORM_PM_EVENT
#define ENABLE  (PLATFORM_PM_EVENT + 2)
#define CONTROL PLATFORM_PM_CONTROL
#define TIMER   PLATFORM_PM_TIMER
#define VECTOR  0x29
#define HALF_NS UINT64_C(599932016) /* 2^31 ticks of 3.579545 MHz, in us */

static struct fixture *pm_create(void)
{
    struct fixture *f = pc_create(1);

    pc_init_pics(f);
    return f;
}

static void the_timer_counts_at_its_rate(void **state)
{
    struct fixture *f = pm_create();
    uint64_t first = fixture_in(f, TIMER, 4);

    (void)state;
    pc_advance_ns(f, 1000000000);
    assert_int_equal(fixture_in(f, TIMER, 4) - first, 3579545);
    fixture_out(f, TIMER, 4, 0); /* read only */
    assert_int_equal(fixture_in(f, TIMER, 4) - first, 3579545);
    assert_int_equal(fixture_in(f, TIMER, 2), (first + 3579545) & 0xffff);
    assert_int_equal(fixture_in(f, TIMER + 2, 2), (first + 3579545) >> 16);
    assert_int_equal(fixture_in(f, TIMER + 1, 1), (first + 3579545) >> 8 & 0xff);
    fixture_destroy(f);
}

static void the_timer_is_exact_after_years(void **state)
{
    struct fixture *f = pm_create();
    uint64_t years_s = UINT64_C(10) * 365 * 86400;

    (void)state;
    posix_host_advance_ns(f->host, years_s * 1000000000);
    assert_int_equal(fixture_in(f, TIMER, 4), years_s * 3579545 & UINT32_MAX);
    fixture_destroy(f);
}

static void the_block_answers_where_seabios_moves_it(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    fixture_out(f, PLATFORM_PM_ALIAS + 2, 2, 0x21);
    assert_int_equal(fixture_in(f, ENABLE, 2), 0x21);
    pc_advance_ns(f, 1000000000);
    assert_int_equal(fixture_in(f, PLATFORM_PM_ALIAS + 8, 4), fixture_in(f, TIMER, 4));
    fixture_destroy(f);
}

static void status_is_cleared_by_ones(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    assert_int_equal(fixture_in(f, STATUS, 2), 0);
    pc_advance_ns(f, HALF_NS * 1000 + 2000);
    assert_int_equal(fixture_in(f, STATUS, 2), 1); /* bit 31 changed */
    fixture_out(f, STATUS, 2, 0xfffe);
    assert_int_equal(fixture_in(f, STATUS, 2), 1);
    fixture_out(f, STATUS, 1, 1);
    assert_int_equal(fixture_in(f, STATUS, 2), 0);
    fixture_destroy(f);
}

static void enable_keeps_its_bits(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    fixture_out(f, ENABLE, 2, 0xffff);
    assert_int_equal(fixture_in(f, ENABLE, 2), 0x0721);
    fixture_out(f, ENABLE + 1, 1, 0);
    assert_int_equal(fixture_in(f, ENABLE, 2), 0x0021);
    assert_int_equal(fixture_in(f, STATUS, 4), 0x00210000);
    fixture_destroy(f);
}

static void control_and_the_command_port(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    fixture_out(f, CONTROL, 2, 0x0001);
    assert_int_equal(fixture_in(f, CONTROL, 2), 0); /* not by hand */
    fixture_out(f, PLATFORM_SMI_COMMAND, 1, PLATFORM_ACPI_ENABLE);
    assert_int_equal(fixture_in(f, CONTROL, 2), 1);
    fixture_out(f, CONTROL, 2, 0x0c02);
    assert_int_equal(fixture_in(f, CONTROL, 2), 0x0c03);
    fixture_out(f, PLATFORM_SMI_COMMAND, 1, PLATFORM_ACPI_DISABLE);
    assert_int_equal(fixture_in(f, CONTROL, 2), 0x0c02);
    assert_int_equal(fixture_in(f, PLATFORM_SMI_COMMAND, 1), PLATFORM_ACPI_DISABLE);
    fixture_out(f, PLATFORM_SMI_COMMAND + 1, 1, 0x5a);
    assert_int_equal(fixture_in(f, PLATFORM_SMI_COMMAND + 1, 1), 0x5a);
    fixture_destroy(f);
}

static void s5_is_power_off(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    fixture_out(f, CONTROL, 2, PLATFORM_S5_TYPE << 10); /* no SLP_EN */
    fixture_out(f, CONTROL, 2, 1 << 10 | 0x2000);       /* another state */
    assert_int_equal(f->vm->ending, 0);
    fixture_out(f, CONTROL, 2, PLATFORM_S5_TYPE << 10 | 0x2000);
    assert_int_not_equal(f->vm->ending, 0);
    assert_int_equal(f->vm->reason, VM_REASON_POWER_OFF);
    assert_int_equal(fixture_in(f, CONTROL, 2) & 0x2000, 0);
    fixture_destroy(f);
}

static void s5_by_bytes(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    fixture_out(f, CONTROL + 1, 1, PLATFORM_S5_TYPE << 2 | 0x20);
    assert_int_equal(f->vm->reason, VM_REASON_POWER_OFF);
    fixture_destroy(f);
}

static void timer_interrupt(void **state)
{
    struct fixture *f = pm_create();
    uint64_t next;

    (void)state;
    fixture_out(f, 0x4d1, 1, 0x02); /* SCI is level */
    assert_false(posix_host_next_timer_ns(f->host, &next));
    fixture_out(f, ENABLE, 2, 1);
    assert_false(posix_host_next_timer_ns(f->host, &next)); /* not in ACPI mode yet */
    fixture_out(f, PLATFORM_SMI_COMMAND, 1, PLATFORM_ACPI_ENABLE);
    assert_true(posix_host_next_timer_ns(f->host, &next));
    pc_advance_ns(f, HALF_NS * 1000 - 1000);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    pc_advance_ns(f, 2000);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR); /* until it is cleared */
    fixture_out(f, STATUS, 2, 1);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pm_create();

    (void)state;
    pc_fuzz_ports(f, PLATFORM_PM_BASE - 2, 20, 30000);
    pc_fuzz_ports(f, PLATFORM_SMI_COMMAND, 2, 3000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_timer_counts_at_its_rate),
             cmocka_unit_test(the_timer_is_exact_after_years),
             cmocka_unit_test(the_block_answers_where_seabios_moves_it),
             cmocka_unit_test(status_is_cleared_by_ones), cmocka_unit_test(enable_keeps_its_bits),
             cmocka_unit_test(control_and_the_command_port), cmocka_unit_test(s5_is_power_off),
             cmocka_unit_test(s5_by_bytes), cmocka_unit_test(timer_interrupt),
             cmocka_unit_test(random_accesses))
