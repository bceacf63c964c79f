/* Inside sched/ only: priority inheritance, between the mutex and the threads.
 *
 * Threading: `lend_lock` protects what is lent by whom; it is outside of every mutex's line, whose
 * lock is outside of nothing here. It is taken only where a thread waits for one with a lower fixed
 * priority than its own urgency, so that mutexes among equals never meet at it. */
#pragma once

#include "sched/waitqueue.h"

extern struct nk_spinlock lend_lock;

/* A thread is about to stand in the mutex's line, and has left it for good. From the first to the
 * second the mutex stays; no lock held. */
void lend_begin_wait(struct nk_thread *t, struct nk_mutex *m);
void lend_end_wait(struct nk_thread *t, struct nk_mutex *m);

/* The mutex's line has changed: its owner gets what the line lends, and so on along the chain.
 * No lock held; the caller is between the two above. */
void lend_along(struct nk_mutex *m);

/* The same for one mutex: what its line lends to the owner. lend_lock and the line's lock held. */
bool lend_offer(struct nk_mutex *m, struct nk_thread *owner);
void lend_take_back(struct nk_mutex *m, struct nk_thread *owner);

/* In nk_mutex.owner: somebody waits, so that unlocking takes the long way. */
#define MUTEX_CONTENDED ((uintptr_t)1)

static inline struct nk_thread *mutex_owner(const struct nk_mutex *m)
{
    return (struct nk_thread *)(__atomic_load_n(&m->owner, __ATOMIC_RELAXED) & ~MUTEX_CONTENDED);
}
