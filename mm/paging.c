#include "mm/paging.h"

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "mm/bootmem.h"
#include "mm/buddy.h"
#include "mm/frame.h"
#include "mm/paging_impl.h"
#include "mm/tag.h"

#include <string.h>

#define FLUSH_PAGES_MAX 64 /* beyond so many pages the whole TLB is flushed */

struct paging_features paging_features;
void (*paging_shootdown)(uint64_t va, uint64_t size);

static uint64_t *root;
/* Holds for the tables. They are only ever added, never freed, so readers need no lock. */
static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_PAGETABLE);

static uint64_t level_size(unsigned level)
{
    return UINT64_C(1) << (NK_PAGE_SHIFT + 9 * level);
}

static uint64_t *table_alloc(void)
{
    pa_t pa;
    if (frame_table == NULL) {
        /* Below 4 GiB: the root must fit the 32-bit CR3 of another CPU that starts. */
        pa = bootmem_alloc(NK_PAGE_SIZE, NK_PAGE_SIZE, NK_GIB(4));
    } else if (buddy_alloc(0, BUDDY_NODE_ANY, &pa) != 0) {
        return NULL;
    } else {
        mm_tag_pages(pa, 1, MM_TAG_TABLES);
    }
    return memset(nk_pa_to_va(pa), 0, NK_PAGE_SIZE);
}

static uint64_t leaf_bits(unsigned level, unsigned prot)
{
    /* Accessed and dirty are set from the start, so that the CPU need not write them. */
    uint64_t bits = PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL;
    bits |= prot & PAGING_WRITE ? PTE_WRITE : 0;
    bits |= !(prot & PAGING_EXEC) && paging_features.nx ? PTE_NX : 0;
    bits |= prot & PAGING_UNCACHED ? PTE_PCD | PTE_PWT : 0;
    bits |= level > 0 ? PTE_LARGE : 0;
    if (prot & PAGING_WRITE_COMBINING) {
        bits |= level > 0 ? PTE_PAT_LARGE : PTE_PAT_4K;
    }
    return bits;
}

static unsigned prot_of(uint64_t entry, unsigned level)
{
    return (entry & PTE_WRITE ? PAGING_WRITE : 0) | (entry & PTE_NX ? 0 : PAGING_EXEC) |
           (entry & PTE_PCD ? PAGING_UNCACHED : 0) |
           (entry & (level > 0 ? PTE_PAT_LARGE : PTE_PAT_4K) ? PAGING_WRITE_COMBINING : 0);
}

static bool is_table(uint64_t entry, unsigned level)
{
    return level > 0 && (entry & (PTE_PRESENT | PTE_LARGE)) == PTE_PRESENT;
}

static uint64_t *slot_in(uint64_t *table, uint64_t va, unsigned level)
{
    return &table[va >> (NK_PAGE_SHIFT + 9 * level) & 511];
}

/* The entry that ends the walk for va: a mapping, or the place where one is missing. */
static uint64_t *lookup(uint64_t va, unsigned *level)
{
    *level = PAGING_LEVELS - 1;
    uint64_t *entry = slot_in(root, va, *level);
    while (is_table(*entry, *level)) {
        entry = slot_in(nk_pa_to_va(NK_PA(*entry & PTE_ADDRESS)), va, --*level);
    }
    return entry;
}

/* Put a table of the next smaller pages, mapping the same, in place of a large page or nothing. */
static int descend(uint64_t *entry, unsigned level)
{
    uint64_t *table = table_alloc();
    if (table == NULL) {
        return -ENOMEM;
    }
    if (*entry & PTE_PRESENT) {
        uint64_t pa = *entry & PTE_ADDRESS & ~(level_size(level) - 1);
        uint64_t bits = leaf_bits(level - 1, prot_of(*entry, level));
        for (unsigned i = 0; i < 512; i++) {
            table[i] = (pa + i * level_size(level - 1)) | bits;
        }
    }
    /* Rights are those of the leaf: everything is allowed on the way to it. */
    *entry = nk_va_to_pa(table).v | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
    return 0;
}

/* The entry of va at exactly this level, with tables made and large pages split as needed. */
static int entry_at(uint64_t va, unsigned level, uint64_t **out)
{
    unsigned at;
    uint64_t *entry = lookup(va, &at);
    while (at > level) {
        int err = descend(entry, at);
        if (err != 0) {
            return err;
        }
        entry = lookup(va, &at);
    }
    *out = entry;
    return 0;
}

static bool is_mapped(uint64_t va, uint64_t size)
{
    for (uint64_t last = va + size - 1;;) {
        unsigned level;
        if (*lookup(va, &level) & PTE_PRESENT) {
            return true;
        }
        va |= level_size(level) - 1; /* the last byte of a gap, which may be that of the space */
        if (va >= last) {
            return false;
        }
        va++;
    }
}

static unsigned best_level(uint64_t va, uint64_t pa, uint64_t size)
{
    for (unsigned level = paging_features.gib_pages ? 2 : 1; level > 0; level--) {
        if (((va | pa) & (level_size(level) - 1)) == 0 && size >= level_size(level)) {
            return level;
        }
    }
    return 0;
}

void paging_flush_local(uint64_t va, uint64_t size)
{
    if (size <= FLUSH_PAGES_MAX * NK_PAGE_SIZE) {
        for (uint64_t end = va + size; va < end; va += NK_PAGE_SIZE) {
            x86_invlpg((const void *)va);
        }
        return;
    }
    /* Global pages survive a reload of CR3, not a change of CR4.PGE (APM vol. 2, 5.5.2). */
    uint64_t cr4 = x86_read_cr4();
    x86_write_cr4(cr4 & ~CR4_PGE);
    x86_write_cr4(cr4);
}

static void flush(uint64_t va, uint64_t size)
{
    paging_flush_local(va, size);
    nk_spin_unlock(&lock);
    if (paging_shootdown != NULL) {
        paging_shootdown(va, size);
    }
}

/* Change the leaves of a range: new rights for what is mapped, or, without `prot`, no mapping.
 * Lock held. Errors: -ENOMEM a large page could not be split; what came before it is changed. */
static int change(uint64_t va, uint64_t size, const unsigned *prot)
{
    for (uint64_t end = va + size; va < end;) {
        unsigned level;
        uint64_t *entry = lookup(va, &level);
        uint64_t start = nk_align_down(va, level_size(level));
        uint64_t next = start + level_size(level);
        if (*entry & PTE_PRESENT) {
            if (start < va || next > end) {
                int err = descend(entry, level);
                if (err != 0) {
                    return err;
                }
                continue;
            }
            uint64_t pa = *entry & PTE_ADDRESS & ~(level_size(level) - 1);
            *entry = prot == NULL ? 0 : pa | leaf_bits(level, *prot);
        }
        va = next;
    }
    return 0;
}

static bool range_valid(uint64_t va, uint64_t size)
{
    return (va | size) % NK_PAGE_SIZE == 0 && size != 0 && va + size - 1 > va;
}

/* An entry with address bits that the CPU lacks would fault when it is used. */
static bool pa_valid(pa_t pa, uint64_t size)
{
    return pa.v % NK_PAGE_SIZE == 0 && pa.v < paging_features.pa_end &&
           size <= paging_features.pa_end - pa.v;
}

/* Memory that can be written must not be run (W^X). */
static bool prot_valid(unsigned prot)
{
    return (prot & (PAGING_WRITE | PAGING_EXEC)) != (PAGING_WRITE | PAGING_EXEC);
}

int paging_map(uint64_t va, pa_t pa, uint64_t size, unsigned prot)
{
    if (!range_valid(va, size) || !pa_valid(pa, size) || !prot_valid(prot)) {
        return -EINVAL;
    }
    int err = 0;
    uint64_t done = 0;
    nk_spin_lock(&lock);
    if (is_mapped(va, size)) {
        err = -EEXIST;
    }
    while (err == 0 && done < size) {
        unsigned level = best_level(va + done, pa.v + done, size - done);
        uint64_t *entry;
        /* A table of smaller pages may be here from an earlier mapping: tables stay. */
        unsigned there;
        lookup(va + done, &there);
        level = there < level ? there : level;
        err = entry_at(va + done, level, &entry);
        if (err == 0) {
            *entry = (pa.v + done) | leaf_bits(level, prot);
            done += level_size(level);
        }
    }
    if (err != 0 && done > 0) { /* a CPU may have looked ahead: as for any mapping that goes */
        nk_assert(change(va, done, NULL) == 0); /* whole leaves: nothing to split */
        flush(va, done);
        return err;
    }
    nk_spin_unlock(&lock);
    return err;
}

void paging_unmap(uint64_t va, uint64_t size)
{
    nk_assert(range_valid(va, size));
    nk_spin_lock(&lock);
    if (change(va, size, NULL) != 0) {
        nk_panic("paging: no memory to split a large page");
    }
    flush(va, size);
}

int paging_protect(uint64_t va, uint64_t size, unsigned prot)
{
    if (!range_valid(va, size) || !prot_valid(prot)) {
        return -EINVAL;
    }
    nk_spin_lock(&lock);
    int err = change(va, size, &prot);
    flush(va, size);
    return err;
}

int paging_translate(uint64_t va, pa_t *out, unsigned *prot)
{
    unsigned level;
    uint64_t entry = *lookup(va, &level);
    if (!(entry & PTE_PRESENT)) {
        return -ENOENT;
    }
    uint64_t offset = va & (level_size(level) - 1);
    *out = NK_PA((entry & PTE_ADDRESS & ~(level_size(level) - 1)) + offset);
    if (prot != NULL) {
        *prot = prot_of(entry, level);
    }
    return 0;
}

void paging_make_root(void)
{
    root = table_alloc();
}

pa_t paging_root(void)
{
    return nk_va_to_pa(root);
}
