/* What the loaders in the ROM and under UEFI share: ELF images, multiboot 2 records, text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/pack/elf.h"
#include "boot/pack/mb2.h"
#include "boot/pack/text.h"

#define CHECK(name) static void name(void **unused __attribute__((unused)))

/* ---- ELF: two segments, the second with memory behind its bytes */

#define HEADER   64
#define SEGMENT  56
#define FILE_END 0x300
#define LINKED   0xffffffff80000000

static uint8_t file[FILE_END];

static void put(size_t at, unsigned bytes, uint64_t value)
{
    memcpy(file + at, &value, bytes);
}

static void put_segment(unsigned i, uint64_t offset, uint64_t physical, uint64_t size,
                        uint64_t memory)
{
    size_t at = HEADER + i * SEGMENT;

    put(at, 4, 1);
    put(at + 8, 8, offset);
    put(at + 16, 8, LINKED + physical);
    put(at + 24, 8, physical);
    put(at + 32, 8, size);
    put(at + 40, 8, memory);
}

static void make(void)
{
    memset(file, 0, sizeof(file));
    memcpy(file, "\177ELF\2\1\1", 7);
    put(18, 2, 62);
    put(24, 8, 0x100010);
    put(32, 8, HEADER);
    put(54, 2, SEGMENT);
    put(56, 2, 2);
    put_segment(0, 0x100, 0x100000, 0x80, 0x80);
    put_segment(1, 0x200, 0x101000, 0x100, 0x180);
    memset(file + 0x100, 'c', 0x80);
    memset(file + 0x200, 'd', 0x100);
}

static const char *check(size_t size, struct elf_plan *plan)
{
    uint8_t *copy = malloc(size + (size == 0)); /* so that a read behind the end is seen */
    const char *error;

    assert_non_null(copy);
    memcpy(copy, file, size);
    error = elf_check(copy, size, plan);
    free(copy);
    return error;
}

CHECK(elf_is_placed)
{
    struct elf_plan plan;
    uint8_t *memory = malloc(0x1180);

    assert_non_null(memory);
    make();
    assert_null(elf_check(file, sizeof(file), &plan));
    assert_int_equal(plan.base, 0x100000);
    assert_int_equal(plan.end, 0x101180);
    assert_int_equal(plan.entry, 0x100010);
    put(24, 8, LINKED + 0x100010); /* named by its virtual address */
    assert_null(elf_check(file, sizeof(file), &plan));
    assert_int_equal(plan.entry, 0x100010);
    memset(memory, 0xaa, 0x1180);
    elf_place(file, &plan, memory);
    assert_int_equal(memory[0x7f], 'c');
    assert_int_equal(memory[0x80], 0xaa);
    assert_int_equal(memory[0x10ff], 'd');
    assert_int_equal(memory[0x1100], 0);
    assert_int_equal(memory[0x117f], 0);
    free(memory);
}

static void refused(const char *what, size_t at, unsigned bytes, uint64_t value)
{
    struct elf_plan plan;
    const char *error;

    make();
    put(at, bytes, value);
    error = check(sizeof(file), &plan);
    assert_non_null(error);
    assert_string_equal(error, what);
}

CHECK(elf_malformed)
{
    static const char no_elf[] = "it is no 64-bit ELF image",
                      outside[] = "a segment lies outside its file",
                      beyond[] = "a segment lies below 1 MiB or beyond 4 GiB",
                      entry[] = "its entry lies outside its segments";

    refused(no_elf, 0, 1, 'E');
    refused(no_elf, 4, 1, 1); /* 32 bits */
    refused(no_elf, 18, 2, 3);
    refused(no_elf, 32, 8, 0xfffffffffffffff8);
    refused(no_elf, 32, 8, FILE_END - SEGMENT);
    refused(no_elf, 32, 8, HEADER + 1);
    refused(no_elf, 54, 2, 32);
    refused(no_elf, 56, 2, 17);
    refused(outside, HEADER + 8, 8, FILE_END);
    refused(outside, HEADER + 8, 8, UINT64_MAX);
    refused(outside, HEADER + 32, 8, UINT64_MAX);
    refused(outside, HEADER + 40, 8, 0x7f); /* less in memory than in the file */
    refused(beyond, HEADER + 24, 8, 0xfffff);
    refused(beyond, HEADER + 24, 8, 0xffffffc0);
    refused(beyond, HEADER + 40, 8, UINT64_MAX);
    refused(entry, 24, 8, 0x100080);
    refused(entry, 24, 8, 0x101100); /* where there are no bytes of the file */
    refused(entry, 56, 2, 0);
}

CHECK(elf_cut_anywhere)
{
    struct elf_plan plan;

    make();
    for (size_t size = 0; size < sizeof(file); size++) {
        assert_non_null(check(size, &plan));
    }
    assert_null(check(sizeof(file), &plan));
}

CHECK(elf_every_byte_changed)
{
    struct elf_plan plan;

    for (size_t at = 0; at < HEADER + 2 * SEGMENT; at++) {
        for (unsigned value = 0; value < 256; value += 51) {
            make();
            file[at] = (uint8_t)value;
            if (check(sizeof(file), &plan) == NULL) {
                assert_true(plan.base >= 0x100000 && plan.end <= UINT64_C(1) << 32 &&
                            plan.base < plan.end);
            }
        }
    }
}

/* ---- multiboot 2 */

static const struct mb2_module modules[] = {{"a", 0x1000000, 10}, {"vms/b.json", 0x2000000, 4096}};
static const struct mb2_range ranges[] = {
    {0, 0xa0000, 1}, {0x100000, 0x7f00000, 1}, {0xfec00000, 0x1000, 2}};
static const struct mb2_info whole = {
    .cmdline = "one two",
    .loader = "test",
    .module = modules,
    .range = ranges,
    .module_count = 2,
    .range_count = 3,
    .rsdp = "RSD PTR 0123456789012345678901234567",
    .rsdp_length = 36,
    .slot = 1,
    .watchdog = 0x660,
    .screen = {0xe0000000, 4096, 1024, 768},
};

static uint32_t word(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, 4);
    return value;
}

/* The content of the n-th tag of a type; NULL when there is none. Every tag is checked on the way.
 */
static const uint8_t *tag(const uint8_t *record, uint32_t type, unsigned n, uint32_t *size)
{
    for (uint32_t at = 8; at < word(record);) {
        assert_int_equal(at % 8, 0);
        *size = word(record + at + 4);
        assert_true(*size >= 8 && at + *size <= word(record));
        if (word(record + at) == type && n-- == 0) {
            return record + at + 8;
        }
        if (word(record + at) == 0) {
            break;
        }
        at += (*size + 7) & ~7u;
    }
    return NULL;
}

CHECK(record_has_all)
{
    static _Alignas(8) uint8_t record[4096];
    uint32_t size, length = mb2_write(record, sizeof(record), &whole);
    const uint8_t *at;

    assert_int_equal(word(record), length);
    assert_string_equal((const char *)tag(record, 1, 0, &size), "one two");
    assert_string_equal((const char *)tag(record, 2, 0, &size), "test");
    at = tag(record, 3, 1, &size);
    assert_non_null(at);
    assert_int_equal(word(at), 0x2000000);
    assert_int_equal(word(at + 4), 0x2001000);
    assert_string_equal((const char *)at + 8, "vms/b.json");
    assert_null(tag(record, 3, 2, &size));
    at = tag(record, 6, 0, &size);
    assert_non_null(at);
    assert_int_equal(size, 16 + 3 * 24);
    assert_int_equal(word(at), 24);
    assert_int_equal(word(at + 8 + 24), 0x100000);
    at = tag(record, 8, 0, &size);
    assert_non_null(at);
    assert_int_equal(size, 38);
    assert_int_equal(word(at + 12), 1024);
    assert_int_equal(at[20], 32);
    assert_int_equal(at[21], 1);
    assert_memory_equal(tag(record, 15, 0, &size), whole.rsdp, 36);
    assert_null(tag(record, 14, 0, &size));
    at = tag(record, MB2_ROM_TAG, 0, &size);
    assert_non_null(at);
    assert_int_equal(word(at), 1);
    assert_int_equal(word(at + 4), 0x660);
    assert_non_null(tag(record, 0, 0, &size));
}

CHECK(record_leaves_out_what_is_not_there)
{
    static _Alignas(8) uint8_t record[4096];
    struct mb2_info least = {.cmdline = "", .loader = "", .slot = MB2_NO_SLOT};
    uint32_t size;

    assert_true(mb2_write(record, sizeof(record), &least) > 0);
    assert_null(tag(record, 3, 0, &size));
    assert_null(tag(record, 8, 0, &size));
    assert_null(tag(record, 15, 0, &size));
    assert_null(tag(record, MB2_ROM_TAG, 0, &size));
    least.rsdp = whole.rsdp;
    least.rsdp_length = 20;
    assert_true(mb2_write(record, sizeof(record), &least) > 0);
    assert_non_null(tag(record, 14, 0, &size));
}

CHECK(record_needs_its_room)
{
    static _Alignas(8) uint8_t record[4096];
    uint32_t length = mb2_write(record, sizeof(record), &whole);

    for (uint32_t room = 0; room < length; room++) {
        uint8_t *exact = malloc(room + (room == 0));

        assert_non_null(exact);
        assert_int_equal(mb2_write(exact, room, &whole), 0);
        free(exact);
    }
    assert_int_equal(mb2_write(record, length, &whole), length);
}

/* ---- text */

static char printed[100];

static void put_char(char c)
{
    size_t length = strlen(printed);

    assert_true(length + 1 < sizeof(printed));
    printed[length] = c;
}

static const char *print(const char *format, ...)
{
    va_list args;

    memset(printed, 0, sizeof(printed));
    va_start(args, format);
    text_print(put_char, format, args);
    va_end(args);
    return printed;
}

CHECK(text_of_numbers)
{
    assert_string_equal(print("%s %c 100%%", "word", 'x'), "word x 100%");
    assert_string_equal(print("%u %x %u", 0, 0xdeadbeef, UINT32_MAX), "0 deadbeef 4294967295");
    assert_string_equal(print("%lu 0x%lx", UINT64_MAX, UINT64_MAX),
                        "18446744073709551615 0xffffffffffffffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elf_is_placed),
        cmocka_unit_test(elf_malformed),
        cmocka_unit_test(elf_cut_anywhere),
        cmocka_unit_test(elf_every_byte_changed),
        cmocka_unit_test(record_has_all),
        cmocka_unit_test(record_leaves_out_what_is_not_there),
        cmocka_unit_test(record_needs_its_room),
        cmocka_unit_test(text_of_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
