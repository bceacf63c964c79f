/* The kernel's own symbol table, linked into it by the build (tools/symtab.py), for backtraces. */
#pragma once

#include "base/types.h"

struct nk_symbol {
    uint32_t offset; /* from NK_IMAGE_BASE */
    uint32_t name;   /* offset in nk_symtab_names */
};
extern const struct nk_symbol nk_symtab[];
extern const uint32_t nk_symtab_count;
extern const char nk_symtab_names[];

/* Name of the function that holds the address and the offset in it; NULL: none. */
const char *nk_symbol_lookup(uint64_t address, uint64_t *offset);

struct nk_backtrace_entry {
    uint64_t address, looked_up; /* they differ for return addresses: the call is looked up */
};

/* From an instruction and a frame pointer upwards; ends where the chain of frames does. Returns the
 * number of entries, at least 1. Context: any. */
unsigned nk_backtrace_collect(uint64_t rip, uint64_t rbp, struct nk_backtrace_entry *out,
                              unsigned max);

/* Print return addresses from a frame pointer, symbolised, via console_write_sync. */
void nk_backtrace(uint64_t rip, uint64_t rbp);
