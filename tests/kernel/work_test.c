/* Tests of sched/work.c and sched/tls.c. */
#include "sched/work.h"

#include <errno.h>

#include "base/x86.h"
#include "mm/slab.h"
#include "sched/timer.h"
#include "sched/tls.h"
#include "tests/kernel/ktest.h"

#define MS    UINT64_C(1000000) /* ns */
#define COUNT 50

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

static bool begin(void)
{
    order_count = 0;
    nk_semaphore_init(&gate, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        nk_work_init(&items[i].work, i == 0 ? wait_at_gate : note);
        items[i].number = i;
        items[i].runs = 0;
    }
    return nk_work_queue_create(&queue, NULL) == 0;
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
    nk_work_queue_destroy(queue); /* runs it first */
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
    nk_work_queue_destroy(queue);
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
    nk_work_queue_destroy(queue);
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
    uint64_t end = nk_now_ns() + 5000 * MS;
    while (__atomic_load_n(&items[3].runs, __ATOMIC_RELAXED) == 0 && nk_now_ns() < end) {
        nk_thread_sleep_ns(MS / 10);
    }
    EXPECT_EQ(items[3].runs, 1);
    nk_work_queue_destroy(queue);
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
