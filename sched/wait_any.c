/* Waiting for several things at once: the thread stands in all their lines, and whoever comes first
 * wakes it. Its waiters are marked (waiter_of_many), since what signals one of them must not do so
 * later than it lets go of the line's lock: once the thread has left a line under its lock, no
 * signal of that line is under way. */
#include "base/errno.h"
#include "sched/semaphore.h"

/* --- semaphores ------------------------------------------------------------------------------- */

/* True: the down is the caller's at once. */
static bool semaphore_enter(struct nk_semaphore *s, struct waiter *w)
{
    if (__atomic_fetch_sub(&s->count, 1, __ATOMIC_ACQUIRE) > 0) {
        return true;
    }
    uint64_t flags = nk_spin_lock_irqsave(&s->wq.lock);
    bool taken = semaphore_take_handover(s);
    if (!taken) {
        waitqueue_enter(&s->wq, w);
        waiter_mark_of_many(w);
        s->special++;
    }
    nk_spin_unlock_irqrestore(&s->wq.lock, flags);
    return taken;
}

/* True: the down is the caller's. When every down has its up, the caller's is under way: it counts
 * as the caller's now, and as one too many (`owed`) when it comes. */
static bool semaphore_leave(struct nk_semaphore *s, struct waiter *w)
{
    bool taken = true;
    uint64_t flags = nk_spin_lock_irqsave(&s->wq.lock);
    if (!nk_list_empty(&w->link)) {
        nk_list_remove(&w->link);
        taken = !semaphore_undo_down(s);
        s->special -= !taken;
        s->owed += taken;
    }
    nk_spin_unlock_irqrestore(&s->wq.lock, flags);
    return taken;
}

void semaphore_up_special(struct nk_semaphore *s, uint64_t flags)
{
    struct waiter *w = waitqueue_first(&s->wq);
    if (s->owed > 0) {
        s->owed--;
        s->special--;
    } else if (nk_list_empty(&s->wq.waiters)) {
        s->handover++;
    } else if (waiter_is_of_many(w)) {
        nk_list_remove(&w->link);
        s->special--;
        sched_signal_irqs_off(waiter_thread(w), &waiter_thread(w)->wait);
    } else {
        struct nk_thread *t = waitqueue_pop(&s->wq);
        nk_spinlock_release(&s->wq.lock);
        sched_signal_irqs_off(t, &t->wait);
        sched_after_wake(flags);
        return;
    }
    nk_spinlock_release(&s->wq.lock);
    sched_after_wake(flags);
}

/* --- events ----------------------------------------------------------------------------------- */

static bool event_enter(struct nk_event *e, struct waiter *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&e->wq.lock);
    bool set = e->set;
    waitqueue_enter(&e->wq, w);
    nk_spin_unlock_irqrestore(&e->wq.lock, flags);
    return set;
}

static bool event_leave(struct nk_event *e, struct waiter *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&e->wq.lock);
    if (!nk_list_empty(&w->link)) {
        nk_list_remove(&w->link);
    }
    bool set = e->set;
    nk_spin_unlock_irqrestore(&e->wq.lock, flags);
    return set;
}

/* --- all of them ------------------------------------------------------------------------------ */

/* What stands for the item; NULL: it is an event. */
static struct nk_semaphore *semaphore_of(const struct nk_wait_item *item)
{
    switch (item->kind) {
    case NK_WAIT_SEMAPHORE:
        return item->semaphore;
    case NK_WAIT_RECEIVE:
        return &item->queue->filled;
    case NK_WAIT_SEND:
        return &item->queue->space;
    default:
        return NULL;
    }
}

static bool enter(const struct nk_wait_item *item, struct waiter *w)
{
    struct nk_semaphore *s = semaphore_of(item);
    nk_list_init(&w->link); /* as out of line, if it is taken at once */
    return s != NULL ? semaphore_enter(s, w) : event_enter(item->event, w);
}

static bool leave(const struct nk_wait_item *item, struct waiter *w)
{
    struct nk_semaphore *s = semaphore_of(item);
    return s != NULL ? semaphore_leave(s, w) : event_leave(item->event, w);
}

static void finish(const struct nk_wait_item *item)
{
    if (item->kind == NK_WAIT_RECEIVE) {
        queue_get(item->queue, item->message);
    } else if (item->kind == NK_WAIT_SEND) {
        queue_put(item->queue, item->message);
    }
}

/* Those behind one that is ready at once are not entered. More than one may be taken by the time
 * all lines are left: all but the first are given back. */
int nk_wait_any(const struct nk_wait_item *items, unsigned count, uint64_t tsc)
{
    struct waiter w[NK_WAIT_MAX];
    struct nk_thread *self = nk_thread_current();
    unsigned entered = 0;
    bool ready = false;
    int first = -ETIMEDOUT;
    nk_assert(count > 0 && count <= NK_WAIT_MAX);
    sched_check_may_block();
    while (entered < count && !ready) {
        ready = enter(&items[entered], &w[entered]);
        entered++;
    }
    if (!ready && tsc == UINT64_MAX) {
        sched_wait(&self->wait);
    } else if (!ready) {
        sched_wait_until(&self->wait, tsc);
    }
    bool spare[NK_WAIT_MAX];
    for (unsigned i = 0; i < entered; i++) {
        bool taken = leave(&items[i], &w[i]);
        spare[i] = taken && first >= 0;
        first = taken && first < 0 ? (int)i : first;
    }
    __atomic_exchange_n(&self->wait, WAIT_NOTHING, __ATOMIC_ACQ_REL);
    for (unsigned i = 0; i < entered; i++) {
        struct nk_semaphore *s = semaphore_of(&items[i]);
        if (spare[i] && s != NULL) {
            nk_semaphore_up(s);
        }
    }
    if (first >= 0) {
        finish(&items[first]);
    }
    return first;
}
