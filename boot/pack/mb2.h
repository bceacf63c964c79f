/* Writing a multiboot 2 record: what our own loaders, in the ROM and under UEFI, hand to a kernel,
 * of whatever version it is. Spec: Multiboot2 Specification 2.0 section 3.6. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* "OROM", ours: the slot of the ROM that the kernel is from, and the first port of the chipset's
 * watchdog (ICH9's TCO) if it runs, else 0. */
#define MB2_ROM_TAG 0x4d4f524f
#define MB2_NO_SLOT 0xffffffff

struct mb2_range {
    uint64_t base, length;
    uint32_t kind; /* E820's numbers */
};

struct mb2_module {
    const char *name;
    uint32_t base, length;
};

struct mb2_screen { /* a linear framebuffer of 32 bits per pixel; base 0: there is none */
    uint64_t base;
    uint32_t pitch, width, height;
};

struct mb2_info {
    const char *cmdline, *loader;
    const struct mb2_module *module;
    const struct mb2_range *range;
    unsigned module_count, range_count;
    const void *rsdp; /* ACPI's root pointer, or NULL */
    uint32_t rsdp_length;
    uint32_t slot, watchdog;
    struct mb2_screen screen;
};

/* Write the record to `at`, on an 8-byte boundary. Returns its size, or 0 when it needs more room.
 */
uint32_t mb2_write(void *at, size_t room, const struct mb2_info *info);
