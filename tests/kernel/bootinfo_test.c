/* The parsers of loader records, fed with good and with malformed ones. The records are made here,
 * in the image, which lies below 4 GiB as a loader's record does. */
#include "boot/bootinfo.h"

#include <string.h>

#include "base/layout.h"
#include "boot/pack/crc32c.h"
#include "boot/pack/pack.h"
#include "tests/kernel/ktest.h"

#define MB1_MAGIC 0x2badb002u
#define MB2_MAGIC 0x36d76289u
#define PVH_MAGIC 0x336ec578u

static struct bootinfo info;
static uint32_t record[256] NK_ALIGNED(8);
static uint32_t words; /* of the record, so far */

static uint32_t physical(const void *p)
{
    return (uint32_t)nk_va_to_pa(p).v;
}

static void begin(void)
{
    memset(record, 0, sizeof(record));
    words = 2; /* total size, filled in by finish() */
}

static void add_word(uint32_t w)
{
    record[words++] = w;
}

static void add_text_tag(uint32_t type, const char *text)
{
    uint32_t size = 8 + (uint32_t)strlen(text) + 1;
    add_word(type);
    add_word(size);
    memcpy(&record[words], text, size - 8);
    words += (uint32_t)nk_align_up(size - 8, 8) / 4;
}

static void add_map_tag(uint64_t base, uint64_t length, uint32_t kind)
{
    add_word(6);
    add_word(16 + 24);
    add_word(24);
    add_word(0);
    memcpy(&record[words], &base, 8);
    memcpy(&record[words + 2], &length, 8);
    record[words + 4] = kind;
    words += 6;
}

static void add_module_tag(uint32_t start, uint32_t end, const char *line)
{
    uint32_t at = words;
    add_text_tag(3, line);
    uint32_t size = record[at + 1] + 8;
    memmove(&record[at + 4], &record[at + 2], (size - 16 + 3) & ~3u);
    record[at + 1] = size;
    record[at + 2] = start;
    record[at + 3] = end;
    words = at + (uint32_t)nk_align_up(size, 8) / 4;
}

static int finish(void)
{
    add_word(0);
    add_word(8);
    record[0] = words * 4;
    return bootinfo_parse(&info, MB2_MAGIC, physical(record));
}

KTEST(bootinfo_multiboot2)
{
    begin();
    add_text_tag(1, "one two=2 three");
    add_text_tag(2, "loader 1.0");
    add_map_tag(NK_MIB(1), NK_MIB(63), 1);
    add_map_tag(NK_MIB(64), NK_MIB(64), 1);
    add_map_tag(NK_MIB(128), NK_MIB(1), 12345);
    add_module_tag(0x200000, 0x201000, "/boot/vms/a.json with arguments");
    ASSERT_EQ(finish(), 0);
    EXPECT_STREQ(info.road, "multiboot2");
    EXPECT_STREQ(info.loader, "loader 1.0");
    EXPECT_STREQ(info.cmdline, "one two=2 three");
    EXPECT_EQ(info.range_count, 2); /* neighbours melt */
    EXPECT_EQ(info.range[0].length, NK_MIB(127));
    EXPECT_EQ(info.range[1].kind, BOOTINFO_RESERVED);
    ASSERT_EQ(info.module_count, 1);
    EXPECT_STREQ(info.module[0].name, "/boot/vms/a.json");
    EXPECT_STREQ(info.module[0].args, "with arguments");
    EXPECT_EQ(info.module[0].length, 0x1000);
}

KTEST(bootinfo_options)
{
    char value[8];
    begin();
    add_text_tag(1, "kernel.elf bare key=value  empty= long=0123456789 key=second");
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    ASSERT_EQ(finish(), 0);
    EXPECT(bootinfo_option(&info, "bare", value, sizeof(value)));
    EXPECT_STREQ(value, "");
    EXPECT(bootinfo_option(&info, "key", value, sizeof(value)));
    EXPECT_STREQ(value, "value");
    EXPECT(bootinfo_option(&info, "empty", value, sizeof(value)));
    EXPECT_STREQ(value, "");
    EXPECT(bootinfo_option(&info, "long", value, sizeof(value)));
    EXPECT_STREQ(value, "0123456");
    EXPECT(!bootinfo_option(&info, "ke", value, sizeof(value)));
    EXPECT(!bootinfo_option(&info, "keys", value, sizeof(value)));
}

KTEST(bootinfo_multiboot2_malformed)
{
    begin();
    EXPECT_EQ(finish(), -22); /* no memory */

    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 2);
    EXPECT_EQ(finish(), -22); /* none that is usable */

    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    add_word(1);
    add_word(4); /* a tag smaller than its header */
    EXPECT_EQ(finish(), -22);

    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    add_word(1);
    add_word(4096); /* a tag that leaves the record */
    EXPECT_EQ(finish(), -22);

    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    record[4] = 8; /* entries too small for a range */
    EXPECT_EQ(finish(), -22);

    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    record[0] = words * 4; /* no end tag */
    EXPECT_EQ(bootinfo_parse(&info, MB2_MAGIC, physical(record)), -22);
    record[0] = 4;
    EXPECT_EQ(bootinfo_parse(&info, MB2_MAGIC, physical(record)), -22);
    record[0] = 0xfffffff0;
    EXPECT_EQ(bootinfo_parse(&info, MB2_MAGIC, physical(record)), -22);
    EXPECT_EQ(bootinfo_parse(&info, MB2_MAGIC, 0), -22);
    EXPECT_EQ(bootinfo_parse(&info, 0x12345678, physical(record)), -22);
}

KTEST(bootinfo_ranges)
{
    begin();
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    add_map_tag(UINT64_MAX - 4095, 8192, 1); /* wraps */
    add_map_tag(NK_GIB(1), 0, 1);            /* empty */
    ASSERT_EQ(finish(), 0);
    EXPECT_EQ(info.range_count, 1);
}

static struct {
    uint32_t size;
    uint64_t base, length;
    uint32_t kind;
} NK_PACKED map[2];

static void make_multiboot1(void)
{
    begin();
    map[0].size = map[1].size = 20;
    map[0].base = 0;
    map[0].length = 0x9fc00;
    map[1].base = NK_MIB(1);
    map[1].length = NK_MIB(31);
    map[0].kind = map[1].kind = 1;
    record[0] = 1u << 6 | 1u << 2;
    record[4] = physical("first second=2");
    record[11] = sizeof(map);
    record[12] = physical(map);
}

static int parse_multiboot1(void)
{
    return bootinfo_parse(&info, MB1_MAGIC, physical(record));
}

KTEST(bootinfo_multiboot1)
{
    make_multiboot1();
    ASSERT_EQ(parse_multiboot1(), 0);
    EXPECT_STREQ(info.road, "multiboot1");
    EXPECT_STREQ(info.cmdline, "first second=2");
    EXPECT_EQ(info.range_count, 2);
    EXPECT_EQ(info.range[1].base, NK_MIB(1));

    uint32_t module[4] = {0x300000, 0x300010, 0, 0};
    static uint32_t module_list[4];
    module[2] = physical("disk.img");
    memcpy(module_list, module, sizeof(module));
    record[0] |= 1u << 3;
    record[5] = 1;
    record[6] = physical(module_list);
    ASSERT_EQ(parse_multiboot1(), 0);
    ASSERT_EQ(info.module_count, 1);
    EXPECT_STREQ(info.module[0].name, "disk.img");
    EXPECT_STREQ(info.module[0].args, "");
    EXPECT_EQ(info.module[0].length, 16);

    record[0] = 1; /* only the sizes of lower and upper memory */
    record[1] = 640;
    record[2] = 1024;
    ASSERT_EQ(parse_multiboot1(), 0);
    EXPECT_EQ(info.range[1].length, NK_MIB(1));
}

KTEST(bootinfo_multiboot1_malformed)
{
    make_multiboot1();
    record[0] = 0; /* no memory information */
    EXPECT_EQ(parse_multiboot1(), -22);
    make_multiboot1();
    map[1].size = 4; /* an entry too small */
    EXPECT_EQ(parse_multiboot1(), -22);
    make_multiboot1();
    map[1].size = 400; /* an entry that leaves the map */
    EXPECT_EQ(parse_multiboot1(), -22);
    make_multiboot1();
    record[11] = sizeof(map) - 8; /* a map that ends within an entry */
    EXPECT_EQ(parse_multiboot1(), -22);
    make_multiboot1();
    record[12] = 0xfffffff0; /* out of reach */
    EXPECT_EQ(parse_multiboot1(), -22);
    make_multiboot1();
    record[0] |= 1u << 3;
    record[5] = 0x10000000; /* 4 GiB of module list */
    record[6] = physical(map);
    EXPECT_EQ(parse_multiboot1(), -22);
}

KTEST(bootinfo_long_text)
{
    static char line[400];
    memset(line, 'x', sizeof(line) - 1);
    begin();
    add_text_tag(1, line);
    add_map_tag(NK_MIB(1), NK_MIB(64), 1);
    ASSERT_EQ(finish(), 0);
    EXPECT_EQ(strlen(info.cmdline), BOOTINFO_TEXT_MAX - 1);
}

/* ---- PVH */

static struct {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, map;
    uint32_t map_count, reserved;
} pvh;
static struct {
    uint64_t base, length, cmdline, reserved;
} pvh_module;
static struct {
    uint64_t base, length;
    uint32_t kind, reserved;
} pvh_map[2];

static void make_pvh(void)
{
    pvh_map[0].length = NK_KIB(640);
    pvh_map[1].base = NK_MIB(1);
    pvh_map[1].length = NK_MIB(127);
    pvh_map[0].kind = pvh_map[1].kind = 1;
    pvh.magic = PVH_MAGIC;
    pvh.version = 1;
    pvh.module_count = 0;
    pvh.cmdline = physical("panic=reset");
    pvh.rsdp = 0xe0010;
    pvh.map = physical(pvh_map);
    pvh.map_count = 2;
}

static int parse_pvh(void)
{
    return bootinfo_parse(&info, PVH_MAGIC, physical(&pvh));
}

KTEST(bootinfo_pvh)
{
    make_pvh();
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_STREQ(info.road, "pvh");
    EXPECT_STREQ(info.cmdline, "panic=reset");
    EXPECT_EQ(info.rsdp, 0xe0010);
    EXPECT_EQ(info.range_count, 2);
    EXPECT_EQ(info.range[1].length, NK_MIB(127));

    pvh_module.base = 0x300000;
    pvh_module.length = 16;
    pvh_module.cmdline = physical("file with arguments");
    pvh.modules = physical(&pvh_module);
    pvh.module_count = 1;
    pvh.cmdline = 0;
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_STREQ(info.cmdline, "");
    ASSERT_EQ(info.module_count, 1);
    EXPECT_STREQ(info.module[0].name, "file");
    EXPECT_STREQ(info.module[0].args, "with arguments");
}

KTEST(bootinfo_pvh_malformed)
{
    make_pvh();
    pvh.magic++;
    EXPECT_EQ(parse_pvh(), -22);
    make_pvh();
    pvh.version = 0; /* no memory map */
    EXPECT_EQ(parse_pvh(), -22);
    make_pvh();
    pvh.map_count = 0;
    EXPECT_EQ(parse_pvh(), -22);
    make_pvh();
    pvh.map = NK_GIB(5);
    EXPECT_EQ(parse_pvh(), -22);
    make_pvh();
    pvh.module_count = 0xffffffff;
    pvh.modules = physical(&pvh_module);
    EXPECT_EQ(parse_pvh(), -22);
}

/* ---- a container among the modules */

static uint8_t container[3 * PACK_PAGE] NK_ALIGNED(8);

static void seal_container(void)
{
    struct pack_header *h = (void *)container;
    h->crc = 0;
    h->crc = crc32c(0, h, sizeof(*h) + h->count * sizeof(struct pack_entry));
}

static void make_container(void)
{
    struct pack_header *h = (void *)container;
    struct pack_entry *e = (void *)(h + 1);
    memset(container, 0, sizeof(container));
    memcpy(h->magic, PACK_MAGIC, sizeof(h->magic));
    h->version = PACK_VERSION;
    h->count = 2;
    h->size = sizeof(container);
    for (unsigned i = 0; i < 2; i++) {
        const char *content = i == 0 ? "{}" : "one=1";
        strcpy(e[i].name, i == 0 ? "vms/a.json" : "cmdline");
        e[i].kind = i == 0 ? PACK_MODULE : PACK_CMDLINE;
        e[i].slot = PACK_SLOT_NONE;
        e[i].offset = (i + 1) * PACK_PAGE;
        e[i].stored = e[i].unpacked = (uint32_t)strlen(content);
        memcpy(container + e[i].offset, content, e[i].stored);
        e[i].crc = crc32c(0, content, e[i].stored);
    }
    seal_container();
    make_pvh();
    pvh.cmdline = 0;
    pvh_module.base = physical(container);
    pvh_module.length = sizeof(container);
    pvh_module.cmdline = 0;
    pvh.modules = physical(&pvh_module);
    pvh.module_count = 1;
}

KTEST(bootinfo_container)
{
    make_container();
    ASSERT_EQ(parse_pvh(), 0);
    ASSERT_EQ(info.module_count, 2);
    EXPECT_STREQ(info.module[1].name, "vms/a.json");
    EXPECT_EQ(info.module[1].base, physical(container) + PACK_PAGE);
    EXPECT_EQ(info.module[1].length, 2);
    EXPECT_STREQ(info.cmdline, "one=1");

    pvh.cmdline = physical("of=loader"); /* the loader's own prevails */
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_STREQ(info.cmdline, "of=loader");
}

/* What is damaged is left out with a line; the boot goes on. */
KTEST(bootinfo_container_malformed)
{
    struct pack_entry *e = (void *)(container + sizeof(struct pack_header));
    make_container();
    container[PACK_PAGE] ^= 1;
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_EQ(info.module_count, 1);
    make_container();
    e->slot = 0;
    ASSERT_EQ(parse_pvh(), 0); /* directory: wrong checksum */
    EXPECT_EQ(info.module_count, 1);
    EXPECT_STREQ(info.cmdline, "");
    make_container();
    e->method = PACK_LZ4;
    seal_container();
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_EQ(info.module_count, 1);
    EXPECT_STREQ(info.cmdline, "one=1");
    make_container();
    pvh_module.length -= PACK_PAGE; /* cut */
    ASSERT_EQ(parse_pvh(), 0);
    EXPECT_EQ(info.module_count, 1);
}
