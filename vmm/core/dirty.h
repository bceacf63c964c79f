/* Logging of writes: which pages of RAM were written since they were last asked about.
 *
 * A page that is logged and clean is not writable in the nested tables; the first write faults,
 * sets the page's bit and makes it writable. Large pages are cut at their first write, one path
 * down. Writes by the library itself (emulated instructions, devices) set the bit directly. A back
 * end whose hardware logs writes (log_writes in backend.h: Intel's PML) takes the dirty bit of the
 * entry for that instead, and no write faults.
 *
 * Threading: start, fetch and stop are control calls; vCPUs may run. */
#pragma once

#include "core/vm.h"

static inline uint64_t vmm_dirty_words(const struct vmm_region *r)
{
    return (r->size / VMM_PAGE_SIZE + 63) / 64;
}

static inline uint64_t *vmm_dirty_bits(const struct vmm_region *r)
{
    return __atomic_load_n(&r->dirty, __ATOMIC_ACQUIRE);
}

/* All of RAM counts as clean from now on. Errors: -VMM_EBUSY it is being logged, -VMM_ENOMEM. */
int vmm_dirty_start(struct vm *vm) VMM_MUST_CHECK;
/* Pages of the region written since the last call, or start: bit i of bits[] is its i-th page;
 * vmm_dirty_words() of them. What they hold is in memory when this returns, and whoever writes
 * again sets the bit again. Errors: -VMM_EINVAL not logged. */
int vmm_dirty_fetch(struct vm *vm, const struct vmm_region *r, uint64_t *bits) VMM_MUST_CHECK;
void vmm_dirty_stop(struct vm *vm); /* nothing is lost but the log; large pages come back */

/* The page was, or is about to be, written by the thread that calls, before it next passes. */
void vmm_dirty_mark(const struct vmm_region *r, gpa_t gpa);
/* The same by address, for back ends and the emulator; nothing when the address is not logged. */
void vmm_dirty_mark_gpa(struct vm *vm, gpa_t gpa);

/* The emulator is about to write there. */
static inline void vmm_dirty_wrote(struct vm *vm, gpa_t gpa)
{
    if (vmm_unlikely(__atomic_load_n(&vm->memory.logging, __ATOMIC_RELAXED))) {
        vmm_dirty_mark_gpa(vm, gpa);
    }
}

/* --- for memory.c --------------------------------------------------------------------------- */

/* A write to RAM found the page not writable. */
int vmm_dirty_unprotect(struct vm *vm, const struct vmm_region *r, gpa_t gpa, uint64_t *entry,
                        unsigned level) VMM_MUST_CHECK;
/* A region is about to be added: it is logged from its beginning if others are. */
int vmm_dirty_region_added(struct vm *vm, struct vmm_region *r) VMM_MUST_CHECK;
/* It has its pages now. Errors: -VMM_ENOMEM. */
int vmm_dirty_region_backed(struct vm *vm, const struct vmm_region *r) VMM_MUST_CHECK;
void vmm_dirty_free(struct vm *vm, const struct vmm_region *r);
