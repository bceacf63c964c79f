/* The guest-physical map: an ordered array of regions, each RAM or ROM backed by host blocks.
 * What is in no region is MMIO or nothing: the bus decides. */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>

struct vm;

#define VMM_REGIONS_MAX 16

enum vmm_region_kind { VMM_REGION_RAM, VMM_REGION_ROM };

struct vmm_block { /* contiguous host pages behind part of a region */
    gpa_t gpa;
    hpa_t hpa;
    uint64_t size;
};

struct vmm_region {
    gpa_t base;
    uint64_t size;
    enum vmm_region_kind kind;
    struct vmm_block *block; /* sorted by gpa */
    unsigned block_count, block_room;
    unsigned block_hint; /* lazy: the last look-up's answer */
};

struct vmm_memory {
    struct vmm_lock lock; /* protects: blocks of lazy regions, the nested tables */
    struct vmm_region region[VMM_REGIONS_MAX];
    unsigned region_count;
};

/* Add a region and, unless the VM is lazy, back and map all of it with the largest blocks there
 * are. Units: bytes, multiples of 4 KiB. Context: control. Errors: -VMM_EINVAL unaligned,
 * -VMM_EEXIST overlap, -VMM_ENOSPC too many, -VMM_ENOMEM. */
int vmm_memory_add(struct vm *vm, gpa_t base, uint64_t size,
                   enum vmm_region_kind kind) VMM_MUST_CHECK;
void vmm_memory_destroy(struct vm *vm);

/* A host pointer to [gpa, gpa+len) if one block backs all of it, else NULL (lazy pages are backed
 * on the way). Context: exit or control. */
void *vmm_memory_ptr(struct vm *vm, gpa_t gpa, uint64_t len);

/* What backs gpa, which is in a region, now; NULL: nothing. *contiguous: the bytes from there for
 * which this holds. Context: control, no vCPU runs. */
void *vmm_memory_backed(struct vm *vm, gpa_t gpa, uint64_t *contiguous);

/* Copies across blocks. Errors: -VMM_EFAULT some byte is not RAM (nothing is written then). */
int vmm_memory_read(struct vm *vm, gpa_t gpa, void *out, uint64_t len) VMM_MUST_CHECK;
int vmm_memory_write(struct vm *vm, gpa_t gpa, const void *data, uint64_t len) VMM_MUST_CHECK;
int vmm_memory_zero(struct vm *vm, gpa_t gpa, uint64_t len) VMM_MUST_CHECK;

/* Nested fault at gpa: 0 it was a lazy RAM page and is mapped now, -VMM_ENOENT not RAM (MMIO),
 * -VMM_EPERM a write to ROM, -VMM_ENOMEM. */
int vmm_memory_fault(struct vm *vm, gpa_t gpa, bool write) VMM_MUST_CHECK;
