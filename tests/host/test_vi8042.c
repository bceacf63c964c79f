/* The keyboard controller, command by command. */
#include "pc.h"

#define DATA    0x60
#define COMMAND 0x64
#define FULL    0x01
#define AUX     0x20
#define TIMEOUT 0x40

static unsigned ask(struct fixture *f, unsigned command)
{
    fixture_out(f, COMMAND, 1, command);
    assert_int_equal(fixture_in(f, COMMAND, 1) & FULL, FULL);
    return (unsigned)fixture_in(f, DATA, 1);
}

static void tell(struct fixture *f, unsigned command, unsigned value)
{
    fixture_out(f, COMMAND, 1, command);
    fixture_out(f, DATA, 1, value);
}

static void status_after_reset(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, COMMAND, 1), 0x14);
    fixture_destroy(f);
}

static void status_tells_command_from_data(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    fixture_out(f, COMMAND, 1, 0xad);
    assert_int_equal(fixture_in(f, COMMAND, 1) & 0x08, 0x08);
    tell(f, 0x60, 0x30);
    assert_int_equal(fixture_in(f, COMMAND, 1) & 0x08, 0);
    fixture_destroy(f);
}

static void tests_pass(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(ask(f, 0xaa), 0x55);
    assert_int_equal(ask(f, 0xab), 0x00);
    assert_int_equal(ask(f, 0xa9), 0x00);
    assert_int_equal(fixture_in(f, COMMAND, 1) & FULL, 0);
    fixture_destroy(f);
}

static void the_mode_byte(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(ask(f, 0x20), 0x34);
    tell(f, 0x60, 0x43);
    assert_int_equal(ask(f, 0x20), 0x43);
    assert_int_equal(fixture_in(f, COMMAND, 1) & 0x04, 0); /* system flag */
    fixture_out(f, COMMAND, 1, 0xad);
    fixture_out(f, COMMAND, 1, 0xa7);
    assert_int_equal(ask(f, 0x20), 0x73);
    fixture_out(f, COMMAND, 1, 0xae);
    fixture_out(f, COMMAND, 1, 0xa8);
    assert_int_equal(ask(f, 0x20), 0x43);
    fixture_destroy(f);
}

static void internal_ram(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    for (unsigned i = 1; i < 32; i++) {
        tell(f, 0x60 + i, i * 5);
    }
    for (unsigned i = 1; i < 32; i++) {
        assert_int_equal(ask(f, 0x20 + i), i * 5);
    }
    fixture_destroy(f);
}

static void input_and_output_ports(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(ask(f, 0xc0), 0x80);
    assert_int_equal(ask(f, 0xd0) & 0x03, 0x03); /* out of reset, A20 open */
    tell(f, 0xd1, 0xdd);
    assert_int_equal(ask(f, 0xd0), 0xdd);
    assert_int_equal(f->vm->reset_wanted, 0);
    tell(f, 0xd1, 0xdc);
    assert_int_equal(f->vm->reset_wanted, 1);
    fixture_destroy(f);
}

static void a_pulse_resets(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    fixture_out(f, COMMAND, 1, 0xff); /* pulses nothing */
    fixture_out(f, COMMAND, 1, 0xfd);
    assert_int_equal(f->vm->reset_wanted, 0);
    fixture_out(f, COMMAND, 1, 0xfe);
    assert_int_equal(f->vm->reset_wanted, 1);
    fixture_destroy(f);
}

static void missing_devices_time_out(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    fixture_out(f, DATA, 1, 0xf2); /* identify, to the keyboard */
    assert_int_equal(fixture_in(f, COMMAND, 1) & (FULL | AUX | TIMEOUT), FULL | TIMEOUT);
    assert_int_equal(fixture_in(f, DATA, 1), 0xfe);
    assert_int_equal(fixture_in(f, COMMAND, 1) & (FULL | AUX | TIMEOUT), 0);
    tell(f, 0xd4, 0xf2); /* and to the mouse */
    assert_int_equal(fixture_in(f, COMMAND, 1) & (FULL | AUX | TIMEOUT), FULL | AUX | TIMEOUT);
    assert_int_equal(fixture_in(f, DATA, 1), 0xfe);
    fixture_destroy(f);
}

static void echoes_and_their_interrupts(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    pc_init_pics(f);
    tell(f, 0x60, 0x47); /* both interrupts */
    tell(f, 0xd2, 0x5a);
    assert_int_equal(pc_serve(f, f->vcpu), 0x21);
    assert_int_equal(fixture_in(f, DATA, 1), 0x5a);
    tell(f, 0xd3, 0xa5);
    assert_int_equal(fixture_in(f, COMMAND, 1) & (FULL | AUX), FULL | AUX);
    assert_int_equal(pc_serve(f, f->vcpu), 0x2c);
    assert_int_equal(fixture_in(f, DATA, 1), 0xa5);
    tell(f, 0x60, 0x44);
    tell(f, 0xd2, 0x5a);
    assert_int_equal(pc_serve(f, f->vcpu), -1);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    pc_init_pics(f);
    pc_fuzz_ports(f, DATA, 5, 40000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(status_after_reset), cmocka_unit_test(status_tells_command_from_data),
             cmocka_unit_test(tests_pass), cmocka_unit_test(the_mode_byte),
             cmocka_unit_test(internal_ram), cmocka_unit_test(input_and_output_ports),
             cmocka_unit_test(a_pulse_resets), cmocka_unit_test(missing_devices_time_out),
             cmocka_unit_test(echoes_and_their_interrupts), cmocka_unit_test(random_accesses))
