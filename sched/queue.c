/* Message queues: a ring between two semaphores that count its free and its filled places. */
#include "base/platform.h"
#include "sched/semaphore.h"

#include <string.h>

void nk_queue_init(struct nk_queue *q, void *ring, size_t message_size, unsigned capacity)
{
    nk_assert(message_size > 0 && capacity > 0);
    *q = (struct nk_queue){
        .lock = NK_SPINLOCK_INIT(NK_RANK_THREAD),
        .ring = ring,
        .message_size = message_size,
        .capacity = capacity,
    };
    nk_semaphore_init(&q->space, capacity);
    nk_semaphore_init(&q->filled, 0);
}

static char *place(struct nk_queue *q, unsigned *at)
{
    char *p = q->ring + *at * q->message_size;
    *at = *at + 1 < q->capacity ? *at + 1 : 0;
    return p;
}

/* A place is there: the caller has taken it off `space`. */
void queue_put(struct nk_queue *q, const void *message)
{
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    memcpy(place(q, &q->last), message, q->message_size);
    nk_spin_unlock_irqrestore(&q->lock, flags);
    nk_semaphore_up(&q->filled);
}

void queue_get(struct nk_queue *q, void *message)
{
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    memcpy(message, place(q, &q->first), q->message_size);
    nk_spin_unlock_irqrestore(&q->lock, flags);
    nk_semaphore_up(&q->space);
}

void nk_queue_send(struct nk_queue *q, const void *message)
{
    nk_semaphore_down(&q->space);
    queue_put(q, message);
}

bool nk_queue_send_until(struct nk_queue *q, const void *message, uint64_t tsc)
{
    bool room = nk_semaphore_down_until(&q->space, tsc);
    if (room) {
        queue_put(q, message);
    }
    return room;
}

bool nk_queue_try_send(struct nk_queue *q, const void *message)
{
    bool room = nk_semaphore_try_down(&q->space);
    if (room) {
        queue_put(q, message);
    }
    return room;
}

void nk_queue_receive(struct nk_queue *q, void *message)
{
    nk_semaphore_down(&q->filled);
    queue_get(q, message);
}

bool nk_queue_receive_until(struct nk_queue *q, void *message, uint64_t tsc)
{
    bool some = nk_semaphore_down_until(&q->filled, tsc);
    if (some) {
        queue_get(q, message);
    }
    return some;
}

bool nk_queue_try_receive(struct nk_queue *q, void *message)
{
    bool some = nk_semaphore_try_down(&q->filled);
    if (some) {
        queue_get(q, message);
    }
    return some;
}
