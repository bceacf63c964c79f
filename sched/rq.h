/* Inside sched/ only: one CPU's run queue.
 *
 * Threading: only its own CPU touches it, with interrupts off, so it has no lock. Another CPU that
 * has a thread for it pushes the thread on `inbox`, the one shared field, and kicks the CPU. */
#pragma once

#include "sched/thread_impl.h"

struct thread_queue {
    struct nk_thread *head, *tail; /* valid while the queue's bit in ready_mask is set */
};

struct sched_rq {
    uint32_t ready_mask;  /* bit n: queue[n] has a thread */
    uint32_t ready_count; /* read by others, for placing threads */
    uint32_t cpu;
    bool slice_armed;
    bool slice_over; /* the running thread's turn is over: behind its equals with it */
    uint32_t gated;  /* every thread needs a look before it runs: there is a partition table */
    struct partition_state *partitions;
    struct nk_thread *idle;
    uint64_t switch_tsc; /* when the running thread began to run */
    uint64_t switches, slice_interrupts, stolen;
    struct nk_timer slice_timer;
    struct thread_queue queue[NK_PRIORITY_COUNT];
    struct nk_thread *inbox NK_ALIGNED(64); /* atomic; a stack: newest first */
    struct sched_order *orders;             /* atomic; the same */
    uint32_t watches;         /* atomic; the CPU idles and watches `news`: no interrupt is needed */
    uint32_t news;            /* atomic; look at the inbox and the orders */
    uint32_t steal_asked;     /* atomic; sched/steal.c */
    struct sched_order steal; /* what this CPU asks of another */
};

extern uint64_t sched_idle_mask; /* atomic; bit n: CPU n halts with nothing to run */

/* Atomic; CPUs that only threads come to that name them: isolated ones and those with a partition
 * table. They are never in sched_idle_mask. */
extern uint64_t sched_reserved_mask;
void sched_reserve_table(uint64_t cpu_bit, bool there);

struct sched_rq *rq_create(unsigned cpu);

/* All of these: interrupts off. */
void rq_drain_inbox(struct sched_rq *rq);
void sched_send_to(unsigned cpu, struct nk_thread *t); /* a READY thread goes to another CPU */
/* One of the set, so that the next caller takes another; -1: there is none. */
int sched_claim_idle_cpu(uint64_t cpus);
unsigned sched_pick_cpu(const struct nk_thread *t); /* of those that it may run on */
void sched_order(unsigned cpu, struct sched_order *order);
void sched_kick(unsigned cpu); /* another CPU shall look at its inbox, orders and threads */
void sched_stop_watching(struct sched_rq *rq); /* this CPU leaves its idle thread */
uint64_t sched_slice_ticks(void);
void sched_slice_arm(struct sched_rq *rq, uint64_t used); /* for the rest of a slice */
void sched_make_ready(struct nk_thread *t);  /* state READY, on the CPU that suits it */
void sched_start_ready(struct nk_thread *t); /* the same for a thread that has not run yet */
void sched_run_next(struct sched_rq *rq, struct nk_thread *prev); /* prev has left RUNNING */
void sched_preempt(void); /* the current thread is READY, whoever is due runs */

/* The urgency of a thread has changed: it runs with it, or stands in line by it, from now on. One
 * that is on its way somewhere gets it when it is queued. False: it belongs to another CPU. */
bool sched_apply_urgency(struct sched_rq *rq, struct nk_thread *t);
void sched_settle(struct nk_thread *t); /* priority and deadline by urgency; in no queue */
void sched_enqueue(struct sched_rq *rq, struct nk_thread *t); /* READY, on this CPU */
bool sched_dequeue(struct sched_rq *rq, struct nk_thread *t); /* false: not in the queue */

/* CPUs that the thread may run on. */
static inline uint64_t sched_allowed(const struct nk_thread *t)
{
    int pinned = __atomic_load_n(&t->pinned, __ATOMIC_ACQUIRE);
    uint64_t mask = __atomic_load_n(&t->affinity, __ATOMIC_ACQUIRE);
    if (pinned != NK_CPU_ANY) {
        return UINT64_C(1) << pinned;
    }
    return mask != NK_AFFINITY_ANY ? mask
                                   : ~__atomic_load_n(&sched_reserved_mask, __ATOMIC_RELAXED);
}

/* sched/partition.c, interrupts off. Where there is a table: may it run now? Else it is put by. */
bool partition_admits(struct sched_rq *rq, struct nk_thread *t);
struct nk_thread *partition_slack(struct sched_rq *rq); /* with nothing to run; NULL: nobody */
void partition_slack_over(struct nk_thread *t);

void sched_steal(struct sched_rq *rq); /* sched/steal.c: this CPU has nothing to do */

/* sched/deadline.c, interrupts off */
void deadline_push(struct sched_rq *rq, struct nk_thread *t); /* among those that have one */
void deadline_switch_in(struct nk_thread *t);
void deadline_switch_out(struct nk_thread *t);
bool deadline_rests(struct nk_thread *t); /* leaving its CPU: not READY, its slice is used up */
void deadline_lent(struct nk_thread *t);  /* maybe: one that rests goes on then */

/* Local copies of what stores might change, as far as the compiler knows, save loading it again:
 * this is a good part of what waking a thread costs. */
static NK_ALWAYS_INLINE void queue_push(struct sched_rq *rq, struct nk_thread *t)
{
    const unsigned priority = t->priority;
    const uint32_t mask = rq->ready_mask;
    struct thread_queue *q = &rq->queue[priority];
    t->next = NULL;
    if (mask >> priority & 1) {
        q->tail->next = t;
    } else {
        rq->ready_mask = mask | 1u << priority;
        q->head = t;
    }
    q->tail = t;
    rq->ready_count++;
}

static inline void queue_push_front(struct sched_rq *rq, struct nk_thread *t)
{
    struct thread_queue *q = &rq->queue[t->priority];
    if (rq->ready_mask >> t->priority & 1) {
        t->next = q->head;
    } else {
        rq->ready_mask |= 1u << t->priority;
        t->next = NULL;
        q->tail = t;
    }
    q->head = t;
    rq->ready_count++;
}

/* After something became ready with interrupts as in `flags` before: switch now if that is due. */
static inline void sched_after_wake(uint64_t flags)
{
    if (flags & X86_RFLAGS_IF) {
        x86_sti();
        if (nk_unlikely(this_cpu->preempt_count == 0)) {
            nk_preempt_resched();
        }
    }
}
