/* Tests of sched/deadline.c. */
#include "sched/deadline.h"

#include <errno.h>

#include "base/platform.h"
#include "base/x86.h"
#include "kernel/kernel.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS UINT64_C(1000000) /* ns */

static void run_on(int cpu, nk_thread_fn fn, void *arg)
{
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "deadline", .cpu = cpu};
    ASSERT_EQ(nk_thread_start(&t, &attr, fn, arg), 0);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

static void spin_for(uint64_t ns)
{
    uint64_t end = x86_rdtsc() + nk_ns_to_tsc(ns);
    while (x86_rdtsc() < end) {
        x86_pause();
    }
}

static void try_admission(void *arg)
{
    (void)arg;
    const unsigned cpu = this_cpu->id;
    static const struct nk_deadline bad_table[] = {
        {.period_ns = 0, .slice_ns = MS},                         /* neither kind */
        {.period_ns = MS, .slice_ns = 2 * MS},                    /* more than there is */
        {.period_ns = MS, .slice_ns = 10},                        /* too short */
        {.period_ns = MS, .slice_ns = MS / 2, .deadline_ns = MS}, /* both kinds */
        {.period_ns = UINT64_C(1) << 41, .slice_ns = MS},
    };
    for (unsigned i = 0; i < NK_ARRAY_COUNT(bad_table); i++) {
        EXPECT_EQ(nk_thread_set_deadline(&bad_table[i]), -EINVAL);
    }
    const struct nk_deadline most = {.period_ns = 10 * MS, .slice_ns = 9 * MS + 1000};
    EXPECT_EQ(nk_thread_set_deadline(&most), -ENOSPC);
    EXPECT_EQ(nk_deadline_load(cpu), 0);
    const struct nk_deadline half = {.period_ns = 10 * MS, .slice_ns = 5 * MS};
    ASSERT_EQ(nk_thread_set_deadline(&half), 0);
    EXPECT_EQ(nk_deadline_load(cpu), 500000);
    EXPECT_EQ(nk_thread_set_deadline(&half), -EBUSY);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), -EBUSY);
    nk_thread_end_deadline();
    EXPECT_EQ(nk_deadline_load(cpu), 0);
    ASSERT_EQ(nk_thread_set_deadline(&half), 0);
    /* It ends with deadlines. */
}

KTEST(deadline_admission)
{
    run_on(0, try_admission, NULL);
    EXPECT_EQ(nk_deadline_load(0), 0);
}

static void keep_periods(void *arg)
{
    (void)arg;
    const uint64_t start = x86_rdtsc() + nk_ns_to_tsc(3 * MS);
    const struct nk_deadline d = {.period_ns = 5 * MS, .slice_ns = 2 * MS, .start_tsc = start};
    ASSERT_EQ(nk_thread_set_deadline(&d), 0);
    EXPECT_GE(x86_rdtsc(), start);
    for (unsigned i = 1; i <= 20; i++) {
        spin_for(MS / 10);
        nk_thread_wait_period();
        EXPECT_GE(x86_rdtsc() - start, i * nk_ns_to_tsc(5 * MS) - i);
    }
    struct nk_deadline_info info;
    nk_thread_deadline_info(&info);
    EXPECT_GE(info.jobs, 21);
}

KTEST(deadline_periods)
{
    run_on(0, keep_periods, NULL);
}

/* A thread that never ends its job gets its slice of every period and no more; what has no deadline
 * gets the rest. */
static volatile bool stop;
static volatile uint64_t others;

static void greedy(void *arg)
{
    struct nk_deadline_info *info = arg;
    const struct nk_deadline d = {.period_ns = 10 * MS, .slice_ns = 3 * MS};
    ASSERT_EQ(nk_thread_set_deadline(&d), 0);
    while (!stop) {
        x86_pause();
    }
    nk_thread_deadline_info(info);
}

static void count_others(void *arg)
{
    (void)arg;
    while (!stop) {
        others++;
        x86_pause();
    }
}

static uint64_t ticks_of(const char *name)
{
    struct nk_thread_info info = {.id = 0};
    while (nk_thread_next_info(info.id, &info)) {
        if (__builtin_strcmp(info.name, name) == 0) {
            return info.cpu_ticks;
        }
    }
    return 0;
}

KTEST(deadline_budget)
{
    struct nk_thread *t[2];
    struct nk_deadline_info info = {.jobs = 0};
    struct nk_thread_attr attr = {.name = "greedy", .cpu = 0};
    stop = false;
    others = 0;
    ASSERT_EQ(nk_thread_start(&t[0], &attr, greedy, &info), 0);
    attr.name = "other";
    attr.priority = 2;
    ASSERT_EQ(nk_thread_start(&t[1], &attr, count_others, NULL), 0);
    nk_thread_sleep_ns(20 * MS);
    uint64_t start = x86_rdtsc(), used = ticks_of("greedy");
    nk_thread_sleep_ns(200 * MS);
    used = ticks_of("greedy") - used;
    uint64_t elapsed = x86_rdtsc() - start;
    stop = true;
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    ktest_note("%lu of 1000 parts used", (unsigned long)(used * 1000 / elapsed));
    EXPECT_LT(used, elapsed); /* 30%, on a machine whose host leaves it alone */
    EXPECT_GT(used, 0);
    EXPECT_GT(others, 0);
    EXPECT_GT(info.exhausted, 5);
}

/* --- order ------------------------------------------------------------------------------------ */

static char order[8];
static unsigned order_count;

struct job {
    const char *name;
    uint64_t deadline_ns;
};

static void do_job(void *arg)
{
    const struct job *job = arg;
    const struct nk_deadline d = {.deadline_ns = job->deadline_ns, .slice_ns = 150 * MS};
    EXPECT_EQ(nk_thread_set_deadline(&d), 0);
    nk_thread_park();
    order[order_count++] = job->name[0];
}

/* Woken together, the one with the earliest deadline runs first, whatever the order of waking. */
KTEST(deadline_earliest_first)
{
    static const struct job job_table[] = {
        {"c", 1900 * MS}, {"a", 1500 * MS}, {"d", 2100 * MS}, {"b", 1700 * MS}};
    struct nk_thread *t[NK_ARRAY_COUNT(job_table)];
    order_count = 0;
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), 0), 0);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        struct nk_thread_attr attr = {.name = "job", .cpu = 0};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, do_job, (void *)&job_table[i]), 0);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        while (nk_thread_get_state(t[i]) != NK_THREAD_BLOCKED) {
            nk_thread_sleep_ns(MS);
        }
    }
    nk_preempt_disable();
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        nk_thread_wake(t[i]);
    }
    nk_preempt_enable();
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    EXPECT_STREQ(order, "abcd");
    EXPECT_EQ(nk_deadline_load(0), 0);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}

static void miss_deadline(void *arg)
{
    struct nk_deadline_info *info = arg;
    const struct nk_deadline d = {.deadline_ns = 5 * MS, .slice_ns = 4 * MS};
    ASSERT_EQ(nk_thread_set_deadline(&d), 0);
    nk_thread_sleep_ns(10 * MS); /* its job is not done, nor its slice used up */
    nk_thread_deadline_info(info);
    EXPECT_EQ(nk_deadline_load(this_cpu->id), 0); /* its time is over */
    EXPECT_EQ(nk_thread_set_deadline(&d), 0);     /* and it may come again */
    nk_thread_end_deadline();
}

KTEST(deadline_missed)
{
    struct nk_deadline_info info = {.jobs = 0};
    run_on(0, miss_deadline, &info);
    EXPECT_EQ(info.jobs, 1);
    EXPECT_EQ(info.missed, 1);
}

/* --- gangs ------------------------------------------------------------------------------------ */

#define GANG 3

static struct nk_gang gang;
static uint64_t started[GANG];
static int errors[GANG];
static uint64_t slice_of[GANG];

static void join_gang(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    const struct nk_deadline d = {.period_ns = 20 * MS, .slice_ns = slice_of[me]};
    errors[me] = nk_gang_set_deadline(&gang, &d);
    started[me] = gang.start_tsc;
    EXPECT(errors[me] != 0 || x86_rdtsc() >= gang.start_tsc);
}

static void run_gang(void)
{
    struct nk_thread *t[GANG];
    nk_gang_init(&gang, GANG);
    for (unsigned i = 0; i < GANG; i++) {
        struct nk_thread_attr attr = {.name = "gang", .cpu = (int)(i % nk_cpu_count)};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, join_gang, (void *)(uint64_t)i), 0);
    }
    for (unsigned i = 0; i < GANG; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        EXPECT_EQ(nk_deadline_load(cpu), 0);
    }
}

KTEST(deadline_gang)
{
    slice_of[0] = slice_of[1] = slice_of[2] = 2 * MS;
    run_gang();
    for (unsigned i = 0; i < GANG; i++) {
        EXPECT_EQ(errors[i], 0);
        EXPECT_EQ(started[i], started[0]);
    }
    slice_of[1] = 19 * MS; /* more than its CPU gives: none starts */
    run_gang();
    for (unsigned i = 0; i < GANG; i++) {
        EXPECT_EQ(errors[i], -ENOSPC);
    }
}

#define EQUAL_JOBS 10

static struct nk_deadline_info equal_info[GANG];

static void run_equal(void *arg)
{
    const unsigned me = (unsigned)(uint64_t)arg;
    const struct nk_deadline d = {.period_ns = 20 * MS, .slice_ns = 5 * MS};
    ASSERT_EQ(nk_gang_set_deadline(&gang, &d), 0);
    for (unsigned job = 0; job < EQUAL_JOBS; job++) {
        spin_for(2 * MS);
        (void)nk_thread_wait_period();
    }
    nk_thread_deadline_info(&equal_info[me]);
}

/* Threads of one CPU whose deadlines are the same, always: each has its turn in every period. */
KTEST(deadline_equal)
{
    char text[4];
    struct nk_thread *t[GANG];
    const bool exact = nk_option("exact", text, sizeof(text));
    nk_gang_init(&gang, GANG);
    for (unsigned i = 0; i < GANG; i++) {
        struct nk_thread_attr attr = {.name = "equal", .cpu = (int)nk_cpu_count - 1};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, run_equal, (void *)(uint64_t)i), 0);
    }
    for (unsigned i = 0; i < GANG; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
        EXPECT_GE(equal_info[i].jobs, EQUAL_JOBS);
        if (exact) {
            EXPECT_EQ(equal_info[i].missed, 0);
        }
    }
}

/* --- a schedule for the oracle ---------------------------------------------------------------- */

#define TRACE_JOBS 12

static const struct {
    uint64_t period_ns, slice_ns, work_ns;
} trace_table[GANG] = {
    {4100000, 1300000, 1100000}, {6300000, 2000000, 1800000}, {10700000, 2200000, 2000000}};
static uint64_t trace_end[GANG][TRACE_JOBS]; /* ticks from the common start */
static uint64_t loops_per_ms;

static NK_NOINLINE void loop(uint64_t count)
{
    while (count-- > 0) {
        __asm__ volatile("");
    }
}

static void run_jobs(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    const struct nk_deadline d = {.period_ns = trace_table[me].period_ns,
                                  .slice_ns = trace_table[me].slice_ns};
    ASSERT_EQ(nk_gang_set_deadline(&gang, &d), 0);
    for (unsigned job = 0; job < TRACE_JOBS; job++) {
        loop(loops_per_ms * trace_table[me].work_ns / MS);
        trace_end[me][job] = x86_rdtsc() - gang.start_tsc;
        EXPECT(nk_thread_wait_period());
    }
}

/* Prints when each job of three threads ended; tests/lib/edf.py computes when it should have. */
KTEST(deadline_trace)
{
    char text[4];
    struct nk_thread *t[GANG];
    KTEST_SKIP_UNLESS(nk_option("exact", text, sizeof(text)), "time is not exact");
    uint64_t ticks = x86_rdtsc();
    loop(100000);
    ticks = x86_rdtsc() - ticks;
    loops_per_ms = 100000 * nk_ns_to_tsc(MS) / ticks;
    nk_gang_init(&gang, GANG);
    for (unsigned i = 0; i < GANG; i++) {
        struct nk_thread_attr attr = {.name = "traced", .cpu = 0};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, run_jobs, (void *)(uint64_t)i), 0);
    }
    for (unsigned i = 0; i < GANG; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    for (unsigned i = 0; i < GANG; i++) {
        for (unsigned job = 0; job < TRACE_JOBS; job++) {
            ktest_note("edf: period %lu work %lu job %u ended %lu", trace_table[i].period_ns,
                       trace_table[i].work_ns, job, nk_tsc_to_ns(trace_end[i][job]));
        }
    }
}
