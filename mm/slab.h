/* Object caches with per-CPU magazines above the page allocator, and kmalloc on top of them.
 * Threading: thread or interrupt context (not NMI). */
#pragma once

#include "base/types.h"

struct slab_cache;

void slab_init(void);             /* boot CPU included, after buddy_init() */
void slab_init_cpu(unsigned cpu); /* another one, before it allocates */

/* A cache of objects of `size` bytes aligned to `align` (power of two, at least 8).
 * `name` must outlive the cache. Panics when memory for the cache itself is missing. */
struct slab_cache *slab_cache_create(const char *name, size_t size, size_t align);

void *slab_alloc(struct slab_cache *cache) NK_MUST_CHECK; /* NULL: out of memory; not zeroed */
void slab_free(struct slab_cache *cache, void *object);

/* Give what this CPU keeps at hand back to the slabs, and empty slabs to the page allocator. */
void slab_drain(void);

/* General sizes: caches up to 64 KiB, whole pages above. Alignment is 16, or the size for powers
 * of two up to a page. kfree(NULL) does nothing. */
void *kmalloc(size_t size) NK_MUST_CHECK;
void *kzalloc(size_t size) NK_MUST_CHECK;
void *kmalloc_aligned(size_t size, size_t align) NK_MUST_CHECK;
void *krealloc(void *p, size_t size) NK_MUST_CHECK;
size_t kmalloc_usable(const void *p);
void kfree(void *p);

struct slab_stats {
    const char *name;
    size_t object_size;
    uint64_t objects_used, objects_total, pages;
};

/* Pages of all caches. */
uint64_t slab_pages(void);

/* Statistics of the i-th cache; false past the last. */
bool slab_get_stats(unsigned i, struct slab_stats *out);
