/* Inside mm/ only: object caches as slab.c makes them and kmalloc.c uses them.
 *
 * A cache's objects are cut out of slabs: blocks of 2^slab_order pages with a struct slab at their
 * start. Objects of a page or more are blocks of their own (slab_order is their order and there is
 * no struct slab). In front of that, each CPU has a magazine per cache: free objects linked
 * through their first words, touched with interrupts off only, so the usual allocation takes no
 * lock and shares no cache line. */
#pragma once

#include "base/list.h"
#include "base/percpu.h"
#include "base/spinlock.h"
#include "mm/buddy.h"
#include "mm/fault.h"
#include "mm/slab.h"

#define SLAB_CACHES_MAX 64

struct slab_magazine {
    void *head;
    uint32_t count;
    uint32_t limit; /* flushed by half when it would be exceeded */
};

struct slab_cpu {
    struct slab_magazine magazine[SLAB_CACHES_MAX];
};

struct slab {
    struct nk_list link; /* on partial[node] of its cache, while it has a free object */
    void *free;
    uint32_t used, total;
    uint32_t node;
};

struct slab_cache {
    struct nk_spinlock lock; /* the lists, the slabs on them and the counts */
    uint8_t index;
    uint8_t slab_order;
    bool whole_blocks;
    uint32_t limit; /* of its magazines */
    size_t size;    /* as asked for */
    size_t stride;  /* size with red zone, aligned */
    size_t first;   /* offset of the first object in a slab */
    const char *name;
    struct nk_list partial[BUDDY_NODES_MAX]; /* per node: slabs with a free object */
    uint64_t slab_count, object_count;
    uint64_t slab_free;   /* free objects in slabs */
    uint32_t empty_count; /* slabs on `partial` without a used object */
};

extern struct slab_cache slab_cache_table[SLAB_CACHES_MAX]; /* 0 is not used: "no cache" */

void kmalloc_init(void); /* makes the caches of general sizes */
void *slab_refill(struct slab_cache *cache, struct slab_magazine *magazine);
void slab_flush(struct slab_cache *cache, struct slab_magazine *magazine, uint32_t keep);

#if defined(CONFIG_DEBUG)
#define SLAB_RED_ZONE 8                                        /* bytes behind each object */
void slab_debug_fill(struct slab_cache *cache, void *object);  /* the object becomes free */
void slab_debug_taken(struct slab_cache *cache, void *object); /* checks that nobody wrote to it */
void slab_debug_freed(struct slab_cache *cache, void *object); /* checks red zone, double free */
#else
#define SLAB_RED_ZONE 0
static inline void slab_debug_fill(struct slab_cache *cache, void *object)
{
    (void)cache, (void)object;
}
static inline void slab_debug_taken(struct slab_cache *cache, void *object)
{
    (void)cache, (void)object;
}
static inline void slab_debug_freed(struct slab_cache *cache, void *object)
{
    (void)cache, (void)object;
}
#endif

/* The two fast paths. `index` is the cache's, its own parameter because kmalloc knows it without
 * looking at the cache. */
static NK_ALWAYS_INLINE void *slab_take(unsigned index)
{
    if (mm_fault_due()) {
        return NULL;
    }
    uint64_t flags = nk_irq_save();
    struct slab_magazine *magazine = &this_cpu->slab->magazine[index];
    void *object = magazine->head;
    if (nk_likely(object != NULL)) {
        magazine->head = *(void **)object;
        magazine->count--;
    } else {
        object = slab_refill(&slab_cache_table[index], magazine);
    }
    nk_irq_restore(flags);
    if (object != NULL) {
        slab_debug_taken(&slab_cache_table[index], object);
    }
    return object;
}

static NK_ALWAYS_INLINE void slab_put(unsigned index, void *object)
{
    slab_debug_freed(&slab_cache_table[index], object);
    uint64_t flags = nk_irq_save();
    struct slab_magazine *magazine = &this_cpu->slab->magazine[index];
    *(void **)object = magazine->head;
    magazine->head = object;
    if (nk_unlikely(++magazine->count > magazine->limit)) {
        slab_flush(&slab_cache_table[index], magazine, magazine->limit / 2);
    }
    nk_irq_restore(flags);
}
