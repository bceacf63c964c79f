/* Tests of sched/work.c and sched/tls.c. */
#include "sched/work.h"

#include <errno.h>
#include <string.h>

#include "base/x86.h"
#include "mm/slab.h"
#include "sched/timer.h"
#include "sched/tls.h"
#include "tests/kernel/ktest.h"

#define MS    UINT64_C(1000000) /* ns */
#define COUNT 50

static struct nk_work_service *service;
static struct nk_work_queue *queue;

static struct numbered {
    struct nk_work work;
    unsigned number, runs;
} items[COUNT];

static unsigned order[COUNT * 2], order_count;
static struct nk_semaphore gate;

static void note(struct nk_work *w)
{
    struct numbered *n = NK_CONTAINER_OF(w, struct numbered, work);
    n->runs++;
    order[order_count++ % NK_ARRAY_COUNT(order)] = n->number;
}

static void wait_at_gate(struct nk_work *w)
{
    note(w);
    nk_semaphore_down(&gate);
}

static bool begin_with(unsigned threads, uint64_t cpus)
{
    const struct nk_work_service_attr attr = {.name = "test", .threads = threads, .cpus = cpus};
    order_count = 0;
    nk_semaphore_init(&gate, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        nk_work_init(&items[i].work, i == 0 ? wait_at_gate : note);
        items[i].number = i;
        items[i].runs = 0;
    }
    return nk_work_service_create(&service, &attr) == 0 &&
           nk_work_queue_create(&queue, "test", service) == 0;
}

static bool begin(void)
{
    return begin_with(1, 0);
}

static void end(void)
{
    nk_work_queue_destroy(queue);
    EXPECT(nk_work_queue_find("test") == NULL);
    EXPECT_EQ(nk_work_service_destroy(service), 0);
}

KTEST(work_order)
{
    ASSERT(begin());
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT(nk_work_post(queue, &items[i].work));
    }
    EXPECT(!nk_work_post(queue, &items[COUNT - 1].work)); /* pending already */
    nk_semaphore_up(&gate);
    nk_work_flush(queue);
    EXPECT_EQ(order_count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT_EQ(order[i], i);
    }
    EXPECT(nk_work_post(queue, &items[1].work));
    EXPECT_EQ(nk_work_service_destroy(service), -EBUSY);
    end(); /* runs it first */
    EXPECT_EQ(items[1].runs, 2);
}

KTEST(work_cancel)
{
    ASSERT(begin());
    for (unsigned i = 0; i < COUNT; i++) {
        nk_work_post(queue, &items[i].work);
    }
    for (unsigned i = 1; i < COUNT; i += 2) {
        EXPECT(nk_work_cancel(queue, &items[i].work));
        EXPECT(!nk_work_cancel(queue, &items[i].work));
    }
    nk_semaphore_up(&gate);
    nk_work_flush(queue);
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT_EQ(items[i].runs, i % 2 == 0);
    }
    end();
}

static volatile bool inside;

static void take_long(struct nk_work *w)
{
    inside = true;
    nk_thread_sleep_ns(2 * MS);
    note(w);
    inside = false;
}

KTEST(work_cancel_waits_for_the_end)
{
    ASSERT(begin());
    nk_work_init(&items[1].work, take_long);
    for (unsigned i = 0; i < 20; i++) {
        nk_work_post(queue, &items[1].work);
        nk_thread_sleep_ns(i * MS / 8);
        nk_work_cancel(queue, &items[1].work);
        EXPECT(!inside);
    }
    end();
}

static void post_again(struct nk_work *w)
{
    note(w);
    if (NK_CONTAINER_OF(w, struct numbered, work)->runs < 10) {
        EXPECT(nk_work_post(queue, w));
    }
}

static void post_from_timer(struct nk_timer *timer)
{
    (void)timer;
    nk_work_post(queue, &items[3].work);
}

KTEST(work_from_anywhere)
{
    static struct nk_timer timer;
    ASSERT(begin());
    nk_work_init(&items[2].work, post_again);
    nk_work_post(queue, &items[2].work);
    for (unsigned i = 0; i < 11; i++) {
        nk_work_flush(queue);
    }
    EXPECT_EQ(items[2].runs, 10);
    nk_timer_init(&timer, post_from_timer);
    nk_timer_arm(&timer, x86_rdtsc() + nk_ns_to_tsc(MS / 10));
    uint64_t limit = nk_now_ns() + 5000 * MS;
    while (__atomic_load_n(&items[3].runs, __ATOMIC_RELAXED) == 0 && nk_now_ns() < limit) {
        nk_thread_sleep_ns(MS / 10);
    }
    EXPECT_EQ(items[3].runs, 1);
    end();
}

#define QUEUES 4
#define ROUNDS 400

static struct nk_work_queue *queue_table[QUEUES];
static struct in_order {
    struct nk_work work;
    unsigned queue, number;
} posted_table[QUEUES][ROUNDS];
static unsigned next_number[QUEUES], inside_queue[QUEUES], misplaced;
static uint64_t ran_on; /* atomic, like those above */

/* In its queue's order, with no other of its queue, on the service's CPUs. */
static void check_order(struct nk_work *w)
{
    struct in_order *n = NK_CONTAINER_OF(w, struct in_order, work);
    bool alone = __atomic_fetch_add(&inside_queue[n->queue], 1, __ATOMIC_ACQ_REL) == 0;
    __atomic_fetch_or(&ran_on, UINT64_C(1) << this_cpu->id, __ATOMIC_RELAXED);
    if (!alone || next_number[n->queue]++ != n->number) {
        __atomic_fetch_add(&misplaced, 1, __ATOMIC_RELAXED);
    }
    if (n->queue == 0 && n->number == 0) {
        nk_semaphore_down(&gate);
    } else if (n->number == ROUNDS - 1) {
        nk_semaphore_up(&gate);
    } else if (n->number % 8 == 0) {
        nk_thread_yield();
    }
    __atomic_fetch_sub(&inside_queue[n->queue], 1, __ATOMIC_ACQ_REL);
}

static void post_all(void *arg)
{
    const unsigned q = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        posted_table[q][i] = (struct in_order){.queue = q, .number = i};
        nk_work_init(&posted_table[q][i].work, check_order);
        EXPECT(nk_work_post(queue_table[q], &posted_table[q][i].work));
    }
}

/* Several threads, several queues: each in order, all served though the first blocks until another
 * is through, on the CPUs of the set. */
KTEST(work_several_threads)
{
    const unsigned cpu = nk_cpu_count - 1;
    static const char *const names[QUEUES] = {"test 0", "test 1", "test 2", "test 3"};
    struct nk_thread *t[QUEUES];
    ASSERT(begin_with(3, UINT64_C(1) << cpu));
    misplaced = 0;
    ran_on = 0;
    for (unsigned i = 0; i < QUEUES; i++) {
        next_number[i] = 0;
        ASSERT_EQ(nk_work_queue_create(&queue_table[i], names[i], service), 0);
        ASSERT_EQ(nk_thread_start(&t[i], NULL, post_all, (void *)(uintptr_t)i), 0);
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
        nk_work_flush(queue_table[i]);
        EXPECT_EQ(next_number[i], ROUNDS);
    }
    EXPECT_EQ(misplaced, 0);
    EXPECT_EQ(ran_on, UINT64_C(1) << cpu);
    for (unsigned i = 0; i < QUEUES; i++) {
        nk_work_queue_destroy(queue_table[i]);
    }
    end();
}

KTEST(work_cpus_change)
{
    const uint64_t none = UINT64_C(1) << (nk_cpu_count % 64);
    ASSERT(begin());
    if (nk_cpu_count < 64) {
        EXPECT_EQ(nk_work_service_set_cpus(service, none), -EINVAL);
    }
    nk_semaphore_up(&gate);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        ran_on = 0;
        next_number[0] = 0;
        EXPECT_EQ(nk_work_service_set_cpus(service, UINT64_C(1) << cpu), 0);
        queue_table[0] = queue;
        post_all(0);
        nk_work_flush(queue);
        EXPECT_EQ(ran_on, UINT64_C(1) << cpu);
    }
    end();
}

KTEST(work_names)
{
    struct nk_work_queue *second;
    struct nk_work_queue_info info = {.threads = 0};
    const struct nk_work_service_attr many = {.name = "many", .threads = NK_WORK_THREADS_MAX + 1};
    ASSERT(begin());
    EXPECT(nk_work_queue_find("test") == queue);
    EXPECT(nk_work_queue_find("tes") == NULL);
    EXPECT_EQ(nk_work_queue_create(&second, "test", service), -EEXIST);
    unsigned n = 0;
    while (nk_work_queue_get_info(n, &info) && strcmp(info.name, "test") != 0) {
        n++;
    }
    EXPECT_STREQ(info.name, "test");
    EXPECT_STREQ(info.service, "test");
    EXPECT_EQ(info.threads, 1);
    EXPECT(!info.running);
    EXPECT_EQ(nk_work_service_create(&service, &many), -EINVAL);
    end();
}

/* --- thread-local values ---------------------------------------------------------------------- */

static unsigned key, destroyed;

static void destroy_value(void *value)
{
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
    kfree(value);
}

static void use_value(void *arg)
{
    EXPECT(nk_tls_get(key) == NULL);
    if (arg != NULL) {
        unsigned *mine = kmalloc(sizeof(*mine));
        ASSERT(mine != NULL);
        *mine = this_cpu->id;
        nk_tls_set(key, mine);
        nk_thread_yield();
        EXPECT(nk_tls_get(key) == mine);
    }
}

KTEST(tls_values)
{
    static bool made;
    if (!made) {
        ASSERT_EQ(nk_tls_key_create(&key, destroy_value), 0);
        made = true;
    }
    destroyed = 0;
    struct nk_thread *t[6];
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        ASSERT_EQ(nk_thread_start(&t[i], NULL, use_value, i % 2 == 0 ? t : NULL), 0);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
    }
    EXPECT_EQ(destroyed, 3);
    EXPECT_EQ(nk_thread_run(t[0]), 0); /* again, without a value of before */
    EXPECT_EQ(nk_thread_join(t[0]), 0);
    EXPECT_EQ(destroyed, 4);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    EXPECT(nk_tls_get(key) == NULL);
}
