/* The 8254 and port 0x61, register by register. */
#include "pc.h"

#define CH0       0x40
#define CONTROL   0x43
#define SPEAKER   0x61
#define HZ        1193182
#define NS(ticks) ((uint64_t)(ticks)*1000000000 / HZ + 2)

/* Channel 0's interrupt at vector 0x20, or nothing listening. */
static struct fixture *pit_create(bool listening)
{
    struct fixture *f = pc_create(1);

    pc_init_pics(f);
    if (!listening) {
        fixture_out(f, 0x21, 1, 0xff);
    }
    return f;
}

static void program(struct fixture *f, unsigned channel, unsigned mode, unsigned count)
{
    fixture_out(f, CONTROL, 1, channel << 6 | 0x30 | mode << 1);
    fixture_out(f, (uint16_t)(CH0 + channel), 1, count & 0xff);
    fixture_out(f, (uint16_t)(CH0 + channel), 1, count >> 8);
}

static unsigned latched(struct fixture *f, unsigned channel)
{
    unsigned low;

    fixture_out(f, CONTROL, 1, channel << 6);
    low = (unsigned)fixture_in(f, (uint16_t)(CH0 + channel), 1);
    return low | (unsigned)fixture_in(f, (uint16_t)(CH0 + channel), 1) << 8;
}

static unsigned status(struct fixture *f, unsigned channel)
{
    fixture_out(f, CONTROL, 1, 0xe0 | 2u << channel);
    return (unsigned)fixture_in(f, (uint16_t)(CH0 + channel), 1);
}

static bool out2(struct fixture *f)
{
    return (fixture_in(f, SPEAKER, 1) & 0x20) != 0;
}

static void the_count_goes_down(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    program(f, 0, 2, 10000);
    pc_advance_ns(f, NS(2001));
    assert_in_range(latched(f, 0), 7998, 8001);
    pc_advance_ns(f, NS(9000)); /* into the next period */
    assert_in_range(latched(f, 0), 8997, 9001);
    fixture_destroy(f);
}

static void latch_holds_until_read(void **state)
{
    struct fixture *f = pit_create(false);
    unsigned low;

    (void)state;
    program(f, 0, 2, 0); /* 65536 */
    fixture_out(f, CONTROL, 1, 0x00);
    low = (unsigned)fixture_in(f, CH0, 1);
    pc_advance_ns(f, NS(5000));
    fixture_out(f, CONTROL, 1, 0x00);                                  /* ignored: half read */
    assert_in_range(low | (unsigned)fixture_in(f, CH0, 1) << 8, 0, 0); /* 65536 is 0 */
    assert_in_range(latched(f, 0), 60534, 60538);
    fixture_destroy(f);
}

static void unlatched_reads_alternate(void **state)
{
    struct fixture *f = pit_create(false);
    unsigned low;

    (void)state;
    program(f, 0, 2, 0x1234);
    low = (unsigned)fixture_in(f, CH0, 1);
    assert_int_equal(low | (unsigned)fixture_in(f, CH0, 1) << 8, 0x1234);
    fixture_destroy(f);
}

static void single_byte_accesses(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    fixture_out(f, CONTROL, 1, 0x14); /* low byte only */
    fixture_out(f, CH0, 1, 100);
    assert_int_equal(fixture_in(f, CH0, 1), 100);
    assert_int_equal(status(f, 0) & 0x3f, 0x14);
    fixture_out(f, CONTROL, 1, 0x24); /* high byte only */
    fixture_out(f, CH0, 1, 0x12);
    assert_int_equal(fixture_in(f, CH0, 1), 0x12);
    fixture_out(f, CONTROL, 1, 0x00);
    assert_int_equal(fixture_in(f, CH0, 1), 0x12);
    assert_int_equal(status(f, 0) & 0x3f, 0x24);
    fixture_destroy(f);
}

static void bcd_counts(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    fixture_out(f, CONTROL, 1, 0x35);
    fixture_out(f, CH0, 1, 0x00);
    fixture_out(f, CH0, 1, 0x10); /* one thousand */
    assert_int_equal(latched(f, 0), 0x1000);
    pc_advance_ns(f, NS(2));
    assert_in_range(latched(f, 0), 0x0998, 0x0999);
    assert_int_equal(status(f, 0) & 1, 1);
    fixture_destroy(f);
}

static void read_back_of_status_and_count(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    fixture_out(f, CONTROL, 1, 0x34);
    assert_int_equal(status(f, 0), 0xf4); /* out high, null count: nothing loaded yet */
    fixture_out(f, CH0, 1, 0x00);
    fixture_out(f, CH0, 1, 0x80);
    pc_advance_ns(f, NS(2));
    fixture_out(f, CONTROL, 1, 0xc2); /* both: the status comes first */
    assert_int_equal(fixture_in(f, CH0, 1), 0xb4);
    assert_int_not_equal(fixture_in(f, CH0, 1) | fixture_in(f, CH0, 1) << 8, 0);
    program(f, 0, 2, 0x4000);
    fixture_out(f, CH0, 1, 0x00);
    fixture_out(f, CH0, 1, 0x20); /* taken over at the end of the period */
    assert_int_equal(status(f, 0) & 0x40, 0x40);
    pc_advance_ns(f, NS(0x4001));
    assert_int_equal(status(f, 0) & 0x40, 0);
    assert_in_range(latched(f, 0), 0x1ff0, 0x2000);
    fixture_destroy(f);
}

static void modes_6_and_7_are_2_and_3(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    fixture_out(f, CONTROL, 1, 0x3c);
    assert_int_equal(status(f, 0) & 0x0e, 0x04);
    fixture_out(f, CONTROL, 1, 0x3e);
    assert_int_equal(status(f, 0) & 0x0e, 0x06);
    fixture_destroy(f);
}

static void mode_0_interrupts_once(void **state)
{
    struct fixture *f = pit_create(true);

    (void)state;
    program(f, 0, 0, 1000);
    pc_serve(f, f->vcpu); /* of the edge that the power-on state left */
    assert_int_equal(status(f, 0) & 0x80, 0);
    pc_advance_ns(f, NS(999));
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, NS(3));
    assert_int_equal(status(f, 0) & 0x80, 0x80);
    assert_int_equal(pc_serve(f, f->vcpu), 0x20);
    pc_advance_ns(f, 1000000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_in_range(latched(f, 0), 0, 0xffff); /* counts on through zero */
    fixture_destroy(f);
}

static unsigned count_ticks(struct fixture *f, uint64_t total_ns, uint64_t step_ns)
{
    unsigned ticks = 0;

    for (uint64_t t = 0; t < total_ns; t += step_ns) {
        pc_advance_ns(f, step_ns);
        ticks += pc_serve(f, f->vcpu) == 0x20;
    }
    return ticks;
}

static void periodic_modes_keep_the_time(void **state)
{
    (void)state;
    for (unsigned mode = 2; mode <= 3; mode++) {
        struct fixture *f = pit_create(true);

        program(f, 0, mode, 11932); /* 100 Hz, all but */
        pc_serve(f, f->vcpu);
        assert_in_range(count_ticks(f, 60000000000, 1000000), 5998, 6001);
        fixture_destroy(f);
    }
}

static void a_guest_that_was_away_gets_its_ticks(void **state)
{
    struct fixture *f = pit_create(true);

    (void)state;
    program(f, 0, 2, 1193); /* 1000 Hz */
    pc_serve(f, f->vcpu);
    pc_advance_ns(f, 100000000); /* nothing taken for 100 ms: one is pending */
    assert_in_range(count_ticks(f, 200000000, 100000), 298, 302);
    pc_advance_ns(f, 10000000000); /* far too long */
    assert_in_range(count_ticks(f, 1000000000, 100000), 1000, 1510);
    fixture_destroy(f);
}

static void no_timer_while_nobody_listens(void **state)
{
    struct fixture *f = pit_create(false);
    uint64_t next;

    (void)state;
    program(f, 0, 2, 1193);
    pc_advance_ns(f, 10000000);
    assert_false(posix_host_next_timer_ns(f->host, &next));
    fixture_out(f, 0x21, 1, 0xfe); /* unmask: the latched edge, then the beat */
    pc_settle(f);
    assert_int_equal(pc_serve(f, f->vcpu), 0x20);
    assert_true(posix_host_next_timer_ns(f->host, &next));
    assert_in_range(count_ticks(f, 100000000, 100000), 99, 101); /* none of the unseen ones */
    fixture_out(f, 0x21, 1, 0xff);
    pc_advance_ns(f, 2000000);
    assert_false(posix_host_next_timer_ns(f->host, &next));
    pc_route(f, 2, 0x42); /* the other way to a CPU */
    pc_settle(f);
    assert_true(posix_host_next_timer_ns(f->host, &next));
    fixture_destroy(f);
}

static void a_tiny_period_is_no_storm(void **state)
{
    struct fixture *f = pit_create(true);
    unsigned ticks;

    (void)state;
    program(f, 0, 2, 2);
    ticks = count_ticks(f, 10000000, 10000);
    assert_in_range(ticks, 50, 250);
    fixture_destroy(f);
}

static void a_new_period_begins_after_the_old(void **state)
{
    struct fixture *f = pit_create(true);

    (void)state;
    program(f, 0, 2, 20000);
    pc_serve(f, f->vcpu);
    pc_advance_ns(f, NS(5000));
    fixture_out(f, CH0, 1, 1000 & 0xff);
    fixture_out(f, CH0, 1, 1000 >> 8);
    assert_in_range(latched(f, 0), 14990, 15001);
    pc_advance_ns(f, NS(14990));
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    pc_advance_ns(f, NS(15));
    assert_int_equal(pc_serve(f, f->vcpu), 0x20);
    pc_advance_ns(f, NS(1000));
    assert_int_equal(pc_serve(f, f->vcpu), 0x20);
    fixture_destroy(f);
}

static void mode_4_strobes_once(void **state)
{
    struct fixture *f = pit_create(true);

    (void)state;
    program(f, 0, 4, 1000);
    pc_serve(f, f->vcpu);
    pc_advance_ns(f, NS(1003));
    assert_int_equal(pc_serve(f, f->vcpu), 0x20);
    pc_advance_ns(f, 1000000000);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void the_gate_holds_channel_2(void **state)
{
    struct fixture *f = pit_create(false);
    unsigned before;

    (void)state;
    program(f, 2, 0, 10000);
    pc_advance_ns(f, NS(1000));
    assert_int_equal(latched(f, 2), 10000); /* closed */
    fixture_out(f, SPEAKER, 1, 0x01);
    pc_advance_ns(f, NS(1000));
    assert_in_range(latched(f, 2), 8998, 9001);
    fixture_out(f, SPEAKER, 1, 0x00);
    before = latched(f, 2);
    pc_advance_ns(f, NS(5000));
    assert_int_equal(latched(f, 2), before);
    assert_false(out2(f));
    fixture_out(f, SPEAKER, 1, 0x01);
    pc_advance_ns(f, NS(8990));
    assert_false(out2(f));
    pc_advance_ns(f, NS(15));
    assert_true(out2(f)); /* how systems calibrate their clocks */
    fixture_destroy(f);
}

static void hardware_triggered_modes(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    program(f, 2, 1, 1000);
    assert_true(out2(f));
    pc_advance_ns(f, NS(2000));
    assert_true(out2(f)); /* no trigger yet */
    fixture_out(f, SPEAKER, 1, 0x01);
    pc_advance_ns(f, NS(10));
    assert_false(out2(f));
    fixture_out(f, SPEAKER, 1, 0x00); /* the gate may fall */
    pc_advance_ns(f, NS(500));
    fixture_out(f, SPEAKER, 1, 0x01); /* triggered again */
    pc_advance_ns(f, NS(900));
    assert_false(out2(f));
    pc_advance_ns(f, NS(110));
    assert_true(out2(f));
    fixture_out(f, SPEAKER, 1, 0x00);
    program(f, 2, 5, 1000);
    assert_true(out2(f));
    fixture_out(f, SPEAKER, 1, 0x01);
    pc_advance_ns(f, NS(500));
    assert_in_range(latched(f, 2), 495, 502);
    fixture_destroy(f);
}

static void square_wave_on_channel_2(void **state)
{
    struct fixture *f = pit_create(false);

    (void)state;
    fixture_out(f, SPEAKER, 1, 0x03);
    assert_int_equal(fixture_in(f, SPEAKER, 1) & 0x0f, 0x03);
    program(f, 2, 3, 1000);
    assert_true(out2(f));
    pc_advance_ns(f, NS(490));
    assert_true(out2(f));
    pc_advance_ns(f, NS(20));
    assert_false(out2(f));
    pc_advance_ns(f, NS(495));
    assert_true(out2(f));
    pc_advance_ns(f, NS(600));
    assert_false(out2(f));
    fixture_out(f, SPEAKER, 1, 0x02); /* gate low: out goes high */
    assert_true(out2(f));
    fixture_destroy(f);
}

static void the_refresh_bit_toggles(void **state)
{
    struct fixture *f = pit_create(false);
    unsigned changes = 0, last = 0;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        unsigned now = (unsigned)fixture_in(f, SPEAKER, 1) & 0x10;

        changes += now != last;
        last = now;
        pc_advance_ns(f, 15100);
    }
    assert_in_range(changes, 95, 100);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pit_create(true);

    (void)state;
    pc_fuzz_ports(f, CH0, 4, 40000);
    pc_fuzz_ports(f, SPEAKER, 1, 2000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_count_goes_down), cmocka_unit_test(latch_holds_until_read),
             cmocka_unit_test(unlatched_reads_alternate), cmocka_unit_test(single_byte_accesses),
             cmocka_unit_test(bcd_counts), cmocka_unit_test(read_back_of_status_and_count),
             cmocka_unit_test(modes_6_and_7_are_2_and_3), cmocka_unit_test(mode_0_interrupts_once),
             cmocka_unit_test(periodic_modes_keep_the_time),
             cmocka_unit_test(a_guest_that_was_away_gets_its_ticks),
             cmocka_unit_test(no_timer_while_nobody_listens),
             cmocka_unit_test(a_tiny_period_is_no_storm),
             cmocka_unit_test(a_new_period_begins_after_the_old),
             cmocka_unit_test(mode_4_strobes_once), cmocka_unit_test(the_gate_holds_channel_2),
             cmocka_unit_test(hardware_triggered_modes), cmocka_unit_test(square_wave_on_channel_2),
             cmocka_unit_test(the_refresh_bit_toggles), cmocka_unit_test(random_accesses))
