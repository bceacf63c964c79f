/* Tests of sched/condition.c, sched/rwlock.c and sched/queue.c. */
#include "base/x86.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS      UINT64_C(1000000) /* ns */
#define WORKERS 6

static void run_workers(nk_thread_fn fn)
{
    struct nk_thread *t[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        struct nk_thread_attr attr = {.name = "worker", .cpu = (int)(i % nk_cpu_count)};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, fn, (void *)(uint64_t)i), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

static uint64_t in_ms(uint64_t ms)
{
    return x86_rdtsc() + nk_ns_to_tsc(ms * MS);
}

/* --- conditions ------------------------------------------------------------------------------- */

static struct nk_mutex mutex;
static struct nk_condition changed;
static unsigned whose_turn, turns;

/* Each waits for its own turn: every broadcast wakes all, one goes on. */
static void take_turns(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    for (unsigned i = 0; i < 100; i++) {
        nk_mutex_lock(&mutex);
        while (whose_turn != me) {
            nk_condition_wait(&changed, &mutex);
        }
        turns++;
        whose_turn = (me + 1) % WORKERS;
        nk_condition_broadcast(&changed);
        nk_mutex_unlock(&mutex);
    }
}

KTEST(condition_broadcast)
{
    nk_mutex_init(&mutex);
    nk_condition_init(&changed);
    whose_turn = turns = 0;
    run_workers(take_turns);
    EXPECT_EQ(turns, 100 * WORKERS);
}

static unsigned stock, made, used;

static void make_or_use(void *arg)
{
    bool makes = (uint64_t)arg % 2 == 0;
    for (unsigned i = 0; i < 300; i++) {
        nk_mutex_lock(&mutex);
        nk_mutex_lock(&mutex); /* a wait gives up both */
        if (makes) {
            stock++;
            made++;
            nk_condition_signal(&changed);
        } else {
            while (stock == 0) {
                nk_condition_wait_until(&changed, &mutex, in_ms(1));
            }
            stock--;
            used++;
        }
        nk_mutex_unlock(&mutex);
        nk_mutex_unlock(&mutex);
    }
}

KTEST(condition_signal_and_deadlines)
{
    nk_mutex_init(&mutex);
    nk_condition_init(&changed);
    stock = made = used = 0;
    run_workers(make_or_use);
    EXPECT_EQ(stock, 0);
    EXPECT_EQ(made, 300 * WORKERS / 2);
    EXPECT_EQ(used, made);
    EXPECT_EQ(mutex.owner, 0);
    nk_mutex_lock(&mutex);
    EXPECT(!nk_condition_wait_until(&changed, &mutex, in_ms(1)));
    EXPECT(nk_mutex_try_lock(&mutex)); /* it is this thread's again */
    nk_mutex_unlock(&mutex);
    nk_mutex_unlock(&mutex);
}

/* --- barriers --------------------------------------------------------------------------------- */

static struct nk_barrier barrier;
static unsigned phase_of[WORKERS], chosen;

static void in_step(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    for (unsigned phase = 1; phase <= 200; phase++) {
        phase_of[me] = phase;
        if (nk_barrier_wait(&barrier)) {
            __atomic_add_fetch(&chosen, 1, __ATOMIC_RELAXED);
        }
        for (unsigned i = 0; i < WORKERS; i++) {
            /* Nobody is behind, and nobody more than one step ahead. */
            unsigned other = __atomic_load_n(&phase_of[i], __ATOMIC_RELAXED);
            if (other != phase && other != phase + 1) {
                ASSERT_EQ(other, phase);
            }
        }
    }
}

KTEST(barrier_keeps_step)
{
    nk_barrier_init(&barrier, WORKERS);
    chosen = 0;
    run_workers(in_step);
    EXPECT_EQ(chosen, 200);
    nk_barrier_init(&barrier, 1);
    EXPECT(nk_barrier_wait(&barrier));
}

/* --- reader-writer locks ---------------------------------------------------------------------- */

static struct nk_rwlock rwlock;
static unsigned readers, writers, wrong;
static uint64_t written[2];

static void read_or_write(void *arg)
{
    uint64_t seed = (uint64_t)arg + 1;
    for (unsigned i = 0; i < 300; i++) {
        if (ktest_random(&seed) % 4 == 0) {
            nk_rwlock_write_lock(&rwlock);
            wrong += __atomic_add_fetch(&writers, 1, __ATOMIC_SEQ_CST) != 1;
            wrong += __atomic_load_n(&readers, __ATOMIC_SEQ_CST) != 0;
            written[0]++;
            if (i % 8 == 0) {
                nk_thread_yield();
            }
            written[1]++;
            __atomic_sub_fetch(&writers, 1, __ATOMIC_SEQ_CST);
            nk_rwlock_write_unlock(&rwlock);
        } else {
            nk_rwlock_read_lock(&rwlock);
            __atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            wrong += written[0] != written[1];
            if (i % 8 == 0) {
                nk_thread_yield();
            }
            __atomic_sub_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            nk_rwlock_read_unlock(&rwlock);
        }
    }
}

KTEST(rwlock_excludes)
{
    nk_rwlock_init(&rwlock);
    readers = writers = wrong = 0;
    run_workers(read_or_write);
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(written[0], written[1]);
    EXPECT_EQ(rwlock.active, 0);
}

static void read_too(void *arg)
{
    nk_rwlock_read_lock(&rwlock);
    nk_event_set(arg);
    nk_rwlock_read_unlock(&rwlock);
}

KTEST(rwlock_readers_together)
{
    struct nk_event inside;
    struct nk_thread *t;
    nk_event_init(&inside);
    nk_rwlock_init(&rwlock);
    nk_rwlock_read_lock(&rwlock);
    ASSERT_EQ(nk_thread_start(&t, NULL, read_too, &inside), 0);
    nk_event_wait(&inside);
    nk_rwlock_read_unlock(&rwlock);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

/* --- message queues --------------------------------------------------------------------------- */

struct message {
    unsigned sender, number;
    char text[40];
};

static struct nk_queue queue;
static struct message ring[4];
static unsigned received[WORKERS];

static void send_or_receive(void *arg)
{
    unsigned me = (unsigned)(uint64_t)arg;
    for (unsigned i = 0; i < 200; i++) {
        struct message m = {me, i, "text"};
        if (me % 2 == 0) {
            while (!nk_queue_send_until(&queue, &m, in_ms(1))) {
            }
            continue;
        }
        nk_queue_receive(&queue, &m);
        ASSERT(m.sender < WORKERS && m.sender % 2 == 0);
        __atomic_add_fetch(&received[m.sender], 1, __ATOMIC_RELAXED);
    }
}

KTEST(queue_many_threads)
{
    nk_queue_init(&queue, ring, sizeof(ring[0]), NK_ARRAY_COUNT(ring));
    for (unsigned i = 0; i < WORKERS; i++) {
        received[i] = 0;
    }
    run_workers(send_or_receive);
    for (unsigned i = 0; i < WORKERS; i++) {
        EXPECT_EQ(received[i], i % 2 == 0 ? 200 : 0);
    }
    struct message m;
    EXPECT(!nk_queue_try_receive(&queue, &m));
}

KTEST(queue_order_and_limits)
{
    nk_queue_init(&queue, ring, sizeof(ring[0]), NK_ARRAY_COUNT(ring));
    for (unsigned round = 0; round < 5; round++) {
        struct message m = {0, 0, ""};
        for (m.number = 0; nk_queue_try_send(&queue, &m); m.number++) {
        }
        EXPECT_EQ(m.number, NK_ARRAY_COUNT(ring));
        EXPECT(!nk_queue_send_until(&queue, &m, in_ms(1)));
        for (unsigned i = 0; i < NK_ARRAY_COUNT(ring); i++) {
            EXPECT(nk_queue_receive_until(&queue, &m, 1));
            EXPECT_EQ(m.number, i);
        }
        EXPECT(!nk_queue_receive_until(&queue, &m, in_ms(1)));
        nk_queue_send(&queue, &m); /* so that the ring begins elsewhere next time */
        nk_queue_receive(&queue, &m);
    }
}
