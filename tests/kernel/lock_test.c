/* Lock torture, sequence locks, children. */
#include <string.h>

#include "base/mcs.h"
#include "base/seqlock.h"
#include "base/spinlock.h"
#include "kernel/symbols.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS      UINT64_C(1000000) /* ns */
#define WORKERS 6
#define ROUNDS  3000

static void start_all(struct nk_thread **t, nk_thread_fn fn)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        struct nk_thread_attr attr = {.name = "torture", .cpu = (int)(i % nk_cpu_count)};
        EXPECT_EQ(nk_thread_start(&t[i], &attr, fn, (void *)(uint64_t)(i + 1)), 0);
    }
}

static void finish_all(struct nk_thread **t)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        EXPECT_EQ(nk_thread_join(t[i]), 0);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
}

/* --- torture ---------------------------------------------------------------------------------- */

enum lock_kind { TICKET, TICKET_IRQ, MCS, MUTEX, WRITER, KINDS };

static struct nk_spinlock ticket = NK_SPINLOCK_INIT(NK_RANK_DEVICE);
static struct nk_spinlock ticket_irq = NK_SPINLOCK_INIT(NK_RANK_DEVICE);
static struct nk_mcs_lock mcs = NK_MCS_INIT(NK_RANK_DEVICE);
static struct nk_mutex mutex;
static struct nk_rwlock rwlock;

static struct guarded {
    volatile uint64_t a, b; /* changed one after the other: equal whenever the lock is free */
} guarded[KINDS];
static uint64_t torn; /* atomic */

static void change(enum lock_kind kind)
{
    struct guarded *g = &guarded[kind];
    if (g->a != g->b) {
        __atomic_add_fetch(&torn, 1, __ATOMIC_RELAXED);
    }
    g->a = g->a + 1;
    x86_pause();
    g->b = g->b + 1;
}

static void change_locked(enum lock_kind kind)
{
    struct nk_mcs_node node;
    uint64_t flags;
    switch (kind) {
    case TICKET:
        nk_spin_lock(&ticket);
        change(kind);
        nk_spin_unlock(&ticket);
        break;
    case TICKET_IRQ:
        flags = nk_spin_lock_irqsave(&ticket_irq);
        change(kind);
        nk_spin_unlock_irqrestore(&ticket_irq, flags);
        break;
    case MCS:
        nk_mcs_lock(&mcs, &node);
        change(kind);
        nk_mcs_unlock(&mcs, &node);
        break;
    case MUTEX:
        nk_mutex_lock(&mutex);
        change(kind);
        nk_mutex_unlock(&mutex);
        break;
    default:
        nk_rwlock_write_lock(&rwlock);
        change(kind);
        nk_rwlock_write_unlock(&rwlock);
    }
}

static void torture(void *arg)
{
    uint64_t seed = (uint64_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        change_locked((enum lock_kind)(i % KINDS));
        uint64_t dice = ktest_random(&seed) % 64;
        if (dice == 0) {
            nk_thread_yield();
        } else if (dice < 4) {
            nk_rwlock_read_lock(&rwlock);
            if (guarded[WRITER].a != guarded[WRITER].b) {
                __atomic_add_fetch(&torn, 1, __ATOMIC_RELAXED);
            }
            nk_rwlock_read_unlock(&rwlock);
        }
    }
}

KTEST(lock_torture)
{
    struct nk_thread *t[WORKERS];
    nk_mutex_init(&mutex);
    nk_rwlock_init(&rwlock);
    torn = 0;
    start_all(t, torture);
    finish_all(t);
    EXPECT_EQ(torn, 0);
    EXPECT(mcs.tail == NULL);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        EXPECT_EQ(guarded[kind].a, WORKERS * ROUNDS / KINDS);
        EXPECT_EQ(guarded[kind].b, WORKERS * ROUNDS / KINDS);
    }
}

/* --- sequence locks --------------------------------------------------------------------------- */

static struct nk_seqlock sequence = NK_SEQLOCK_INIT(NK_RANK_DEVICE);
static struct guarded published;

static void read_and_write(void *arg)
{
    uint64_t me = (uint64_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (me <= 2) {
            uint64_t flags = nk_seq_write_lock(&sequence);
            published.a = published.a + 1;
            x86_pause();
            published.b = published.b + 1;
            nk_seq_write_unlock(&sequence, flags);
            continue;
        }
        uint64_t a, b;
        uint32_t begin;
        do {
            begin = nk_seq_read_begin(&sequence);
            a = published.a;
            b = published.b;
        } while (!nk_seq_read_ok(&sequence, begin));
        if (a != b) {
            __atomic_add_fetch(&torn, 1, __ATOMIC_RELAXED);
        }
    }
}

KTEST(lock_sequence)
{
    struct nk_thread *t[WORKERS];
    published = (struct guarded){0, 0};
    torn = 0;
    start_all(t, read_and_write);
    finish_all(t);
    EXPECT_EQ(torn, 0);
    EXPECT_EQ(published.a, 2 * ROUNDS);
}

/* --- debug builds ------------------------------------------------------------------------------
 */

static struct nk_spinlock outer = NK_SPINLOCK_INIT(NK_RANK_DEVICE);
static struct nk_spinlock inner = NK_SPINLOCK_INIT(NK_RANK_BUDDY);

KPANIC(lock_order)
{
    nk_spin_lock(&inner);
    nk_spin_lock(&outer);
}

KPANIC(lock_order_mcs)
{
    struct nk_mcs_node node;
    nk_spin_lock(&inner);
    nk_mcs_lock(&mcs, &node);
}

KPANIC(lock_of_another)
{
    nk_spin_unlock(&outer);
}

static void hold_for(uint64_t ns)
{
    nk_spin_lock(&outer);
    uint64_t end = x86_rdtsc() + nk_ns_to_tsc(ns);
    while (x86_rdtsc() < end) {
        x86_pause();
    }
    nk_spin_unlock(&outer);
}

KTEST(lock_held_too_long)
{
#if defined(CONFIG_DEBUG)
    const unsigned usual = nk_spinlock_held_ms;
    uint64_t offset, before = nk_spinlock_held_last.count;
    nk_spinlock_held_ms = 2000;
    hold_for(MS);
    EXPECT_EQ(nk_spinlock_held_last.count, before);
    nk_spinlock_held_ms = 2;
    bool found = false;
    for (unsigned i = 0; i < 10 && !found; i++) { /* others' locks may be reported, too */
        hold_for(3 * MS);
        const char *name = nk_symbol_lookup((uint64_t)nk_spinlock_held_last.where, &offset);
        found = name != NULL && strcmp(name, "hold_for") == 0;
    }
    nk_spinlock_held_ms = usual;
    EXPECT(found);
    EXPECT_GT(nk_spinlock_held_last.count, before);
#else
    hold_for(MS);
    ktest_skip("needs a debug build");
#endif
}

/* --- children --------------------------------------------------------------------------------- */

static unsigned ended; /* atomic */

static void end_later(void *arg)
{
    nk_thread_sleep_ns((uint64_t)arg * MS);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
}

static void have_children(void *arg)
{
    (void)arg;
    struct nk_thread *t[4], *unstarted;
    ended = 0;
    nk_thread_join_children(); /* none */
    ASSERT_EQ(nk_thread_create(&unstarted, NULL, end_later, NULL), 0);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        ASSERT_EQ(nk_thread_start(&t[i], NULL, end_later, (void *)(uint64_t)(3 * i)), 0);
    }
    nk_thread_join_children();
    EXPECT_EQ(ended, NK_ARRAY_COUNT(t));
    for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
        EXPECT_EQ(nk_thread_get_state(t[i]), NK_THREAD_DONE);
        EXPECT_EQ(nk_thread_destroy(t[i]), 0);
    }
    EXPECT_EQ(nk_thread_destroy(unstarted), 0);
}

/* In a thread of its own: the one that runs the tests has children that never end. */
KTEST(thread_join_children)
{
    struct nk_thread *t;
    ASSERT_EQ(nk_thread_start(&t, NULL, have_children, NULL), 0);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

static void note_arg(void *arg)
{
    *(uint64_t *)arg = this_cpu->id + 100;
}

static void clone_self(void *arg)
{
    struct nk_thread *t;
    ASSERT_EQ(nk_thread_clone(&t, note_arg, arg), 0);
    EXPECT_STREQ(nk_thread_name(t), "original");
    nk_thread_join_children();
    struct nk_thread_info info = {.id = 0};
    EXPECT(nk_thread_next_info(nk_thread_id(t) - 1, &info));
    EXPECT_EQ(info.priority, 7);
    EXPECT(info.pinned);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

KTEST(thread_clone)
{
    struct nk_thread *t;
    uint64_t ran_on = 0;
    struct nk_thread_attr attr = {
        .name = "original", .cpu = (int)nk_cpu_count - 1, .priority = 7, .fp = true};
    ASSERT_EQ(nk_thread_start(&t, &attr, clone_self, &ran_on), 0);
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    EXPECT_EQ(ran_on, nk_cpu_count - 1 + 100);
}
