/* Debug builds: what a free object holds is known, and so is what lies behind every object. */
#include "base/platform.h"
#include "base/x86.h"
#include "mm/frame.h"
#include "mm/slab_impl.h"

#include <string.h>

/* A free object: a link to the next one, a mark that only this object has, and then poison. */
struct free_object {
    void *next;
    uint64_t mark;
    uint8_t poison[];
};

#define FREE_MARK UINT64_C(0x6f62656e6f6b6e6b)
#define POISON    0x6b
#define TAKEN     0xcd /* in place of the mark and the poison when it is handed out */
#define RED_ZONE  0xbb /* from the end of the object to the end of its place */

/* Of an object of many pages only the first bytes are watched: a debug build should still run. */
#define WATCHED_MAX 512

static size_t watched(const struct slab_cache *cache)
{
    return cache->size < WATCHED_MAX ? cache->size : WATCHED_MAX;
}

static uint64_t mark_of(const void *object)
{
    return FREE_MARK ^ (uint64_t)object;
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

static void poison(const struct slab_cache *cache, struct free_object *object)
{
    if (watched(cache) >= sizeof(*object)) {
        object->mark = mark_of(object);
        memset(object->poison, POISON, watched(cache) - sizeof(*object));
    }
}

void slab_debug_fill(struct slab_cache *cache, void *object)
{
    poison(cache, object);
    memset((char *)object + cache->size, RED_ZONE, cache->stride - cache->size);
}

void slab_debug_taken(struct slab_cache *cache, void *object)
{
    struct free_object *o = object;
    if (watched(cache) < sizeof(*o)) {
        return;
    }
    if (o->mark != mark_of(o) || !all_bytes_are(o, sizeof(*o), watched(cache), POISON)) {
        nk_panic("slab %s: %p was written to after it was freed", cache->name, object);
    }
    memset(object, TAKEN, watched(cache));
}

void slab_debug_freed(struct slab_cache *cache, void *object)
{
    const struct free_object *o = object;
    if (!frame_va_valid(object) || frame_of_va(object)->cache != cache->index) {
        nk_panic("slab %s: %p is not of this cache", cache->name, object);
    }
    if (watched(cache) >= sizeof(*o) && o->mark == mark_of(o)) {
        nk_panic("slab %s: %p is freed twice", cache->name, object);
    }
    if (!all_bytes_are(object, cache->size, cache->stride, RED_ZONE)) {
        nk_panic("slab %s: %p was written to beyond its %zu bytes", cache->name, object,
                 cache->size);
    }
    poison(cache, object);
}
