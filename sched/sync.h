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

/* Until ready(arg), which is looked at when the wait begins, whenever the queue is woken, and at
 * the deadline (UINT64_MAX: there is none): its last value. Who makes it true wakes the queue then.
 * ready() has no effects, and is called with the queue's lock held and interrupts off. */
bool nk_waitqueue_wait(struct nk_waitqueue *wq, bool (*ready)(void *arg), void *arg, uint64_t tsc);

struct nk_semaphore {
    struct nk_waitqueue wq;
    int64_t count;     /* atomic; negative: how many downs wait */
    unsigned handover; /* wq.lock; ups whose down has not come to stand in line yet */
    unsigned owed;     /* wq.lock; ups under way whose down was taken before they came */
    unsigned special;  /* wq.lock; those, and waiters of nk_wait_any() */
};
void nk_semaphore_init(struct nk_semaphore *s, unsigned count);
void nk_semaphore_down(struct nk_semaphore *s);
bool nk_semaphore_try_down(struct nk_semaphore *s);
bool nk_semaphore_down_until(struct nk_semaphore *s, uint64_t tsc); /* false: deadline passed */
void nk_semaphore_up(struct nk_semaphore *s);

/* A mutex lends its owner the priority, or the deadline, of the most urgent thread that waits for
 * it, on any CPU, and on along the chain when the owner waits for a mutex itself. It goes to the
 * most urgent waiter, in order of coming among equals; nobody overtakes who waits already. */
struct nk_mutex {
    struct nk_waitqueue wq;
    uintptr_t owner;     /* atomic; a thread, with bit 0 set when others wait; 0: free */
    unsigned depth;      /* recursive taking by the owner, as newlib's locks need */
    bool lends;          /* atomic; it is on its owner's list of lenders */
    uint64_t offer;      /* what it lends; sched/lend.c's lock, like the list */
    struct nk_list lent; /* on that list */
};
void nk_mutex_init(struct nk_mutex *m);
void nk_mutex_lock(struct nk_mutex *m);
bool nk_mutex_try_lock(struct nk_mutex *m);
bool nk_mutex_lock_until(struct nk_mutex *m, uint64_t tsc); /* false: deadline passed */
void nk_mutex_unlock(struct nk_mutex *m);

struct nk_event { /* completion: set once, all waiters go, later waits return at once */
    struct nk_waitqueue wq;
    bool set;
};
void nk_event_init(struct nk_event *e);
void nk_event_set(struct nk_event *e);
void nk_event_wait(struct nk_event *e);
bool nk_event_wait_until(struct nk_event *e, uint64_t tsc);

/* Condition: threads wait, with a mutex given up meanwhile, until they are told to look again. The
 * mutex is held again when a wait returns, whichever way; a mutex taken several times is given up
 * altogether. No wait returns without a signal. */
struct nk_condition {
    struct nk_waitqueue wq;
};
void nk_condition_init(struct nk_condition *c);
void nk_condition_wait(struct nk_condition *c, struct nk_mutex *m);
bool nk_condition_wait_until(struct nk_condition *c, struct nk_mutex *m, uint64_t tsc);
void nk_condition_signal(struct nk_condition *c);    /* one waiter, if there is one */
void nk_condition_broadcast(struct nk_condition *c); /* all there are now */

/* Reader-writer lock, first come first served: nobody starves. Not recursive. */
struct nk_rwlock {
    struct nk_waitqueue wq;
    int active; /* wq.lock; readers inside, or -1: a writer */
};
void nk_rwlock_init(struct nk_rwlock *l);
void nk_rwlock_read_lock(struct nk_rwlock *l);
void nk_rwlock_read_unlock(struct nk_rwlock *l);
void nk_rwlock_write_lock(struct nk_rwlock *l);
void nk_rwlock_write_unlock(struct nk_rwlock *l);

/* Barrier: `count` threads wait for each other, as often as they like. True for one of them. */
struct nk_barrier {
    struct nk_waitqueue wq;
    unsigned count, arrived;
};
void nk_barrier_init(struct nk_barrier *b, unsigned count);
bool nk_barrier_wait(struct nk_barrier *b);

/* Messages of one size, first in first out, copied into and out of the owner's memory.
 * The try_ forms may be called from any context but NMI. Bool: false at the deadline, or when the
 * queue is full or empty. */
struct nk_queue {
    struct nk_spinlock lock; /* the ring */
    struct nk_semaphore space, filled;
    char *ring;
    size_t message_size;
    unsigned capacity, first, last;
};
void nk_queue_init(struct nk_queue *q, void *ring, size_t message_size, unsigned capacity);
void nk_queue_send(struct nk_queue *q, const void *message);
bool nk_queue_send_until(struct nk_queue *q, const void *message, uint64_t tsc);
bool nk_queue_try_send(struct nk_queue *q, const void *message);
void nk_queue_receive(struct nk_queue *q, void *message);
bool nk_queue_receive_until(struct nk_queue *q, void *message, uint64_t tsc);
bool nk_queue_try_receive(struct nk_queue *q, void *message);

/* Until one of several things is there, which is taken as by its own call: an event that is set, a
 * semaphore's down, a message received or sent, a wait queue's condition. Returns its index, the
 * lowest if there are more; -ETIMEDOUT: the deadline passed (UINT64_MAX: there is none). Up to
 * NK_WAIT_MAX, of all kinds. */
enum nk_wait_kind {
    NK_WAIT_EVENT,
    NK_WAIT_SEMAPHORE,
    NK_WAIT_RECEIVE,
    NK_WAIT_SEND,
    NK_WAIT_QUEUE
};
struct nk_wait_item {
    enum nk_wait_kind kind;
    union {
        struct nk_event *event;
        struct nk_semaphore *semaphore;
        struct nk_queue *queue;
        struct nk_waitqueue *waitqueue;
    };
    void *message;            /* where it goes, or what is sent */
    bool (*ready)(void *arg); /* of a wait queue */
    void *arg;
};
#define NK_WAIT_MAX 16
int nk_wait_any(const struct nk_wait_item *items, unsigned count, uint64_t tsc);
