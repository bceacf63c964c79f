/* Tests of sched/wait.c and sched/sync.c: races of blocking and waking across CPUs. */
#include "sched/sync.h"

#include "base/x86.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS          UINT64_C(1000000) /* ns */
#define WORKERS_MAX 8

static void start_workers(struct nk_thread **t, unsigned count, nk_thread_fn fn)
{
    for (unsigned i = 0; i < count; i++) {
        struct nk_thread_attr attr = {.name = "worker", .cpu = (int)(i % nk_cpu_count)};
        EXPECT_EQ(nk_thread_start(&t[i], &attr, fn, (void *)(uint64_t)i), 0);
    }
}

static void finish_workers(struct nk_thread **t, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) { /* not before: they wake each other */
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

/* --- park and wake ---------------------------------------------------------------------------- */

#define ROUNDS 5000

static struct nk_thread *pair[2];
static volatile unsigned turn;
static unsigned go;

static void ping(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE)) {
        nk_thread_yield();
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        while (turn % 2 != me) {
            nk_thread_park();
        }
        turn++;
        nk_thread_wake(pair[1 - me]);
    }
}

KTEST(wait_park_ping_pong)
{
    turn = go = 0;
    start_workers(pair, 2, ping);
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    finish_workers(pair, 2);
    EXPECT_EQ(turn, 2 * ROUNDS);
}

/* Many wakers of one thread: each puts in work first, so no work may be left when all is quiet. */
static uint64_t work_put, work_done;
static struct nk_thread *consumer;

static void consume(void *arg)
{
    uint64_t expected = (uint64_t)arg;
    while (work_done < expected) {
        nk_thread_park();
        work_done = __atomic_load_n(&work_put, __ATOMIC_RELAXED);
    }
}

static void produce(void *arg)
{
    uint64_t seed = (uint64_t)arg + 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        __atomic_add_fetch(&work_put, 1, __ATOMIC_RELAXED);
        nk_thread_wake(consumer);
        if (ktest_random(&seed) % 4 == 0) {
            nk_thread_yield();
        }
    }
}

KTEST(wait_many_wakers)
{
    struct nk_thread *t[4];
    work_put = work_done = 0;
    EXPECT_EQ(nk_thread_start(&consumer, NULL, consume, (void *)(uint64_t)(4 * ROUNDS)), 0);
    start_workers(t, 4, produce);
    finish_workers(t, 4);
    EXPECT_EQ(nk_thread_join(consumer), 0);
    EXPECT_EQ(work_done, 4 * ROUNDS);
    EXPECT_EQ(nk_thread_destroy(consumer), 0);
}

KTEST(wait_token)
{
    struct nk_thread *me = nk_thread_current();
    nk_thread_wake(me);
    nk_thread_wake(me); /* not counted */
    nk_thread_park();
    uint64_t start = x86_rdtsc(), wait = nk_ns_to_tsc(2 * MS);
    EXPECT(!nk_thread_park_until(start + wait));
    EXPECT_GE(x86_rdtsc() - start, wait);
    nk_thread_wake(me);
    EXPECT(nk_thread_park_until(x86_rdtsc() + nk_ns_to_tsc(1000 * MS)));
    EXPECT(!nk_thread_park_until(1)); /* long past */
    /* Sleeping and blocking on something else leave the token alone. */
    nk_thread_wake(me);
    start = x86_rdtsc();
    nk_thread_sleep_ns(2 * MS);
    EXPECT_GE(x86_rdtsc() - start, wait);
    struct nk_semaphore s;
    nk_semaphore_init(&s, 0);
    EXPECT(!nk_semaphore_down_until(&s, x86_rdtsc() + wait));
    EXPECT(nk_thread_park_until(x86_rdtsc() + nk_ns_to_tsc(1000 * MS)));
}

/* Deadlines that race with wakes: a wake is either reported or still there as a token. */
static void wake_at_random(void *arg)
{
    uint64_t seed = 77;
    (void)arg;
    for (unsigned i = 0; i < 500; i++) {
        __atomic_add_fetch(&work_put, 1, __ATOMIC_RELAXED);
        nk_thread_wake(consumer);
        nk_thread_sleep_ns(ktest_random(&seed) % (MS / 5));
    }
}

KTEST(wait_deadlines_race_with_wakes)
{
    struct nk_thread *t;
    uint64_t seed = 3, seen = 0, woken = 0;
    consumer = nk_thread_current();
    work_put = 0;
    EXPECT_EQ(nk_thread_start(&t, NULL, wake_at_random, NULL), 0);
    while (seen < 500) {
        uint64_t deadline = x86_rdtsc() + nk_ns_to_tsc(ktest_random(&seed) % (MS / 5));
        if (nk_thread_park_until(deadline)) {
            woken++;
        } else {
            EXPECT_GE(x86_rdtsc(), deadline);
        }
        seen = __atomic_load_n(&work_put, __ATOMIC_RELAXED);
    }
    EXPECT_GT(woken, 0);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    nk_thread_park_until(1); /* takes what token is left */
}

/* --- semaphores ------------------------------------------------------------------------------- */

static struct nk_semaphore semaphore, done;
static uint64_t downs;

KTEST(semaphore_counts)
{
    nk_semaphore_init(&semaphore, 2);
    EXPECT(nk_semaphore_try_down(&semaphore));
    nk_semaphore_down(&semaphore);
    EXPECT(!nk_semaphore_try_down(&semaphore));
    EXPECT(!nk_semaphore_down_until(&semaphore, x86_rdtsc() + nk_ns_to_tsc(MS)));
    EXPECT(!nk_semaphore_down_until(&semaphore, 1));
    nk_semaphore_up(&semaphore);
    EXPECT(nk_semaphore_down_until(&semaphore, 1)); /* free: no wait, no deadline */
    nk_semaphore_up(&semaphore);
    nk_semaphore_up(&semaphore);
    nk_semaphore_up(&semaphore);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT(nk_semaphore_try_down(&semaphore));
    }
    EXPECT(!nk_semaphore_try_down(&semaphore));
}

static void up_and_down(void *arg)
{
    uint64_t seed = (uint64_t)arg + 1;
    for (unsigned i = 0; i < 2000; i++) {
        if ((uint64_t)arg % 2 == 0) {
            nk_semaphore_up(&semaphore);
        } else {
            nk_semaphore_down(&semaphore);
        }
        if (ktest_random(&seed) % 16 == 0) {
            nk_thread_yield();
        }
    }
}

KTEST(semaphore_producers_and_consumers)
{
    struct nk_thread *t[WORKERS_MAX];
    nk_semaphore_init(&semaphore, 0);
    start_workers(t, WORKERS_MAX, up_and_down);
    finish_workers(t, WORKERS_MAX);
    EXPECT(!nk_semaphore_try_down(&semaphore));
    EXPECT_EQ(semaphore.count, 0);
    EXPECT_EQ(semaphore.handover, 0);
}

/* Downs that give up race with ups: nothing is lost, nothing is made up. */
static void try_until(void *arg)
{
    uint64_t seed = (uint64_t)arg + 1;
    for (unsigned i = 0; i < 300; i++) {
        uint64_t deadline = x86_rdtsc() + nk_ns_to_tsc(ktest_random(&seed) % (MS / 10));
        if (nk_semaphore_down_until(&semaphore, deadline)) {
            __atomic_add_fetch(&downs, 1, __ATOMIC_RELAXED);
        }
    }
    nk_semaphore_up(&done);
}

KTEST(semaphore_deadlines_race_with_ups)
{
    struct nk_thread *t[WORKERS_MAX];
    uint64_t ups = 0, seed = 9;
    nk_semaphore_init(&semaphore, 0);
    nk_semaphore_init(&done, 0);
    downs = 0;
    start_workers(t, WORKERS_MAX, try_until);
    for (unsigned left = WORKERS_MAX; left > 0;) {
        nk_semaphore_up(&semaphore);
        ups++;
        nk_thread_sleep_ns(ktest_random(&seed) % (MS / 20));
        left -= nk_semaphore_try_down(&done);
    }
    finish_workers(t, WORKERS_MAX);
    while (nk_semaphore_try_down(&semaphore)) {
        downs++;
    }
    EXPECT_EQ(downs, ups);
    EXPECT_EQ(semaphore.count, 0);
    EXPECT_EQ(semaphore.handover, 0);
}

static void up_from_timer(struct nk_timer *timer)
{
    (void)timer;
    nk_semaphore_up(&semaphore);
}

KTEST(semaphore_up_from_interrupt)
{
    static struct nk_timer timer;
    nk_semaphore_init(&semaphore, 0);
    nk_timer_init(&timer, up_from_timer);
    for (unsigned i = 0; i < 20; i++) {
        nk_timer_arm(&timer, x86_rdtsc() + nk_ns_to_tsc(MS / 10));
        nk_semaphore_down(&semaphore);
    }
    EXPECT(!nk_timer_cancel(&timer));
}

/* --- mutexes ---------------------------------------------------------------------------------- */

static struct nk_mutex mutex;
static volatile uint64_t guarded, inside;

KTEST(mutex_recursion)
{
    nk_mutex_init(&mutex);
    for (unsigned i = 0; i < 5; i++) {
        nk_mutex_lock(&mutex);
        EXPECT(nk_mutex_try_lock(&mutex));
    }
    for (unsigned i = 0; i < 10; i++) {
        EXPECT_NE(mutex.owner, 0);
        nk_mutex_unlock(&mutex);
    }
    EXPECT_EQ(mutex.owner, 0);
}

static void with_mutex(void *arg)
{
    uint64_t seed = (uint64_t)arg + 1;
    for (unsigned i = 0; i < 500; i++) {
        bool taken = ktest_random(&seed) % 4 == 0 && nk_mutex_try_lock(&mutex);
        if (!taken) {
            nk_mutex_lock(&mutex);
        }
        inside++;
        if (inside != 1) {
            guarded = 0; /* the final count will tell */
        }
        guarded++;
        if (ktest_random(&seed) % 8 == 0) {
            nk_thread_yield();
        }
        inside--;
        nk_mutex_unlock(&mutex);
    }
}

KTEST(mutex_excludes)
{
    struct nk_thread *t[WORKERS_MAX];
    nk_mutex_init(&mutex);
    guarded = inside = 0;
    start_workers(t, WORKERS_MAX, with_mutex);
    finish_workers(t, WORKERS_MAX);
    EXPECT_EQ(guarded, WORKERS_MAX * 500);
    EXPECT_EQ(mutex.owner, 0);
}

KPANIC(mutex_unlock_by_another)
{
    nk_mutex_init(&mutex);
    nk_mutex_unlock(&mutex);
}

/* --- events ----------------------------------------------------------------------------------- */

static void set_event(void *arg)
{
    nk_event_set(arg);
}

static struct nk_event event;

static void wait_event(void *arg)
{
    if ((uint64_t)arg % 2 == 0) {
        nk_event_wait(&event);
    } else {
        EXPECT(nk_event_wait_until(&event, x86_rdtsc() + nk_ns_to_tsc(5000 * MS)));
    }
}

KTEST(event_wakes_all)
{
    struct nk_thread *t[WORKERS_MAX];
    nk_event_init(&event);
    EXPECT(!nk_event_wait_until(&event, x86_rdtsc() + nk_ns_to_tsc(MS)));
    start_workers(t, WORKERS_MAX, wait_event);
    nk_thread_sleep_ns(2 * MS);
    nk_event_set(&event);
    finish_workers(t, WORKERS_MAX);
    nk_event_wait(&event); /* set for good */
    EXPECT(nk_event_wait_until(&event, 1));
}

/* The event lies on the waiter's stack: it is gone as soon as the wait returns. */
KTEST(event_on_stack)
{
    for (unsigned i = 0; i < 200; i++) {
        struct nk_event e;
        struct nk_thread *t;
        struct nk_thread_attr attr = {.name = "setter", .cpu = (int)(i % nk_cpu_count)};
        nk_event_init(&e);
        EXPECT_EQ(nk_thread_start(&t, &attr, set_event, &e), 0);
        nk_event_wait(&e);
        e = (struct nk_event){.set = false};
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}
