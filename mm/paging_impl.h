/* Inside mm/ only: the format of page tables and what the CPU can do with them.
 * Spec: AMD APM vol. 2, 5.3 and 5.4; Intel SDM vol. 3, 4.5. */
#pragma once

#include "base/types.h"

#define PAGING_LEVELS 4

#define PTE_PRESENT   (UINT64_C(1) << 0)
#define PTE_WRITE     (UINT64_C(1) << 1)
#define PTE_PWT       (UINT64_C(1) << 3)
#define PTE_PCD       (UINT64_C(1) << 4)
#define PTE_ACCESSED  (UINT64_C(1) << 5)
#define PTE_DIRTY     (UINT64_C(1) << 6)
#define PTE_LARGE     (UINT64_C(1) << 7) /* in the upper levels */
#define PTE_PAT_4K    (UINT64_C(1) << 7) /* in the lowest level */
#define PTE_GLOBAL    (UINT64_C(1) << 8)
#define PTE_PAT_LARGE (UINT64_C(1) << 12)
#define PTE_NX        (UINT64_C(1) << 63)
#define PTE_ADDRESS   UINT64_C(0x000ffffffffff000)

#define CR4_PGE (UINT64_C(1) << 7)

struct paging_features {
    bool nx;         /* CPUID 0x80000001 EDX[20] */
    bool gib_pages;  /* CPUID 0x80000001 EDX[26] */
    uint64_t pa_end; /* the first physical address that an entry has no bits for */
};

extern struct paging_features paging_features;

void paging_make_root(void);
