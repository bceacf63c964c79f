/* Mutexes. A free one is taken, and one without waiters given back, by one exchange; with waiters
 * the owner hands it over, so that nobody overtakes. Who waits lends its urgency: sched/lend.c. */
#include "base/percpu.h"
#include "base/platform.h"
#include "sched/lend.h"

#define FOREVER UINT64_MAX

void nk_mutex_init(struct nk_mutex *m)
{
    *m = (struct nk_mutex){.owner = 0};
    nk_waitqueue_init(&m->wq);
}

static bool owner_exchange(struct nk_mutex *m, uintptr_t *from, uintptr_t to)
{
    return __atomic_compare_exchange_n(&m->owner, from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* In line from before the lock is released; out of it, at the deadline, with false. */
static bool wait_in_line(struct nk_mutex *m, struct nk_thread *self, uint64_t tsc)
{
    struct waiter w;
    waitqueue_enter(&m->wq, &w);
    const bool lends = thread_urgency(self) > mutex_owner(m)->own_priority;
    waitqueue_unlock(&m->wq);
    if (lends) {
        lend_along(m);
    }
    if (tsc == FOREVER) {
        sched_wait(&self->wait);
        return true;
    }
    if (waitqueue_await(&m->wq, &w, tsc)) {
        return true;
    }
    if (__atomic_load_n(&m->lends, __ATOMIC_RELAXED)) {
        lend_along(m);
    }
    return false;
}

static NK_NOINLINE bool lock_slow(struct nk_mutex *m, uint64_t tsc)
{
    struct nk_thread *self = nk_thread_current();
    bool taken = true;
    lend_begin_wait(self, m);
    waitqueue_lock_to_block(&m->wq);
    uintptr_t owner = __atomic_load_n(&m->owner, __ATOMIC_RELAXED);
    while (!owner_exchange(m, &owner, owner == 0 ? (uintptr_t)self : owner | MUTEX_CONTENDED)) {
    }
    if (owner == 0) {
        waitqueue_unlock(&m->wq);
    } else {
        taken = wait_in_line(m, self, tsc);
    }
    lend_end_wait(self, m);
    return taken;
}

bool nk_mutex_try_lock(struct nk_mutex *m)
{
    uintptr_t self = (uintptr_t)nk_thread_current();
    uintptr_t owner = 0;
    if (nk_likely(owner_exchange(m, &owner, self))) {
        return true;
    }
    if ((owner & ~MUTEX_CONTENDED) != self) {
        return false;
    }
    m->depth++;
    return true;
}

void nk_mutex_lock(struct nk_mutex *m)
{
    if (nk_unlikely(!nk_mutex_try_lock(m))) {
        lock_slow(m, FOREVER);
    }
}

bool nk_mutex_lock_until(struct nk_mutex *m, uint64_t tsc)
{
    return nk_mutex_try_lock(m) || lock_slow(m, tsc);
}

/* The most urgent waiter, the first of several; NULL: all have given up. */
static struct waiter *choose(const struct nk_mutex *m)
{
    struct waiter *best = NULL;
    uint64_t most = 0;
    struct nk_list *link;
    nk_list_for_each(link, &m->wq.waiters)
    {
        struct waiter *w = nk_list_entry(link, struct waiter, link);
        uint64_t urgency = thread_urgency(w->thread);
        if (best == NULL || urgency > most) {
            best = w;
            most = urgency;
        }
    }
    return best;
}

/* Hand it over; the line's lock is held, and lend_lock if `lending`. False: what is to be done
 * needs lend_lock. *next: NULL when nobody wants it any more, and it is not contended from now on.
 */
static bool hand_over(struct nk_mutex *m, bool lending, struct nk_thread **next)
{
    struct nk_thread *self = nk_thread_current();
    struct waiter *w = choose(m);
    if (!lending && (m->lends || (w != NULL && w->thread->lending.lent != 0))) {
        return false;
    }
    *next = w != NULL ? w->thread : NULL;
    if (w != NULL) {
        nk_list_remove(&w->link);
    }
    bool more = !nk_list_empty(&m->wq.waiters);
    struct nk_thread *owner = w != NULL ? w->thread : self;
    __atomic_store_n(&m->owner, (uintptr_t)owner | (more ? MUTEX_CONTENDED : 0), __ATOMIC_RELEASE);
    if (m->lends) {
        lend_take_back(m, self);
    }
    if (lending && more) {
        lend_offer(m, owner);
    }
    return true;
}

/* False: it is still the caller's, and nobody's in line. It must be given back by an exchange then:
 * who takes it may free it, and this would still have to release the line's lock. */
static bool unlock_in_line(struct nk_mutex *m)
{
    struct nk_thread *next;
    bool lending = __atomic_load_n(&m->lends, __ATOMIC_RELAXED), done;
    uint64_t flags = nk_irq_save();
    do {
        if (lending) {
            nk_spinlock_acquire(&lend_lock);
        }
        nk_spinlock_acquire(&m->wq.lock);
        done = hand_over(m, lending, &next);
        nk_spinlock_release(&m->wq.lock);
        if (lending) {
            nk_spinlock_release(&lend_lock);
        }
        lending = true;
    } while (!done);
    if (next != NULL) {
        sched_signal_irqs_off(next, &next->wait);
    }
    sched_after_wake(flags);
    return next != NULL;
}

static NK_NOINLINE void unlock_slow(struct nk_mutex *m, uintptr_t self)
{
    uintptr_t owner;
    do {
        if (unlock_in_line(m)) {
            return;
        }
        owner = self;
    } while (!owner_exchange(m, &owner, 0));
}

void nk_mutex_unlock(struct nk_mutex *m)
{
    const uintptr_t self = (uintptr_t)nk_thread_current();
    nk_assert((__atomic_load_n(&m->owner, __ATOMIC_RELAXED) & ~MUTEX_CONTENDED) == self);
    if (m->depth > 0) {
        m->depth--;
        return;
    }
    uintptr_t owner = self;
    if (nk_unlikely(!owner_exchange(m, &owner, 0))) {
        unlock_slow(m, self);
    }
}
