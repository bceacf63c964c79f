/* Squeezed pages, and the store made of them. */
#include "kernel/squeeze.h"

#include <string.h>

#include "base/layout.h"
#include "kernel/vmm_host.h"
#include "mm/buddy.h"
#include "tests/kernel/ktest.h"

static uint32_t page[NK_PAGE_SIZE / 4], back[NK_PAGE_SIZE / 4];
static uint8_t squeezed[NK_PAGE_SIZE + 512];
static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 4;
}

static size_t there_and_back(void)
{
    size_t size = squeeze_page(page, squeezed, sizeof(squeezed));
    EXPECT(size != 0);
    memset(back, 0xaa, sizeof(back));
    EXPECT(expand_page(squeezed, size, back));
    EXPECT_EQ(memcmp(page, back, sizeof(page)), 0);
    return size;
}

KTEST(squeeze_pages)
{
    memset(page, 0, sizeof(page));
    EXPECT_LE(there_and_back(), 260);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(page); i++) {
        page[i] = i % 2 == 0 ? 0x8010000 + i * 8 : 0xffffffff; /* pointers */
    }
    EXPECT_LE(there_and_back(), 2048);
    for (unsigned round = 0; round < 200; round++) {
        unsigned kinds = 1 + next_random() % 4;
        for (unsigned i = 0; i < NK_ARRAY_COUNT(page); i++) {
            unsigned kind = next_random() % kinds;
            page[i] = kind == 0   ? 0
                      : kind == 1 ? next_random() % 100
                      : kind == 2 ? 0xffff8000 + next_random() % 1024
                                  : next_random() * 16;
        }
        there_and_back();
    }
}

KTEST(squeeze_refuses)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(page); i++) {
        page[i] = next_random() * 16 + next_random() % 16;
    }
    EXPECT_EQ(squeeze_page(page, squeezed, 3072), 0);
    size_t size = there_and_back();
    EXPECT(!expand_page(squeezed, size / 2, back)); /* cut short */
    EXPECT(!expand_page(squeezed, 0, back));
    for (unsigned round = 0; round < 200; round++) { /* whatever it is given */
        for (unsigned i = 0; i < sizeof(squeezed); i++) {
            squeezed[i] = (uint8_t)next_random();
        }
        (void)!expand_page(squeezed, next_random() % sizeof(squeezed), back);
    }
}

static void no_event(void *host, void *vm_cookie, int state, int reason)
{
    (void)host, (void)vm_cookie, (void)state, (void)reason;
}

KTEST(vmm_host_store)
{
    const struct vmm_host_ops *ops = vmm_host_ops(no_event);
    uint64_t slot[8];
    for (unsigned i = 0; i < NK_ARRAY_COUNT(slot); i++) {
        memset(page, 0, sizeof(page));
        page[i * 10] = i + 1;
        ASSERT_EQ(ops->store->put(NULL, page, &slot[i]), 0);
        EXPECT_LT(slot[i], UINT64_C(1) << 40);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(slot); i++) {
        ASSERT_EQ(ops->store->get(NULL, slot[i], back), 0);
        EXPECT_EQ(back[i * 10], i + 1);
        EXPECT_EQ(back[i * 10 + 1], 0);
        ops->store->drop(NULL, slot[i]);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(page); i++) {
        page[i] = next_random() * 16 + next_random() % 16;
    }
    EXPECT_EQ(ops->store->put(NULL, page, &slot[0]), -VMM_E2BIG);
}

KTEST(vmm_host_pages_split)
{
    const struct vmm_host_ops *ops = vmm_host_ops(no_event);
    uint64_t before = ops->pages_available(NULL);
    hpa_t base;
    ASSERT_EQ(ops->pages_alloc(NULL, 512, VMM_MIB(2), -1, &base), 0);
    ops->pages_split(NULL, base, 512, 512);
    ops->pages_free(NULL, VMM_HPA(base.v + 5 * VMM_PAGE_SIZE), 1);
    EXPECT_EQ(ops->pages_available(NULL), before - 511 * VMM_PAGE_SIZE);
    for (unsigned i = 0; i < 512; i++) {
        if (i != 5) {
            ops->pages_free(NULL, VMM_HPA(base.v + i * VMM_PAGE_SIZE), 1);
        }
    }
    EXPECT_EQ(ops->pages_available(NULL), before);
    ASSERT_EQ(ops->pages_alloc(NULL, 512, VMM_MIB(2), -1, &base), 0);
    ops->pages_split(NULL, base, 512, 512);
    ops->pages_join(NULL, base, 512, 512);
    ops->pages_free(NULL, base, 512);
    EXPECT_EQ(ops->pages_available(NULL), before);
    buddy_check();
}
