/* The MC146818 and its RAM, register by register. The host's clock begins at
 * POSIX_WALL_BASE_S = 1700000000: Tuesday, 2023-11-14 22:13:20 UTC. */
#include "pc.h"

#define INDEX     0x70
#define DATA      0x71
#define VECTOR    0x28
#define SECOND_NS UINT64_C(1000000000)

static unsigned get(struct fixture *f, unsigned reg)
{
    fixture_out(f, INDEX, 1, reg);
    return (unsigned)fixture_in(f, DATA, 1);
}

static void set(struct fixture *f, unsigned reg, unsigned value)
{
    fixture_out(f, INDEX, 1, reg);
    fixture_out(f, DATA, 1, value);
}

static struct fixture *rtc_create(void)
{
    struct fixture *f = pc_create(1);

    pc_init_pics(f);
    return f;
}

static void the_date_is_right(void **state)
{
    struct fixture *f = rtc_create();
    static const uint8_t want_table[][2] = {{0x00, 0x20}, {0x02, 0x13}, {0x04, 0x22}, {0x06, 0x03},
                                            {0x07, 0x14}, {0x08, 0x11}, {0x09, 0x23}, {0x32, 0x20}};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(want_table); i++) {
        assert_int_equal(get(f, want_table[i][0]), want_table[i][1]);
    }
    pc_advance_ns(f, 41 * SECOND_NS);
    assert_int_equal(get(f, 0x00), 0x01);
    assert_int_equal(get(f, 0x02), 0x14);
    pc_advance_ns(f, (3600 * 2) * SECOND_NS);
    assert_int_equal(get(f, 0x04), 0x00);
    assert_int_equal(get(f, 0x07), 0x15);
    assert_int_equal(get(f, 0x06), 0x04);
    fixture_destroy(f);
}

static void formats(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    set(f, 0x0b, 0x06); /* binary */
    assert_int_equal(get(f, 0x04), 22);
    assert_int_equal(get(f, 0x09), 23);
    set(f, 0x0b, 0x04); /* binary, 12 hours */
    assert_int_equal(get(f, 0x04), 0x80 | 10);
    set(f, 0x0b, 0x00); /* BCD, 12 hours */
    assert_int_equal(get(f, 0x04), 0x80 | 0x10);
    pc_advance_ns(f, 2 * 3600 * SECOND_NS); /* 00:13 */
    assert_int_equal(get(f, 0x04), 0x12);
    pc_advance_ns(f, 12 * 3600 * SECOND_NS); /* 12:13 */
    assert_int_equal(get(f, 0x04), 0x92);
    fixture_destroy(f);
}

static void set_time(struct fixture *f)
{
    static const uint8_t time_table[][2] = {{0x32, 0x20}, {0x09, 0x24}, {0x08, 0x02}, {0x07, 0x28},
                                            {0x04, 0x23}, {0x02, 0x59}, {0x00, 0x58}};

    set(f, 0x0b, 0x82);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(time_table); i++) {
        set(f, time_table[i][0], time_table[i][1]);
    }
    pc_advance_ns(f, 5 * SECOND_NS);
    assert_int_equal(get(f, 0x00), 0x58); /* stands still while it is set */
    set(f, 0x0b, 0x02);
}

static void the_time_can_be_set(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    set_time(f);
    pc_advance_ns(f, 2 * SECOND_NS); /* into a leap day */
    assert_int_equal(get(f, 0x00), 0x00);
    assert_int_equal(get(f, 0x07), 0x29);
    assert_int_equal(get(f, 0x08), 0x02);
    assert_int_equal(get(f, 0x06), 0x05); /* Thursday */
    pc_advance_ns(f, 86400 * SECOND_NS);
    assert_int_equal(get(f, 0x07), 0x01);
    assert_int_equal(get(f, 0x08), 0x03);
    set(f, 0x02, 0x30); /* without SET too */
    assert_int_equal(get(f, 0x02), 0x30);
    assert_int_equal(get(f, 0x08), 0x03);
    vmm_devices_reset(f->vm); /* the battery keeps it */
    assert_int_equal(get(f, 0x09), 0x24);
    assert_int_equal(get(f, 0x02), 0x30);
    fixture_destroy(f);
}

static void update_in_progress(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    assert_int_equal(get(f, 0x0a), 0x26);
    pc_advance_ns(f, SECOND_NS - 245000);
    assert_int_equal(get(f, 0x0a), 0x26);
    pc_advance_ns(f, 2000);
    assert_int_equal(get(f, 0x0a), 0xa6);
    pc_advance_ns(f, 243000);
    assert_int_equal(get(f, 0x0a), 0x26);
    set(f, 0x0a, 0xff);
    assert_int_equal(get(f, 0x0a), 0x7f); /* UIP is not written */
    fixture_destroy(f);
}

static void c_and_d_are_read_only(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    set(f, 0x0c, 0xff);
    assert_int_equal(get(f, 0x0c), 0);
    set(f, 0x0d, 0x00);
    assert_int_equal(get(f, 0x0d), 0x80);
    fixture_destroy(f);
}

static void the_index_keeps_the_nmi_mask_apart(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    assert_int_equal(get(f, 0x80 | 0x0d), 0x80);
    assert_int_equal(fixture_in(f, INDEX, 1), 0xff); /* write only */
    fixture_destroy(f);
}

static void ram_is_kept(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    for (unsigned i = 0x40; i < 0x50; i++) {
        set(f, i, i * 3);
    }
    vmm_devices_reset(f->vm);
    for (unsigned i = 0x40; i < 0x50; i++) {
        assert_int_equal(get(f, i), i * 3);
    }
    fixture_destroy(f);
}

static void memory_size(void **state)
{
    struct fixture *f = fixture_create(0, 3);

    (void)state;
    f->vm->config.mem_bytes = VMM_GIB(5) + VMM_MIB(1);
    assert_int_equal(vmm_platform_create(f->vm), 0);
    assert_int_equal(get(f, 0x15) | get(f, 0x16) << 8, 640);
    assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 0xfc00);
    assert_int_equal(get(f, 0x30) | get(f, 0x31) << 8, 0xfc00);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, 0xbf00); /* 3 GiB - 16 MiB */
    assert_int_equal(get(f, 0x5b) | get(f, 0x5c) << 8 | get(f, 0x5d) << 16, 0x8010);
    assert_int_equal(get(f, 0x5f), 2);
    fixture_destroy(f);
}

static void update_interrupt(void **state)
{
    struct fixture *f = rtc_create();
    uint64_t next;

    (void)state;
    assert_false(posix_host_next_timer_ns(f->host, &next)); /* none unless asked for */
    set(f, 0x0b, 0x12);
    pc_advance_ns(f, SECOND_NS - 1);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_false(posix_host_next_timer_ns(f->host, &next)); /* nor until C was read */
    assert_int_equal(get(f, 0x0c), 0x90 | 0x40);
    assert_int_equal(get(f, 0x0c), 0);
    pc_advance_ns(f, SECOND_NS);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    set(f, 0x0b, 0x92); /* SET ends it */
    assert_int_equal(get(f, 0x0b), 0x82);
    fixture_destroy(f);
}

static void periodic_interrupt(void **state)
{
    struct fixture *f = rtc_create();
    unsigned ticks = 0;

    (void)state;
    set(f, 0x0b, 0x42); /* 1024 Hz by default */
    for (unsigned i = 0; i < 10000; i++) {
        pc_advance_ns(f, 100000);
        if (pc_serve(f, f->vcpu) == VECTOR) {
            ticks++;
            assert_int_equal(get(f, 0x0c) & 0xc0, 0xc0);
        }
    }
    assert_in_range(ticks, 1023, 1025);
    set(f, 0x0a, 0x2f); /* 2 Hz */
    get(f, 0x0c);
    ticks = 0;
    for (unsigned i = 0; i < 100; i++) {
        pc_advance_ns(f, 100000000);
        if (pc_serve(f, f->vcpu) == VECTOR) {
            ticks++;
            get(f, 0x0c);
        }
    }
    assert_in_range(ticks, 19, 21);
    set(f, 0x0a, 0x20); /* off */
    get(f, 0x0c);
    pc_advance_ns(f, 10 * SECOND_NS);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void flags_without_interrupts(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    get(f, 0x0c);
    pc_advance_ns(f, SECOND_NS);
    assert_int_equal(get(f, 0x0c), 0x50);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void alarm_interrupt(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    set(f, 0x01, 0x05);
    set(f, 0x03, 0x14);
    set(f, 0x05, 0x22);
    set(f, 0x0b, 0x22);
    pc_advance_ns(f, 44 * SECOND_NS); /* 22:14:04 */
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, SECOND_NS);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(get(f, 0x0c) & 0xa0, 0xa0);
    pc_advance_ns(f, 86399 * SECOND_NS);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, SECOND_NS); /* a day later */
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    get(f, 0x0c);
    set(f, 0x05, 0xff); /* every hour, every minute */
    set(f, 0x03, 0xc0);
    pc_advance_ns(f, 60 * SECOND_NS);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    get(f, 0x0c);
    set(f, 0x01, 0x77); /* never */
    pc_advance_ns(f, 2 * 86400 * SECOND_NS);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = rtc_create();

    (void)state;
    pc_fuzz_ports(f, INDEX, 2, 60000);
    for (unsigned reg = 0; reg < 14; reg++) { /* the registers that do something */
        for (unsigned i = 0; i < 1000; i++) {
            set(f, reg, i * 89 + reg * 13);
            pc_advance_ns(f, i * 977777);
            get(f, (reg + i) % 14);
            pc_serve(f, f->vcpu);
        }
    }
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_date_is_right), cmocka_unit_test(formats),
             cmocka_unit_test(the_time_can_be_set), cmocka_unit_test(update_in_progress),
             cmocka_unit_test(c_and_d_are_read_only),
             cmocka_unit_test(the_index_keeps_the_nmi_mask_apart), cmocka_unit_test(ram_is_kept),
             cmocka_unit_test(memory_size), cmocka_unit_test(update_interrupt),
             cmocka_unit_test(periodic_interrupt), cmocka_unit_test(flags_without_interrupts),
             cmocka_unit_test(alarm_interrupt), cmocka_unit_test(random_accesses))
