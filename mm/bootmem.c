#include "mm/bootmem.h"

#include "base/layout.h"
#include "base/platform.h"

#include <string.h>

#define BOOT_MAPPED_END NK_GIB(4) /* what the boot page tables map */

struct range {
    uint64_t base, end;
};

/* Sorted by base, disjoint, not touching. */
struct range_set {
    unsigned count;
    struct range range[BOOTMEM_RANGES_MAX];
};

static struct range_set free_set;   /* usable and not taken */
static struct range_set mapped_set; /* belongs into the direct map */
static uint64_t ram_bytes, ram_end;
static uint64_t mapped_end = BOOT_MAPPED_END;

static void set_remove_at(struct range_set *set, unsigned i, unsigned n)
{
    for (; i + n < set->count; i++) {
        set->range[i] = set->range[i + n];
    }
    set->count -= n;
}

static void set_insert_at(struct range_set *set, unsigned i, struct range r)
{
    if (set->count == BOOTMEM_RANGES_MAX) {
        nk_panic("bootmem: more than %d memory ranges", BOOTMEM_RANGES_MAX);
    }
    for (unsigned j = set->count; j > i; j--) {
        set->range[j] = set->range[j - 1];
    }
    set->range[i] = r;
    set->count++;
}

static void set_add(struct range_set *set, struct range r)
{
    unsigned i = 0;
    while (i < set->count && set->range[i].end < r.base) {
        i++;
    }
    unsigned n = 0; /* neighbours that touch or overlap melt into the new one */
    while (i + n < set->count && set->range[i + n].base <= r.end) {
        struct range *old = &set->range[i + n++];
        r.base = old->base < r.base ? old->base : r.base;
        r.end = old->end > r.end ? old->end : r.end;
    }
    set_remove_at(set, i, n);
    set_insert_at(set, i, r);
}

static void set_subtract(struct range_set *set, struct range r)
{
    for (unsigned i = 0; i < set->count;) {
        struct range *old = &set->range[i];
        if (old->end <= r.base || old->base >= r.end) {
            i++;
        } else if (old->base < r.base && old->end > r.end) {
            struct range tail = {r.end, old->end};
            old->end = r.base;
            set_insert_at(set, i + 1, tail);
            return;
        } else if (old->base < r.base) {
            old->end = r.base;
            i++;
        } else if (old->end > r.end) {
            old->base = r.end;
            return;
        } else {
            set_remove_at(set, i, 1);
        }
    }
}

static uint64_t set_bytes(const struct range_set *set)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < set->count; i++) {
        bytes += set->range[i].end - set->range[i].base;
    }
    return bytes;
}

static bool set_get(const struct range_set *set, unsigned i, pa_t *base, uint64_t *length)
{
    if (i >= set->count) {
        return false;
    }
    *base = NK_PA(set->range[i].base);
    *length = set->range[i].end - set->range[i].base;
    return true;
}

void bootmem_add(pa_t base, uint64_t length)
{
    struct range r = {nk_align_up(base.v, NK_PAGE_SIZE),
                      nk_align_down(base.v + length, NK_PAGE_SIZE)};
    if (r.base >= r.end) {
        return;
    }
    uint64_t before = set_bytes(&free_set);
    set_add(&free_set, r);
    set_add(&mapped_set, r);
    ram_bytes += set_bytes(&free_set) - before;
    ram_end = r.end > ram_end ? r.end : ram_end;
}

void bootmem_map_only(pa_t base, uint64_t length)
{
    struct range r = {nk_align_down(base.v, NK_PAGE_SIZE),
                      nk_align_up(base.v + length, NK_PAGE_SIZE)};
    if (r.base < r.end) {
        set_add(&mapped_set, r);
    }
}

void bootmem_reserve(pa_t base, uint64_t length)
{
    struct range r = {nk_align_down(base.v, NK_PAGE_SIZE),
                      nk_align_up(base.v + length, NK_PAGE_SIZE)};
    set_subtract(&free_set, r);
}

pa_t bootmem_alloc(uint64_t size, uint64_t align, uint64_t limit)
{
    size = nk_align_up(size, NK_PAGE_SIZE);
    if (limit == 0 || limit > mapped_end) {
        limit = mapped_end;
    }
    /* From the top, which leaves low memory to devices that can reach nothing else. */
    for (unsigned i = free_set.count; i-- > 0;) {
        struct range *r = &free_set.range[i];
        uint64_t end = r->end < limit ? r->end : limit;
        if (end < size || nk_align_down(end - size, align) < r->base) {
            continue;
        }
        pa_t base = NK_PA(nk_align_down(end - size, align));
        bootmem_reserve(base, size);
        memset(nk_pa_to_va(base), 0, size);
        return base;
    }
    nk_panic("bootmem: no %lu KiB of free memory below %#lx", (unsigned long)(size >> 10),
             (unsigned long)limit);
}

uint64_t bootmem_ram_bytes(void)
{
    return ram_bytes;
}

uint64_t bootmem_ram_end(void)
{
    return ram_end;
}

bool bootmem_free_range(unsigned i, pa_t *base, uint64_t *length)
{
    return set_get(&free_set, i, base, length);
}

bool bootmem_mapped_range(unsigned i, pa_t *base, uint64_t *length)
{
    return set_get(&mapped_set, i, base, length);
}

void bootmem_set_all_mapped(void)
{
    mapped_end = UINT64_MAX;
}
