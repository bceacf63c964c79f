/* Blocking synchronisation. All initialised by their _init; none allocates.
 * Threading: down/lock/wait from threads that may block; up/signal from any context but NMI,
 * except the mutex, which only its owner unlocks. */
#pragma once

#include "base/list.h"
#include "base/spinlock.h"
#include "base/types.h"

struct nk_waitqueue {
    struct nk_spinlock lock;
    struct nk_list waiters;
};
void nk_waitqueue_init(struct nk_waitqueue *wq);
unsigned nk_waitqueue_wake(struct nk_waitqueue *wq, unsigned max); /* returns how many */

struct nk_semaphore {
    struct nk_waitqueue wq;
    int64_t count;     /* atomic; negative: how many downs wait */
    unsigned handover; /* wq.lock; ups whose down has not come to stand in line yet */
};
void nk_semaphore_init(struct nk_semaphore *s, unsigned count);
void nk_semaphore_down(struct nk_semaphore *s);
bool nk_semaphore_try_down(struct nk_semaphore *s);
bool nk_semaphore_down_until(struct nk_semaphore *s, uint64_t tsc); /* false: deadline passed */
void nk_semaphore_up(struct nk_semaphore *s);

struct nk_mutex {
    struct nk_waitqueue wq;
    uintptr_t owner; /* atomic; a thread, with bit 0 set when others wait; 0: free */
    unsigned depth;  /* recursive taking by the owner, as newlib's locks need */
};
void nk_mutex_init(struct nk_mutex *m);
void nk_mutex_lock(struct nk_mutex *m);
bool nk_mutex_try_lock(struct nk_mutex *m);
void nk_mutex_unlock(struct nk_mutex *m);

struct nk_event { /* completion: set once, all waiters go, later waits return at once */
    struct nk_waitqueue wq;
    bool set;
};
void nk_event_init(struct nk_event *e);
void nk_event_set(struct nk_event *e);
void nk_event_wait(struct nk_event *e);
bool nk_event_wait_until(struct nk_event *e, uint64_t tsc);
