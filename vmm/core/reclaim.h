/* Taking pages of a running guest away: those its balloon gives, and those that go to the host's
 * store and come back when they are touched. */
#pragma once

#include "core/memory.h"

/* The guest does not need these 4 KiB pages (page numbers): they go back to the host once no vCPU
 * can reach them, and read as zeros when touched again. Returns how many could be taken.
 * Context: exit or control. */
unsigned vmm_memory_discard(struct vm *vm, const uint32_t *page, unsigned count);

/* Move about `bytes` of RAM to the host's store, pages not used lately first. *taken: how many
 * bytes went. Context: control; vCPUs may run. Errors: -VMM_ENOTSUP the host has no store,
 * -VMM_ENOSPC it is full, -VMM_ENOMEM. */
int vmm_memory_reclaim(struct vm *vm, uint64_t bytes, uint64_t *taken) VMM_MUST_CHECK;

/* --- for memory.c --------------------------------------------------------------------------- */

/* Make the page of an entry of the library's own kind present again. 0: look again.
 * Errors: -VMM_ENOMEM, -VMM_EIO the store does not have it any more. */
int vmm_memory_bring_back(struct vm *vm, const struct vmm_region *r, gpa_t gpa, uint64_t *entry,
                          uint64_t value) VMM_MUST_CHECK;
/* The page of a stored entry is not wanted any more. */
void vmm_store_drop(struct vm *vm, uint64_t value);
