#include "sched/rq.h"

#include "mm/slab.h"
#include "sched/sched.h"

_Static_assert(CONFIG_NR_CPUS <= 64, "sched_idle_mask is one word");
_Static_assert(NK_PRIORITY_COUNT <= 32, "ready_mask is one word");

uint64_t sched_idle_mask;

uint64_t sched_slice_ticks(void)
{
    return nk_ns_to_tsc(SCHED_SLICE_NS);
}

NK_NOINLINE void sched_slice_arm(struct sched_rq *rq, uint64_t used)
{
    rq->slice_armed = true;
    nk_timer_arm(&rq->slice_timer, x86_rdtsc() + sched_slice_ticks() - used);
}

/* The timer is not disarmed when its thread leaves the CPU or competition ends: it fires once
 * more at most and finds nothing to do, which is far cheaper than arming it at every switch. */
static void slice_expired(struct nk_timer *timer)
{
    struct sched_rq *rq = NK_CONTAINER_OF(timer, struct sched_rq, slice_timer);
    struct nk_thread *current = this_cpu->current;
    rq->slice_armed = false;
    rq->slice_interrupts++;
    if (rq->ready_mask >> current->priority == 0) {
        return;
    }
    uint64_t used = current->slice_used + (x86_rdtsc() - rq->switch_tsc);
    if (used < sched_slice_ticks()) {
        sched_slice_arm(rq, used);
        return;
    }
    rq->slice_over = true;
    nk_resched_request();
}

static NK_NOINLINE void preempt_idle(struct sched_rq *rq)
{
    __atomic_and_fetch(&sched_idle_mask, ~(UINT64_C(1) << rq->cpu), __ATOMIC_RELAXED);
}

/* A READY thread enters this CPU's queue. */
static NK_ALWAYS_INLINE void enqueue_here(struct sched_rq *rq, struct nk_thread *t)
{
    const struct nk_thread *current = this_cpu->current;
    const unsigned priority = t->priority, running = current->priority;
    queue_push(rq, t);
    if (priority > running) {
        nk_resched_request();
        if (current == rq->idle) {
            preempt_idle(rq);
        }
    } else if (priority == running && nk_unlikely(!rq->slice_armed)) {
        sched_slice_arm(rq, 0);
    }
}

NK_NOINLINE void sched_send_to(unsigned cpu, struct nk_thread *t)
{
    struct sched_rq *rq = nk_cpu_table[cpu].rq;
    t->cpu = cpu;
    struct nk_thread *head = __atomic_load_n(&rq->inbox, __ATOMIC_RELAXED);
    do {
        t->next = head;
    } while (!__atomic_compare_exchange_n(&rq->inbox, &head, t, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (head == NULL) {
        nk_platform_kick_cpu(cpu); /* else whoever pushed first has done it */
    }
}

NK_NOINLINE void rq_drain_inbox(struct sched_rq *rq)
{
    struct nk_thread *newest = __atomic_exchange_n(&rq->inbox, NULL, __ATOMIC_ACQ_REL);
    struct nk_thread *oldest = NULL;
    while (newest != NULL) {
        struct nk_thread *t = newest;
        newest = t->next;
        t->next = oldest;
        oldest = t;
    }
    while (oldest != NULL) {
        struct nk_thread *t = oldest;
        oldest = t->next;
        if (t != this_cpu->current) {
            thread_wait_off_cpu(t); /* it was sent here by a CPU that is still switching from it */
        }
        enqueue_here(rq, t);
    }
}

int sched_claim_idle_cpu(void)
{
    uint64_t mask = __atomic_load_n(&sched_idle_mask, __ATOMIC_RELAXED);
    while (mask != 0) {
        uint64_t bit = mask & -mask;
        if (__atomic_fetch_and(&sched_idle_mask, ~bit, __ATOMIC_ACQ_REL) & bit) {
            return __builtin_ctzll(bit);
        }
        mask &= ~bit;
    }
    return -1;
}

/* Where a thread that was blocked goes on: where it is pinned; else where it ran last, for its
 * caches, unless that CPU is busy and another is idle. A thread that is still leaving its CPU
 * goes there in any case, and is sent on when it is picked. */
static NK_NOINLINE unsigned place_again(struct nk_thread *t)
{
    int pinned = __atomic_load_n(&t->pinned, __ATOMIC_RELAXED);
    unsigned cpu = t->cpu;
    bool leaving = __atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE);
    if (pinned != NK_CPU_ANY) {
        if (!leaving) {
            return (unsigned)pinned;
        }
        __atomic_or_fetch(&t->attention, ATTENTION_MIGRATE, __ATOMIC_RELAXED);
        return cpu;
    }
    if (leaving || __atomic_load_n(&sched_idle_mask, __ATOMIC_RELAXED) >> cpu & 1) {
        return cpu;
    }
    int other = sched_claim_idle_cpu();
    return other < 0 ? cpu : (unsigned)other;
}

/* Whether place_again() need not be asked. */
static NK_ALWAYS_INLINE bool stays(const struct nk_thread *t, unsigned cpu)
{
    int pinned = __atomic_load_n(&t->pinned, __ATOMIC_RELAXED);
    return pinned == (int)cpu || (pinned == NK_CPU_ANY && sched_idle_mask == 0);
}

/* Where a new thread begins: where it is pinned, on an idle CPU, or on the one with the shortest
 * queue. */
static unsigned place_first(const struct nk_thread *t)
{
    if (t->pinned != NK_CPU_ANY) {
        return (unsigned)t->pinned;
    }
    int idle = sched_claim_idle_cpu();
    if (idle >= 0) {
        return (unsigned)idle;
    }
    unsigned best = this_cpu->id;
    uint32_t best_count = this_cpu->rq->ready_count;
    for (unsigned i = 0; i < nk_cpu_count && best_count > 0; i++) {
        const struct sched_rq *rq = nk_cpu_table[i].rq;
        if (rq != NULL && rq->ready_count < best_count) {
            best = i;
            best_count = rq->ready_count;
        }
    }
    return best;
}

static NK_ALWAYS_INLINE void make_ready_on(struct nk_thread *t, unsigned cpu)
{
    thread_set_state(t, NK_THREAD_READY);
    if (nk_unlikely(cpu != this_cpu->id)) {
        sched_send_to(cpu, t);
        return;
    }
    t->cpu = cpu;
    enqueue_here(this_cpu->rq, t);
}

void sched_make_ready(struct nk_thread *t)
{
    unsigned cpu = t->cpu;
    make_ready_on(t, nk_likely(stays(t, cpu)) ? cpu : place_again(t));
}

void sched_start_ready(struct nk_thread *t)
{
    make_ready_on(t, place_first(t));
}

struct sched_rq *rq_create(unsigned cpu)
{
    struct sched_rq *rq = kmalloc_aligned(sizeof(*rq), 64);
    if (rq == NULL) {
        nk_panic("sched: no memory for CPU %u", cpu);
    }
    *rq = (struct sched_rq){.cpu = cpu};
    nk_timer_init(&rq->slice_timer, slice_expired);
    return rq;
}
