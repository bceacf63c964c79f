/* The multiboot 2 record: a list of tags. Spec: Multiboot2 Specification 2.0 section 3.6. */

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "boot/record.h"

enum mb2_tag_type {
    MB2_END = 0,
    MB2_CMDLINE = 1,
    MB2_LOADER = 2,
    MB2_MODULE = 3,
    MB2_MAP = 6,
    MB2_FRAMEBUFFER = 8,
    MB2_RSDP_1 = 14,
    MB2_RSDP_2 = 15,
    MB2_ROM = 0x4d4f524f, /* "OROM": of our ROM's loader (boot/pack/mb2.h) */
};

#define MB2_RECORD_MAX NK_MIB(16) /* generous: real ones have a few KiB */

struct mb2_record {
    uint32_t total_size, reserved;
};

struct mb2_tag {
    uint32_t type, size; /* size: this header included, padding to 8 bytes not */
};

struct mb2_module {
    struct mb2_tag tag;
    uint32_t start, end;
    char line[];
};

struct mb2_map {
    struct mb2_tag tag;
    uint32_t entry_size, entry_version;
};

struct mb2_range {
    uint64_t base, length;
    uint32_t kind, reserved;
};

struct mb2_framebuffer {
    struct mb2_tag tag;
    uint64_t addr;
    uint32_t pitch, width, height;
    uint8_t bpp, type;
} NK_PACKED;

struct mb2_rom {
    struct mb2_tag tag;
    uint32_t slot, watchdog;
};

static int read_map(struct bootinfo *info, const struct mb2_tag *tag)
{
    const struct mb2_map *map = (const void *)tag;
    if (tag->size < sizeof(*map) || map->entry_size < sizeof(struct mb2_range)) {
        nk_error("boot: multiboot2 memory map has entries of %u bytes",
                 tag->size < sizeof(*map) ? 0 : map->entry_size);
        return -EINVAL;
    }
    const uint8_t *entries = (const uint8_t *)(map + 1);
    uint32_t count = (tag->size - (uint32_t)sizeof(*map)) / map->entry_size;
    for (uint32_t i = 0; i < count; i++) {
        struct mb2_range entry;
        memcpy(&entry, entries + (size_t)i * map->entry_size, sizeof(entry));
        record_add_range(info, entry.base, entry.length, entry.kind);
    }
    return 0;
}

static int read_module(struct bootinfo *info, const struct mb2_tag *tag)
{
    const struct mb2_module *m = (const void *)tag;
    if (tag->size < sizeof(*m)) {
        nk_error("boot: multiboot2 module tag of %u bytes", tag->size);
        return -EINVAL;
    }
    record_add_module(info, m->start, m->end, m->line, tag->size - sizeof(*m));
    return 0;
}

static int read_framebuffer(struct bootinfo *info, const struct mb2_tag *tag)
{
    const struct mb2_framebuffer *f = (const void *)tag;
    if (tag->size < sizeof(*f)) {
        nk_error("boot: multiboot2 framebuffer tag of %u bytes", tag->size);
        return -EINVAL;
    }
    info->framebuffer = (struct bootinfo_framebuffer){
        .base = f->addr,
        .width = f->width,
        .height = f->height,
        .pitch = f->pitch,
        .bpp = f->bpp,
        .kind = f->type,
    };
    return 0;
}

static int read_rom(struct bootinfo *info, const struct mb2_tag *tag)
{
    const struct mb2_rom *rom = (const void *)tag;
    if (tag->size < sizeof(*rom)) {
        nk_error("boot: multiboot2 ROM tag of %u bytes", tag->size);
        return -EINVAL;
    }
    info->rom_slot = rom->slot;
    info->rom_watchdog = rom->watchdog;
    info->from_rom = true;
    return 0;
}

/* The ACPI 2 root pointer wins over the ACPI 1 one, whichever comes first. */
static int read_rsdp(struct bootinfo *info, const struct mb2_tag *tag)
{
    uint32_t length = tag->size - (uint32_t)sizeof(*tag);
    if (length > sizeof(info->rsdp_copy)) {
        length = sizeof(info->rsdp_copy);
    }
    if (length > info->rsdp_copy_length) {
        memcpy(info->rsdp_copy, tag + 1, length);
        info->rsdp_copy_length = length;
    }
    return 0;
}

static int read_tag(struct bootinfo *info, const struct mb2_tag *tag)
{
    const char *text = (const char *)(tag + 1);
    size_t max = tag->size - sizeof(*tag);
    switch (tag->type) {
    case MB2_CMDLINE:
        record_copy_text(info->cmdline, text, max, "the command line");
        return 0;
    case MB2_LOADER:
        record_copy_text(info->loader, text, max, "the loader's name");
        return 0;
    case MB2_MODULE:
        return read_module(info, tag);
    case MB2_MAP:
        return read_map(info, tag);
    case MB2_FRAMEBUFFER:
        return read_framebuffer(info, tag);
    case MB2_RSDP_1:
    case MB2_RSDP_2:
        return read_rsdp(info, tag);
    case MB2_ROM:
        return read_rom(info, tag);
    default:
        return 0;
    }
}

int multiboot2_parse(struct bootinfo *info, uint32_t record)
{
    const struct mb2_record *r = record_at(record, sizeof(*r));
    if (r == NULL || r->total_size < sizeof(*r) || r->total_size > MB2_RECORD_MAX ||
        record_at(record, r->total_size) == NULL) {
        nk_error("boot: multiboot2 record at 0x%x is out of reach or has a bad size", record);
        return -EINVAL;
    }
    uint32_t at = sizeof(*r);
    while (at <= r->total_size - sizeof(struct mb2_tag)) {
        const struct mb2_tag *tag = (const void *)((const uint8_t *)r + at);
        if (tag->size < sizeof(*tag) || tag->size > r->total_size - at) {
            nk_error("boot: multiboot2 tag %u at %u has the bad size %u", tag->type, at, tag->size);
            return -EINVAL;
        }
        if (tag->type == MB2_END) {
            return 0;
        }
        int err = read_tag(info, tag);
        if (err != 0) {
            return err;
        }
        at += (uint32_t)nk_align_up(tag->size, 8);
    }
    nk_error("boot: multiboot2 record ends without its end tag");
    return -EINVAL;
}
