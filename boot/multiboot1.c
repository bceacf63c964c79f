/* The multiboot 1 record. Spec: Multiboot Specification 0.6.96 section 3.3. */

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "boot/record.h"

enum mb1_flag {
    MB1_HAS_MEMORY = 1 << 0,
    MB1_HAS_CMDLINE = 1 << 2,
    MB1_HAS_MODULES = 1 << 3,
    MB1_HAS_MAP = 1 << 6,
    MB1_HAS_LOADER = 1 << 9,
    MB1_HAS_FRAMEBUFFER = 1 << 12,
};

struct mb1_record {
    uint32_t flags;
    uint32_t mem_lower, mem_upper; /* KiB, from 0 and from 1 MiB */
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t drives_length, drives_addr;
    uint32_t config_table;
    uint32_t boot_loader_name;
    uint32_t apm_table;
    uint32_t vbe_control_info, vbe_mode_info;
    uint16_t vbe_mode, vbe_interface_seg, vbe_interface_off, vbe_interface_len;
    uint64_t framebuffer_addr;
    uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height;
    uint8_t framebuffer_bpp, framebuffer_type;
} NK_PACKED;
_Static_assert(offsetof(struct mb1_record, framebuffer_addr) == 88, "multiboot 1 layout");

struct mb1_module {
    uint32_t start, end, cmdline, reserved;
};

struct mb1_range {
    uint32_t size; /* of the rest of the entry */
    uint64_t base, length;
    uint32_t kind;
} NK_PACKED;

static int read_map(struct bootinfo *info, const struct mb1_record *r)
{
    const uint8_t *map = record_at(r->mmap_addr, r->mmap_length);
    if (map == NULL) {
        nk_error("boot: multiboot1 memory map at 0x%x+0x%x is out of reach", r->mmap_addr,
                 r->mmap_length);
        return -EINVAL;
    }
    uint32_t at = 0;
    while (at < r->mmap_length) {
        struct mb1_range entry;
        if (r->mmap_length - at < sizeof(entry)) {
            nk_error("boot: multiboot1 memory map ends within an entry");
            return -EINVAL;
        }
        memcpy(&entry, map + at, sizeof(entry));
        if (entry.size < sizeof(entry) - 4 || entry.size > r->mmap_length - at - 4) {
            nk_error("boot: multiboot1 memory map entry at %u has the bad size %u", at, entry.size);
            return -EINVAL;
        }
        record_add_range(info, entry.base, entry.length, entry.kind);
        at += entry.size + 4;
    }
    return 0;
}

static int read_memory(struct bootinfo *info, const struct mb1_record *r)
{
    if (r->flags & MB1_HAS_MAP) {
        return read_map(info, r);
    }
    if (r->flags & MB1_HAS_MEMORY) {
        record_add_range(info, 0, NK_KIB(r->mem_lower), BOOTINFO_RAM);
        record_add_range(info, NK_MIB(1), NK_KIB(r->mem_upper), BOOTINFO_RAM);
        return 0;
    }
    nk_error("boot: the multiboot1 record has no memory information");
    return -EINVAL;
}

static const char *text_at(uint32_t physical, size_t *max)
{
    *max = physical == 0 ? 0 : RECORD_LIMIT - physical;
    return physical == 0 ? "" : record_at(physical, 1);
}

static int read_modules(struct bootinfo *info, const struct mb1_record *r)
{
    uint64_t size = r->mods_count * sizeof(struct mb1_module);
    const struct mb1_module *module = record_at(r->mods_addr, size);
    if (module == NULL && r->mods_count > 0) {
        nk_error("boot: multiboot1 module list at 0x%x is out of reach", r->mods_addr);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < r->mods_count; i++) {
        size_t max;
        const char *line = text_at(module[i].cmdline, &max);
        record_add_module(info, module[i].start, module[i].end, line, max);
    }
    return 0;
}

int multiboot1_parse(struct bootinfo *info, uint32_t record)
{
    const struct mb1_record *r = record_at(record, sizeof(*r));
    if (r == NULL) {
        nk_error("boot: multiboot1 record at 0x%x is out of reach", record);
        return -EINVAL;
    }
    size_t max;
    if (r->flags & MB1_HAS_LOADER) {
        const char *text = text_at(r->boot_loader_name, &max);
        record_copy_text(info->loader, text, max, "the loader's name");
    }
    if (r->flags & MB1_HAS_CMDLINE) {
        const char *text = text_at(r->cmdline, &max);
        record_copy_text(info->cmdline, text, max, "the command line");
    }
    if (r->flags & MB1_HAS_FRAMEBUFFER) {
        info->framebuffer = (struct bootinfo_framebuffer){
            .base = r->framebuffer_addr,
            .width = r->framebuffer_width,
            .height = r->framebuffer_height,
            .pitch = r->framebuffer_pitch,
            .bpp = r->framebuffer_bpp,
            .kind = r->framebuffer_type,
        };
    }
    int err = read_memory(info, r);
    if (err == 0 && (r->flags & MB1_HAS_MODULES)) {
        err = read_modules(info, r);
    }
    return err;
}
