#include "sched/sync.h"

#include "base/percpu.h"
#include "base/platform.h"
#include "sched/semaphore.h"

void nk_waitqueue_init(struct nk_waitqueue *wq)
{
    wq->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_THREAD);
    nk_list_init(&wq->waiters);
}

bool waitqueue_await(struct nk_waitqueue *wq, struct waiter *w, uint64_t tsc)
{
    uint32_t *word = &w->thread->wait;
    if (sched_wait_until(word, tsc) == WAIT_TOKEN) {
        return true;
    }
    uint64_t flags = nk_spin_lock_irqsave(&wq->lock);
    bool in_line = !nk_list_empty(&w->link);
    if (in_line) {
        nk_list_remove(&w->link);
    }
    nk_spin_unlock_irqrestore(&wq->lock, flags);
    if (!in_line) {
        sched_wait(word); /* somebody has taken the waiter off the line: the signal comes */
    }
    return !in_line;
}

void waitqueue_take_all(struct nk_waitqueue *wq, struct nk_list *out)
{
    nk_list_init(out);
    if (!nk_list_empty(&wq->waiters)) {
        nk_list_push_front(&wq->waiters, out);
        nk_list_remove(&wq->waiters);
    }
}

void waitqueue_signal_all(struct nk_list *waiters)
{
    struct nk_list *link;
    while ((link = nk_list_pop_front(waiters)) != NULL) {
        struct nk_thread *t = nk_list_entry(link, struct waiter, link)->thread;
        sched_signal(t, &t->wait);
    }
}

/* Off the line, and woken; with the lock held where it waits for other things, too. */
static bool wake_first(struct nk_waitqueue *wq)
{
    uint64_t flags = nk_spin_lock_irqsave(&wq->lock);
    if (nk_list_empty(&wq->waiters)) {
        nk_spin_unlock_irqrestore(&wq->lock, flags);
        return false;
    }
    struct waiter *w = waitqueue_first(wq);
    struct nk_thread *t = waiter_thread(w);
    bool of_many = waiter_is_of_many(w);
    nk_list_remove(&w->link);
    if (of_many) {
        sched_signal_irqs_off(t, &t->wait);
    }
    nk_spin_unlock_irqrestore(&wq->lock, flags);
    if (!of_many) {
        sched_signal(t, &t->wait);
    }
    return true;
}

unsigned nk_waitqueue_wake(struct nk_waitqueue *wq, unsigned max)
{
    unsigned count = 0;
    while (count < max && wake_first(wq)) {
        count++;
    }
    return count;
}

bool nk_waitqueue_wait(struct nk_waitqueue *wq, bool (*ready)(void *arg), void *arg, uint64_t tsc)
{
    const struct nk_wait_item item = {
        .kind = NK_WAIT_QUEUE, .waitqueue = wq, .ready = ready, .arg = arg};
    return nk_wait_any(&item, 1, tsc) == 0;
}

/* Semaphores. `count` is changed by atomic additions outside the lock: positive, it is what is
 * free; negative, how many downs wait for their up. An up that finds it negative hands over to the
 * first in line, or, when that down has not come to stand in line yet, leaves it a `handover`. */

void nk_semaphore_init(struct nk_semaphore *s, unsigned count)
{
    nk_waitqueue_init(&s->wq);
    s->count = count;
    s->handover = s->special = s->owed = 0;
}

static NK_NOINLINE void down_slow(struct nk_semaphore *s)
{
    waitqueue_lock_to_block(&s->wq);
    if (semaphore_take_handover(s)) {
        waitqueue_unlock(&s->wq);
        return;
    }
    waitqueue_sleep(&s->wq);
}

void nk_semaphore_down(struct nk_semaphore *s)
{
    if (nk_unlikely(__atomic_fetch_sub(&s->count, 1, __ATOMIC_ACQUIRE) <= 0)) {
        down_slow(s);
    }
}

bool nk_semaphore_try_down(struct nk_semaphore *s)
{
    int64_t count = __atomic_load_n(&s->count, __ATOMIC_RELAXED);
    while (count > 0) {
        if (__atomic_compare_exchange_n(&s->count, &count, count - 1, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

bool nk_semaphore_down_until(struct nk_semaphore *s, uint64_t tsc)
{
    if (__atomic_fetch_sub(&s->count, 1, __ATOMIC_ACQUIRE) > 0) {
        return true;
    }
    uint64_t flags = nk_spin_lock_irqsave(&s->wq.lock);
    if (semaphore_take_handover(s)) {
        nk_spin_unlock_irqrestore(&s->wq.lock, flags);
        return true;
    }
    struct waiter w;
    waitqueue_enter(&s->wq, &w);
    nk_spin_unlock_irqrestore(&s->wq.lock, flags);
    uint32_t *word = &w.thread->wait;
    if (sched_wait_until(word, tsc) == WAIT_TOKEN) {
        return true;
    }
    flags = nk_spin_lock_irqsave(&s->wq.lock);
    bool gave_up = !nk_list_empty(&w.link) && semaphore_undo_down(s);
    if (gave_up) {
        nk_list_remove(&w.link);
    }
    nk_spin_unlock_irqrestore(&s->wq.lock, flags);
    if (!gave_up) {
        sched_wait(word);
    }
    return !gave_up;
}

static NK_NOINLINE void up_slow(struct nk_semaphore *s)
{
    uint64_t flags = nk_spin_lock_irqsave(&s->wq.lock);
    if (nk_unlikely(s->special != 0)) {
        semaphore_up_special(s, flags);
        return;
    }
    if (nk_unlikely(nk_list_empty(&s->wq.waiters))) {
        s->handover++;
        nk_spin_unlock_irqrestore(&s->wq.lock, flags);
        return;
    }
    struct nk_thread *t = waitqueue_pop(&s->wq);
    nk_spinlock_release(&s->wq.lock);
    sched_signal_irqs_off(t, &t->wait);
    sched_after_wake(flags);
}

void nk_semaphore_up(struct nk_semaphore *s)
{
    if (nk_unlikely(__atomic_fetch_add(&s->count, 1, __ATOMIC_RELEASE) < 0)) {
        up_slow(s);
    }
}

/* Events. A waiter always takes the lock before it returns, whether it slept or not: the event may
 * lie on its stack, and nk_event_set() must have let go of it. */

void nk_event_init(struct nk_event *e)
{
    nk_waitqueue_init(&e->wq);
    e->set = false;
}

void nk_event_set(struct nk_event *e)
{
    uint64_t flags = nk_spin_lock_irqsave(&e->wq.lock);
    e->set = true;
    while (!nk_list_empty(&e->wq.waiters)) {
        struct nk_thread *t = waitqueue_pop(&e->wq);
        sched_signal_irqs_off(t, &t->wait);
    }
    nk_spinlock_release(&e->wq.lock);
    sched_after_wake(flags);
}

void nk_event_wait(struct nk_event *e)
{
    waitqueue_lock_to_block(&e->wq);
    if (e->set) {
        waitqueue_unlock(&e->wq);
        return;
    }
    waitqueue_sleep(&e->wq);
    waitqueue_lock_to_block(&e->wq);
    waitqueue_unlock(&e->wq);
}

bool nk_event_wait_until(struct nk_event *e, uint64_t tsc)
{
    uint64_t flags = nk_spin_lock_irqsave(&e->wq.lock);
    if (e->set) {
        nk_spin_unlock_irqrestore(&e->wq.lock, flags);
        return true;
    }
    struct waiter w;
    waitqueue_enter(&e->wq, &w);
    nk_spin_unlock_irqrestore(&e->wq.lock, flags);
    bool set = waitqueue_await(&e->wq, &w, tsc);
    waitqueue_lock_to_block(&e->wq);
    waitqueue_unlock(&e->wq);
    return set;
}
