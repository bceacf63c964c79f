/* Work queues: functions that run later, one after the other, in the queue's own thread. Whoever
 * may not block - an interrupt, a VM's exit - hands over what may. */
#pragma once

#include "sched/sync.h"
#include "sched/thread.h"

struct nk_work_queue;

struct nk_work {
    struct nk_list link;
    void (*fn)(struct nk_work *w); /* may block, and may post its own work again */
    bool pending;                  /* on the queue; its lock */
};

/* A queue and its thread; attr (NULL: defaults) says where and how urgently it runs.
 * Errors: those of nk_thread_start(). */
int nk_work_queue_create(struct nk_work_queue **out,
                         const struct nk_thread_attr *attr) NK_MUST_CHECK;

/* Runs what is pending and then ends the thread. Nobody may post any more. */
void nk_work_queue_destroy(struct nk_work_queue *q);

void nk_work_init(struct nk_work *w, void (*fn)(struct nk_work *w));

/* At the end of the queue. False: it is pending there already. Context: any but NMI. */
bool nk_work_post(struct nk_work_queue *q, struct nk_work *w);

/* Off the queue; true when it was pending. On return it is neither pending nor running, unless the
 * caller is the work itself. */
bool nk_work_cancel(struct nk_work_queue *q, struct nk_work *w);

/* Wait until all that was posted before has run. Not from the queue's own thread. */
void nk_work_flush(struct nk_work_queue *q);
