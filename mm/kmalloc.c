#include "base/layout.h"
#include "base/platform.h"
#include "mm/buddy.h"
#include "mm/frame.h"
#include "mm/slab_impl.h"
#include "mm/tag.h"

#include <string.h>

#define FINE_MAX    1024       /* classes are looked up by 16 bytes up to here, */
#define KMALLOC_MAX NK_KIB(64) /* by 512 bytes up to here; whole pages beyond */

struct size_class {
    const char *name;
    uint32_t size, align;
};

/* Powers of two and the middle between them: a quarter is lost at worst. A power of two is aligned
 * to its size. */
static const struct size_class size_class_table[] = {
    {"kmalloc-16", 16, 16},        {"kmalloc-32", 32, 32},        {"kmalloc-48", 48, 16},
    {"kmalloc-64", 64, 64},        {"kmalloc-96", 96, 32},        {"kmalloc-128", 128, 128},
    {"kmalloc-192", 192, 64},      {"kmalloc-256", 256, 256},     {"kmalloc-384", 384, 128},
    {"kmalloc-512", 512, 512},     {"kmalloc-768", 768, 256},     {"kmalloc-1k", 1024, 1024},
    {"kmalloc-1.5k", 1536, 512},   {"kmalloc-2k", 2048, 2048},    {"kmalloc-3k", 3072, 1024},
    {"kmalloc-4k", 4096, 4096},    {"kmalloc-8k", 8192, 8192},    {"kmalloc-16k", 16384, 16384},
    {"kmalloc-32k", 32768, 32768}, {"kmalloc-64k", 65536, 65536},
};

static uint8_t fine_table[FINE_MAX / 16 + 1];   /* [(size + 15) / 16]: index of the cache */
static uint8_t coarse_table[KMALLOC_MAX / 512]; /* [(size - 1) / 512] */

void kmalloc_init(void)
{
    unsigned fine = 0, coarse = 0;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(size_class_table); i++) {
        const struct size_class *c = &size_class_table[i];
        uint8_t index = slab_cache_create(c->name, c->size, c->align)->index;
        for (; fine < NK_ARRAY_COUNT(fine_table) && fine * 16 <= c->size; fine++) {
            fine_table[fine] = index;
        }
        for (; coarse < NK_ARRAY_COUNT(coarse_table) && (coarse + 1) * 512 <= c->size; coarse++) {
            coarse_table[coarse] = index;
        }
    }
}

static NK_NOINLINE void *pages_alloc(size_t size, size_t align)
{
    size_t count = (size + NK_PAGE_SIZE - 1) >> NK_PAGE_SHIFT;
    pa_t pa;
    if (buddy_alloc_pages(count, align, BUDDY_NODE_ANY, &pa) != 0) {
        return NULL;
    }
    mm_tag_pages(pa, count, MM_TAG_LARGE);
    void *p = nk_pa_to_va(pa);
    frame_of_va(p)->count = (uint32_t)count;
    return p;
}

static NK_NOINLINE void pages_free(void *p)
{
    struct buddy_frame *frame = frame_of_va(p);
    if (!frame_va_valid(p) || (uint64_t)p % NK_PAGE_SIZE != 0 || frame->count == 0) {
        nk_panic("kfree: %p was not allocated, caller %p", p, __builtin_return_address(0));
    }
    size_t count = frame->count;
    frame->count = 0;
    buddy_free_pages(nk_va_to_pa(p), count);
}

void *kmalloc(size_t size)
{
    if (nk_likely(size <= FINE_MAX)) {
        return slab_take(fine_table[(size + 15) / 16]);
    }
    if (nk_likely(size <= KMALLOC_MAX)) {
        return slab_take(coarse_table[(size - 1) / 512]);
    }
    return pages_alloc(size, NK_PAGE_SIZE);
}

void *kzalloc(size_t size)
{
    void *p = kmalloc(size);
    return p == NULL ? NULL : memset(p, 0, size);
}

void *kmalloc_aligned(size_t size, size_t align)
{
    nk_assert((align & (align - 1)) == 0);
    if (align <= 16) {
        return kmalloc(size);
    }
    size_t least = size > align ? size : align;
    if (least > KMALLOC_MAX) {
        return pages_alloc(size, align);
    }
    return kmalloc((size_t)1 << (64 - __builtin_clzll(least - 1)));
}

size_t kmalloc_usable(const void *p)
{
    const struct buddy_frame *frame = frame_of_va(p);
    return frame->cache != 0 ? slab_cache_table[frame->cache].size
                             : (size_t)frame->count << NK_PAGE_SHIFT;
}

void *krealloc(void *p, size_t size)
{
    if (p == NULL) {
        return kmalloc(size);
    }
    size_t usable = kmalloc_usable(p);
    if (size <= usable && size >= usable / 4) {
        return p;
    }
    void *other = kmalloc(size);
    if (other == NULL) {
        return size <= usable ? p : NULL;
    }
    memcpy(other, p, size < usable ? size : usable);
    kfree(p);
    return other;
}

void kfree(void *p)
{
    if (nk_unlikely(p == NULL)) {
        return;
    }
    unsigned index = frame_of_va(p)->cache;
    if (nk_likely(index != 0)) {
        slab_put(index, p);
    } else {
        pages_free(p);
    }
}
