/* The ROM's loader: from a machine in its reset state to a kernel that finds a multiboot 2 record.
 *
 * It runs on the boot CPU, in long mode, with the low 4 GiB mapped identically and interrupts off.
 * main.c has the order. What it prints goes to COM1, every line begins with "rom: ". */
#pragma once

#include "base/types.h"
#include "boot/pack/mb2.h"
#include "boot/pack/pack.h"

#define ROM_END     NK_GIB(4) /* the flash part ends here */
#define ROM_LOADERS 2
#define ROM_LOW_END UINT64_C(0xa0000)

/* Below the loader; the startup IPI's vector is its page. The kernel does not get it: a CPU that
 * starts later than anybody waits for finds its code. */
#define ROM_AP_PAGE UINT64_C(0x1f000)

#define ROM_HIGH UINT64_C(0x100000)

struct rom_anchor { /* in the boot block (reset.asm); tools/romtool fills it in */
    uint8_t magic[8];
    uint32_t size;                              /* of the flash part */
    uint32_t loader[ROM_LOADERS], directory[2]; /* offsets */
    uint32_t crc;
};

/* ---- say.c */

/* A line, with printf's %s %c %u %x %lu %lx %%. */
void say(const char *format, ...) NK_PRINTF(1, 2);
NK_NORETURN void stop(void);

/* ---- memory.c: what is RAM, and where things are put */

#define ROM_RANGES_MAX 64

struct rom_memory {
    struct mb2_range range[ROM_RANGES_MAX];
    unsigned count;
    const char *source;
    uint64_t top; /* what lies below is free, down to `bottom`; both below 4 GiB */
    uint64_t bottom;
};

extern struct rom_memory memory;

void memory_find(void);
bool memory_is_ram(uint64_t base, uint64_t length);
uint64_t memory_end_below(uint64_t limit); /* where the highest RAM below it ends */
void memory_reserve(uint64_t base, uint64_t length);

/* RAM from the upper end of what lies below 4 GiB; NULL when there is not enough. */
void *memory_take(uint64_t size, uint64_t align);

/* The same, but the memory map will not call it RAM. */
void *memory_take_as(uint64_t size, uint64_t align, uint32_t kind);

/* ---- fwcfg.c: what QEMU tells firmware. Spec: QEMU docs/specs/fw_cfg.rst */

struct fwcfg_file {
    uint32_t size;
    uint16_t select;
};

bool fwcfg_present(void);
bool fwcfg_find(const char *name, struct fwcfg_file *out);
void fwcfg_read(const struct fwcfg_file *f, void *out, uint32_t size);
uint16_t fwcfg_number(uint16_t select);

/* ---- CMOS, in memory.c */

uint8_t cmos_read(uint8_t index);
void cmos_write(uint8_t index, uint8_t value);

/* ---- kernel.c */

struct rom_kernel {
    unsigned slot;
    uint32_t entry;
    bool other; /* there is one in the other slot, too */
};

/* Put the kernel of the right slot in its place; stops when there is none. */
struct rom_kernel kernel_load(const struct pack *p);

/* ---- entry.asm */

NK_NORETURN void rom_enter(uint32_t entry, uint32_t record);
NK_NORETURN void rom_main(const struct rom_anchor *anchor, uint32_t loader);
NK_NORETURN void rom_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t address);
