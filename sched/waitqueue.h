/* Inside sched/ only: threads waiting in line.
 *
 * Who takes a waiter off the line owes its thread exactly one sched_signal() on `wait`. The waiter
 * lives on that thread's stack and is gone after the signal, not before. */
#pragma once

#include "sched/wait.h"

struct waiter {
    struct nk_list link;
    struct nk_thread *thread; /* bit 0: it waits for other things, too (sched/wait_any.c) */
};

static inline void waiter_mark_of_many(struct waiter *w)
{
    w->thread = (struct nk_thread *)((uintptr_t)w->thread | 1);
}

static inline bool waiter_is_of_many(const struct waiter *w)
{
    return ((uintptr_t)w->thread & 1) != 0;
}

static inline struct nk_thread *waiter_thread(const struct waiter *w)
{
    return (struct nk_thread *)((uintptr_t)w->thread & ~(uintptr_t)1);
}

/* Stand in line. Lock held. */
static inline void waitqueue_enter(struct nk_waitqueue *wq, struct waiter *w)
{
    w->thread = nk_thread_current();
    nk_list_push_back(&wq->waiters, &w->link);
}

static inline struct waiter *waitqueue_first(const struct nk_waitqueue *wq)
{
    return nk_list_entry(wq->waiters.next, struct waiter, link);
}

/* The thread in front, off the line, which is not empty. Lock held. */
static inline struct nk_thread *waitqueue_pop(struct nk_waitqueue *wq)
{
    struct nk_list *link = wq->waiters.next;
    wq->waiters.next = link->next;
    link->next->prev = &wq->waiters;
    link->next = link; /* nk_list_empty() says that it is off */
    return nk_list_entry(link, struct waiter, link)->thread;
}

/* Take wq->lock where the caller may block, so that how interrupts were need not be kept. */
static inline void waitqueue_lock_to_block(struct nk_waitqueue *wq)
{
    sched_check_may_block();
    x86_cli();
    nk_spinlock_acquire(&wq->lock);
}

static inline void waitqueue_unlock(struct nk_waitqueue *wq)
{
    nk_spin_unlock_irqrestore(&wq->lock, X86_RFLAGS_IF);
}

/* Stand in line, unlock, and block until taken off it. Locked by waitqueue_lock_to_block(). */
static inline void waitqueue_sleep(struct nk_waitqueue *wq)
{
    struct waiter w;
    waitqueue_enter(wq, &w);
    nk_spinlock_release(&wq->lock);
    struct nk_thread *current = this_cpu->current;
    sched_wait_irqs_off(current, &current->wait);
}

/* Block until taken off the line, or leave it at the deadline: false. The lock is not held. */
bool waitqueue_await(struct nk_waitqueue *wq, struct waiter *w, uint64_t tsc);

/* Move everybody to a list of the caller's (lock held), and wake them (no lock held). Not for a
 * line that waitqueue_await() leaves. */
void waitqueue_take_all(struct nk_waitqueue *wq, struct nk_list *out);
void waitqueue_signal_all(struct nk_list *waiters);
