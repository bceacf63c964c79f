/* Threads with deadlines: earliest deadline first, above all fixed priorities, on the CPU they are
 * admitted to. A periodic thread gets `slice` of CPU time in every period, and no more: when it is
 * used up the thread rests until the next. A sporadic one gets it once, before its deadline.
 *
 * Admission keeps the sum of slice/period of a CPU within DEADLINE_LOAD_MAX; what is left is for
 * everybody else. Threading: the calls act on the current thread. */
#pragma once

#include "sched/sync.h"
#include "sched/thread.h"

#define DEADLINE_LOAD_MAX 900000 /* millionths of a CPU */

struct nk_deadline {
    uint64_t period_ns;   /* 0: sporadic */
    uint64_t slice_ns;    /* CPU time per period, or altogether */
    uint64_t deadline_ns; /* sporadic only: from now */
    uint64_t start_tsc;   /* of the first period; 0: now */
};

/* The current thread gets the deadlines and returns when its first period begins. It stays on its
 * present CPU. Errors: -EINVAL no or too short times, slice beyond the period; -EBUSY it has
 * deadlines already; -ENOSPC the CPU has not so much left; -ENOMEM. */
int nk_thread_set_deadline(const struct nk_deadline *d) NK_MUST_CHECK;

/* Back to its fixed priority. So does a sporadic thread that has used up its slice or its time. */
void nk_thread_end_deadline(void);

/* The job is done: rest until the next period begins. False: a deadline was missed meanwhile. */
bool nk_thread_wait_period(void);

struct nk_deadline_info {
    uint64_t jobs;      /* periods begun */
    uint64_t missed;    /* that ended with the job neither done nor its slice used up */
    uint64_t exhausted; /* whose slice was used up */
};
void nk_thread_deadline_info(struct nk_deadline_info *out);

unsigned nk_deadline_load(unsigned cpu); /* admitted, millionths */

/* Threads that start their first period at the same tick, all or none: each calls
 * nk_gang_set_deadline(), which ignores d->start_tsc. Errors: as above, of any of them. */
struct nk_gang {
    struct nk_barrier admitted, decided;
    int error; /* atomic */
    uint64_t start_tsc;
};
void nk_gang_init(struct nk_gang *g, unsigned count);
int nk_gang_set_deadline(struct nk_gang *g, const struct nk_deadline *d) NK_MUST_CHECK;
