/* Benches of mm/. Figures are medians in TSC ticks: instructions, under -icount shift=0. */
#include <stdlib.h>

#include "base/spinlock.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "tests/kernel/ktest.h"

KBENCH(spin_locks)
{
    static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_LOG);
    KBENCH_MEASURE("spin_lock_unlock", {
        nk_spin_lock(&lock);
        nk_spin_unlock(&lock);
    });
    KBENCH_MEASURE("spin_lock_irqsave", {
        uint64_t flags = nk_spin_lock_irqsave(&lock);
        nk_spin_unlock_irqrestore(&lock, flags);
    });
}

static void bench_malloc(size_t size, const char *alloc_label, const char *free_label)
{
    static void *p[KTEST_BENCH_SAMPLES];
    static uint64_t allocs[KTEST_BENCH_SAMPLES], frees[KTEST_BENCH_SAMPLES];
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        uint64_t start = x86_rdtsc();
        p[i] = kmalloc(size);
        uint64_t middle = x86_rdtsc();
        kfree(p[i]);
        frees[i] = x86_rdtsc() - middle;
        allocs[i] = middle - start;
    }
    ktest_bench_samples(alloc_label, allocs, KTEST_BENCH_SAMPLES);
    ktest_bench_samples(free_label, frees, KTEST_BENCH_SAMPLES);
}

/* All objects live at once, so that the per-CPU caches run empty and full: mean, not median. */
static void bench_many(size_t size, const char *alloc_label, const char *free_label)
{
    enum { COUNT = 1000 };
    static void *p[COUNT];
    uint64_t start = x86_rdtsc();
    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = kmalloc(size);
    }
    uint64_t middle = x86_rdtsc();
    for (unsigned i = 0; i < COUNT; i++) {
        kfree(p[i]);
    }
    ktest_bench_value(free_label, (x86_rdtsc() - middle) / COUNT);
    ktest_bench_value(alloc_label, (middle - start) / COUNT);
}

KBENCH(malloc)
{
    bench_malloc(64, "malloc_64", "free_64");
    bench_malloc(NK_KIB(64), "malloc_64k", "free_64k");
    bench_malloc(NK_KIB(256), "malloc_256k", "free_256k");
    bench_many(64, "malloc_64_mean_of_1000", "free_64_mean_of_1000");
    bench_many(NK_KIB(64), "malloc_64k_mean_of_1000", "free_64k_mean_of_1000");
    static void *p;
    KBENCH_MEASURE("newlib_malloc_free_64", {
        p = malloc(64);
        free(p);
    });
}

KBENCH(pages)
{
    static uint64_t allocs[KTEST_BENCH_SAMPLES], frees[KTEST_BENCH_SAMPLES];
    for (unsigned order = 0; order <= 9; order += 9) {
        for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
            pa_t pa;
            uint64_t start = x86_rdtsc();
            if (buddy_alloc(order, BUDDY_NODE_ANY, &pa) != 0) {
                return;
            }
            uint64_t middle = x86_rdtsc();
            buddy_free(pa, order);
            frees[i] = x86_rdtsc() - middle;
            allocs[i] = middle - start;
        }
        ktest_bench_samples(order == 0 ? "page_alloc" : "block_alloc_2m", allocs,
                            KTEST_BENCH_SAMPLES);
        ktest_bench_samples(order == 0 ? "page_free" : "block_free_2m", frees, KTEST_BENCH_SAMPLES);
    }
}
