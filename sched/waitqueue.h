/* Inside sched/ only: threads waiting in line.
 *
 * Who takes a waiter off the line owes its thread exactly one sched_signal() on `wait`. The waiter
 * lives on that thread's stack and is gone after the signal, not before. */
#pragma once

#include "sched/thread_impl.h"

struct waiter {
    struct nk_list link;
    struct nk_thread *thread;
};

/* Stand in line. Lock held. */
static inline void waitqueue_enter(struct nk_waitqueue *wq, struct waiter *w)
{
    w->thread = nk_thread_current();
    nk_list_push_back(&wq->waiters, &w->link);
}

/* The thread in front, off the line; NULL: nobody is there. Lock held. */
static inline struct nk_thread *waitqueue_pop(struct nk_waitqueue *wq)
{
    struct nk_list *link = nk_list_pop_front(&wq->waiters);
    return link == NULL ? NULL : nk_list_entry(link, struct waiter, link)->thread;
}

/* Stand in line, unlock, and block until taken off it. wq->lock is held by irqsave. */
void waitqueue_sleep(struct nk_waitqueue *wq, uint64_t flags);

/* Move everybody to a list of the caller's (lock held), and wake them (no lock held). */
void waitqueue_take_all(struct nk_waitqueue *wq, struct nk_list *out);
void waitqueue_signal_all(struct nk_list *waiters);
