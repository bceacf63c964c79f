/* Tests of sched/fp.c: extended state belongs to its thread. */
#include "base/x86.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define THREADS 4
#define AVX     (UINT64_C(1) << 2) /* in XCR0 */

#define MSR_FS_BASE  0xc0000100
#define NOBODYS_BASE UINT64_C(0x3000)

struct vector {
    uint64_t word[4];
} NK_ALIGNED(32);

/* A part of the registers stands for all: the CPU saves them with one instruction. */
static void load_registers(const struct vector *v, uint32_t mxcsr, bool avx)
{
    __asm__ volatile("ldmxcsr %0; movups %1, %%xmm0; movups %1, %%xmm15; fninit; fildll %1"
                     :
                     : "m"(mxcsr), "m"(*v));
    if (avx) {
        __asm__ volatile("vmovups %0, %%ymm7" : : "m"(*v));
    }
}

static void store_registers(struct vector out[3], uint32_t *mxcsr, int64_t *x87, bool avx)
{
    __asm__ volatile("stmxcsr %0; movups %%xmm0, %1; movups %%xmm15, %2; fistpll %3; fildll %3"
                     : "=m"(*mxcsr), "=m"(out[0]), "=m"(out[1]), "=m"(*x87));
    if (avx) {
        __asm__ volatile("vmovups %%ymm7, %0" : "=m"(out[2]));
    }
}

static void keep_registers(void *arg)
{
    uint64_t me = (uint64_t)arg;
    bool avx = (nk_fp_xcr0_supported() & AVX) != 0;
    const struct vector in = {{me + 1, me * 3 + 7, me + 100, me + 1000}};
    const uint32_t mxcsr = 0x1f80 | (uint32_t)(me % 4) << 13; /* rounding */
    uint64_t seed = me + 1;
    load_registers(&in, mxcsr, avx);
    for (unsigned i = 0; i < 300; i++) {
        switch (ktest_random(&seed) % 4) {
        case 0:
            nk_thread_sleep_ns(10000);
            break;
        case 1:
            EXPECT_EQ(nk_thread_pin(nk_thread_current(), (int)(seed % nk_cpu_count)), 0);
            break;
        default:
            nk_thread_yield();
        }
        struct vector out[3];
        uint32_t mxcsr_now;
        int64_t x87;
        store_registers(out, &mxcsr_now, &x87, avx);
        ASSERT_EQ(out[0].word[0], in.word[0]);
        ASSERT_EQ(out[1].word[1], in.word[1]);
        ASSERT_EQ(x87, in.word[0]);
        ASSERT_EQ(mxcsr_now, mxcsr);
        if (avx) {
            ASSERT_EQ(out[2].word[0], in.word[0]);
            ASSERT_EQ(out[2].word[3], in.word[3]);
        }
    }
}

KTEST(fp_state_is_kept)
{
    struct nk_thread *t[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        struct nk_thread_attr attr = {.name = "fp", .cpu = NK_CPU_ANY, .fp = true};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, keep_registers, (void *)(uint64_t)i), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

static void expect_fresh(void *arg)
{
    struct vector out[3];
    uint32_t mxcsr;
    int64_t x87;
    __asm__ volatile("fldz"); /* something for the store to pop */
    store_registers(out, &mxcsr, &x87, false);
    EXPECT_EQ(out[0].word[0] | out[0].word[1] | out[1].word[0] | out[1].word[1], 0);
    EXPECT_EQ(mxcsr, 0x1f80);
    keep_registers(arg);
}

/* A thread begins with the initial state, also when it runs again. */
KTEST(fp_state_is_fresh)
{
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "fp", .cpu = NK_CPU_ANY, .fp = true};
    ASSERT_EQ(nk_thread_create(&t, &attr, expect_fresh, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_EQ(nk_thread_run(t), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
    }
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void with_xcr0(void *arg)
{
    uint64_t xcr0 = (uint64_t)arg;
    nk_thread_fp_enable();
    nk_thread_fp_set_xcr0(xcr0);
    for (unsigned i = 0; i < 100; i++) {
        EXPECT_EQ(read_xcr0(), xcr0);
        nk_thread_yield();
    }
}

KTEST(fp_xcr0_is_per_thread)
{
    uint64_t all = nk_fp_xcr0_supported();
    KTEST_SKIP_UNLESS(all != 0, "no XSAVE");
    struct nk_thread *t[2];
    for (unsigned i = 0; i < 2; i++) {
        struct nk_thread_attr attr = {.name = "xcr0", .cpu = 0};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, with_xcr0, (void *)(i == 0 ? 3 : all)), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

static uint64_t fs_bases[2];

/* FS has another base when the thread begins, and after others have run. */
static void with_fs_base(void *arg)
{
    const uint64_t *base = arg;
    x86_wrmsr(MSR_FS_BASE, NOBODYS_BASE);
    if (*base != 0) {
        nk_thread_set_fs_base(*base);
    }
    nk_thread_sleep_ns(1000000);
    for (unsigned i = 0; i < 100; i++) {
        EXPECT_EQ(x86_rdmsr(MSR_FS_BASE), *base != 0 ? *base : NOBODYS_BASE);
        nk_thread_yield();
    }
}

KTEST(fp_fs_base_is_per_thread)
{
    struct nk_thread *t[2];
    fs_bases[0] = 0x1000;
    fs_bases[1] = 0x2000;
    for (unsigned i = 0; i < 2; i++) {
        struct nk_thread_attr attr = {.name = "fs", .cpu = 0, .fp = true};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, with_fs_base, &fs_bases[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
    }
    fs_bases[0] = 0; /* in its second run it asks for none */
    EXPECT_EQ(nk_thread_run(t[0]), 0);
    EXPECT_EQ(nk_thread_join(t[0]), 0);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

static void use_fp(void *arg)
{
    (void)arg;
    __asm__ volatile("movups %%xmm0, %%xmm1" : :);
}

KPANIC(fp_without_owning_it)
{
    struct nk_thread *t;
    EXPECT_EQ(nk_thread_start(&t, NULL, use_fp, NULL), 0);
    EXPECT_EQ(nk_thread_join(t), 0);
}
