/* What every road into the kernel (multiboot 1, multiboot 2, PVH, coreboot) hands to kernel_main().
 * All pointers are physical addresses; the parser has copied the text into the record. */
#pragma once

#include "base/types.h"

#define BOOTINFO_RANGES_MAX  128
#define BOOTINFO_MODULES_MAX 32
#define BOOTINFO_TEXT_MAX    256

enum bootinfo_range_kind { /* ACPI 6.4 table 15.2, E820 numbering */
                           BOOTINFO_RAM = 1,
                           BOOTINFO_RESERVED = 2,
                           BOOTINFO_ACPI_RECLAIM = 3,
                           BOOTINFO_ACPI_NVS = 4,
                           BOOTINFO_BAD = 5,
};

struct bootinfo_range {
    uint64_t base, length; /* bytes */
    uint32_t kind;         /* enum bootinfo_range_kind */
};

struct bootinfo_module {
    uint64_t base, length;        /* bytes */
    char name[BOOTINFO_TEXT_MAX]; /* first word of the module's command line */
    char args[BOOTINFO_TEXT_MAX]; /* the rest */
};

struct bootinfo_framebuffer {
    uint64_t base;
    uint32_t width, height, pitch;
    uint8_t bpp;
    uint8_t kind; /* 0 none, 2 EGA text, or: */
#define BOOTINFO_FRAMEBUFFER_RGB 1
};

struct bootinfo {
    const char *road; /* "multiboot1", "multiboot2", "pvh", "coreboot" */
    char loader[BOOTINFO_TEXT_MAX];
    char cmdline[BOOTINFO_TEXT_MAX];
    uint32_t range_count;
    struct bootinfo_range range[BOOTINFO_RANGES_MAX];
    uint32_t module_count;
    struct bootinfo_module module[BOOTINFO_MODULES_MAX];
    bool modules_left_out;
    uint64_t rsdp;         /* physical address, 0: not given, search the BIOS area */
    uint8_t rsdp_copy[36]; /* multiboot 2 gives a copy; length in rsdp_copy_length */
    uint32_t rsdp_copy_length;
    struct bootinfo_framebuffer framebuffer;
    bool from_rom;         /* our ROM's loader started the kernel, */
    uint32_t rom_slot;     /* from this slot; */
    uint32_t rom_watchdog; /* its watchdog's first port, 0: none runs */
};

/* Fill *info from the loader's record. magic and record are EAX and EBX at entry.
 * Context: boot CPU, identity map of the low 4 GiB live. Errors: -EINVAL unknown magic. */
int bootinfo_parse(struct bootinfo *info, uint32_t magic, uint32_t record);

/* The same from coreboot's tables at an address below 4 GiB. *found: whether there are such.
 * Errors: -EINVAL malformed. */
int coreboot_parse_at(struct bootinfo *info, uint64_t physical, bool *found) NK_MUST_CHECK;

/* Value of "key=value" or "" for a bare "key" on the kernel's command line, copied into out.
 * Returns false when the key is absent. */
bool bootinfo_option(const struct bootinfo *info, const char *key, char *out, size_t out_size);
