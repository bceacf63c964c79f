/* The container of the ROM: checksum, LZ4 decoder, directory, and the choice between two kernels.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/pack/crc32c.h"
#include "boot/pack/lz4.h"
#include "boot/pack/pack.h"
#include "boot/pack/slots.h"

#define CHECK(name) static void name(void **unused __attribute__((unused)))

/* ---- CRC-32C */

CHECK(crc_of_known_texts)
{
    uint8_t bytes[32];

    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283); /* the usual check value */
    memset(bytes, 0, sizeof(bytes));                         /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    assert_int_equal(crc32c(0, bytes, 0), 0);
}

CHECK(crc_by_table_is_the_same_and_goes_on)
{
    uint8_t bytes[200];

    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 37 + (i >> 3));
    }
    for (unsigned n = 0; n < sizeof(bytes); n++) {
        uint32_t crc = crc32c(0, bytes, n);
        assert_int_equal(crc, crc32c_by_table(0, bytes, n));
        assert_int_equal(crc32c(crc, bytes + n, sizeof(bytes) - n),
                         crc32c(0, bytes, sizeof(bytes)));
    }
}

/* ---- LZ4: blocks and outputs lie in buffers of exactly their size, for the sanitizer */

static ptrdiff_t unpack(const uint8_t *block, size_t size, size_t room, uint8_t *copy)
{
    uint8_t *in = malloc(size + (size == 0)), *out = malloc(room + (room == 0));
    ptrdiff_t got;

    assert_non_null(in);
    assert_non_null(out);
    memcpy(in, block, size);
    got = lz4_unpack(in, size, out, room);
    if (got > 0 && copy != NULL) {
        memcpy(copy, out, (size_t)got);
    }
    free(in);
    free(out);
    return got;
}

CHECK(lz4_literals)
{
    static const uint8_t hello[] = {0x50, 'h', 'e', 'l', 'l', 'o'}, nothing[] = {0};
    uint8_t out[5];

    assert_int_equal(unpack(hello, sizeof(hello), 5, out), 5);
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(unpack(nothing, 1, 0, NULL), 0);
    assert_int_equal(unpack(nothing, 0, 8, NULL), -1);
}

/* "ab" and then matches at every distance that overlaps what they write. */
CHECK(lz4_matches_that_overlap)
{
    for (unsigned distance = 1; distance <= 12; distance++) {
        uint8_t block[64] = {0xc7, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'};
        uint8_t out[64], want[64];
        unsigned at = 13;

        block[at++] = (uint8_t)distance;
        block[at++] = 0;
        block[at++] = 0x10;
        block[at++] = 'z';
        memcpy(want, "abcdefghijkl", 12);
        for (unsigned i = 0; i < 11; i++) {
            want[12 + i] = want[12 + i - distance];
        }
        want[23] = 'z';
        assert_int_equal(unpack(block, at, 24, out), 24);
        assert_memory_equal(out, want, 24);
    }
}

CHECK(lz4_long_lengths)
{
    static uint8_t block[1000], out[2000];
    size_t at = 0;

    block[at++] = 0xff; /* 15 + 255 + 30 literals, 15 + 255 + 255 + 1 + 4 of a match */
    block[at++] = 255;
    block[at++] = 30;
    for (unsigned i = 0; i < 300; i++) {
        block[at++] = (uint8_t)i;
    }
    block[at++] = 44; /* distance 300 */
    block[at++] = 1;
    block[at++] = 255;
    block[at++] = 255;
    block[at++] = 1;
    block[at++] = 0x10;
    block[at++] = '!';
    assert_int_equal(unpack(block, at, 831, out), 300 + 530 + 1);
    for (unsigned i = 0; i < 830; i++) {
        assert_int_equal(out[i], (uint8_t)(i % 300));
    }
    for (size_t room = 0; room < 831; room++) {
        assert_int_equal(unpack(block, at, room, NULL), -1);
    }
    for (size_t size = 0; size < at; size++) { /* cut anywhere: refused, or shorter at a seam */
        assert_true(unpack(block, size, 831, NULL) <= 300);
    }
}

CHECK(lz4_malformed)
{
    static const uint8_t zero[] = {0x10, 'a', 0, 0, 0x10, 'b'};
    static const uint8_t before[] = {0x10, 'a', 2, 0, 0x10, 'b'};
    static const uint8_t endless[] = {0xf0, 255, 255, 255};
    static const uint8_t half[] = {0x10, 'a', 1};

    assert_int_equal(unpack(zero, sizeof(zero), 64, NULL), -1);
    assert_int_equal(unpack(before, sizeof(before), 64, NULL), -1);
    assert_int_equal(unpack(endless, sizeof(endless), 64, NULL), -1);
    assert_int_equal(unpack(half, sizeof(half), 64, NULL), -1);
}

/* ---- the directory */

#define PAGES  5
#define SIZE   (PAGES * (size_t)PACK_PAGE)
#define COUNT  4
#define KERNEL 0
#define OTHER  1
#define FILE_A 2
#define TEXT   3

static uint8_t *image;
static struct pack_header *header;
static struct pack_entry *entry;
static struct pack pack;

static void seal(void)
{
    header->crc = 0;
    header->crc = crc32c(0, header, sizeof(*header) + header->count * sizeof(*entry));
}

static void add(unsigned i, const char *name, unsigned kind, unsigned slot, const void *content,
                uint32_t size)
{
    entry[i] = (struct pack_entry){.kind = (uint8_t)kind, .slot = (uint8_t)slot};
    strcpy(entry[i].name, name);
    entry[i].offset = (i + 1) * PACK_PAGE;
    entry[i].stored = entry[i].unpacked = size;
    memcpy(image + entry[i].offset, content, size);
    entry[i].crc = crc32c(0, content, size);
}

static int make(void **unused __attribute__((unused)))
{
    static const uint8_t packed[] = {0x1f, 'x', 1, 0, 0, 0x10, 'y'}; /* 20 times x, then y */

    image = calloc(1, SIZE);
    header = (void *)image;
    entry = (void *)(header + 1);
    memcpy(header->magic, PACK_MAGIC, sizeof(header->magic));
    *header = (struct pack_header){.version = PACK_VERSION, .count = COUNT, .size = SIZE};
    memcpy(header->magic, PACK_MAGIC, sizeof(header->magic));
    add(KERNEL, "orthocone", PACK_KERNEL, 0, packed, sizeof(packed));
    entry[KERNEL].method = PACK_LZ4;
    entry[KERNEL].unpacked = 21;
    add(OTHER, "orthocone", PACK_KERNEL, 1, "another", 7);
    add(FILE_A, "vms/a.json", PACK_MODULE, PACK_SLOT_NONE, "{}", 2);
    add(TEXT, "cmdline", PACK_CMDLINE, PACK_SLOT_NONE, "panic=reset", 11);
    seal();
    return 0;
}

static int drop(void **unused __attribute__((unused)))
{
    free(image);
    return 0;
}

CHECK(directory_and_parts)
{
    uint8_t out[64];

    assert_null(pack_open(&pack, image, SIZE, 0));
    assert_ptr_equal(pack_kernel(&pack, 0), &entry[KERNEL]);
    assert_ptr_equal(pack_kernel(&pack, 1), &entry[OTHER]);
    assert_null(pack_kernel(&pack, 2));
    assert_null(pack_read(&pack, &entry[KERNEL], out));
    assert_memory_equal(out, "xxxxxxxxxxxxxxxxxxxxy", 21);
    assert_null(pack_read(&pack, &entry[TEXT], out));
    assert_memory_equal(out, "panic=reset", 11);
}

CHECK(every_flipped_bit_is_found)
{
    uint8_t out[64];

    for (size_t bit = 0; bit < (sizeof(*header) + COUNT * sizeof(*entry)) * 8; bit++) {
        image[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_non_null(pack_open(&pack, image, SIZE, 0));
        image[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_null(pack_open(&pack, image, SIZE, 0));
    for (unsigned i = 0; i < COUNT; i++) {
        for (size_t bit = 0; bit < entry[i].stored * 8; bit++) {
            uint8_t *byte = image + entry[i].offset + bit / 8;
            *byte ^= (uint8_t)(1 << bit % 8);
            assert_non_null(pack_check(&pack, &entry[i]));
            assert_non_null(pack_read(&pack, &entry[i], out));
            *byte ^= (uint8_t)(1 << bit % 8);
        }
        assert_null(pack_check(&pack, &entry[i]));
    }
}

/* A field with a bad value under a good checksum. */
#define REFUSED(what, change)                                                                      \
    do {                                                                                           \
        uint8_t page[PACK_PAGE];                                                                   \
        const char *error;                                                                         \
        memcpy(page, image, PACK_PAGE);                                                            \
        change;                                                                                    \
        seal();                                                                                    \
        error = pack_open(&pack, image, SIZE, 0);                                                  \
        assert_non_null(error);                                                                    \
        assert_string_equal(error, what);                                                          \
        memcpy(image, page, PACK_PAGE);                                                            \
    } while (0)

CHECK(every_field_is_checked)
{
    REFUSED("it is of another version", header->version = 2);
    REFUSED("its header is malformed", header->size = SIZE + 1);
    REFUSED("its header is malformed", header->active = 2);
    REFUSED("its header is malformed", header->zero = 1);
    REFUSED("no directory is there", header->magic[7] = '\r');
    REFUSED("a part's name is malformed", entry[FILE_A].name[0] = '\0');
    REFUSED("a part's name is malformed", entry[FILE_A].name[1] = '\033');
    REFUSED("a part's name is malformed", memset(entry[FILE_A].name, 'a', PACK_NAME_MAX));
    REFUSED("a part is of an unknown kind", entry[FILE_A].kind = 0);
    REFUSED("a part is of an unknown kind", entry[FILE_A].kind = PACK_CMDLINE + 1);
    REFUSED("a part is of an unknown kind", entry[FILE_A].slot = 0);
    REFUSED("a part is of an unknown kind", entry[KERNEL].slot = 2);
    REFUSED("a part is of an unknown kind", entry[FILE_A].zero = 1);
    REFUSED("a part is of an unknown kind", entry[FILE_A].reserved[1] = 1);
    REFUSED("a part is packed in an unknown way", entry[FILE_A].method = PACK_LZ4 + 1);
    REFUSED("a part is packed in an unknown way", entry[FILE_A].unpacked = 3);
    REFUSED("a part has a bad size", entry[KERNEL].stored = 0);
    REFUSED("a part has a bad size", entry[KERNEL].unpacked = PACK_PART_MAX + 1);
    REFUSED("a part lies outside", entry[FILE_A].offset = 0);
    REFUSED("a part lies outside", entry[FILE_A].offset = PACK_PAGE + 1);
    REFUSED("a part lies outside", entry[FILE_A].offset = SIZE);
    REFUSED("a part lies outside", entry[FILE_A].offset = 0xfffff000);
    REFUSED("a part lies outside", entry[KERNEL].stored = SIZE);
    REFUSED("two parts overlap", entry[KERNEL].stored = PACK_PAGE + 1);
    REFUSED("a part is there twice", entry[OTHER].slot = 0);
    header->count = PACK_ENTRIES_MAX + 1;
    assert_string_equal(pack_open(&pack, image, SIZE, 0), "it has too many parts");
    header->count = COUNT;
    assert_string_equal(pack_open(&pack, image, SIZE, 1), "it lies outside");
    assert_string_equal(pack_open(&pack, image, SIZE, SIZE), "it lies outside");
    assert_string_equal(pack_open(&pack, image, 100, 0), "it lies outside");
}

CHECK(a_part_that_does_not_unpack)
{
    uint8_t out[64];

    entry[KERNEL].unpacked = 20; /* one less than comes out */
    seal();
    assert_null(pack_open(&pack, image, SIZE, 0));
    assert_string_equal(pack_read(&pack, &entry[KERNEL], out), "it does not unpack");
}

/* ---- slots */

static const bool both[SLOTS] = {true, true}, only_b[SLOTS] = {false, true}, none[SLOTS];

static void restart(struct slots *s)
{
    uint8_t bytes[SLOTS_BYTES];

    slots_encode(s, bytes);
    assert_true(slots_decode(s, bytes));
    slots_is(s, 0, 0x11112222);
    slots_is(s, 1, 0x33334444);
}

CHECK(slots_fall_back_after_three_tries)
{
    static const uint8_t lost[SLOTS_BYTES],
        ones[SLOTS_BYTES] = {255, 255, 255, 255, 255, 255, 255, 255};
    struct slots s;

    assert_false(slots_decode(&s, ones));
    assert_false(slots_decode(&s, lost));
    for (unsigned i = 0; i < SLOTS_TRIES; i++) {
        restart(&s);
        assert_int_equal(slots_choose(&s, 1, both), 1);
        slots_count_try(&s, 1);
    }
    restart(&s);
    assert_int_equal(slots_choose(&s, 1, both), 0); /* B never got ready */
    slots_count_try(&s, 0);
    slots_mark_good(&s, 0);
    restart(&s);
    assert_true(s.good[0]);
    assert_int_equal(slots_choose(&s, 1, both), 0); /* and it stays so */
    slots_is(&s, 1, 0x55555555);
    assert_int_equal(slots_choose(&s, 1, both), 1); /* until another kernel is there */
}

CHECK(slots_ready_takes_tries_back)
{
    struct slots s = {{0}, {false}, {0}};

    for (unsigned i = 0; i < 10; i++) {
        restart(&s);
        assert_int_equal(slots_choose(&s, 0, both), 0);
        slots_count_try(&s, 0);
        slots_mark_good(&s, 0);
    }
}

CHECK(slots_usable_ones_only)
{
    struct slots s = {{0}, {false}, {0}};

    restart(&s);
    assert_int_equal(slots_choose(&s, 0, only_b), 1);
    slots_mark_bad(&s, 1);
    assert_int_equal(slots_choose(&s, 0, only_b), 1); /* better than none: with new tries */
    assert_int_equal(s.tries[1], 0);
    assert_int_equal(slots_choose(&s, 0, none), SLOTS_NONE);
}

CHECK(slots_every_flipped_bit_is_found)
{
    struct slots s = {{2, 1}, {true, false}, {0x1234, 0xabcd}}, read;
    uint8_t bytes[SLOTS_BYTES];

    slots_encode(&s, bytes);
    assert_true(slots_decode(&read, bytes));
    assert_memory_equal(&s, &read, sizeof(s));
    for (unsigned bit = 0; bit < SLOTS_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(slots_decode(&read, bytes));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_known_texts),
        cmocka_unit_test(crc_by_table_is_the_same_and_goes_on),
        cmocka_unit_test(lz4_literals),
        cmocka_unit_test(lz4_matches_that_overlap),
        cmocka_unit_test(lz4_long_lengths),
        cmocka_unit_test(lz4_malformed),
        cmocka_unit_test_setup_teardown(directory_and_parts, make, drop),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_found, make, drop),
        cmocka_unit_test_setup_teardown(every_field_is_checked, make, drop),
        cmocka_unit_test_setup_teardown(a_part_that_does_not_unpack, make, drop),
        cmocka_unit_test(slots_fall_back_after_three_tries),
        cmocka_unit_test(slots_ready_takes_tries_back),
        cmocka_unit_test(slots_usable_ones_only),
        cmocka_unit_test(slots_every_flipped_bit_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
