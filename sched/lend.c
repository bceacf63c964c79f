/* Priority inheritance. What a thread is lent is the most that any line of a mutex it holds offers.
 * Whoever changes a line works that out for its owner and goes on, while something changes, to the
 * mutex that the owner waits for. A thread's place in a run queue is its CPU's business: it is told
 * by an order. */
#include "sched/lend.h"

#include "base/x86.h"

#define PINNED ((uintptr_t)1) /* in waits_for */

/* Of thread_lending.told. */
enum { TOLD_NOTHING, TOLD_SEEN, TOLD_NEWS };

struct nk_spinlock lend_lock = NK_SPINLOCK_INIT(NK_RANK_THREAD);

/* --- telling a thread's CPU ------------------------------------------------------------------- */

/* The thread may have moved: then the order goes on to where it is. News that come meanwhile are
 * looked at here; when there are none the thread is not touched again, and may be destroyed. */
static void hear(struct sched_rq *rq, struct sched_order *order)
{
    struct nk_thread *t = NK_CONTAINER_OF(order, struct nk_thread, lending.order);
    uint32_t seen;
    do {
        __atomic_store_n(&t->lending.told, TOLD_SEEN, __ATOMIC_SEQ_CST);
        if (!sched_apply_urgency(rq, t)) {
            sched_order(__atomic_load_n(&t->cpu, __ATOMIC_RELAXED), order);
            return;
        }
        deadline_lent(t);
        seen = TOLD_SEEN;
    } while (!__atomic_compare_exchange_n(&t->lending.told, &seen, TOLD_NOTHING, false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
}

static void tell(struct nk_thread *t)
{
    if (t == this_cpu->current) {
        sched_apply_urgency(this_cpu->rq, t);
    } else if (__atomic_exchange_n(&t->lending.told, TOLD_NEWS, __ATOMIC_ACQ_REL) == TOLD_NOTHING) {
        sched_order(__atomic_load_n(&t->cpu, __ATOMIC_RELAXED), &t->lending.order);
    }
}

void lending_init(struct nk_thread *t)
{
    nk_list_init(&t->lending.lenders);
    t->lending.order.fn = hear;
}

void lending_wait_told(const struct nk_thread *t)
{
    while (__atomic_load_n(&t->lending.told, __ATOMIC_ACQUIRE) != TOLD_NOTHING) {
        x86_pause();
    }
}

/* --- one mutex -------------------------------------------------------------------------------- */

/* True when it is lent something else than before. */
static bool borrow(struct nk_thread *t)
{
    uint64_t most = 0;
    struct nk_list *link;
    nk_list_for_each(link, &t->lending.lenders)
    {
        uint64_t offer = nk_list_entry(link, struct nk_mutex, lent)->offer;
        most = offer > most ? offer : most;
    }
    if (most == t->lending.lent) {
        return false;
    }
    __atomic_store_n(&t->lending.lent, most, __ATOMIC_SEQ_CST);
    tell(t);
    return true;
}

static void set_lends(struct nk_mutex *m, bool lends)
{
    __atomic_store_n(&m->lends, lends, __ATOMIC_RELAXED);
}

/* Compared with the fixed priority, which never changes: what the owner is lent elsewhere, and a
 * deadline, may be gone when nobody looks at this mutex. */
bool lend_offer(struct nk_mutex *m, struct nk_thread *owner)
{
    uint64_t most = 0;
    struct nk_list *link;
    nk_list_for_each(link, &m->wq.waiters)
    {
        uint64_t urgency = thread_urgency(nk_list_entry(link, struct waiter, link)->thread);
        most = urgency > most ? urgency : most;
    }
    const bool lends = most > owner->own_priority;
    if (m->lends && !lends) {
        nk_list_remove(&m->lent);
    } else if (!m->lends && lends) {
        nk_list_push_back(&owner->lending.lenders, &m->lent);
    }
    m->offer = most;
    set_lends(m, lends);
    return borrow(owner);
}

void lend_take_back(struct nk_mutex *m, struct nk_thread *owner)
{
    nk_list_remove(&m->lent);
    set_lends(m, false);
    borrow(owner);
}

/* --- the chain -------------------------------------------------------------------------------- */

void lend_begin_wait(struct nk_thread *t, struct nk_mutex *m)
{
    __atomic_store_n(&t->lending.waits_for, m, __ATOMIC_SEQ_CST);
}

void lend_end_wait(struct nk_thread *t, struct nk_mutex *m)
{
    struct nk_mutex *unpinned = m;
    while (!__atomic_compare_exchange_n(&t->lending.waits_for, &unpinned, NULL, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        unpinned = m;
        x86_pause();
    }
}

/* What the thread waits for, if anything: it stays in lend_begin_wait..lend_end_wait, and the mutex
 * with it, until it is unpinned. One walker at a time: lend_lock. If the walk has come to the
 * thread by the mutex that it waits for, it has got that by now. */
static struct nk_mutex *pin(struct nk_thread *t)
{
    struct nk_mutex *m = __atomic_load_n(&t->lending.waits_for, __ATOMIC_SEQ_CST);
    if ((uintptr_t)m & PINNED) {
        return NULL;
    }
    while (m != NULL && !__atomic_compare_exchange_n(&t->lending.waits_for, &m,
                                                     (struct nk_mutex *)((uintptr_t)m | PINNED),
                                                     false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
    return m;
}

static void unpin(struct nk_thread *t, struct nk_mutex *m)
{
    __atomic_store_n(&t->lending.waits_for, m, __ATOMIC_RELEASE);
}

/* While there is a line, or the mutex lends, its owner cannot give it back without the line's lock.
 * In a circle of waiting threads the walk ends, too: what they are lent soon stops changing. */
void lend_along(struct nk_mutex *m)
{
    struct nk_thread *pinned = NULL;
    uint64_t flags = nk_spin_lock_irqsave(&lend_lock);
    while (m != NULL) {
        struct nk_mutex *next = NULL;
        nk_spinlock_acquire(&m->wq.lock);
        struct nk_thread *owner = mutex_owner(m);
        if ((m->lends || !nk_list_empty(&m->wq.waiters)) && lend_offer(m, owner)) {
            next = pin(owner);
        }
        nk_spinlock_release(&m->wq.lock);
        if (pinned != NULL) {
            unpin(pinned, m);
        }
        pinned = owner;
        m = next;
    }
    nk_spin_unlock_irqrestore(&lend_lock, flags);
}
