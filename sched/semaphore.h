/* Inside sched/ only: what waiting for several things at once needs of semaphores and queues. */
#pragma once

#include "sched/waitqueue.h"

/* All of these: the line's lock is held. */

static inline bool semaphore_take_handover(struct nk_semaphore *s)
{
    if (s->handover == 0) {
        return false;
    }
    s->handover--;
    return true;
}

/* Take the caller's down back; false when every down has its up, so the caller's is on its way. */
static inline bool semaphore_undo_down(struct nk_semaphore *s)
{
    int64_t count = __atomic_load_n(&s->count, __ATOMIC_RELAXED);
    while (count < 0) {
        if (__atomic_compare_exchange_n(&s->count, &count, count + 1, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

/* An up that has found that somebody waits, while `special` is not 0. Releases the lock and has
 * interrupts as in flags again. */
void semaphore_up_special(struct nk_semaphore *s, uint64_t flags);

/* No lock; a place or a message has been taken by a down of `space` or `filled`. */
void queue_put(struct nk_queue *q, const void *message);
void queue_get(struct nk_queue *q, void *message);
