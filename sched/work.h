/* Work for later: whoever may not block - an interrupt, a VM's exit - hands over what may.
 *
 * A service is a number of threads on a set of CPUs; a queue belongs to one. The work of a queue
 * runs in the order of posting, one after the other; the threads of a service run the work of
 * several queues at once, each queue in its turn. */
#pragma once

#include "sched/sync.h"
#include "sched/thread.h"

struct nk_work_service;
struct nk_work_queue;

#define NK_WORK_THREADS_MAX 16
#define NK_WORK_NAME_MAX    24

struct nk_work_service_attr {
    const char *name;
    unsigned threads;  /* 0: one */
    uint64_t cpus;     /* where they run, bit n: CPU n; 0: wherever threads run */
    unsigned priority; /* 0: the default */
    bool fp;
};

/* Errors: -EINVAL too many threads, no such CPU, priority out of range; -ENOMEM. */
int nk_work_service_create(struct nk_work_service **out,
                           const struct nk_work_service_attr *attr) NK_MUST_CHECK;

/* Ends the threads. Errors: -EBUSY there are queues. */
int nk_work_service_destroy(struct nk_work_service *s) NK_MUST_CHECK;

/* Its threads run on these CPUs from now on. Errors: -EINVAL none of them is there. */
int nk_work_service_set_cpus(struct nk_work_service *s, uint64_t cpus) NK_MUST_CHECK;

/* The name (cut to NK_WORK_NAME_MAX - 1) is how others find the queue. Errors: -EEXIST, -ENOMEM. */
int nk_work_queue_create(struct nk_work_queue **out, const char *name,
                         struct nk_work_service *s) NK_MUST_CHECK;

/* Runs what is pending first. Nobody may post any more. Not from the queue's own work. */
void nk_work_queue_destroy(struct nk_work_queue *q);

struct nk_work_queue *nk_work_queue_find(const char *name); /* NULL: there is none */

struct nk_work {
    struct nk_list link;
    void (*fn)(struct nk_work *w); /* may block, and may post its own work again */
    bool pending;                  /* on the queue; its lock */
};

void nk_work_init(struct nk_work *w, void (*fn)(struct nk_work *w));

/* At the end of the queue. False: it is pending there already. Never blocks. Context: any but NMI.
 */
bool nk_work_post(struct nk_work_queue *q, struct nk_work *w);

/* Off the queue; true when it was pending. On return it is neither pending nor running, unless the
 * caller is the work itself. Waits for the end of work that runs. */
bool nk_work_cancel(struct nk_work_queue *q, struct nk_work *w);

/* Wait until all that was posted before has run. Not from work of the same queue, nor of another
 * one if the service has a single thread. */
void nk_work_flush(struct nk_work_queue *q);

struct nk_work_queue_info {
    char name[NK_WORK_NAME_MAX], service[NK_WORK_NAME_MAX];
    unsigned threads, pending;
    uint64_t cpus, done; /* work that was begun */
    bool running;
};

/* The n-th queue, in order of creation; false when there are no more. */
bool nk_work_queue_get_info(unsigned n, struct nk_work_queue_info *out);
