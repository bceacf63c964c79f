/* The firmware configuration device, item by item. */
#include <string.h>
#include "pc.h"

#define SELECT 0x510
#define DATA   0x511

static void read_item(struct fixture *f, unsigned item, void *out, unsigned size)
{
    uint8_t *bytes = out;

    fixture_out(f, SELECT, 2, item);
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = (uint8_t)fixture_in(f, DATA, 1);
    }
}

static uint64_t number(struct fixture *f, unsigned item, unsigned size)
{
    uint64_t value = 0;

    read_item(f, item, &value, size);
    return value;
}

static uint32_t big(const uint8_t *at, unsigned size)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static struct fixture *create(uint64_t mem_bytes, unsigned vcpus)
{
    struct fixture *f = fixture_create(0, vcpus);

    f->vm->config.mem_bytes = mem_bytes;
    assert_int_equal(vmm_platform_create(f->vm), 0);
    return f;
}

static void numbers(void **state)
{
    struct fixture *f = create(VMM_GIB(5), 3);
    char signature[5] = "";

    (void)state;
    for (unsigned i = 0; i < 4; i++) { /* selected by RESET */
        signature[i] = (char)fixture_in(f, DATA, 1);
    }
    assert_string_equal(signature, "QEMU");
    assert_int_equal(fixture_in(f, DATA, 1), 0); /* behind its end */
    assert_int_equal(number(f, 0, 4), 0x554d4551);
    assert_int_equal(number(f, 1, 4), 1); /* ports, no DMA */
    assert_int_equal(number(f, 3, 8), VMM_GIB(3));
    assert_int_equal(number(f, 5, 2), 3);
    assert_int_equal(number(f, 0xf, 2), 3);
    assert_int_equal(number(f, 0x1234, 8), 0); /* no such item */
    fixture_destroy(f);
}

/* The item's number of a file, its size in *size. */
static unsigned find_file(struct fixture *f, const char *name, unsigned *size)
{
    uint8_t directory[4 + 8 * 64];

    read_item(f, 0x19, directory, sizeof(directory));
    assert_in_range(big(directory, 4), 1, 8);
    for (unsigned i = 0; i < big(directory, 4); i++) {
        const uint8_t *entry = directory + 4 + 64 * i;

        if (strcmp((const char *)entry + 8, name) == 0) {
            *size = big(entry, 4);
            return big(entry + 4, 2);
        }
    }
    fail_msg("no file %s", name);
    return 0;
}

static void the_memory_map(void **state)
{
    struct fixture *f = create(VMM_GIB(5), 1);
    uint8_t map[40];
    uint64_t field[2];
    unsigned size, item = find_file(f, "etc/e820", &size);

    (void)state;
    assert_int_equal(size, 40);
    read_item(f, item, map, sizeof(map));
    memcpy(field, map, 16);
    assert_int_equal(field[0], 0);
    assert_int_equal(field[1], VMM_GIB(3));
    memcpy(field, map + 20, 16);
    assert_int_equal(field[0], VMM_GIB(4));
    assert_int_equal(field[1], VMM_GIB(2));
    fixture_destroy(f);
    f = create(VMM_MIB(64), 1);
    item = find_file(f, "etc/e820", &size);
    assert_int_equal(size, 20);
    fixture_destroy(f);
}

static void the_serial_console(void **state)
{
    struct fixture *f = create(VMM_MIB(64), 1);
    unsigned size, item = find_file(f, "etc/sercon-port", &size);

    (void)state;
    assert_int_equal(size, 2);
    assert_int_equal(number(f, item, 2), PLATFORM_COM1);
    fixture_destroy(f);
}

static void only_words_select(void **state)
{
    struct fixture *f = create(VMM_MIB(64), 1);

    (void)state;
    fixture_out(f, SELECT, 2, 1);
    fixture_out(f, SELECT, 1, 5);
    fixture_out(f, DATA, 1, 5);
    assert_int_equal(fixture_in(f, SELECT, 2), 0);
    assert_int_equal(fixture_in(f, DATA, 1), 1);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    pc_fuzz_ports(f, SELECT, 2, 30000);
    for (unsigned i = 0; i < 0x40; i++) {
        fixture_out(f, SELECT, 2, i);
        pc_fuzz_ports(f, DATA, 1, 700);
    }
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(numbers), cmocka_unit_test(the_memory_map),
             cmocka_unit_test(the_serial_console), cmocka_unit_test(only_words_select),
             cmocka_unit_test(random_accesses))
