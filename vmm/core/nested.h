/* Nested page tables of either back end: long mode's four- or five-level tree, whose entries a
 * format describes. Level 0 entries map 4 KiB, level 1 2 MiB, level 2 1 GiB. */
#pragma once

#include <vmm/types.h>

struct vm;

struct vmm_nested_format {
    uint64_t table;   /* all bits of an entry that points to a table */
    uint64_t page;    /* bits of every page's entry */
    uint64_t write;   /* added when the page may be written, */
    uint64_t exec;    /* executed, */
    uint64_t no_exec; /* or not executed */
};

struct vmm_nested {
    const struct vmm_nested_format *format;
    hpa_t root;
    unsigned levels;
    bool page_1g;
    uint64_t table_count;
    uint64_t leaf_base;        /* the last 2 MiB a 4 KiB page was looked for in, and their table */
    uint64_t *leaf;            /* NULL: none yet */
    uint64_t flush_generation; /* atomic: grows when a mapping goes away */
};

/* Fills vm->nested. Context: control. Errors: -VMM_ENOMEM. */
int vmm_nested_create(struct vm *vm, const struct vmm_nested_format *format, unsigned levels,
                      bool page_1g) VMM_MUST_CHECK;
void vmm_nested_destroy(struct vm *vm);

/* As struct vmm_backend has them. */
int vmm_nested_map(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned prot);
void vmm_nested_unmap(struct vm *vm, gpa_t gpa, uint64_t size);
uint64_t vmm_nested_bytes(struct vm *vm);
