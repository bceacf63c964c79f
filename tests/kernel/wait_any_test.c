/* Tests of sched/wait_any.c. */
#include <errno.h>

#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS      UINT64_C(1000000) /* ns */
#define FOREVER UINT64_MAX

static uint64_t in_ms(uint64_t ms)
{
    return x86_rdtsc() + nk_ns_to_tsc(ms * MS);
}

static struct nk_event events[3];

static void set_one(void *arg)
{
    nk_event_set(&events[(uint64_t)arg]);
}

KTEST(wait_any_events)
{
    const struct nk_wait_item all[] = {
        {.event = &events[0]}, {.event = &events[1]}, {.event = &events[2]}};
    for (unsigned round = 0; round < 200; round++) {
        struct nk_thread *t;
        for (unsigned i = 0; i < 3; i++) {
            nk_event_init(&events[i]);
        }
        if (round < 3) {
            EXPECT_EQ(nk_wait_any(all, 3, in_ms(1)), -ETIMEDOUT);
        }
        uint64_t which = round % 3;
        ASSERT_EQ(nk_thread_start(&t, NULL, set_one, (void *)which), 0);
        EXPECT_EQ(nk_wait_any(all, 3, round % 2 != 0 ? FOREVER : in_ms(60000)), which);
        EXPECT_EQ(nk_wait_any(all, 3, 1), which); /* it stays set */
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
    }
}

static struct nk_semaphore semaphore;
static struct nk_queue queue, full;
static unsigned ring[4], full_ring[1];

static void begin(void)
{
    unsigned message = 5;
    nk_event_init(&events[0]);
    nk_semaphore_init(&semaphore, 0);
    nk_queue_init(&queue, ring, sizeof(ring[0]), NK_ARRAY_COUNT(ring));
    nk_queue_init(&full, full_ring, sizeof(full_ring[0]), 1);
    nk_queue_send(&full, &message);
}

/* Makes one of the four ready, when the other thread waits or before. */
static void make_ready(void *arg)
{
    unsigned message = 7;
    switch ((uintptr_t)arg) {
    case 0:
        nk_event_set(&events[0]);
        break;
    case 1:
        nk_semaphore_up(&semaphore);
        break;
    case 2:
        nk_queue_send(&queue, &message);
        break;
    default:
        nk_queue_receive(&full, &message);
        EXPECT_EQ(message, 5);
    }
}

KTEST(wait_any_kinds)
{
    unsigned received = 0, sent = 9;
    const struct nk_wait_item items[] = {
        {.kind = NK_WAIT_EVENT, .event = &events[0]},
        {.kind = NK_WAIT_SEMAPHORE, .semaphore = &semaphore},
        {.kind = NK_WAIT_RECEIVE, .queue = &queue, .message = &received},
        {.kind = NK_WAIT_SEND, .queue = &full, .message = &sent},
    };
    for (unsigned round = 0; round < 200; round++) {
        const unsigned which = round % 4;
        struct nk_thread *t;
        begin();
        received = 0;
        ASSERT_EQ(nk_thread_start(&t, NULL, make_ready, (void *)(uintptr_t)which), 0);
        if (round % 8 < 4) {
            EXPECT_EQ(nk_thread_join(t), 0); /* it is ready before */
        }
        EXPECT_EQ(nk_wait_any(items, 4, FOREVER), which);
        EXPECT_EQ(nk_thread_join(t), 0);
        EXPECT_EQ(nk_thread_destroy(t), 0);
        EXPECT_EQ(received, which == 2 ? 7 : 0);
        EXPECT_EQ(nk_wait_any(items + 1, 3, 1), -ETIMEDOUT); /* it was taken, and only that */
        EXPECT_EQ(semaphore.count, 0);
        EXPECT_EQ(queue.filled.count, 0);
        EXPECT_EQ(queue.space.count, NK_ARRAY_COUNT(ring));
        EXPECT_EQ(full_ring[0], which == 3 ? 9 : 5);
        EXPECT_EQ(semaphore.special + queue.filled.special + full.space.special, 0);
    }
}

KTEST(wait_any_deadline)
{
    const struct nk_wait_item items[] = {{.kind = NK_WAIT_SEMAPHORE, .semaphore = &semaphore},
                                         {.kind = NK_WAIT_EVENT, .event = &events[0]}};
    begin();
    uint64_t until = in_ms(2);
    EXPECT_EQ(nk_wait_any(items, 2, until), -ETIMEDOUT);
    EXPECT_GE(x86_rdtsc(), until);
    EXPECT_EQ(nk_wait_any(items, 2, 0), -ETIMEDOUT); /* only a look */
    nk_semaphore_up(&semaphore);
    EXPECT_EQ(nk_wait_any(items, 2, 0), 0);
    EXPECT_EQ(semaphore.count, 0);
}

static struct nk_waitqueue hall;
static unsigned tickets; /* atomic */

static bool has_ticket(void *arg)
{
    return *(const unsigned *)arg > 0;
}

static void queue_for_ticket(void *arg)
{
    const struct nk_wait_item items[] = {
        {.event = &events[0]},
        {.kind = NK_WAIT_QUEUE, .waitqueue = &hall, .ready = has_ticket, .arg = &tickets}};
    *(int *)arg = nk_wait_any(items, 2, FOREVER);
}

/* A wait queue with a condition of its own: woken for nothing, woken in time, too late. */
KTEST(wait_queue_condition)
{
    int got = -1;
    struct nk_thread *t;
    nk_waitqueue_init(&hall);
    nk_event_init(&events[0]);
    tickets = 0;
    EXPECT(!nk_waitqueue_wait(&hall, has_ticket, &tickets, in_ms(2)));
    tickets = 1;
    EXPECT(nk_waitqueue_wait(&hall, has_ticket, &tickets, 1));
    tickets = 0;
    ASSERT_EQ(nk_thread_start(&t, NULL, queue_for_ticket, &got), 0);
    while (nk_waitqueue_wake(&hall, 1) == 0) { /* for nothing */
        nk_thread_sleep_ns(MS / 10);
    }
    nk_thread_sleep_ns(2 * MS);
    EXPECT_EQ(got, -1);
    tickets = 1;
    while (nk_waitqueue_wake(&hall, UINT32_MAX) == 0 && got < 0) {
        nk_thread_sleep_ns(MS / 10);
    }
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(got, 1);
    EXPECT_EQ(nk_thread_run(t), 0); /* ready at once */
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    EXPECT_EQ(nk_waitqueue_wake(&hall, 1), 0); /* nobody has stayed in line */
}

#define TAKERS 3
#define KINDS  4
#define UPS    1600

static struct nk_semaphore many[KINDS];
static uint64_t taken[KINDS]; /* atomic */
static volatile bool over;

static void take_any(void *arg)
{
    uint64_t seed = (uint64_t)arg;
    while (!over) {
        struct nk_wait_item items[KINDS];
        uint64_t r = ktest_random(&seed);
        const unsigned count = 1 + (unsigned)(r % KINDS), from = (unsigned)(r >> 8) % KINDS;
        for (unsigned i = 0; i < count; i++) {
            items[i] = (struct nk_wait_item){.kind = NK_WAIT_SEMAPHORE,
                                             .semaphore = &many[(from + i) % KINDS]};
        }
        int got = nk_wait_any(items, count, x86_rdtsc() + (r >> 16) % 60000);
        if (got >= 0) {
            __atomic_add_fetch(&taken[(from + (unsigned)got) % KINDS], 1, __ATOMIC_RELAXED);
        }
    }
}

static void take_one(void *arg)
{
    uint64_t seed = (uint64_t)arg;
    while (!over) {
        uint64_t r = ktest_random(&seed);
        if (nk_semaphore_down_until(&many[r % KINDS], x86_rdtsc() + (r >> 8) % 60000)) {
            __atomic_add_fetch(&taken[r % KINDS], 1, __ATOMIC_RELAXED);
        }
    }
}

/* Every up is taken once, by threads that wait for one, for several, or give up just then. */
KTEST(wait_any_random)
{
    struct nk_thread *t[2 * TAKERS];
    over = false;
    for (unsigned i = 0; i < KINDS; i++) {
        nk_semaphore_init(&many[i], 0);
        taken[i] = 0;
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        struct nk_thread_attr attr = {.name = "taker", .cpu = (int)(i % nk_cpu_count)};
        ASSERT_EQ(nk_thread_start(&t[i], &attr, i < TAKERS ? take_any : take_one,
                                  (void *)(uint64_t)(i + 1)),
                  0);
    }
    for (unsigned i = 0; i < UPS; i++) {
        nk_semaphore_up(&many[i % KINDS]);
        if (i % 20 == 0) {
            nk_thread_sleep_ns(MS / 100);
        }
    }
    nk_thread_sleep_ns(MS);
    over = true;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    for (unsigned i = 0; i < KINDS; i++) {
        uint64_t left = 0;
        while (nk_semaphore_try_down(&many[i])) {
            left++;
        }
        EXPECT_EQ(taken[i] + left, UPS / KINDS);
        EXPECT_EQ(many[i].count, 0);
        EXPECT_EQ(many[i].handover, 0);
        EXPECT_EQ(many[i].special, 0);
    }
}
