/* What coreboot leaves for its payload: tables in low memory, found by their signature, and files
 * in the flash. No register says where; the payload is entered by its ELF header alone.
 * Files named orthocone/<name> are the boot modules, orthocone/cmdline is the command line.
 * Spec: coreboot, src/commonlib/include/commonlib/coreboot_tables.h and cbfs_serialized.h. */

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "boot/record.h"

#define TABLE_ENTRIES_MAX 256

struct cb_header {
    char signature[4];
    uint32_t header_bytes;
    uint32_t header_checksum;
    uint32_t table_bytes;
    uint32_t table_checksum;
    uint32_t table_entries;
};

enum cb_tag {
    CB_MEMORY = 0x01,
    CB_VERSION = 0x04,
    CB_FORWARD = 0x11,
    CB_FRAMEBUFFER = 0x12,
    CB_BOOT_MEDIA = 0x30,
};

struct cb_record {
    uint32_t tag, size;
};

struct NK_PACKED cb_memory_range { /* 20 bytes each, without padding */
    uint64_t base, length;
    uint32_t kind; /* 1 to 5 as E820 */
};

struct NK_PACKED cb_forward {
    struct cb_record record;
    uint64_t to;
};

struct NK_PACKED cb_framebuffer {
    struct cb_record record;
    uint64_t base;
    uint32_t width, height, pitch;
    uint8_t bpp;
};

struct NK_PACKED cb_boot_media {
    struct cb_record record;
    uint64_t fmap_offset;
    uint64_t cbfs_offset, cbfs_size; /* from the start of the flash */
    uint64_t size;                   /* of the flash, which ends at 4 GiB */
};

/* The CBFS's numbers are big-endian. */
struct cbfs_file {
    char magic[8];
    uint32_t length, kind;
    uint32_t attributes; /* offset from the header, 0: none */
    uint32_t offset;     /* of the content, from the header */
    char name[];
};

struct cbfs_attribute {
    uint32_t tag, length;
    uint32_t compression; /* when tag is CBFS_COMPRESSION */
};

#define CBFS_MAGIC       "LARCHIVE"
#define CBFS_ALIGN       64
#define CBFS_RAW         0x50
#define CBFS_COMPRESSION 0x42435a4c
#define CBFS_NAME        "orthocone/"
#define CBFS_CMDLINE     "cmdline"

/* The checksum of the Internet protocols (RFC 1071), 0 over what carries its own. */
static uint16_t checksum(const void *data, size_t size)
{
    const uint8_t *byte = data;
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 == 0 ? byte[i] : (uint32_t)byte[i] << 8;
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static const struct cb_header *header_at(uint64_t physical)
{
    const struct cb_header *h = record_at(physical, sizeof(*h));
    if (h == NULL || memcmp(h->signature, "LBIO", 4) != 0 || h->header_bytes != sizeof(*h) ||
        checksum(h, sizeof(*h)) != 0 || h->table_entries > TABLE_ENTRIES_MAX) {
        return NULL;
    }
    const void *table = record_at(physical + sizeof(*h), h->table_bytes);
    return table != NULL && checksum(table, h->table_bytes) == h->table_checksum ? h : NULL;
}

/* A header lies on a 16-byte boundary in the first page or in the BIOS area. 0: there is none. */
static uint64_t find_header(void)
{
    static const struct {
        uint32_t from, to;
    } area[] = {{0x10, 0x1000}, {0xf0000, 0x100000}};
    for (size_t i = 0; i < NK_ARRAY_COUNT(area); i++) {
        for (uint32_t at = area[i].from; at < area[i].to; at += 16) {
            if (header_at(at) != NULL) {
                return at;
            }
        }
    }
    return 0;
}

static void read_memory(struct bootinfo *info, const struct cb_record *r)
{
    struct cb_memory_range range;
    const uint8_t *at = (const uint8_t *)(r + 1);
    for (size_t left = r->size - sizeof(*r); left >= sizeof(range); left -= sizeof(range)) {
        memcpy(&range, at, sizeof(range));
        record_add_range(info, range.base, range.length, range.kind);
        at += sizeof(range);
    }
}

/* Whether a file, whose header and name are `offset` bytes, has the attribute "compressed". */
static bool is_compressed(const struct cbfs_file *f, uint32_t offset)
{
    uint32_t at = __builtin_bswap32(f->attributes);
    while (at >= sizeof(*f) && offset >= sizeof(struct cbfs_attribute) &&
           at <= offset - sizeof(struct cbfs_attribute)) {
        const struct cbfs_attribute *a = (const void *)((const uint8_t *)f + at);
        uint32_t length = __builtin_bswap32(a->length);
        if (__builtin_bswap32(a->tag) == CBFS_COMPRESSION) {
            return a->compression != 0;
        }
        if (length < 2 * sizeof(uint32_t) || length > offset) {
            return false;
        }
        at += length;
    }
    return false;
}

/* An uncompressed file under our name is a module; the header lies at `header`. */
static void take_file(struct bootinfo *info, uint64_t header, const struct cbfs_file *f)
{
    const size_t prefix = sizeof(CBFS_NAME) - 1;
    uint32_t length = __builtin_bswap32(f->length), offset = __builtin_bswap32(f->offset);
    size_t name_max = offset - sizeof(*f);
    if (__builtin_bswap32(f->kind) != CBFS_RAW || strnlen(f->name, name_max) == name_max ||
        strncmp(f->name, CBFS_NAME, prefix) != 0) {
        return;
    }
    uint64_t base = header + offset;
    const char *name = f->name + prefix;
    if (is_compressed(f, offset)) {
        nk_warn("boot: the flash's file %s is compressed and was left out", f->name);
    } else if (strcmp(name, CBFS_CMDLINE) == 0) {
        const char *text = record_at(base, length), *newline = memchr(text, '\n', length);
        record_copy_text(info->cmdline, text, newline ? (size_t)(newline - text) : length,
                         "the command line");
    } else {
        record_add_module(info, base, base + length, name, name_max - prefix);
    }
}

static void read_files(struct bootinfo *info, const struct cb_boot_media *media)
{
    if (media->size > RECORD_LIMIT || media->cbfs_offset > media->size ||
        media->cbfs_size > media->size - media->cbfs_offset) {
        nk_warn("boot: coreboot's flash of 0x%lx bytes has its files outside", media->size);
        return;
    }
    uint64_t at = RECORD_LIMIT - media->size + media->cbfs_offset;
    uint64_t end = at + media->cbfs_size;
    while (end - at > sizeof(struct cbfs_file)) {
        const struct cbfs_file *f = record_at(at, sizeof(*f));
        uint32_t offset = __builtin_bswap32(f->offset), length = __builtin_bswap32(f->length);
        if (memcmp(f->magic, CBFS_MAGIC, sizeof(f->magic)) != 0) {
            return; /* the free end, or the boot block's last pointer */
        }
        if (offset < sizeof(*f) || offset > end - at || length > end - at - offset) {
            nk_warn("boot: the flash's file at 0x%lx reaches beyond the flash", at);
            return;
        }
        take_file(info, at, f);
        uint64_t next = (at + offset + length + CBFS_ALIGN - 1) & ~(uint64_t)(CBFS_ALIGN - 1);
        if (next >= end) {
            return;
        }
        at = next;
    }
}

static void read_record(struct bootinfo *info, const struct cb_record *r)
{
    if (r->tag == CB_MEMORY) {
        read_memory(info, r);
    } else if (r->tag == CB_VERSION) {
        record_copy_text(info->loader, (const char *)(r + 1), r->size - sizeof(*r),
                         "the loader's name");
    } else if (r->tag == CB_FRAMEBUFFER && r->size >= sizeof(struct cb_framebuffer)) {
        const struct cb_framebuffer *f = (const void *)r;
        info->framebuffer = (struct bootinfo_framebuffer){
            .base = f->base,
            .width = f->width,
            .height = f->height,
            .pitch = f->pitch,
            .bpp = f->bpp,
            .kind = BOOTINFO_FRAMEBUFFER_RGB,
        };
    } else if (r->tag == CB_BOOT_MEDIA && r->size >= sizeof(struct cb_boot_media)) {
        read_files(info, (const void *)r);
    }
}

/* All of one table; *forward is the table that it refers to instead, if any. */
static int read_table(struct bootinfo *info, const struct cb_header *h,
                      const struct cb_header **forward)
{
    const uint8_t *at = (const uint8_t *)(h + 1), *end = at + h->table_bytes;
    *forward = NULL;
    for (uint32_t i = 0; i < h->table_entries; i++) {
        const struct cb_record *r = (const void *)at;
        if ((size_t)(end - at) < sizeof(*r) || r->size < sizeof(*r) ||
            r->size > (size_t)(end - at)) {
            nk_error("boot: coreboot's table ends within record %u", i);
            return -EINVAL;
        }
        if (r->tag == CB_FORWARD && r->size >= sizeof(struct cb_forward)) {
            *forward = header_at(((const struct cb_forward *)r)->to);
        } else {
            read_record(info, r);
        }
        at += r->size;
    }
    return 0;
}

int coreboot_parse_at(struct bootinfo *info, uint64_t physical, bool *found)
{
    const struct cb_header *h = header_at(physical);
    *found = h != NULL;
    /* A small table in low memory may lead to the full one; there is no third. */
    int err = 0;
    for (unsigned hops = 0; h != NULL && hops < 2 && err == 0; hops++) {
        err = read_table(info, h, &h);
    }
    return err;
}

int coreboot_parse(struct bootinfo *info, bool *found)
{
    return coreboot_parse_at(info, find_header(), found);
}
