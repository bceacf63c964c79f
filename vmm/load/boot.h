/* Inside load/ only: what the loaders share. */
#pragma once

#include "load/load.h"

/* RAM that boot data may lie in; kernels themselves are loaded at 1 MiB or above. */
#define BOOT_GDT      UINT64_C(0x1000)
#define BOOT_INFO     UINT64_C(0x2000) /* the protocol's structures */
#define BOOT_ARGS     UINT64_C(0x8000)
#define BOOT_ARGS_MAX UINT64_C(0x1000)
#define BOOT_STACK    UINT64_C(0x7000)
#define BOOT_LOWEST   UINT64_C(0x100000)

struct boot_file {
    const char *name;
    const uint8_t *data;
    uint64_t size; /* 0: there is none */
};

struct boot {
    struct vm *vm;
    struct boot_file kernel, module;
    struct boot_file more[VMM_MODULES_MAX]; /* name: as the manifest has it, with text behind it */
    unsigned more_count;
    const char *args;
    struct vmm_error *err;
};

/* "<vm>: <kernel>: why". Returns -VMM_EINVAL. */
int boot_refuse(const struct boot *b, const char *why);
/* The end of the RAM that begins at 1 MiB or below. */
uint64_t boot_ram_end(const struct vm *vm);
/* Copy the only module as high as `limit` and RAM allow, above floor, page aligned. */
int boot_place_module(const struct boot *b, uint64_t floor, uint64_t limit,
                      uint64_t *address) VMM_MUST_CHECK;

/* All modules, for protocols that take several: the first one lowest. */
struct boot_modules {
    unsigned count;
    struct {
        const struct boot_file *file;
        uint64_t address;
    } entry[1 + VMM_MODULES_MAX];
};
int boot_place_modules(const struct boot *b, uint64_t floor,
                       struct boot_modules *out) VMM_MUST_CHECK;
/* The command line, with the kernel's name before it if `named`; at BOOT_ARGS. */
int boot_write_args(const struct boot *b, bool named) VMM_MUST_CHECK;
/* vCPU 0 in 32-bit protected mode with flat segments, paging and interrupts off. */
int boot_enter_protected(const struct boot *b, uint32_t entry, uint32_t eax,
                         uint32_t ebx) VMM_MUST_CHECK;

/* The BIOS services that kernels call in real mode: vectors, data area, and their page at 0xff000.
 */
int boot_write_services(const struct boot *b) VMM_MUST_CHECK;
/* The same, and vCPU 0 begins in real mode at cs:ip with the other segments at `data`. */
int boot_enter_real(const struct boot *b, uint16_t cs, uint16_t ip, uint16_t data,
                    uint16_t sp) VMM_MUST_CHECK;

static inline uint64_t boot_get(const uint8_t *p, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    __builtin_memcpy(&value, p + offset, size);
    return value;
}

/* --- ELF (elf.c) --------------------------------------------------------------------------------
 */

struct boot_elf {
    uint64_t entry;     /* physical */
    uint64_t pvh_entry; /* from the note, 0: none */
    uint64_t end;       /* above everything that was loaded */
};

bool boot_is_elf(const struct boot_file *f);
/* Check all of it; then copy it to where it belongs. */
int boot_elf_check(const struct boot *b, struct boot_elf *out) VMM_MUST_CHECK;
int boot_elf_load(const struct boot *b) VMM_MUST_CHECK;

/* --- address fields of multiboot headers (boot.c) -----------------------------------------------
 */

struct boot_addresses {
    uint64_t offset;                          /* of the header in the file */
    uint32_t header, load, load_end, bss_end; /* in memory; the ends may be 0: the file's */
};

/* Copy the file, from what is loaded first on, to where they say. *end: above everything. */
int boot_load_addresses(const struct boot *b, const struct boot_addresses *a,
                        uint64_t *end) VMM_MUST_CHECK;

/* --- protocols: is the file one of theirs? load it ----------------------------------------------
 */

bool boot_is_linux(const struct boot_file *f);
int boot_load_linux(const struct boot *b) VMM_MUST_CHECK;
bool boot_is_multiboot(const struct boot_file *f);
int boot_load_multiboot(const struct boot *b) VMM_MUST_CHECK;
bool boot_is_multiboot2(const struct boot_file *f);
int boot_load_multiboot2(const struct boot *b) VMM_MUST_CHECK;
bool boot_is_pvh(const struct boot_file *f);
int boot_load_pvh(const struct boot *b) VMM_MUST_CHECK;
int boot_load_flat32(const struct boot *b) VMM_MUST_CHECK;
int boot_load_flat16(const struct boot *b) VMM_MUST_CHECK;
