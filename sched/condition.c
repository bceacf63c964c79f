/* Conditions and barriers. */
#include "sched/sync.h"
#include "sched/waitqueue.h"

void nk_condition_init(struct nk_condition *c)
{
    nk_waitqueue_init(&c->wq);
}

/* Stand in line, and only then give the mutex up: who changes what is waited for, holding it, finds
 * the waiter. Returns how often it was held beyond once. */
static unsigned enter(struct nk_condition *c, struct nk_mutex *m, struct waiter *w)
{
    waitqueue_lock_to_block(&c->wq);
    waitqueue_enter(&c->wq, w);
    waitqueue_unlock(&c->wq);
    unsigned depth = m->depth;
    m->depth = 0;
    nk_mutex_unlock(m);
    return depth;
}

static void take_back(struct nk_mutex *m, unsigned depth)
{
    nk_mutex_lock(m);
    m->depth = depth;
}

void nk_condition_wait(struct nk_condition *c, struct nk_mutex *m)
{
    struct waiter w;
    unsigned depth = enter(c, m, &w);
    sched_wait(&w.thread->wait);
    take_back(m, depth);
}

bool nk_condition_wait_until(struct nk_condition *c, struct nk_mutex *m, uint64_t tsc)
{
    struct waiter w;
    unsigned depth = enter(c, m, &w);
    bool signalled = waitqueue_await(&c->wq, &w, tsc);
    take_back(m, depth);
    return signalled;
}

void nk_condition_signal(struct nk_condition *c)
{
    nk_waitqueue_wake(&c->wq, 1);
}

void nk_condition_broadcast(struct nk_condition *c)
{
    unsigned count = 0; /* those who come later wait for the next one */
    struct nk_list *link;
    uint64_t flags = nk_spin_lock_irqsave(&c->wq.lock);
    nk_list_for_each(link, &c->wq.waiters)
    {
        count++;
    }
    nk_spin_unlock_irqrestore(&c->wq.lock, flags);
    nk_waitqueue_wake(&c->wq, count);
}

void nk_barrier_init(struct nk_barrier *b, unsigned count)
{
    nk_assert(count > 0);
    nk_waitqueue_init(&b->wq);
    b->count = count;
    b->arrived = 0;
}

bool nk_barrier_wait(struct nk_barrier *b)
{
    waitqueue_lock_to_block(&b->wq);
    if (++b->arrived < b->count) {
        waitqueue_sleep(&b->wq);
        return false;
    }
    /* The last one opens it; who arrives from now on waits for the next opening. */
    struct nk_list waiters;
    b->arrived = 0;
    waitqueue_take_all(&b->wq, &waiters);
    waitqueue_unlock(&b->wq);
    waitqueue_signal_all(&waiters);
    return true;
}
