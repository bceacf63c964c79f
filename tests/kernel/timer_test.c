/* Tests of sched/timer.c. */
#include "sched/timer.h"

#include "base/platform.h"
#include "base/x86.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define MS        UINT64_C(1000000) /* ns */
#define TIMER_MAX 200

struct test_timer {
    struct nk_timer timer;
    uint64_t due;
    volatile unsigned fired;
    volatile bool early, wrong_order;
};

static struct test_timer timers[TIMER_MAX];
static volatile uint64_t last_due;

static void fire(struct nk_timer *timer)
{
    struct test_timer *t = NK_CONTAINER_OF(timer, struct test_timer, timer);
    t->fired++;
    t->early = x86_rdtsc() < t->due;
    t->wrong_order = t->due < last_due;
    last_due = t->due;
}

static void pin_here(bool pin)
{
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), pin ? 0 : NK_CPU_ANY), 0);
}

KTEST(timer_units)
{
    EXPECT_EQ(nk_ns_to_tsc(0), 0);
    uint64_t second = nk_ns_to_tsc(1000 * MS);
    EXPECT_LE(second, nk_tsc_hz);
    EXPECT_GE(second + second / 1000000, nk_tsc_hz);
    uint64_t year = UINT64_C(365) * 24 * 3600 * 1000 * MS;
    uint64_t back = nk_tsc_to_ns(nk_ns_to_tsc(year));
    EXPECT_LE(back, year + year / 1000000);
    EXPECT_GE(back, year - year / 1000000);
    uint64_t now = nk_now_ns();
    EXPECT_GE(nk_now_ns(), now);
}

/* The machine's CPUs may stand still for a while when its host is busy. */
static bool becomes(volatile unsigned *value, unsigned wanted)
{
    uint64_t end = nk_now_ns() + 5000 * MS;
    while (*value != wanted && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS);
    }
    return *value == wanted;
}

/* Timers armed in random order fire in the order of their deadlines; some are moved, some taken
 * back before. */
KTEST(timer_order)
{
    uint64_t seed = 42;
    pin_here(true);
    for (unsigned round = 0; round < 5; round++) {
        uint64_t start = x86_rdtsc() + nk_ns_to_tsc(20 * MS);
        last_due = 0;
        for (unsigned i = 0; i < TIMER_MAX; i++) {
            struct test_timer *t = &timers[i];
            *t = (struct test_timer){.fired = 0};
            nk_timer_init(&t->timer, fire);
            t->due = start + ktest_random(&seed) % nk_ns_to_tsc(10 * MS);
            nk_timer_arm(&t->timer, t->due);
        }
        unsigned taken_back = 0;
        for (unsigned i = 0; i < TIMER_MAX; i++) {
            if (i % 3 == 0) {
                taken_back += nk_timer_cancel(&timers[i].timer);
                EXPECT(!nk_timer_cancel(&timers[i].timer));
            } else if (i % 3 == 1) {
                timers[i].due = start + ktest_random(&seed) % nk_ns_to_tsc(10 * MS);
                nk_timer_arm(&timers[i].timer, timers[i].due);
            }
        }
        bool in_time = x86_rdtsc() < start; /* else a busy host has spoilt the round */
        EXPECT(!in_time || taken_back == (TIMER_MAX + 2) / 3);
        nk_thread_sleep_until(start + nk_ns_to_tsc(11 * MS));
        for (unsigned i = 0; in_time && i < TIMER_MAX; i++) {
            EXPECT_EQ(timers[i].fired, i % 3 == 0 ? 0 : 1);
            EXPECT(!timers[i].early);
            EXPECT(!timers[i].wrong_order);
            EXPECT_EQ(timers[i].timer.deadline, 0);
        }
    }
    pin_here(false);
}

static volatile unsigned beats;

static void beat(struct nk_timer *timer)
{
    if (++beats < 10) {
        nk_timer_arm(timer, x86_rdtsc() + nk_ns_to_tsc(MS / 10));
    }
}

KTEST(timer_rearms_itself)
{
    static struct nk_timer timer;
    beats = 0;
    nk_timer_init(&timer, beat);
    nk_timer_arm(&timer, 1); /* long past: at once */
    EXPECT(becomes(&beats, 10));
    EXPECT(!nk_timer_cancel(&timer));
}

static volatile unsigned cancelled_itself;

static void cancel_itself(struct nk_timer *timer)
{
    cancelled_itself = !nk_timer_cancel(timer);
}

KTEST(timer_cancels_itself)
{
    static struct nk_timer timer;
    cancelled_itself = 0;
    nk_timer_init(&timer, cancel_itself);
    nk_timer_arm(&timer, x86_rdtsc());
    EXPECT(becomes(&cancelled_itself, 1));
}

/* A callback must not be running any more when cancelling it from another CPU returns. */
static struct nk_timer remote_timer;
static volatile bool in_callback;
static struct nk_semaphore armed;

static void slow_callback(struct nk_timer *timer)
{
    in_callback = true;
    uint64_t end = x86_rdtsc() + nk_ns_to_tsc(MS / 20);
    while (x86_rdtsc() < end) {
        x86_pause();
    }
    in_callback = false;
    nk_timer_arm(timer, x86_rdtsc() + nk_ns_to_tsc(MS / 50));
}

static void arm_here(void *arg)
{
    (void)arg;
    nk_timer_arm(&remote_timer, x86_rdtsc() + nk_ns_to_tsc(MS / 50));
    nk_semaphore_up(&armed);
    nk_thread_sleep_ns(2 * MS);
}

KTEST(timer_cancel_from_another_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU");
    uint64_t seed = 8;
    nk_timer_init(&remote_timer, slow_callback);
    nk_semaphore_init(&armed, 0);
    pin_here(true);
    for (unsigned i = 0; i < 40; i++) {
        struct nk_thread *t;
        struct nk_thread_attr attr = {.name = "arm", .cpu = 1};
        ASSERT_EQ(nk_thread_start(&t, &attr, arm_here, NULL), 0);
        nk_semaphore_down(&armed);
        nk_thread_sleep_ns(ktest_random(&seed) % MS);
        EXPECT(nk_timer_cancel(&remote_timer)); /* it is armed, or will be by its callback */
        EXPECT(!in_callback);
        EXPECT_EQ(remote_timer.deadline, 0);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
    pin_here(false);
}

static volatile unsigned sleep_order[8], sleep_count;
static uint64_t sleep_start;

static void sleep_for(void *arg)
{
    uint64_t ms = (uint64_t)arg;
    nk_thread_sleep_until(sleep_start + nk_ns_to_tsc(ms * MS));
    EXPECT_GE(x86_rdtsc() - sleep_start, nk_ns_to_tsc(ms * MS));
    sleep_order[__atomic_fetch_add(&sleep_count, 1, __ATOMIC_RELAXED)] = (unsigned)ms;
}

KTEST(timer_sleep_order)
{
    static const unsigned ms_table[] = {40, 10, 70, 25, 55};
    struct nk_thread *t[NK_ARRAY_COUNT(ms_table)];
    sleep_count = 0;
    sleep_start = x86_rdtsc() + nk_ns_to_tsc(20 * MS);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        struct nk_thread_attr attr = {.name = "sleeper", .cpu = 0};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, sleep_for, (void *)(uint64_t)ms_table[i]), 0);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    for (unsigned i = 1; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_GT(sleep_order[i], sleep_order[i - 1]);
    }
}
