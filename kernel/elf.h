/* Relocatable ELF files for x86-64.
 * Spec: System V ABI chapter 4 "Object Files"; AMD64 supplement, 4.4 "Relocation". */
#pragma once

#include "base/types.h"

#define ELF_IDENT  UINT64_C(0x00010102464c457f) /* 0x7f "ELF", 64-bit, little-endian, version 1 */
#define ELF_REL    1
#define ELF_X86_64 62
#define ELF_SYMTAB 2
#define ELF_STRTAB 3
#define ELF_RELA   4
#define ELF_NOBITS 8

#define ELF_WRITE 0x1 /* section flags */
#define ELF_ALLOC 0x2
#define ELF_EXEC  0x4
#define ELF_TLS   0x400

#define ELF_UNDEFINED 0 /* section numbers of symbols */
#define ELF_ABSOLUTE  0xfff1
#define ELF_WEAK      2 /* a symbol's binding */
#define ELF_FUNCTION  2 /* its type */

enum elf_relocation {
    ELF_R_64 = 1,
    ELF_R_PC32 = 2,
    ELF_R_PLT32 = 4,
    ELF_R_32 = 10,
    ELF_R_32S = 11,
    ELF_R_TPOFF32 = 23, /* from the thread pointer, at the end of the thread-local block */
    ELF_R_PC64 = 24,
};

struct elf_header {
    uint64_t ident, ident_rest;
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, segments, sections; /* file offsets */
    uint32_t flags;
    uint16_t header_size, segment_size, segment_count;
    uint16_t section_size, section_count, section_names;
};
_Static_assert(sizeof(struct elf_header) == 64, "ELF header layout");

struct elf_section {
    uint32_t name, type;
    uint64_t flags, address, offset, size;
    uint32_t link, info;
    uint64_t align, entry_size;
};
_Static_assert(sizeof(struct elf_section) == 64, "ELF section layout");

struct elf_symbol {
    uint32_t name;
    uint8_t info, other;
    uint16_t section;
    uint64_t value, size;
};
_Static_assert(sizeof(struct elf_symbol) == 24, "ELF symbol layout");

struct elf_rela {
    uint64_t offset;
    uint32_t type, symbol;
    int64_t addend;
};
_Static_assert(sizeof(struct elf_rela) == 24, "ELF relocation layout");
