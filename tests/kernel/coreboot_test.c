/* The parser of coreboot's tables and of the flash's files, fed with good and with malformed ones.
 * They are made here, in the image, which lies below 4 GiB; a flash of 4 GiB reaches the files. */
#include <string.h>

#include "base/layout.h"
#include "boot/bootinfo.h"
#include "tests/kernel/ktest.h"

enum {
    HEADER_WORDS = 6,
    TAG_MEMORY = 0x01,
    TAG_VERSION = 0x04,
    TAG_FORWARD = 0x11,
    TAG_BOOT_MEDIA = 0x30,
    FILE_RAW = 0x50,
    FILE_HEADER = 64, /* with the name */
};

static struct bootinfo info;
static uint32_t table[128] NK_ALIGNED(16), forward[32] NK_ALIGNED(16);
static uint32_t words, records;
static uint8_t flash[1024] NK_ALIGNED(64);
static uint32_t flash_used;

static uint32_t physical(const void *p)
{
    return (uint32_t)nk_va_to_pa(p).v;
}

static uint32_t checksum(const void *data, uint32_t bytes)
{
    const uint16_t *half = data;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < bytes / 2; i++) {
        sum += half[i];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16)) & 0xffff;
}

static void begin(void)
{
    memset(&info, 0, sizeof(info));
    memset(table, 0, sizeof(table));
    memset(flash, 0xff, sizeof(flash));
    words = HEADER_WORDS;
    records = 0;
    flash_used = 0;
}

static void add_record(uint32_t tag, const void *content, uint32_t bytes)
{
    table[words] = tag;
    table[words + 1] = 8 + bytes;
    memcpy(&table[words + 2], content, bytes);
    words += 2 + bytes / 4;
    records++;
}

static void add_memory(void)
{
    const uint32_t ranges[] = {0, 0, 0xa0000,    0, 1,      0x100000, 0, 0x7f00000,
                               0, 1, 0xfec00000, 0, 0x1000, 0,        16};
    add_record(TAG_MEMORY, ranges, sizeof(ranges));
}

static void add_media(uint32_t at, uint32_t size)
{
    const uint32_t media[] = {0, 0, at, 0, size, 0, 0, 1};
    add_record(TAG_BOOT_MEDIA, media, sizeof(media));
}

/* compression: -1: no attributes at all */
static void add_file(const char *name, uint32_t kind, const char *content, int compression)
{
    uint8_t *file = flash + flash_used;
    uint32_t length = (uint32_t)strlen(content);
    const uint32_t header[] = {__builtin_bswap32(length), __builtin_bswap32(kind),
                               __builtin_bswap32(compression < 0 ? 0 : FILE_HEADER - 16),
                               __builtin_bswap32(FILE_HEADER)};
    memset(file, 0, FILE_HEADER);
    memcpy(file, "LARCHIVE", 8);
    memcpy(file + 8, header, sizeof(header));
    strcpy((char *)file + 24, name);
    if (compression >= 0) {
        const uint32_t attribute[] = {__builtin_bswap32(0x42435a4c), __builtin_bswap32(16),
                                      __builtin_bswap32((uint32_t)compression), 0};
        memcpy(file + FILE_HEADER - 16, attribute, sizeof(attribute));
    }
    strcpy((char *)file + FILE_HEADER, content);
    flash_used += (uint32_t)nk_align_up(FILE_HEADER + length, 64);
}

static void seal(uint32_t *header, uint32_t bytes, uint32_t count)
{
    memcpy(header, "LBIO", 4);
    header[1] = HEADER_WORDS * 4;
    header[2] = 0;
    header[3] = bytes;
    header[4] = checksum(header + HEADER_WORDS, bytes);
    header[5] = count;
    header[2] = checksum(header, HEADER_WORDS * 4);
}

static int parse(bool *found)
{
    seal(table, (words - HEADER_WORDS) * 4, records);
    return coreboot_parse_at(&info, physical(table), found);
}

KTEST(coreboot_tables_and_files)
{
    bool found;
    begin();
    add_record(TAG_VERSION, "4.15-test\0\0", 12);
    add_memory();
    add_file("config", FILE_RAW, "not ours", -1);
    add_file("orthocone/vms/a.json", FILE_RAW, "{}", -1);
    add_file("orthocone/cmdline", FILE_RAW, "loglevel=debug\nmore", -1);
    add_file("orthocone/b", FILE_RAW, "stored", 0);
    add_file("orthocone/c", FILE_RAW, "squeezed", 1);
    add_file("orthocone/d", 0x10, "no raw file", -1);
    add_media(physical(flash), sizeof(flash));
    ASSERT_EQ(parse(&found), 0);
    EXPECT(found);
    EXPECT_STREQ(info.loader, "4.15-test");
    EXPECT_STREQ(info.cmdline, "loglevel=debug");
    EXPECT_EQ(info.range_count, 3);
    EXPECT_EQ(info.range[1].length, 0x7f00000);
    EXPECT_EQ(info.range[2].kind, BOOTINFO_RESERVED);
    ASSERT_EQ(info.module_count, 2);
    EXPECT_STREQ(info.module[0].name, "vms/a.json");
    EXPECT_EQ(info.module[0].length, 2);
    EXPECT_EQ(info.module[0].base, physical(flash) + 64 + 64 + FILE_HEADER);
    EXPECT_STREQ(info.module[1].name, "b");
}

KTEST(coreboot_forward)
{
    bool found;
    begin();
    add_memory();
    seal(table, (words - HEADER_WORDS) * 4, records);
    const uint32_t record[] = {TAG_FORWARD, 16, physical(table), 0};
    memcpy(forward + HEADER_WORDS, record, sizeof(record));
    seal(forward, sizeof(record), 1);
    ASSERT_EQ(coreboot_parse_at(&info, physical(forward), &found), 0);
    EXPECT_EQ(info.range_count, 3);
    /* A table that leads to itself is read twice, not for ever. */
    forward[HEADER_WORDS + 2] = physical(forward);
    seal(forward, sizeof(record), 1);
    EXPECT_EQ(coreboot_parse_at(&info, physical(forward), &found), 0);
}

KTEST(coreboot_malformed)
{
    bool found;
    begin();
    add_memory();
    EXPECT_EQ(parse(&found), 0);
    table[HEADER_WORDS + 4] ^= 1; /* the sum says so */
    EXPECT_EQ(coreboot_parse_at(&info, physical(table), &found), 0);
    EXPECT(!found);
    EXPECT_EQ(coreboot_parse_at(&info, 0, &found), 0);
    EXPECT(!found);

    begin();
    add_memory();
    table[HEADER_WORDS + 1] = 4; /* smaller than its own header */
    EXPECT_EQ(parse(&found), -22);
    table[HEADER_WORDS + 1] = 4096; /* leaves the table */
    EXPECT_EQ(parse(&found), -22);
    records = 2; /* one that is not there */
    EXPECT_EQ(parse(&found), -22);

    begin();
    add_memory();
    add_file("orthocone/a", FILE_RAW, "good", -1);
    add_file("orthocone/b", FILE_RAW, "too long", -1);
    flash[128 + 8] = 0x7f;
    add_media(physical(flash), sizeof(flash));
    EXPECT_EQ(parse(&found), 0);
    EXPECT_EQ(info.module_count, 1);

    begin();
    add_memory();
    add_file("orthocone/a", FILE_RAW, "beyond", -1);
    add_media(0xfffffff0, 4096);
    EXPECT_EQ(parse(&found), 0);
    EXPECT_EQ(info.module_count, 0);
}
