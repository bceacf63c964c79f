/* PCI configuration mechanism 1, the bridges, the reset control register and port 0x92. */
#include "pc.h"

#define ADDRESS 0xcf8
#define DATA    0xcfc
#define RESET   0xcf9
#define FAST    0x92

static uint64_t get(struct fixture *f, unsigned bus, unsigned dev, unsigned fn, unsigned reg,
                    unsigned size)
{
    fixture_out(f, ADDRESS, 4, 0x80000000u | bus << 16 | dev << 11 | fn << 8 | (reg & 0xfc));
    return fixture_in(f, (uint16_t)(DATA + reg % 4), size);
}

static void set(struct fixture *f, unsigned dev, unsigned fn, unsigned reg, unsigned size,
                uint64_t value)
{
    fixture_out(f, ADDRESS, 4, 0x80000000u | dev << 11 | fn << 8 | (reg & 0xfc));
    fixture_out(f, (uint16_t)(DATA + reg % 4), size, value);
}

static void the_address_register(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    fixture_out(f, ADDRESS, 4, UINT32_MAX);
    assert_int_equal(fixture_in(f, ADDRESS, 4), 0x80fffffc);
    fixture_out(f, ADDRESS, 2, 0); /* double words only */
    fixture_out(f, ADDRESS + 2, 1, 0);
    assert_int_equal(fixture_in(f, ADDRESS, 4), 0x80fffffc);
    assert_int_equal(fixture_in(f, ADDRESS, 2), 0xffff);
    fixture_destroy(f);
}

static void the_boards_functions_are_there(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(get(f, 0, 0, 0, 0, 4), 0x12378086);
    assert_int_equal(get(f, 0, 1, 0, 0, 4), 0x70008086);
    assert_int_equal(get(f, 0, 1, 3, 0, 4), 0x71138086);
    assert_int_equal(get(f, 0, 0, 0, 8, 4), 0x06000002);
    assert_int_equal(get(f, 0, 1, 0, 8, 4), 0x06010000);
    assert_int_equal(get(f, 0, 1, 3, 8, 4), 0x06800003);
    assert_int_equal(get(f, 0, 0, 0, 0x0e, 1), 0x00);
    assert_int_equal(get(f, 0, 1, 0, 0x0e, 1), 0x80); /* more than one function */
    for (unsigned dev = 0; dev < 32; dev++) {
        for (unsigned fn = 0; fn < 8; fn++) {
            bool board = (dev <= 1 && fn == 0) || (dev == 1 && fn == 3);
            bool balloon = dev == 2 && fn == 0;

            assert_int_equal(get(f, 0, dev, fn, 0, 2), board ? 0x8086 : balloon ? 0x1af4 : 0xffff);
            assert_int_equal(get(f, 1, dev, fn, 0, 4), UINT32_MAX);
        }
    }
    fixture_destroy(f);
}

static void without_enable_nothing_answers(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    fixture_out(f, ADDRESS, 4, 0);
    assert_int_equal(fixture_in(f, DATA, 4), UINT32_MAX);
    fixture_destroy(f);
}

static void every_size_reads_the_same(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(get(f, 0, 1, 0, i, 1), 0x70008086 >> (8 * i) & 0xff);
    }
    assert_int_equal(get(f, 0, 1, 0, 2, 2), 0x7000);
    fixture_destroy(f);
}

static void what_can_be_written(void **state)
{
    struct fixture *f = pc_create(1);
    unsigned changed = 0;

    (void)state;
    for (unsigned reg = 0; reg < 256; reg++) {
        uint64_t before = get(f, 0, 0, 0, reg, 1);

        set(f, 0, 0, reg, 1, ~before);
        changed += get(f, 0, 0, 0, reg, 1) != before;
    }
    assert_int_equal(changed, 1 + 7 + 1); /* command, PAM, SMRAM */
    assert_int_equal(get(f, 0, 0, 0, 0, 4), 0x12378086);
    set(f, 1, 0, 0x60, 4, 0x0b0a0580);
    assert_int_equal(get(f, 0, 1, 0, 0x60, 4), 0x0b0a0580);
    assert_int_equal(get(f, 0, 1, 3, 0x40, 4), PLATFORM_PM_BASE | 1);
    set(f, 1, 3, 0x40, 4, UINT32_MAX);
    assert_int_equal(get(f, 0, 1, 3, 0x40, 4), 0xffc1);
    assert_int_equal(get(f, 0, 1, 3, 0x58, 4), 0x02000000); /* SMM is set up */
    assert_int_equal(get(f, 0, 1, 3, 0x80, 1), 1);
    assert_int_equal(get(f, 0, 1, 3, 0x3c, 2), 0x0100 | PLATFORM_SCI_IRQ);
    set(f, 1, 0, 0x10, 4, UINT32_MAX); /* no base address registers */
    assert_int_equal(get(f, 0, 1, 0, 0x10, 4), 0);
    fixture_destroy(f);
}

static void the_reset_control_register(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, RESET, 1), 0);
    fixture_out(f, RESET, 1, 0x02);
    assert_int_equal(fixture_in(f, RESET, 1), 0x02);
    assert_int_equal(f->vm->reset_wanted, 0);
    fixture_out(f, RESET, 1, 0x06); /* the value the FADT names */
    assert_int_equal(f->vm->reset_wanted, 1);
    f->vm->reset_wanted = 0;
    fixture_out(f, RESET, 1, 0x06); /* no edge */
    assert_int_equal(f->vm->reset_wanted, 0);
    fixture_destroy(f);
}

static void port_92(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, FAST, 1), 0x02);
    fixture_out(f, FAST, 1, 0xfc);
    assert_int_equal(fixture_in(f, FAST, 1), 0x00);
    assert_int_equal(f->vm->reset_wanted, 0);
    fixture_out(f, FAST, 1, 0x03);
    assert_int_equal(f->vm->reset_wanted, 1);
    f->vm->reset_wanted = 0;
    fixture_out(f, FAST, 1, 0x03);
    assert_int_equal(f->vm->reset_wanted, 0);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        fixture_out(f, ADDRESS, 4, 0x80000000u | (i * 37 % 0x1000));
        pc_fuzz_ports(f, ADDRESS, 8, 60);
    }
    pc_fuzz_ports(f, FAST, 1, 500);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_address_register),
             cmocka_unit_test(the_boards_functions_are_there),
             cmocka_unit_test(without_enable_nothing_answers),
             cmocka_unit_test(every_size_reads_the_same), cmocka_unit_test(what_can_be_written),
             cmocka_unit_test(the_reset_control_register), cmocka_unit_test(port_92),
             cmocka_unit_test(random_accesses))
