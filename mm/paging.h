/* The kernel's page tables: direct map, image with W^X, stacks with guard pages, device memory.
 * Threading: any thread context; takes the page-table lock. Changes that remove or tighten a
 * mapping are flushed on this CPU; other CPUs through paging_shootdown (set by the kernel).
 * Spec: AMD APM vol. 2 chapter 5; Intel SDM vol. 3 chapter 4. */
#pragma once

#include "base/types.h"

/* Memory is not both writable and executable: such a request is -EINVAL. */
enum paging_prot {
    PAGING_READ = 0,
    PAGING_WRITE = 1 << 0,
    PAGING_EXEC = 1 << 1,
    PAGING_UNCACHED = 1 << 2,
    PAGING_WRITE_COMBINING = 1 << 3,
};

/* Replace the boot page tables: direct map of all RAM with the largest pages the CPU has, the
 * image by its sections (text RX, rodata R, data RW), nothing else, virtual page 0 not. */
void paging_init(void);
void paging_init_cpu(void); /* on every other CPU: CR3, CR4, EFER, PAT as on the first */

/* Map [va, va+size) to [pa, pa+size) with the largest pages alignment allows.
 * Units: bytes, page aligned. Errors: -EEXIST something is mapped there, -EINVAL not aligned, or
 * beyond the CPU's physical addresses, -ENOMEM. */
int paging_map(uint64_t va, pa_t pa, uint64_t size, unsigned prot) NK_MUST_CHECK;
void paging_unmap(uint64_t va, uint64_t size);
int paging_protect(uint64_t va, uint64_t size, unsigned prot) NK_MUST_CHECK;

/* Physical address behind va. Errors: -ENOENT not mapped. */
int paging_translate(uint64_t va, pa_t *out, unsigned *prot) NK_MUST_CHECK;

/* Device registers, uncached, at a fresh virtual address (any alignment); NULL: no memory, or no
 * such physical address. */
void *paging_map_mmio(pa_t pa, uint64_t size) NK_MUST_CHECK;

pa_t paging_root(void); /* CR3 of the kernel */

/* Kernel stacks with an unmapped guard below: top of the stack returned. Reused from a pool. */
void *paging_stack_alloc(int node) NK_MUST_CHECK;
void paging_stack_free(void *top); /* interrupts on, no lock held */
/* If va lies in a guard page of the stack area: true (used by the fault report). */
bool paging_is_stack_guard(uint64_t va);

void paging_flush_local(uint64_t va, uint64_t size); /* this CPU drops the range from its TLB */

/* The same on all other CPUs. */
extern void (*paging_shootdown)(uint64_t va, uint64_t size); /* NULL until SMP is up */
