/* Reader-writer locks: threads enter in the order of their coming, readers next to each other
 * together. Who leaves last lets the next in, so that a lock is never free while somebody waits. */
#include "sched/sync.h"
#include "sched/waitqueue.h"

#define WRITER (-1)

struct rw_waiter {
    struct waiter in_line; /* first: the line knows no more of it */
    bool writes;
};

void nk_rwlock_init(struct nk_rwlock *l)
{
    nk_waitqueue_init(&l->wq);
    l->active = 0;
}

static void enter(struct nk_rwlock *l, bool writes)
{
    waitqueue_lock_to_block(&l->wq);
    bool fits = writes ? l->active == 0 : l->active >= 0;
    if (fits && nk_list_empty(&l->wq.waiters)) {
        l->active = writes ? WRITER : l->active + 1;
        waitqueue_unlock(&l->wq);
        return;
    }
    struct rw_waiter w = {.writes = writes};
    waitqueue_enter(&l->wq, &w.in_line);
    nk_spinlock_release(&l->wq.lock);
    sched_wait_irqs_off(w.in_line.thread, &w.in_line.thread->wait);
}

/* Nobody is inside: let the next in. Lock held. */
static void admit(struct nk_rwlock *l)
{
    while (l->active >= 0 && !nk_list_empty(&l->wq.waiters)) {
        bool writes = nk_list_entry(l->wq.waiters.next, struct rw_waiter, in_line.link)->writes;
        if (writes && l->active > 0) {
            return;
        }
        l->active = writes ? WRITER : l->active + 1;
        struct nk_thread *t = waitqueue_pop(&l->wq);
        sched_signal_irqs_off(t, &t->wait);
    }
}

void nk_rwlock_read_lock(struct nk_rwlock *l)
{
    enter(l, false);
}

void nk_rwlock_write_lock(struct nk_rwlock *l)
{
    enter(l, true);
}

void nk_rwlock_read_unlock(struct nk_rwlock *l)
{
    uint64_t flags = nk_spin_lock_irqsave(&l->wq.lock);
    nk_assert(l->active > 0);
    if (--l->active == 0) {
        admit(l);
    }
    nk_spinlock_release(&l->wq.lock);
    sched_after_wake(flags);
}

void nk_rwlock_write_unlock(struct nk_rwlock *l)
{
    uint64_t flags = nk_spin_lock_irqsave(&l->wq.lock);
    nk_assert(l->active == WRITER);
    l->active = 0;
    admit(l);
    nk_spinlock_release(&l->wq.lock);
    sched_after_wake(flags);
}
