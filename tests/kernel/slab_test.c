/* Tests of mm/slab.c and mm/kmalloc.c. */
#include "mm/slab.h"

#include <string.h>

#include "base/layout.h"
#include "mm/buddy.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define OBJECTS_MAX 600

static uint64_t used_of(const char *name)
{
    struct slab_stats stats;
    for (unsigned i = 0; slab_get_stats(i, &stats); i++) {
        if (strcmp(stats.name, name) == 0) {
            return stats.objects_used;
        }
    }
    return UINT64_MAX;
}

KTEST(slab_alignment)
{
    for (size_t size = 1; size <= NK_KIB(80); size += 1 + size / 7) {
        char *p = kmalloc(size);
        ASSERT(p != NULL);
        EXPECT_EQ((uint64_t)p % 16, 0);
        EXPECT_GE(kmalloc_usable(p), size);
        memset(p, 0xa5, size);
        kfree(p);
    }
    for (size_t size = 16; size <= NK_PAGE_SIZE; size *= 2) {
        void *p = kmalloc(size);
        EXPECT_EQ((uint64_t)p % size, 0);
        kfree(p);
    }
    for (size_t align = 8; align <= NK_MIB(2); align *= 2) {
        void *p = kmalloc_aligned(100, align);
        ASSERT(p != NULL);
        EXPECT_EQ((uint64_t)p % align, 0);
        kfree(p);
    }
    kfree(NULL);
    void *p = kmalloc(0);
    EXPECT(p != NULL);
    kfree(p);
    static const size_t too_large_table[] = {SIZE_MAX, SIZE_MAX / 2 + 2, SIZE_MAX - NK_PAGE_SIZE};
    for (unsigned i = 0; i < NK_ARRAY_COUNT(too_large_table); i++) {
        EXPECT(kmalloc(too_large_table[i]) == NULL);
        EXPECT(kmalloc_aligned(too_large_table[i], 64) == NULL);
    }
}

/* Random sizes; each object is filled with a byte of its own, checked when it is freed. */
KTEST(slab_random)
{
    static struct {
        uint8_t *p;
        size_t size;
        uint8_t fill;
    } shadow[OBJECTS_MAX];
    uint64_t seed = 11;
    unsigned count = 0;
    for (unsigned step = 0; step < 20000; step++) {
        uint64_t r = ktest_random(&seed);
        if (count < OBJECTS_MAX && (count == 0 || r % 100 < 53)) {
            size_t size = 1 + (size_t)(r >> 16) % (UINT64_C(16) << (r >> 8) % 14);
            shadow[count].p = kmalloc(size);
            if (shadow[count].p == NULL) {
                continue;
            }
            shadow[count].size = size;
            shadow[count].fill = (uint8_t)r;
            memset(shadow[count++].p, (uint8_t)r, size);
            continue;
        }
        unsigned i = (unsigned)(r >> 16) % count;
        uint8_t *p = shadow[i].p;
        size_t size = shadow[i].size;
        ASSERT_EQ(p[0], shadow[i].fill);
        ASSERT_EQ(p[size / 2], shadow[i].fill);
        ASSERT_EQ(p[size - 1], shadow[i].fill);
        kfree(p);
        shadow[i] = shadow[--count];
    }
    while (count-- > 0) {
        kfree(shadow[count].p);
    }
}

KTEST(slab_krealloc)
{
    char *p = krealloc(NULL, 10);
    ASSERT(p != NULL);
    strcpy(p, "123456789");
    for (size_t size = 10; size < NK_KIB(300); size *= 3) {
        p = krealloc(p, size);
        ASSERT(p != NULL);
        ASSERT_STREQ(p, "123456789");
    }
    p = krealloc(p, 10);
    EXPECT_STREQ(p, "123456789");
    EXPECT_LE(kmalloc_usable(p), 64); /* it shrinks, too */
    kfree(p);
    char *zero = kzalloc(5000);
    for (unsigned i = 0; i < 5000; i++) {
        ASSERT_EQ(zero[i], 0);
    }
    kfree(zero);
}

KTEST(slab_own_cache)
{
    static struct slab_cache *cache;
    static void *object[1000];
    if (cache == NULL) {
        cache = slab_cache_create("test", 200, 64);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < NK_ARRAY_COUNT(object); i++) {
            object[i] = slab_alloc(cache);
            ASSERT(object[i] != NULL);
            EXPECT_EQ((uint64_t)object[i] % 64, 0);
            memset(object[i], (int)i, 200);
        }
        EXPECT_EQ(used_of("test"), NK_ARRAY_COUNT(object));
        for (unsigned i = 0; i < NK_ARRAY_COUNT(object); i++) {
            ASSERT_EQ(((uint8_t *)object[i])[199], (uint8_t)i);
            slab_free(cache, object[i]);
        }
        EXPECT_EQ(used_of("test"), 0);
    }
}

static void *crossing[2000];

static void free_all(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(crossing); i++) {
        kfree(crossing[i]);
    }
}

/* Objects made on one CPU and freed on another go back to where they came from. */
KTEST(slab_cross_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU");
    struct nk_thread_attr attr = {.name = "free", .cpu = (int)nk_cpu_count - 1};
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < NK_ARRAY_COUNT(crossing); i++) {
            crossing[i] = kmalloc(16 + i);
            ASSERT(crossing[i] != NULL);
        }
        struct nk_thread *t;
        ASSERT_EQ(nk_thread_start(&t, &attr, free_all, NULL), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}

/* What was taken and given back leaves no page behind. */
KTEST(slab_gives_back)
{
    static void *object[3000];
    struct buddy_stats before, after;
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)this_cpu->id), 0);
    for (unsigned round = 0; round < 2; round++) {
        slab_drain();
        buddy_drain();
        buddy_get_stats(this_cpu->node, round == 0 ? &before : &after);
        for (unsigned i = 0; round == 0 && i < NK_ARRAY_COUNT(object); i++) {
            object[i] = kmalloc(1000);
            ASSERT(object[i] != NULL);
        }
        for (unsigned i = 0; round == 0 && i < NK_ARRAY_COUNT(object); i++) {
            kfree(object[i]);
        }
    }
    /* A cache may keep one empty slab (of 8 pages at most) that it had not kept before. */
    EXPECT_GE(after.free_pages + 8, before.free_pages);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}

/* So that the compiler and its checkers do not see what is wrong below. */
static void *again(void *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

KPANIC(slab_double_free)
{
    void *p = kmalloc(100);
    void *same = again(p);
    kfree(p);
    kfree(same);
}

KPANIC(slab_write_after_free)
{
    void *p = kmalloc(100);
    volatile char *same = again(p);
    kfree(p);
    same[50] = 1;
    (void)!kmalloc(100);
}

KPANIC(slab_write_beyond)
{
    void *p = kmalloc(64);
    volatile char *same = again(p);
    same[64] = 1;
    kfree(p);
}

KPANIC(slab_free_of_foreign_memory)
{
    pa_t pa;
    if (buddy_alloc(0, BUDDY_NODE_ANY, &pa) == 0) {
        kfree((void *)(pa.v + NK_DIRECT_BASE));
    }
}
