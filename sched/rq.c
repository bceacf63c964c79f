#include "sched/rq.h"

#include "base/errno.h"
#include "mm/slab.h"
#include "sched/sched.h"

_Static_assert(CONFIG_NR_CPUS <= 64, "sched_idle_mask is one word");
_Static_assert(NK_PRIORITY_COUNT <= 32, "ready_mask is one word");

uint64_t sched_idle_mask, sched_reserved_mask;
static uint64_t isolated_mask, table_mask; /* atomic */

/* Not CPU 0: there may be no other. */
static uint64_t to_be_reserved(void)
{
    return (__atomic_load_n(&table_mask, __ATOMIC_SEQ_CST) |
            __atomic_load_n(&isolated_mask, __ATOMIC_SEQ_CST)) &
           ~UINT64_C(1);
}

/* Two CPUs may be at it at once: who writes last has seen both masks as they are now. */
static void update_reserved(void)
{
    uint64_t both, freed = 0;
    do {
        both = to_be_reserved();
        freed |= __atomic_exchange_n(&sched_reserved_mask, both, __ATOMIC_SEQ_CST);
    } while (both != to_be_reserved());
    freed &= ~both;
    __atomic_fetch_and(&sched_idle_mask, ~both, __ATOMIC_SEQ_CST);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        if (freed >> cpu & 1 && cpu != this_cpu->id) {
            sched_kick(cpu); /* if it is idle, it shall say so */
        }
    }
}

void sched_reserve_table(uint64_t cpu_bit, bool there)
{
    if (there) {
        __atomic_fetch_or(&table_mask, cpu_bit, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_and(&table_mask, ~cpu_bit, __ATOMIC_RELAXED);
    }
    update_reserved();
}

int sched_isolate(uint64_t cpus)
{
    uint64_t others = UINT64_MAX >> (64 - CONFIG_NR_CPUS) & ~UINT64_C(1);
    if (cpus & ~others) {
        return -EINVAL;
    }
    __atomic_store_n(&isolated_mask, cpus, __ATOMIC_SEQ_CST);
    update_reserved();
    return 0;
}

uint64_t sched_isolated(void)
{
    return __atomic_load_n(&isolated_mask, __ATOMIC_RELAXED);
}

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
    if (rq->ready_mask >> current->priority == 0 || current->priority == NK_PRIORITY_DEADLINE) {
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

/* A READY thread without a deadline enters this CPU's queue. */
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

void sched_settle(struct nk_thread *t)
{
    const uint64_t urgency = thread_urgency(t);
    if (!t->slack && urgency > NK_PRIORITY_MAX) {
        t->priority = NK_PRIORITY_DEADLINE;
        t->deadline = urgency_of_deadline(urgency);
    } else if (!t->slack) {
        t->priority = (uint8_t)urgency;
    }
    const bool special = t->slack || (t->on_switch & SWITCH_DEADLINE) || t->lending.lent != 0;
    __atomic_store_n(&t->wakes_on, special ? WAKES_ASK : t->pinned, __ATOMIC_RELAXED);
}

/* The same for any thread. */
NK_NOINLINE void sched_enqueue(struct sched_rq *rq, struct nk_thread *t)
{
    if (t->slack) {
        partition_slack_over(t);
    } else if (__atomic_load_n(&t->wakes_on, __ATOMIC_RELAXED) == WAKES_ASK) {
        sched_settle(t);
    }
    if (t->priority != NK_PRIORITY_DEADLINE) {
        enqueue_here(rq, t);
        return;
    }
    const struct nk_thread *current = this_cpu->current;
    deadline_push(rq, t);
    if (current->priority != NK_PRIORITY_DEADLINE || t->deadline < current->deadline) {
        nk_resched_request();
        if (current == rq->idle) {
            preempt_idle(rq);
        }
    }
}

/* READY, it may still be on its way here. */
bool sched_dequeue(struct sched_rq *rq, struct nk_thread *t)
{
    if (!(rq->ready_mask >> t->priority & 1)) {
        return false;
    }
    struct thread_queue *q = &rq->queue[t->priority];
    struct nk_thread *before = NULL, *at = q->head;
    while (at != NULL && at != t) {
        before = at;
        at = at->next;
    }
    if (at == NULL) {
        return false;
    }
    *(before != NULL ? &before->next : &q->head) = t->next;
    if (q->tail == t) {
        q->tail = before;
    }
    if (q->head == NULL) {
        rq->ready_mask &= ~(1u << t->priority);
    }
    rq->ready_count--;
    return true;
}

/* A thread that is not in the queue may be on its way from here to another CPU, whose queue its
 * priority must then not change in. Both look: that CPU, when it queues the thread, at wakes_on;
 * this one, once it has set that, at whose the thread is now. */
bool sched_apply_urgency(struct sched_rq *rq, struct nk_thread *t)
{
    if (__atomic_load_n(&t->cpu, __ATOMIC_ACQUIRE) != rq->cpu) {
        return false;
    }
    if (t == this_cpu->current) {
        sched_settle(t);
        nk_resched_request();
        return true;
    }
    if (nk_thread_get_state(t) == NK_THREAD_READY && sched_dequeue(rq, t)) {
        sched_settle(t);
        sched_enqueue(rq, t);
        return true;
    }
    __atomic_exchange_n(&t->wakes_on, WAKES_ASK, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&t->cpu, __ATOMIC_SEQ_CST) == rq->cpu;
}

/* What is to be looked at was put there by an atomic operation, and the other CPU says that it
 * watches by one before it looks: either this sees it watch, or it sees what is there. */
void sched_kick(unsigned cpu)
{
    struct sched_rq *rq = nk_cpu_table[cpu].rq;
    if (__atomic_load_n(&rq->watches, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&rq->news, 1, __ATOMIC_RELEASE);
    } else {
        nk_platform_kick_cpu(cpu);
    }
}

/* The same on the way back: who came before the exchange has sent no interrupt. */
void sched_stop_watching(struct sched_rq *rq)
{
    __atomic_exchange_n(&rq->watches, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&rq->news, 0, __ATOMIC_RELAXED);
    sched_reschedule_interrupt();
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
        sched_kick(cpu); /* else whoever pushed first has done it */
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
        sched_enqueue(rq, t);
    }
}

void sched_order(unsigned cpu, struct sched_order *order)
{
    struct sched_rq *rq = nk_cpu_table[cpu].rq;
    struct sched_order *head = __atomic_load_n(&rq->orders, __ATOMIC_RELAXED);
    do {
        order->next = head;
    } while (!__atomic_compare_exchange_n(&rq->orders, &head, order, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (cpu == this_cpu->id) {
        sched_reschedule_interrupt();
    } else if (head == NULL) {
        sched_kick(cpu);
    }
}

int sched_claim_idle_cpu(uint64_t cpus)
{
    uint64_t mask = __atomic_load_n(&sched_idle_mask, __ATOMIC_RELAXED) & cpus;
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
    uint64_t allowed = sched_allowed(t);
    if (nk_unlikely(!(allowed >> cpu & 1))) {
        if (!leaving) {
            return sched_pick_cpu(t);
        }
        __atomic_or_fetch(&t->attention, ATTENTION_MIGRATE, __ATOMIC_RELAXED);
        return cpu;
    }
    if (pinned != NK_CPU_ANY || leaving ||
        __atomic_load_n(&sched_idle_mask, __ATOMIC_RELAXED) >> cpu & 1) {
        return cpu;
    }
    int other = sched_claim_idle_cpu(allowed);
    return other < 0 ? cpu : (unsigned)other;
}

/* An idle CPU, or the one with the shortest queue; this one where there is no difference. */
unsigned sched_pick_cpu(const struct nk_thread *t)
{
    const int pinned = __atomic_load_n(&t->pinned, __ATOMIC_RELAXED); /* others may change it */
    if (pinned != NK_CPU_ANY) {
        return (unsigned)pinned;
    }
    const uint64_t allowed = sched_allowed(t);
    int idle = sched_claim_idle_cpu(allowed);
    if (idle >= 0) {
        return (unsigned)idle;
    }
    unsigned best = this_cpu->id;
    uint32_t best_count = allowed >> best & 1 ? this_cpu->rq->ready_count : UINT32_MAX;
    for (unsigned i = 0; i < nk_cpu_count && best_count > 0; i++) {
        const struct sched_rq *rq = nk_cpu_table[i].rq;
        if (allowed >> i & 1 && rq != NULL && rq->ready_count < best_count) {
            best = i;
            best_count = rq->ready_count;
        }
    }
    return best;
}

static NK_NOINLINE void make_ready_elsewhere(struct nk_thread *t)
{
    unsigned cpu = place_again(t);
    thread_set_state(t, NK_THREAD_READY);
    if (cpu == this_cpu->id) {
        t->cpu = cpu;
        sched_enqueue(this_cpu->rq, t);
    } else {
        sched_send_to(cpu, t);
    }
}

/* Usually the thread goes on where it ran last, and that is here. */
void sched_make_ready(struct nk_thread *t)
{
    const int here = (int)this_cpu->id;
    const int wakes_on = __atomic_load_n(&t->wakes_on, __ATOMIC_RELAXED);
    if (nk_unlikely(t->cpu != (unsigned)here ||
                    (wakes_on != here && (wakes_on != NK_CPU_ANY || sched_idle_mask != 0)))) {
        make_ready_elsewhere(t);
        return;
    }
    thread_set_state(t, NK_THREAD_READY);
    enqueue_here(this_cpu->rq, t);
}

void sched_start_ready(struct nk_thread *t)
{
    unsigned cpu = sched_pick_cpu(t);
    thread_set_state(t, NK_THREAD_READY);
    if (nk_likely(cpu == this_cpu->id)) {
        t->cpu = cpu;
        enqueue_here(this_cpu->rq, t); /* it has no deadline yet */
    } else {
        sched_send_to(cpu, t);
    }
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
