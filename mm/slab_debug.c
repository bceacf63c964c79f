/* Debug builds: what a free object holds is known, and so is what lies behind every object. */
#include "base/platform.h"
#include "base/x86.h"
#include "mm/frame.h"
#include "mm/slab_impl.h"

#include <string.h>

#define POISON   0x6b /* every byte of a free object but the first word, which links it */
#define FRESH    0x5a /* of an object just handed out: one freed unwritten is not freed twice */
#define RED_ZONE 0xbb /* from the end of the object to the end of its place */

/* Of an object of many pages only the first bytes are watched: a debug build should still run. */
#define POISON_MAX 512

static size_t poison_end(const struct slab_cache *cache)
{
    return cache->size < POISON_MAX ? cache->size : POISON_MAX;
}

static bool all_bytes_are(const void *object, size_t from, size_t to, uint8_t value)
{
    const uint8_t *byte = object;
    for (size_t i = from; i < to; i++) {
        if (byte[i] != value) {
            return false;
        }
    }
    return true;
}

void slab_debug_fill(struct slab_cache *cache, void *object)
{
    memset(object, POISON, poison_end(cache));
    memset((char *)object + cache->size, RED_ZONE, cache->stride - cache->size);
}

void slab_debug_taken(struct slab_cache *cache, void *object)
{
    if (!all_bytes_are(object, sizeof(void *), poison_end(cache), POISON)) {
        nk_panic("slab %s: %p was written to after it was freed", cache->name, object);
    }
    memset(object, FRESH, poison_end(cache));
}

void slab_debug_freed(struct slab_cache *cache, void *object)
{
    size_t end = poison_end(cache);
    if (!frame_va_valid(object) || frame_of_va(object)->cache != cache->index) {
        nk_panic("slab %s: %p is not of this cache", cache->name, object);
    }
    if (!all_bytes_are(object, cache->size, cache->stride, RED_ZONE)) {
        nk_panic("slab %s: %p was written to beyond its %zu bytes", cache->name, object,
                 cache->size);
    }
    if (end > sizeof(void *) && all_bytes_are(object, sizeof(void *), end, POISON)) {
        nk_panic("slab %s: %p is freed twice", cache->name, object);
    }
    memset(object, POISON, end);
}
