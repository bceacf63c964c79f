/* Tests of mm/bootmem.c and mm/buddy.c. */
#include "mm/buddy.h"

#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "mm/bootmem.h"
#include "mm/slab.h"
#include "mm/tag.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define BLOCKS_MAX 400
#define CHAIN_MAX  20000 /* single pages */

static uint64_t *first_word(pa_t block)
{
    return nk_pa_to_va(block);
}

static uint64_t *last_word(pa_t block, unsigned order)
{
    return (uint64_t *)((char *)nk_pa_to_va(block) + (NK_PAGE_SIZE << order)) - 1;
}

/* Of all nodes together. */
static void get_stats(struct buddy_stats *out)
{
    memset(out, 0, sizeof(*out));
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        struct buddy_stats s;
        buddy_get_stats(node, &s);
        out->total_pages += s.total_pages;
        out->free_pages += s.free_pages;
        for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
            out->free_blocks[order] += s.free_blocks[order];
        }
    }
}

/* The state to come back to: this CPU keeps nothing at hand. */
static void settled_stats(struct buddy_stats *out)
{
    slab_drain();
    buddy_drain();
    get_stats(out);
}

static void expect_same_blocks(const struct buddy_stats *before)
{
    struct buddy_stats after;
    settled_stats(&after);
    EXPECT_EQ(after.free_pages, before->free_pages);
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        if (after.free_blocks[order] != before->free_blocks[order]) {
            ktest_note("order %u: %lu free blocks, were %lu", order,
                       (unsigned long)after.free_blocks[order],
                       (unsigned long)before->free_blocks[order]);
            EXPECT_EQ(after.free_blocks[order], before->free_blocks[order]);
        }
    }
    buddy_check();
}

static void pin_here(bool pin)
{
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), pin ? (int)this_cpu->id : NK_CPU_ANY), 0);
}

KTEST(buddy_map)
{
    struct buddy_stats stats;
    get_stats(&stats);
    EXPECT_GE(buddy_node_count(), 1);
    EXPECT_LE(stats.total_pages << NK_PAGE_SHIFT, bootmem_ram_bytes());
    EXPECT_LE(stats.free_pages, stats.total_pages);
    EXPECT_LE(bootmem_ram_bytes(), bootmem_ram_end());
    buddy_check();
}

KTEST(buddy_arguments)
{
    pa_t pa;
    EXPECT_EQ(buddy_alloc(BUDDY_ORDER_MAX + 1, BUDDY_NODE_ANY, &pa), -EINVAL);
    EXPECT_EQ(buddy_alloc(0, BUDDY_NODES_MAX, &pa), -EINVAL);
    EXPECT_EQ(buddy_alloc(0, -2, &pa), -EINVAL);
    EXPECT_EQ(buddy_alloc_pages(0, NK_PAGE_SIZE, BUDDY_NODE_ANY, &pa), -EINVAL);
    EXPECT_EQ(buddy_alloc_pages(1, 3 * NK_PAGE_SIZE, BUDDY_NODE_ANY, &pa), -EINVAL);
    EXPECT_EQ(buddy_order_of(1), 0);
    EXPECT_EQ(buddy_order_of(NK_PAGE_SIZE), 0);
    EXPECT_EQ(buddy_order_of(NK_PAGE_SIZE + 1), 1);
    EXPECT_EQ(buddy_order_of(NK_GIB(1)), BUDDY_ORDER_MAX);
}

KTEST(buddy_every_order)
{
    struct buddy_stats before;
    pin_here(true);
    settled_stats(&before);
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        pa_t pa;
        if (buddy_alloc(order, BUDDY_NODE_ANY, &pa) != 0) {
            continue; /* the machine has no block as large as that */
        }
        EXPECT_EQ(pa.v % (NK_PAGE_SIZE << order), 0);
        *first_word(pa) = *last_word(pa, order) = order;
        struct buddy_stats now;
        get_stats(&now);
        EXPECT_EQ(now.free_pages, before.free_pages - (UINT64_C(1) << order));
        buddy_free(pa, order);
    }
    expect_same_blocks(&before);
    pin_here(false);
}

/* Random allocating and freeing; every block carries its own address at both ends, so that two
 * blocks that overlap, or a block handed out twice, cannot go unseen. */
KTEST(buddy_random)
{
    static struct {
        pa_t pa;
        unsigned order;
    } shadow[BLOCKS_MAX];
    struct buddy_stats before, now;
    uint64_t seed = 20, pages = 0;
    unsigned count = 0;
    pin_here(true);
    settled_stats(&before);
    for (unsigned step = 0; step < 30000; step++) {
        uint64_t r = ktest_random(&seed);
        if (count < BLOCKS_MAX && (count == 0 || r % 100 < 52)) {
            unsigned order = (unsigned)__builtin_ctzll(r >> 8 | 1 << 9);
            pa_t pa;
            if (buddy_alloc(order, BUDDY_NODE_ANY, &pa) != 0) {
                continue;
            }
            ASSERT_EQ(pa.v % (NK_PAGE_SIZE << order), 0);
            *first_word(pa) = *last_word(pa, order) = pa.v + order;
            shadow[count].pa = pa;
            shadow[count++].order = order;
            pages += UINT64_C(1) << order;
        } else {
            unsigned i = (unsigned)(r >> 8) % count;
            pa_t pa = shadow[i].pa;
            ASSERT_EQ(*first_word(pa), pa.v + shadow[i].order);
            ASSERT_EQ(*last_word(pa, shadow[i].order), pa.v + shadow[i].order);
            pages -= UINT64_C(1) << shadow[i].order;
            buddy_free(pa, shadow[i].order);
            shadow[i] = shadow[--count];
        }
        if (step % 3000 == 0) {
            get_stats(&now);
            EXPECT_EQ(now.free_pages, before.free_pages - pages);
            buddy_check();
        }
    }
    while (count-- > 0) {
        buddy_free(shadow[count].pa, shadow[count].order);
    }
    expect_same_blocks(&before);
    pin_here(false);
}

/* Single pages freed out of order join into the blocks they came from. */
KTEST(buddy_coalesces)
{
    struct buddy_stats before;
    uint64_t *chain[2] = {NULL, NULL};
    pin_here(true);
    settled_stats(&before);
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        pa_t pa;
        if (buddy_alloc(0, BUDDY_NODE_ANY, &pa) != 0) {
            break;
        }
        uint64_t *page = first_word(pa);
        uint64_t **head = &chain[pa.v >> NK_PAGE_SHIFT & 1];
        *page = (uint64_t)*head;
        *head = page;
    }
    for (unsigned i = 0; i < 2; i++) { /* first all even frames, which join with nothing */
        while (chain[i] != NULL) {
            uint64_t *page = chain[i];
            chain[i] = (uint64_t *)*page;
            buddy_free(nk_va_to_pa(page), 0);
        }
    }
    expect_same_blocks(&before);
    pin_here(false);
}

KTEST(buddy_page_runs)
{
    struct buddy_stats before, now;
    pin_here(true);
    settled_stats(&before);
    for (size_t count = 1; count < 70; count++) {
        uint64_t align = NK_PAGE_SIZE << count % 8;
        pa_t pa;
        ASSERT_EQ(buddy_alloc_pages(count, align, BUDDY_NODE_ANY, &pa), 0);
        EXPECT_EQ(pa.v % align, 0);
        get_stats(&now);
        EXPECT_EQ(now.free_pages, before.free_pages - count);
        memset(nk_pa_to_va(pa), 0x5a, count << NK_PAGE_SHIFT);
        buddy_check();
        buddy_free_pages(pa, count);
    }
    expect_same_blocks(&before);
    pin_here(false);
}

KTEST(buddy_exhaustion)
{
    struct buddy_stats before, now;
    pa_t pa, chain = NK_PA(0);
    unsigned count = 0;
    pin_here(true);
    settled_stats(&before);
    while (buddy_alloc(9, BUDDY_NODE_ANY, &pa) == 0) {
        *first_word(pa) = chain.v;
        chain = pa;
        count++;
    }
    EXPECT_GT(count, 0);
    get_stats(&now);
    for (unsigned order = 9; order <= BUDDY_ORDER_MAX; order++) {
        EXPECT_EQ(now.free_blocks[order], 0);
    }
    while (chain.v != 0) {
        pa = chain;
        chain.v = *first_word(pa);
        buddy_free(pa, 9);
    }
    expect_same_blocks(&before);
    pin_here(false);
}

/* All that lies free in a row can be had as one, whatever its length, and comes back whole. */
KTEST(buddy_as_large_as_there_is)
{
    struct buddy_stats before, now;
    pin_here(true);
    settled_stats(&before);
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        uint64_t pages = buddy_largest_run(node);
        pa_t pa, more;
        ASSERT_EQ(buddy_alloc_pages(pages, NK_PAGE_SIZE, (int)node, &pa), 0);
        EXPECT_EQ(buddy_node_of(pa), node);
        *first_word(pa) = *((uint64_t *)((char *)nk_pa_to_va(pa) + pages * NK_PAGE_SIZE) - 1) = 1;
        get_stats(&now);
        EXPECT_EQ(now.free_pages, before.free_pages - pages);
        EXPECT_LE(buddy_largest_run(node), pages);
        EXPECT_EQ(buddy_alloc_pages(pages + 1, NK_PAGE_SIZE, (int)node, &more), -ENOMEM);
        buddy_check();
        buddy_free_pages(pa, pages);

        /* Aligned, and beginning and ending within free blocks. */
        ASSERT_EQ(buddy_alloc_pages(pages / 2 + 1, NK_MIB(2), (int)node, &pa), 0);
        EXPECT_EQ(pa.v % NK_MIB(2), 0);
        buddy_check();
        buddy_free_pages(pa, pages / 2 + 1);
    }
    expect_same_blocks(&before);
    pin_here(false);
}

/* With 6 GiB of RAM there is a run of more than the largest block. */
KTEST(buddy_beyond_the_largest_block)
{
    KTEST_SKIP_UNLESS(bootmem_ram_bytes() >= NK_GIB(5), "less than 5 GiB");
    pa_t pa;
    size_t pages = NK_MIB(2200) / NK_PAGE_SIZE;
    ASSERT_EQ(buddy_alloc_pages(pages, NK_MIB(2), BUDDY_NODE_ANY, &pa), 0);
    EXPECT_EQ(pa.v % NK_MIB(2), 0);
    buddy_free_pages(pa, pages);
    buddy_check();
}

KTEST(tag_counts)
{
    struct mm_tag_info info;
    uint8_t tag = mm_tag_create("test");
    ASSERT(mm_tag_get(tag, &info));
    EXPECT_STREQ(info.name, "test");
    EXPECT_EQ(info.page_bytes, 0);
    pa_t one, many;
    ASSERT_EQ(buddy_alloc(0, BUDDY_NODE_ANY, &one), 0);
    ASSERT_EQ(buddy_alloc_pages(13, NK_PAGE_SIZE, BUDDY_NODE_ANY, &many), 0);
    mm_tag_pages(one, 1, tag);
    mm_tag_pages(many, 13, tag);
    mm_tag_add_objects(tag, 100);
    ASSERT(mm_tag_get(tag, &info));
    EXPECT_EQ(info.page_bytes, 14 * NK_PAGE_SIZE);
    EXPECT_EQ(info.object_bytes, 100);
    EXPECT_EQ(mm_tag_destroy(tag, &info), -EBUSY);
    buddy_free(one, 0);
    buddy_free_pages(many, 13);
    EXPECT_EQ(mm_tag_destroy(tag, &info), -EBUSY);
    EXPECT_EQ(info.page_bytes, 0);
    mm_tag_add_objects(tag, -100);
    EXPECT_EQ(mm_tag_destroy(tag, &info), 0);
    EXPECT(!mm_tag_get(tag, &info));

    /* The next owner of these pages has them without a tag. */
    ASSERT_EQ(buddy_alloc(0, BUDDY_NODE_ANY, &one), 0);
    buddy_free(one, 0);
}

KTEST(tag_table_is_full)
{
    static uint8_t tag[MM_TAGS_MAX];
    struct mm_tag_info left;
    unsigned count = 0;
    do {
        tag[count] = mm_tag_create("one of many");
    } while (tag[count++] != MM_TAG_VMM && count < MM_TAGS_MAX);
    EXPECT_EQ(tag[count - 1], MM_TAG_VMM);
    while (count-- > 0) {
        EXPECT_EQ(mm_tag_destroy(tag[count], &left), 0);
    }
}

static pa_t some_block(unsigned order)
{
    pa_t pa = NK_PA(0);
    ktest_check(buddy_alloc(order, BUDDY_NODE_ANY, &pa) == 0, __FILE__, __LINE__, "buddy_alloc");
    return pa;
}

KPANIC(buddy_double_free_of_a_page)
{
    pa_t pa = some_block(0);
    buddy_free(pa, 0);
    buddy_free(pa, 0);
}

KPANIC(buddy_double_free_of_a_block)
{
    pa_t pa = some_block(3);
    buddy_free(pa, 3);
    buddy_free(pa, 3);
}

KPANIC(buddy_wrong_order)
{
    buddy_free(some_block(3), 2);
}

KPANIC(buddy_inside_of_a_block)
{
    pa_t pa = some_block(3);
    buddy_free(NK_PA(pa.v + NK_PAGE_SIZE), 0);
}

KPANIC(buddy_foreign_address)
{
    buddy_free(NK_PA(NK_MIB(1)), 0); /* the kernel's image */
}

KPANIC(buddy_beyond_memory)
{
    buddy_free(NK_PA(bootmem_ram_end() + NK_GIB(1)), 0);
}
