/* Benches of sched/. Figures are medians in TSC ticks: instructions, under -icount shift=0. */
#include "base/x86.h"
#include "kernel/irq.h"
#include "kernel/kernel.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#include <stdlib.h>

static uint64_t samples[KTEST_BENCH_SAMPLES];

static void nothing(void *arg)
{
    (void)arg;
}

static void pin_here(int cpu)
{
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), cpu), 0);
}

static void start(struct nk_thread **t, int cpu, unsigned priority, nk_thread_fn fn)
{
    struct nk_thread_attr attr = {.name = "bench", .cpu = cpu, .priority = priority};
    EXPECT_EQ(nk_thread_start(t, &attr, fn, NULL), 0);
}

static void finish(struct nk_thread *t)
{
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

KBENCH(threads)
{
    static uint64_t create[KTEST_BENCH_SAMPLES], run[KTEST_BENCH_SAMPLES],
        join[KTEST_BENCH_SAMPLES], destroy[KTEST_BENCH_SAMPLES];
    struct nk_thread_attr attr = {.name = "bench", .cpu = 0};
    int errors = 0;
    pin_here(0);
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        struct nk_thread *t;
        uint64_t at[5];
        at[0] = x86_rdtsc();
        errors += nk_thread_create(&t, &attr, nothing, NULL);
        at[1] = x86_rdtsc();
        errors += nk_thread_run(t);
        at[2] = x86_rdtsc();
        run[i] = at[2] - at[1];
        nk_thread_yield(); /* it runs, and is finished */
        at[2] = x86_rdtsc();
        errors += nk_thread_join(t);
        at[3] = x86_rdtsc();
        errors += nk_thread_destroy(t);
        at[4] = x86_rdtsc();
        create[i] = at[1] - at[0];
        join[i] = at[3] - at[2];
        destroy[i] = at[4] - at[3];
    }
    ktest_bench_samples("thread_create", create, KTEST_BENCH_SAMPLES);
    ktest_bench_samples("thread_run", run, KTEST_BENCH_SAMPLES);
    ktest_bench_samples("thread_join", join, KTEST_BENCH_SAMPLES);
    ktest_bench_samples("thread_destroy", destroy, KTEST_BENCH_SAMPLES);
    struct nk_thread *t;
    KBENCH_MEASURE("thread_create_run_join", {
        errors += nk_thread_start(&t, &attr, nothing, NULL);
        errors += nk_thread_join(t);
        errors += nk_thread_destroy(t);
    });
    errors += nk_thread_create(&t, &attr, nothing, NULL);
    KBENCH_MEASURE("thread_run_again_join", {
        errors += nk_thread_run(t);
        errors += nk_thread_join(t);
    });
    EXPECT_EQ(nk_thread_destroy(t), 0);
    EXPECT_EQ(errors, 0);
    pin_here(NK_CPU_ANY);
}

static volatile bool stop;

static void yield_always(void *arg)
{
    (void)arg;
    while (!stop) {
        nk_thread_yield();
    }
}

KBENCH(yield)
{
    struct nk_thread *t;
    pin_here(0);
    KBENCH_MEASURE("yield_alone", nk_thread_yield());
    stop = false;
    start(&t, 0, 0, yield_always);
    nk_thread_yield();
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        uint64_t begin = x86_rdtsc();
        nk_thread_yield(); /* there and back: two switches */
        samples[i] = (x86_rdtsc() - begin) / 2;
    }
    stop = true;
    finish(t);
    ktest_bench_samples("yield_switch", samples, KTEST_BENCH_SAMPLES);
    pin_here(NK_CPU_ANY);
}

static struct nk_semaphore there, back;

static void answer(void *arg)
{
    (void)arg;
    for (;;) {
        nk_semaphore_down(&there);
        nk_semaphore_up(&back);
        if (stop) {
            return;
        }
    }
}

static void ping_pong(const char *label, int cpu)
{
    struct nk_thread *t;
    nk_semaphore_init(&there, 0);
    nk_semaphore_init(&back, 0);
    stop = false;
    start(&t, cpu, 0, answer);
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        stop = i == KTEST_BENCH_SAMPLES - 1;
        uint64_t begin = x86_rdtsc();
        nk_semaphore_up(&there);
        nk_semaphore_down(&back);
        samples[i] = x86_rdtsc() - begin;
    }
    finish(t);
    ktest_bench_samples(label, samples, KTEST_BENCH_SAMPLES);
}

KBENCH(semaphores)
{
    nk_semaphore_init(&there, 1);
    KBENCH_MEASURE("semaphore_free", {
        nk_semaphore_down(&there);
        nk_semaphore_up(&there);
    });
    static struct nk_mutex mutex;
    nk_mutex_init(&mutex);
    KBENCH_MEASURE("mutex_free", {
        nk_mutex_lock(&mutex);
        nk_mutex_unlock(&mutex);
    });
    pin_here(0);
    ping_pong("semaphore_ping_pong", 0);
    if (nk_cpu_count > 1) {
        ping_pong("semaphore_ping_pong_two_cpus", 1);
        struct nk_thread *t;
        KBENCH_MEASURE("thread_create_run_join_other_cpu", {
            start(&t, 1, 0, nothing);
            finish(t);
        });
    }
    pin_here(NK_CPU_ANY);
}

KBENCH(sleep)
{
    uint64_t ms = nk_ns_to_tsc(1000000);
    pin_here(0);
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        uint64_t until = x86_rdtsc() + ms;
        nk_thread_sleep_until(until);
        samples[i] = x86_rdtsc() - until;
    }
    ktest_bench_samples("oversleep_1ms", samples, KTEST_BENCH_SAMPLES);
    pin_here(NK_CPU_ANY);
}

/* Timer interrupts while one thread has its CPU to itself; bench.ms= says how long that is. */
KBENCH(busy_cpu)
{
    char text[16];
    uint64_t ms = nk_option("bench.ms", text, sizeof(text)) ? strtoul(text, NULL, 10) : 100;
    uint64_t until;
    uint64_t before;
    pin_here(0);
    nk_thread_sleep_ns(500000000); /* what boot has left to do is done */
    before = this_cpu->irq_count[NK_IRQ_TIMER];
    until = x86_rdtsc() + nk_ns_to_tsc(ms * 1000000);
    while (x86_rdtsc() < until) {
        for (unsigned i = 0; i < 100000; i++) { /* an emulator takes long over RDTSC */
            __asm__ volatile("" ::: "memory");
        }
    }
    ktest_bench_value("busy_timer_interrupts", this_cpu->irq_count[NK_IRQ_TIMER] - before);
    pin_here(NK_CPU_ANY);
}

static void never(struct nk_timer *timer)
{
    (void)timer;
}

KBENCH(timers)
{
    static struct nk_timer timer, other[64];
    uint64_t far = x86_rdtsc() + nk_ns_to_tsc(UINT64_C(3600000000000));
    pin_here(0);
    nk_timer_init(&timer, never);
    KBENCH_MEASURE("timer_arm_cancel_earliest", {
        nk_timer_arm(&timer, far);
        nk_timer_cancel(&timer);
    });
    for (unsigned i = 0; i < NK_ARRAY_COUNT(other); i++) {
        nk_timer_init(&other[i], never);
        nk_timer_arm(&other[i], far + i * 1000);
    }
    KBENCH_MEASURE("timer_arm_cancel_among_64", {
        nk_timer_arm(&timer, far + 32000);
        nk_timer_cancel(&timer);
    });
    for (unsigned i = 0; i < NK_ARRAY_COUNT(other); i++) {
        nk_timer_cancel(&other[i]);
    }
    pin_here(NK_CPU_ANY);
}
