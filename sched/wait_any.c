/* Waiting for several things at once: the thread stands in all their lines, and whoever comes first
 * wakes it. Its waiters are marked (waiter_mark_of_many()), since what signals one of them must not
 * do so later than it lets go of the line's lock: once the thread has left a line under its lock,
 * no signal of that line is under way. */
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

/* --- wait queues ------------------------------------------------------------------------------ */

static bool queue_enter(const struct nk_wait_item *item, struct waiter *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&item->waitqueue->lock);
    bool ready = item->ready(item->arg);
    waitqueue_enter(item->waitqueue, w);
    waiter_mark_of_many(w);
    nk_spin_unlock_irqrestore(&item->waitqueue->lock, flags);
    return ready;
}

/* *woken: a wake was spent on this thread. */
static bool queue_leave(const struct nk_wait_item *item, struct waiter *w, bool *woken)
{
    uint64_t flags = nk_spin_lock_irqsave(&item->waitqueue->lock);
    *woken = nk_list_empty(&w->link);
    if (!*woken) {
        nk_list_remove(&w->link);
    }
    bool ready = item->ready(item->arg);
    nk_spin_unlock_irqrestore(&item->waitqueue->lock, flags);
    return ready;
}

/* --- all of them ------------------------------------------------------------------------------ */

/* What stands for the item; NULL: it is no semaphore and no queue of messages. */
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
    if (s != NULL) {
        return semaphore_enter(s, w);
    }
    return item->kind == NK_WAIT_QUEUE ? queue_enter(item, w) : event_enter(item->event, w);
}

/* What has to be given back, should another item be the one that is chosen. */
enum spare { SPARE_NOTHING, SPARE_DOWN, SPARE_WAKE };

static bool leave(const struct nk_wait_item *item, struct waiter *w, enum spare *spare)
{
    struct nk_semaphore *s = semaphore_of(item);
    bool woken = false, taken;
    if (s != NULL) {
        taken = semaphore_leave(s, w);
        *spare = taken ? SPARE_DOWN : SPARE_NOTHING;
        return taken;
    }
    taken =
        item->kind == NK_WAIT_QUEUE ? queue_leave(item, w, &woken) : event_leave(item->event, w);
    *spare = woken ? SPARE_WAKE : SPARE_NOTHING;
    return taken;
}

static void give_back(const struct nk_wait_item *item, enum spare spare)
{
    if (spare == SPARE_DOWN) {
        nk_semaphore_up(semaphore_of(item));
    } else if (spare == SPARE_WAKE) {
        nk_waitqueue_wake(item->waitqueue, 1);
    }
}

static void finish(const struct nk_wait_item *item)
{
    if (item->kind == NK_WAIT_RECEIVE) {
        queue_get(item->queue, item->message);
    } else if (item->kind == NK_WAIT_SEND) {
        queue_put(item->queue, item->message);
    }
}

/* Once in all lines. Those behind one that is ready at once are not entered. More than one may be
 * taken by the time all lines are left: all but the first are given back. False: no time is left.
 */
static bool wait_once(const struct nk_wait_item *items, unsigned count, uint64_t tsc, int *first)
{
    struct waiter w[NK_WAIT_MAX];
    enum spare spare[NK_WAIT_MAX];
    struct nk_thread *self = nk_thread_current();
    unsigned entered = 0;
    bool ready = false, in_time = true;
    while (entered < count && !ready) {
        ready = enter(&items[entered], &w[entered]);
        entered++;
    }
    if (!ready && tsc == UINT64_MAX) {
        sched_wait(&self->wait);
    } else if (!ready) {
        in_time = sched_wait_until(&self->wait, tsc) == WAIT_TOKEN;
    }
    for (unsigned i = 0; i < entered; i++) {
        bool taken = leave(&items[i], &w[i], &spare[i]);
        if (taken && *first < 0) {
            *first = (int)i;
            spare[i] = SPARE_NOTHING;
        }
    }
    __atomic_exchange_n(&self->wait, WAIT_NOTHING, __ATOMIC_ACQ_REL);
    for (unsigned i = 0; i < entered && *first >= 0; i++) {
        give_back(&items[i], spare[i]);
    }
    return in_time;
}

int nk_wait_any(const struct nk_wait_item *items, unsigned count, uint64_t tsc)
{
    int first = -ETIMEDOUT;
    nk_assert(count > 0 && count <= NK_WAIT_MAX);
    sched_check_may_block();
    while (wait_once(items, count, tsc, &first) && first < 0) {
        /* A wait queue was woken, and what is waited for there has not come, or not for long. */
    }
    if (first >= 0) {
        finish(&items[first]);
    }
    return first;
}
