/* The guest-physical map: an ordered table of regions, each RAM or ROM. What backs a page of a
 * region is in the nested tables (nested.h); a page that nobody touched has nothing behind it and
 * reads as zeros. Its first touch backs it with 2 MiB if they lie in the region, come from one node
 * and the host has them in one piece, and with 4 KiB else. What is in no region is MMIO or nothing:
 * the bus decides.
 *
 * Threading: regions come and go while vCPUs run. The table of regions is replaced as a whole and
 * the old one retired (retire.h), so look-ups take no lock. Guest memory is touched by vCPU threads
 * in their run loop and by control calls; a pointer into it holds until that thread next passes. */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>
#include "core/retire.h"

struct vcpu;
struct vm;

#define VMM_REGIONS_MAX 64

enum vmm_region_kind { VMM_REGION_RAM, VMM_REGION_ROM };

struct vmm_region {
    gpa_t base;
    uint64_t size;
    enum vmm_region_kind kind;
    uint64_t *dirty; /* RAM while writes are logged: a bit per page (dirty.h), else NULL */
};

struct vmm_region_table {
    struct vmm_retired retired;
    unsigned count;
    struct vmm_region region[]; /* by base */
};

struct vmm_memory {
    struct vmm_lock lock; /* protects: retired, waiter; what takes two steps in nested tables */
    struct vmm_region_table *table; /* atomic; NULL: no region yet. Changed by control calls */
    struct vmm_retired *retired;    /* atomic: what waits for vCPUs to pass */
    struct vmm_thread *waiter;      /* control thread in vmm_quiesce() */
    uint32_t readers;               /* atomic: control calls that look at guest memory */
    uint64_t stored_count;          /* atomic: pages in the host's store */
    bool logging;                   /* control: between vmm_dirty_start() and stop() */
    uint64_t reclaim_at;            /* where the next vmm_memory_reclaim() goes on */
};

/* The largest pages that may back RAM, as a level of the nested tables. */
unsigned vmm_memory_largest(const struct vm *vm);

/* Add a region and, unless the VM is lazy, back all of it with the largest blocks there are.
 * Units: bytes, multiples of 4 KiB. Context: control. Errors: -VMM_EINVAL unaligned or beyond the
 * address space, -VMM_EEXIST overlaps a region or a device, -VMM_ENOSPC too many, -VMM_ENOMEM. */
int vmm_memory_add(struct vm *vm, gpa_t base, uint64_t size,
                   enum vmm_region_kind kind) VMM_MUST_CHECK;
/* Take the region that begins at base away, from under running vCPUs. Context: control.
 * Errors: -VMM_ENOENT, -VMM_ENOMEM. */
int vmm_memory_remove(struct vm *vm, gpa_t base) VMM_MUST_CHECK;
void vmm_memory_destroy(struct vm *vm); /* no thread of the VM is left */

/* Put another table of regions into use. The caller has copied the old one, which is retired. */
void vmm_memory_publish(struct vm *vm, struct vmm_region_table *table);
struct vmm_region_table *vmm_memory_copy_table(struct vm *vm); /* NULL: no memory */
void vmm_memory_free_table(struct vm *vm, struct vmm_region_table *table);

const struct vmm_region *vmm_memory_region(const struct vm *vm, unsigned i); /* NULL: no more */
const struct vmm_region *vmm_memory_find(const struct vm *vm, gpa_t gpa);    /* NULL: not RAM */

/* A host pointer to [gpa, gpa+len), which lies in one page of the guest's, else NULL; the page is
 * backed on the way. To read only; _write to write it too: it counts as written. Context: exit or
 * control. */
const void *vmm_memory_ptr(struct vm *vm, gpa_t gpa, uint64_t len);
void *vmm_memory_ptr_write(struct vm *vm, gpa_t gpa, uint64_t len);
/* What backs gpa and how far the same holds. NULL: nothing, it reads as zeros (or is no RAM); what
 * is in the host's store is brought back first, -VMM_ENOMEM in *error if it cannot be. */
const void *vmm_memory_backed(struct vm *vm, gpa_t gpa, uint64_t *contiguous, int *error);

/* Copies across pages. Errors: -VMM_EFAULT some byte is not RAM (nothing is written then). */
int vmm_memory_read(struct vm *vm, gpa_t gpa, void *out, uint64_t len) VMM_MUST_CHECK;
int vmm_memory_write(struct vm *vm, gpa_t gpa, const void *data, uint64_t len) VMM_MUST_CHECK;
int vmm_memory_zero(struct vm *vm, gpa_t gpa, uint64_t len) VMM_MUST_CHECK;

/* Nested fault at gpa: 0 it is RAM and the access can be tried again, -VMM_ENOENT not RAM (MMIO),
 * -VMM_EPERM a write to ROM, -VMM_ENOMEM, -VMM_EIO the host's store lost the page. */
int vmm_memory_fault(struct vcpu *v, gpa_t gpa, bool write) VMM_MUST_CHECK;

/* --- for regions.c, and those who take pages away (reclaim.c, dirty.c) --------------------------
 */

unsigned vmm_memory_prot(const struct vmm_region *r); /* of its pages: enum vmm_map_prot */
int vmm_memory_node(const struct vm *vm, gpa_t gpa);  /* that the page there comes from */
/* A vmm_nested_fn: no new access reaches the page, which stays where it is. */
bool vmm_memory_hide_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg);
/* Give a page of RAM that nobody can reach back to the host. */
void vmm_memory_free_page(struct vm *vm, hpa_t hpa, unsigned level);

/* Give pages back with nothing left in them: another guest may get them as they are. */
void vmm_pages_free(struct vm *vm, hpa_t base, uint64_t count);
