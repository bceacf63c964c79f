/* Random operations on threads by several drivers at once; every answer is checked against a model
 * of the slot that the thread is in. Threads meanwhile park, sleep, yield and use a semaphore. */
#include <errno.h>
#include <stdlib.h>

#include "base/x86.h"
#include "kernel/kernel.h"
#include "mm/buddy.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define SLOTS        64
#define ROUND        100000 /* then all threads have ended, and everything is checked */
#define DRIVERS      16     /* most of them wait for something at any time */
#define OPERATIONS   24000  /* of all drivers; stress=<count> on the command line for more */
#define MICROSECONDS UINT64_C(1000)

struct slot {
    struct nk_mutex lock; /* the thread's handle and the model */
    struct nk_thread *thread;
    bool started, paused;
    volatile bool stop;
    uint64_t seed;
    unsigned starts;
    volatile unsigned ends;
};

static struct slot slot_table[SLOTS];
static struct nk_semaphore shared;
static uint64_t ups, downs, joins;
static uint64_t operations; /* left of a round; atomic */

static uint64_t soon(uint64_t *seed)
{
    return x86_rdtsc() + nk_ns_to_tsc(ktest_random(seed) % (50 * MICROSECONDS));
}

static void body(void *arg)
{
    struct slot *s = arg;
    unsigned steps = (unsigned)(ktest_random(&s->seed) % 40);
    for (unsigned i = 0; i < steps && !s->stop; i++) {
        switch (ktest_random(&s->seed) % 6) {
        case 0:
            nk_thread_park_until(soon(&s->seed));
            break;
        case 1:
            nk_thread_sleep_until(soon(&s->seed));
            break;
        case 2:
            nk_semaphore_up(&shared);
            __atomic_add_fetch(&ups, 1, __ATOMIC_RELAXED);
            break;
        case 3:
            if (nk_semaphore_down_until(&shared, soon(&s->seed))) {
                __atomic_add_fetch(&downs, 1, __ATOMIC_RELAXED);
            }
            break;
        case 4:
            for (volatile unsigned n = 0; n < 500; n++) {
            }
            break;
        default:
            nk_thread_yield();
        }
    }
    s->ends++;
}

static void create(struct slot *s, uint64_t r)
{
    struct nk_thread_attr attr = {
        .name = "stress",
        .cpu = r % 3 == 0 ? (int)(r / 3 % nk_cpu_count) : NK_CPU_ANY,
        .priority = 1 + (unsigned)(r >> 8) % 14, /* below the drivers */
        .fp = (r >> 16) % 4 == 0,
    };
    EXPECT_EQ(nk_thread_create(&s->thread, &attr, body, s), 0);
    s->started = s->paused = s->stop = false;
    s->starts = s->ends = 0;
    s->seed = r | 1;
}

static void run(struct slot *s)
{
    int err = nk_thread_run(s->thread);
    if (err == 0) {
        unsigned ends = s->ends;
        EXPECT(ends == s->starts || ends == s->starts + 1); /* it was not alive; it may be over */
        s->started = true;
        s->paused = false;
        s->starts++;
    } else {
        EXPECT_EQ(err, -EBUSY);
        EXPECT(s->started);
    }
}

static void pause_or_resume(struct slot *s, bool pause)
{
    int err = pause ? nk_thread_pause(s->thread) : nk_thread_resume(s->thread);
    if (pause && err == 0) {
        EXPECT(s->started);
        s->paused = true;
    } else if (pause) {
        EXPECT_EQ(err, -EINVAL); /* NEW, or finished */
    } else {
        EXPECT_EQ(err, s->paused ? 0 : -EINVAL);
        s->paused = false;
    }
}

static void end(struct slot *s)
{
    if (s->started) {
        s->stop = true;
        if (s->paused) {
            EXPECT_EQ(nk_thread_resume(s->thread), 0);
            s->paused = false;
        }
        nk_thread_wake(s->thread);
        EXPECT_EQ(nk_thread_join(s->thread), 0);
        EXPECT_EQ(nk_thread_get_state(s->thread), NK_THREAD_DONE);
        EXPECT_EQ(s->ends, s->starts);
        __atomic_add_fetch(&joins, 1, __ATOMIC_RELAXED);
        s->stop = false;
    } else {
        EXPECT_EQ(nk_thread_join(s->thread), -EINVAL);
    }
}

static void operate(struct slot *s, uint64_t r)
{
    if (s->thread == NULL) {
        create(s, r >> 8);
        return;
    }
    switch (r % 12) {
    case 0:
    case 1:
    case 2:
        run(s);
        break;
    case 3:
        pause_or_resume(s, true);
        break;
    case 4:
    case 5:
        pause_or_resume(s, false);
        break;
    case 6:
        EXPECT_EQ(nk_thread_pin(s->thread, (int)((r >> 8) % (nk_cpu_count + 1)) - 1), 0);
        break;
    case 7:
        end(s);
        break;
    case 8:
        end(s);
        EXPECT_EQ(nk_thread_destroy(s->thread), 0);
        s->thread = NULL;
        break;
    default:
        nk_thread_wake(s->thread);
    }
}

static void drive(void *arg)
{
    uint64_t seed = (uint64_t)arg * 7919 + 1;
    while ((int64_t)__atomic_fetch_sub(&operations, 1, __ATOMIC_RELAXED) > 0) {
        uint64_t r = ktest_random(&seed);
        struct slot *s = &slot_table[r % SLOTS];
        nk_mutex_lock(&s->lock);
        operate(s, r >> 8);
        nk_mutex_unlock(&s->lock);
    }
}

static void run_round(uint64_t count)
{
    struct nk_thread *t[DRIVERS];
    nk_semaphore_init(&shared, 0);
    operations = count;
    ups = downs = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        slot_table[i] = (struct slot){.thread = NULL};
        nk_mutex_init(&slot_table[i].lock);
    }
    for (unsigned i = 0; i < DRIVERS; i++) {
        struct nk_thread_attr attr = {.name = "driver", .cpu = (int)(i % nk_cpu_count)};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, drive, (void *)(count + i)), 0);
    }
    for (unsigned i = 0; i < DRIVERS; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &slot_table[i];
        if (s->thread != NULL) {
            end(s);
            EXPECT_EQ(nk_thread_destroy(s->thread), 0);
        }
    }
    while (nk_semaphore_try_down(&shared)) {
        downs++;
    }
    EXPECT_EQ(downs, ups);
    EXPECT_EQ(shared.count, 0);
    EXPECT_EQ(shared.handover, 0);
    buddy_check();
}

KTEST(stress_threads)
{
    char text[16];
    const uint64_t begin = nk_now_ns();
    uint64_t count = OPERATIONS;
    if (nk_option("stress", text, sizeof(text))) {
        count = strtoul(text, NULL, 10);
    }
    joins = 0;
    for (uint64_t left = count; left > 0;) {
        uint64_t round = left < ROUND ? left : ROUND;
        run_round(round);
        left -= round;
        ktest_goes_on();
    }
    EXPECT_GT(joins, 0);
    ktest_note("%lu operations in %lu ms, %lu joins", count, (nk_now_ns() - begin) / 1000000,
               joins);
}
