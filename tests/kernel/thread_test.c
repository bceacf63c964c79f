/* Tests of sched/: threads and scheduling. */
#include "sched/thread.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/x86.h"
#include "kernel/irq.h"
#include "mm/slab.h"
#include "sched/sched.h"
#include "sched/sync.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS UINT64_C(1000000) /* ns */

static volatile unsigned runs;
static volatile bool stop;
static volatile uint64_t progress[4];

static void count_run(void *arg)
{
    (void)arg;
    __atomic_add_fetch(&runs, 1, __ATOMIC_RELAXED);
}

static void spin(void *arg)
{
    volatile uint64_t *counter = arg;
    while (!stop) {
        (*counter)++;
        x86_pause();
    }
}

static void park_once(void *arg)
{
    nk_thread_park();
    count_run(arg);
}

static bool wait_for_state(struct nk_thread *t, enum nk_thread_state state)
{
    uint64_t end = nk_now_ns() + 2000 * MS;
    while (nk_thread_get_state(t) != state && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS / 10);
    }
    return nk_thread_get_state(t) == state;
}

/* The machine's CPUs may stand still for a while when its host is busy. */
static bool makes_progress(volatile uint64_t *counter)
{
    uint64_t start = *counter, end = nk_now_ns() + 2000 * MS;
    while (*counter == start && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS / 10);
    }
    return *counter != start;
}

static void finish(struct nk_thread *t)
{
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

static struct nk_thread *start_on(int cpu, unsigned priority, nk_thread_fn fn, void *arg)
{
    struct nk_thread *t = NULL;
    struct nk_thread_attr attr = {.name = "test", .cpu = cpu, .priority = priority};
    EXPECT_EQ(nk_thread_start(&t, &attr, fn, arg), 0);
    return t;
}

static void pin_here(bool pin)
{
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), pin ? 0 : NK_CPU_ANY), 0);
}

KTEST(thread_deferred_start)
{
    struct nk_thread *t;
    runs = 0;
    ASSERT_EQ(nk_thread_create(&t, NULL, count_run, NULL), 0);
    EXPECT_EQ(nk_thread_get_state(t), NK_THREAD_NEW);
    EXPECT_EQ(nk_thread_join(t), -EINVAL);
    EXPECT_EQ(nk_thread_pause(t), -EINVAL);
    nk_thread_sleep_ns(MS);
    EXPECT_EQ(runs, 0);
    for (unsigned i = 1; i <= 3; i++) { /* a finished thread may run again */
        ASSERT_EQ(nk_thread_run(t), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_get_state(t), NK_THREAD_DONE);
        EXPECT_EQ(runs, i);
    }
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

KTEST(thread_errors)
{
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "bad", .cpu = (int)nk_cpu_count};
    EXPECT_EQ(nk_thread_create(&t, &attr, count_run, NULL), -EINVAL);
    attr.cpu = -2;
    EXPECT_EQ(nk_thread_create(&t, &attr, count_run, NULL), -EINVAL);
    attr.cpu = NK_CPU_ANY;
    attr.priority = NK_PRIORITY_COUNT;
    EXPECT_EQ(nk_thread_create(&t, &attr, count_run, NULL), -EINVAL);
    attr.priority = 0;
    EXPECT_EQ(nk_thread_create(&t, &attr, NULL, NULL), -EINVAL);
    EXPECT_EQ(nk_thread_join(nk_thread_current()), -EDEADLK);
    ASSERT_EQ(nk_thread_start(&t, &attr, park_once, NULL), 0);
    EXPECT_EQ(nk_thread_run(t), -EBUSY);
    EXPECT_EQ(nk_thread_destroy(t), -EBUSY);
    EXPECT_EQ(nk_thread_pin(t, (int)nk_cpu_count), -EINVAL);
    EXPECT_EQ(nk_thread_pin(t, -2), -EINVAL);
    EXPECT_EQ(nk_thread_resume(t), -EINVAL);
    ASSERT(wait_for_state(t, NK_THREAD_BLOCKED));
    EXPECT_EQ(nk_thread_run(t), -EBUSY);
    nk_thread_wake(t);
    finish(t);
}

KTEST(thread_info)
{
    struct nk_thread_info info;
    bool me = false, other = false, idle = false;
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "a name that is far too long", .cpu = 0, .priority = 7};
    ASSERT_EQ(nk_thread_create(&t, &attr, count_run, NULL), 0);
    EXPECT_STREQ(nk_thread_name(t), "a name that is far too ");
    uint64_t last = 0;
    while (nk_thread_next_info(last, &info)) {
        EXPECT_GT(info.id, last);
        last = info.id;
        idle |= strcmp(info.name, "idle") == 0 && info.priority == 0;
        if (strcmp(info.name, nk_thread_name(t)) == 0) {
            other = true;
            EXPECT_EQ(info.state, NK_THREAD_NEW);
            EXPECT_EQ(info.priority, 7);
            EXPECT(info.pinned);
            EXPECT_EQ(info.cpu_ticks, 0);
        } else if (info.state == NK_THREAD_RUNNING && info.cpu == this_cpu->id) {
            me = true;
            EXPECT_GT(info.cpu_ticks, 0);
        }
    }
    EXPECT(me && other && idle);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    EXPECT_STREQ(nk_thread_state_name(NK_THREAD_BLOCKED), "blocked");
}

static uint64_t threads_in_use(void)
{
    struct slab_stats stats;
    for (unsigned i = 0; slab_get_stats(i, &stats); i++) {
        if (strcmp(stats.name, "thread") == 0) {
            return stats.objects_used;
        }
    }
    return UINT64_MAX;
}

KTEST(thread_detach)
{
    uint64_t before = threads_in_use();
    for (unsigned i = 0; i < 50; i++) {
        struct nk_thread *t;
        ASSERT_EQ(nk_thread_start(&t, NULL, i % 2 ? count_run : park_once, NULL), 0);
        if (i % 4 < 2) {
            nk_thread_sleep_ns(MS / 2); /* it is finished, or parked, when it is detached */
        }
        nk_thread_wake(t);
        nk_thread_detach(t);
    }
    uint64_t end = nk_now_ns() + 5000 * MS;
    while (threads_in_use() > before && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS);
        struct nk_thread *t; /* creating a thread buries the dead ones */
        ASSERT_EQ(nk_thread_create(&t, NULL, count_run, NULL), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
    EXPECT_LE(threads_in_use(), before);
}

static struct nk_thread *join_target;

static void join_it(void *arg)
{
    EXPECT_EQ(nk_thread_join(join_target), 0);
    count_run(arg);
}

KTEST(thread_many_joiners)
{
    struct nk_thread *joiner[5];
    runs = 0;
    join_target = start_on(NK_CPU_ANY, 0, park_once, NULL);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(joiner); i++) {
        joiner[i] = start_on(NK_CPU_ANY, 0, join_it, NULL);
    }
    nk_thread_sleep_ns(5 * MS);
    EXPECT_EQ(runs, 0);
    nk_thread_wake(join_target);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(joiner); i++) {
        finish(joiner[i]);
    }
    EXPECT_EQ(runs, NK_ARRAY_COUNT(joiner) + 1);
    EXPECT_EQ(nk_thread_destroy(join_target), 0);
}

KTEST(thread_many)
{
    enum { COUNT = 200 };
    static struct nk_thread *t[COUNT];
    runs = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        ASSERT_EQ(nk_thread_start(&t[i], NULL, count_run, NULL), 0);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        finish(t[i]);
    }
    EXPECT_EQ(runs, COUNT);
}

static char order[16];
static unsigned order_count;

static void note_order(void *arg)
{
    order[order_count++] = *(const char *)arg;
}

KTEST(thread_priorities)
{
    struct nk_thread *t[4];
    pin_here(true);
    order_count = 0;
    memset(order, 0, sizeof(order));
    nk_preempt_disable();
    t[0] = start_on(0, 5, note_order, "5");
    t[1] = start_on(0, 9, note_order, "9");
    t[2] = start_on(0, 20, note_order, "2");
    t[3] = start_on(0, 30, note_order, "3");
    nk_preempt_enable(); /* the two above this thread's own priority run here */
    EXPECT_STREQ(order, "32");
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        finish(t[i]);
    }
    EXPECT_STREQ(order, "3295");
    pin_here(false);
}

KTEST(thread_yield_is_fair)
{
    struct nk_thread *t[3];
    pin_here(true);
    order_count = 0;
    memset(order, 0, sizeof(order));
    t[0] = start_on(0, 0, note_order, "a");
    t[1] = start_on(0, 0, note_order, "b");
    t[2] = start_on(0, 0, note_order, "c");
    nk_thread_yield();
    EXPECT_STREQ(order, "abc");
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        finish(t[i]);
    }
    pin_here(false);
}

/* Equals take turns without yielding; this thread, above them, runs on time. */
KTEST(thread_slices)
{
    struct nk_thread *t[3];
    stop = false;
    pin_here(true);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        progress[i] = 0;
        t[i] = start_on(0, 4, spin, (void *)&progress[i]);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT(makes_progress(&progress[i]));
    }
    stop = true;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        finish(t[i]);
    }
    pin_here(false);
}

KTEST(thread_one_alone_is_not_interrupted)
{
    struct sched_stats before, after;
    stop = false;
    pin_here(true);
    nk_thread_sleep_ns(2 * SCHED_SLICE_NS); /* a slice timer of before has fired */
    sched_get_stats(0, &before);
    uint64_t end = nk_now_ns() + 5 * SCHED_SLICE_NS;
    while (nk_now_ns() < end) {
        x86_pause();
    }
    sched_get_stats(0, &after);
    EXPECT_EQ(after.slice_interrupts, before.slice_interrupts);
    pin_here(false);
}

KTEST(thread_pause_and_resume)
{
    for (unsigned cpu = 0; cpu < nk_cpu_count && cpu < 2; cpu++) {
        stop = false;
        progress[0] = 0;
        struct nk_thread *t = start_on((int)cpu, 4, spin, (void *)&progress[0]);
        EXPECT(makes_progress(&progress[0]));
        for (unsigned round = 0; round < 20; round++) {
            EXPECT_EQ(nk_thread_pause(t), 0);
            ASSERT(wait_for_state(t, NK_THREAD_PAUSED));
            EXPECT_EQ(nk_thread_pause(t), 0); /* twice is once */
            EXPECT_EQ(nk_thread_run(t), -EBUSY);
            EXPECT_EQ(nk_thread_destroy(t), -EBUSY);
            uint64_t count = progress[0];
            nk_thread_sleep_ns(MS);
            EXPECT_EQ(progress[0], count);
            nk_thread_wake(t); /* a token does not make it run */
            EXPECT_EQ(nk_thread_get_state(t), NK_THREAD_PAUSED);
            EXPECT_EQ(nk_thread_resume(t), 0);
            EXPECT_EQ(nk_thread_resume(t), -EINVAL);
            EXPECT(makes_progress(&progress[0]));
        }
        stop = true;
        finish(t);
    }
}

KTEST(thread_pause_while_blocked)
{
    struct nk_thread *t = start_on(NK_CPU_ANY, 0, park_once, NULL);
    ASSERT(wait_for_state(t, NK_THREAD_BLOCKED));
    runs = 0;
    EXPECT_EQ(nk_thread_pause(t), 0);
    EXPECT_EQ(nk_thread_get_state(t), NK_THREAD_BLOCKED);
    nk_thread_wake(t);
    ASSERT(wait_for_state(t, NK_THREAD_PAUSED));
    EXPECT_EQ(runs, 0);
    EXPECT_EQ(nk_thread_resume(t), 0);
    finish(t);
    EXPECT_EQ(runs, 1);
}

static void pause_myself(void *arg)
{
    count_run(arg);
    EXPECT_EQ(nk_thread_pause(nk_thread_current()), 0);
    count_run(arg);
}

KTEST(thread_pauses_itself)
{
    runs = 0;
    struct nk_thread *t = start_on(NK_CPU_ANY, 0, pause_myself, NULL);
    ASSERT(wait_for_state(t, NK_THREAD_PAUSED));
    EXPECT_EQ(runs, 1);
    EXPECT_EQ(nk_thread_resume(t), 0);
    finish(t);
    EXPECT_EQ(runs, 2);
}

static void wander(void *arg)
{
    (void)arg;
    uint64_t seed = 5;
    for (unsigned i = 0; i < 200; i++) {
        int cpu = (int)(ktest_random(&seed) % nk_cpu_count);
        ktest_check_values(nk_thread_pin(nk_thread_current(), cpu) == 0, cpu, 0, __FILE__, __LINE__,
                           "pin");
        EXPECT_EQ(this_cpu->id, cpu);
    }
}

KTEST(thread_migrates_itself)
{
    struct nk_thread *t[3];
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        t[i] = start_on(NK_CPU_ANY, 0, wander, NULL);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        finish(t[i]);
    }
}

static volatile unsigned seen_cpu;

static void see_cpu(void *arg)
{
    (void)arg;
    while (!stop) {
        nk_preempt_disable();
        seen_cpu = this_cpu->id;
        nk_preempt_enable();
        x86_pause();
    }
}

static bool comes_to(unsigned cpu)
{
    uint64_t end = nk_now_ns() + 2000 * MS;
    while (seen_cpu != cpu && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS / 10);
    }
    return seen_cpu == cpu;
}

KTEST(thread_is_moved)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU");
    stop = false;
    struct nk_thread *t = start_on(0, 4, see_cpu, NULL);
    for (unsigned i = 0; i < 40; i++) {
        unsigned cpu = (i + 1) % nk_cpu_count;
        EXPECT_EQ(nk_thread_pin(t, (int)cpu), 0);
        ASSERT(comes_to(cpu));
    }
    /* Moved while it is paused. */
    EXPECT_EQ(nk_thread_pause(t), 0);
    ASSERT(wait_for_state(t, NK_THREAD_PAUSED));
    EXPECT_EQ(nk_thread_pin(t, 1), 0);
    EXPECT_EQ(nk_thread_resume(t), 0);
    EXPECT(comes_to(1));
    stop = true;
    finish(t);
    /* And while it is blocked. */
    t = start_on(0, 0, park_once, NULL);
    ASSERT(wait_for_state(t, NK_THREAD_BLOCKED));
    EXPECT_EQ(nk_thread_pin(t, 1), 0);
    nk_thread_wake(t);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

static unsigned cpu_of(const char *name)
{
    struct nk_thread_info info = {.id = 0};
    while (nk_thread_next_info(info.id, &info)) {
        if (strcmp(info.name, name) == 0) {
            return info.cpu;
        }
    }
    return UINT32_MAX;
}

/* Two threads that share a CPU part at the end of a slice when another CPU is idle. */
KTEST(thread_moves_to_an_idle_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU");
    static const char *const name_table[] = {"hog one", "hog two"};
    struct nk_thread *t[2];
    stop = false;
    for (unsigned i = 0; i < 2; i++) {
        struct nk_thread_attr attr = {.name = name_table[i], .cpu = 0, .priority = 4};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, spin, (void *)&progress[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(nk_thread_pin(t[i], NK_CPU_ANY), 0);
    }
    uint64_t end = nk_now_ns() + 3000 * MS;
    while (cpu_of(name_table[0]) == cpu_of(name_table[1]) && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS);
    }
    EXPECT_NE(cpu_of(name_table[0]), cpu_of(name_table[1]));
    stop = true;
    for (unsigned i = 0; i < 2; i++) {
        finish(t[i]);
    }
}

/* Down the stack, a page at a time, until the guard. */
static void hog_stack(void *arg)
{
    (void)arg;
    for (volatile char *at = __builtin_frame_address(0);; at -= NK_PAGE_SIZE) {
        *at = 1;
    }
}

KPANIC(thread_stack_overflow)
{
    struct nk_thread *t = start_on(NK_CPU_ANY, 0, hog_stack, NULL);
    EXPECT_EQ(nk_thread_join(t), 0);
}

KPANIC(thread_blocks_without_preemption)
{
    nk_preempt_disable();
    nk_thread_park();
}

#define WAKES 200

static unsigned woken; /* atomic */

static void count_wakes(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < WAKES; i++) {
        nk_thread_park();
        __atomic_add_fetch(&woken, 1, __ATOMIC_RELEASE);
    }
}

/* A CPU that halts is woken by an interrupt each time; one that watches memory needs none. */
KTEST(idle_wakes)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs two CPUs");
    const uint64_t *count = &nk_cpu_table[1].irq_count[NK_IRQ_RESCHED];
    struct nk_thread *t;
    struct nk_thread_attr attr = {.name = "sleepy", .cpu = 1};
    uint64_t interrupts = 0;
    woken = 0;
    ASSERT_EQ(nk_thread_start(&t, &attr, count_wakes, NULL), 0);
    for (unsigned i = 0; i < WAKES; i++) {
        struct sched_stats s;
        do {
            x86_pause();
            sched_get_stats(1, &s);
        } while (s.runnable != 0 || (nk_platform_watches && !s.watches));
        uint64_t before = __atomic_load_n(count, __ATOMIC_RELAXED);
        nk_thread_wake(t);
        while (__atomic_load_n(&woken, __ATOMIC_ACQUIRE) == i) {
            x86_pause();
        }
        interrupts += __atomic_load_n(count, __ATOMIC_RELAXED) - before;
    }
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    ktest_note("%lu interrupts for %d wakes", interrupts, WAKES);
    if (nk_platform_watches) {
        EXPECT_LT(interrupts, WAKES / 2);
    } else {
        EXPECT_GE(interrupts, WAKES - 1); /* the last may be counted late */
    }
}
