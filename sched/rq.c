#include "sched/rq.h"

#include "base/percpu.h"
#include "base/x86.h"
#include "mm/slab.h"
#include "sched/sched.h"

_Static_assert(CONFIG_NR_CPUS <= 64, "sched_idle_mask is one word");
_Static_assert(NK_PRIORITY_COUNT <= 32, "ready_mask is one word");

uint64_t sched_idle_mask;

/* A local copy of what a store might change, as far as the compiler knows, saves loading it again:
 * these two are most of what waking a thread costs. */
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

static void queue_push_front(struct sched_rq *rq, struct nk_thread *t)
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

static uint64_t slice_ticks(void)
{
    return nk_ns_to_tsc(SCHED_SLICE_NS);
}

static NK_NOINLINE void slice_arm(struct sched_rq *rq, uint64_t used)
{
    rq->slice_armed = true;
    nk_timer_arm(&rq->slice_timer, x86_rdtsc() + slice_ticks() - used);
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
    if (used < slice_ticks()) {
        slice_arm(rq, used);
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
        slice_arm(rq, 0);
    }
}

/* A READY thread goes to another CPU. */
static NK_NOINLINE void send_to(unsigned cpu, struct nk_thread *t)
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

/* A CPU without work, claimed so that the next caller takes another; -1: there is none. */
static int claim_idle_cpu(void)
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
    int other = claim_idle_cpu();
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
    int idle = claim_idle_cpu();
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
        send_to(cpu, t);
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

/* Deal with what is asked of a thread before it runs: true when it must not run here now. */
static NK_NOINLINE bool divert(struct sched_rq *rq, struct nk_thread *t)
{
    uint32_t old = __atomic_load_n(&t->attention, __ATOMIC_ACQUIRE);
    while (old & ATTENTION_PAUSE) {
        thread_set_state(t, NK_THREAD_PAUSED);
        uint32_t paused = (old & ~(uint32_t)ATTENTION_PAUSE) | ATTENTION_PAUSED;
        if (__atomic_compare_exchange_n(&t->attention, &old, paused, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            return true; /* nk_thread_resume() may have it by now */
        }
        thread_set_state(t, NK_THREAD_READY);
    }
    __atomic_and_fetch(&t->attention, ~(uint32_t)ATTENTION_MIGRATE, __ATOMIC_ACQ_REL);
    int pinned = __atomic_load_n(&t->pinned, __ATOMIC_ACQUIRE);
    if (pinned != NK_CPU_ANY && pinned != (int)rq->cpu) {
        send_to((unsigned)pinned, t);
        return true;
    }
    return false;
}

/* The last steps of every switch: next is off its queue and READY. */
static inline void switch_to(struct sched_rq *rq, struct nk_thread *prev, struct nk_thread *next)
{
    uint64_t now = x86_rdtsc();
    prev->cpu_ticks += now;
    next->cpu_ticks -= now;
    rq->switch_tsc = now;
    thread_set_state(next, NK_THREAD_RUNNING);
    next->switches++;
    rq->switches++;
    next->on_cpu = 1;
    this_cpu->current = next;
    if (nk_unlikely(((uintptr_t)prev->fp | (uintptr_t)next->fp) != 0)) {
        fp_switch(prev, next);
        return;
    }
    sched_switch(prev, next);
}

static void run_next_queued(struct sched_rq *rq, struct nk_thread *prev);

/* The rare cases below begin anew when they are dealt with: as tail calls they cost the usual case
 * neither a stack frame nor saved registers. None of them looks at the inbox again: once prev has
 * been sent to another CPU, that CPU waits for this one to switch, and must not be waited for. */
static NK_NOINLINE void drain_and_run_next(struct sched_rq *rq, struct nk_thread *prev)
{
    rq_drain_inbox(rq);
    run_next_queued(rq, prev);
}

static NK_NOINLINE void arm_and_run_next(struct sched_rq *rq, struct nk_thread *prev)
{
    slice_arm(rq, 0);
    run_next_queued(rq, prev);
}

static NK_NOINLINE void divert_and_run_next(struct sched_rq *rq, struct nk_thread *prev,
                                            struct nk_thread *next)
{
    if (!divert(rq, next)) {
        queue_push_front(rq, next);
    }
    run_next_queued(rq, prev);
}

static NK_NOINLINE void run_idle(struct sched_rq *rq, struct nk_thread *prev)
{
    struct nk_thread *idle = rq->idle;
    if (prev != idle) {
        switch_to(rq, prev, idle);
    } else {
        thread_set_state(idle, NK_THREAD_RUNNING);
    }
}

static NK_ALWAYS_INLINE void pick_and_switch(struct sched_rq *rq, struct nk_thread *prev)
{
    nk_resched_clear();
    if (nk_unlikely(rq->ready_mask == 0)) {
        run_idle(rq, prev);
        return;
    }
    /* BSR of 64 bits needs no extension to become an index. */
    const uint64_t mask = rq->ready_mask, priority = 63 ^ (uint64_t)__builtin_clzll(mask);
    struct thread_queue *q = &rq->queue[priority];
    struct nk_thread *next = q->head;
    if (next->next == NULL) {
        rq->ready_mask = (uint32_t)(mask & ~(UINT64_C(1) << priority));
    } else if (nk_unlikely(!rq->slice_armed)) {
        arm_and_run_next(rq, prev);
        return;
    }
    q->head = next->next;
    rq->ready_count--;
    if (nk_unlikely(next->attention != 0)) {
        divert_and_run_next(rq, prev, next);
        return;
    }
    if (nk_unlikely(next == prev)) {
        thread_set_state(next, NK_THREAD_RUNNING);
        return;
    }
    switch_to(rq, prev, next);
}

static NK_NOINLINE void run_next_queued(struct sched_rq *rq, struct nk_thread *prev)
{
    pick_and_switch(rq, prev);
}

void sched_run_next(struct sched_rq *rq, struct nk_thread *prev)
{
    if (nk_unlikely(rq->inbox != NULL)) { /* only looked at */
        drain_and_run_next(rq, prev);
        return;
    }
    pick_and_switch(rq, prev);
}

void sched_preempt(void)
{
    struct sched_rq *rq = this_cpu->rq;
    struct nk_thread *current = this_cpu->current;
    thread_set_state(current, NK_THREAD_READY);
    if (current != rq->idle) {
        current->slice_used += x86_rdtsc() - rq->switch_tsc;
        if (rq->slice_over || current->slice_used >= slice_ticks()) {
            current->slice_used = 0;
            queue_push(rq, current);
        } else {
            queue_push_front(rq, current); /* it keeps the rest of its turn */
        }
    }
    rq->slice_over = false;
    sched_run_next(rq, current);
}

void nk_preempt_resched(void)
{
    if (!nk_irqs_on()) {
        return; /* the flag stays; who turns interrupts on again looks at it */
    }
    x86_cli();
    if (this_cpu->rq == NULL) {
        nk_resched_clear(); /* too early */
    } else if (this_cpu->preempt_count == 0) {
        sched_preempt();
    }
    x86_sti();
}

void sched_interrupt_tail(void)
{
    sched_preempt();
}

void sched_reschedule_interrupt(void)
{
    struct sched_rq *rq = this_cpu->rq;
    if (__atomic_load_n(&rq->inbox, __ATOMIC_RELAXED) != NULL) {
        rq_drain_inbox(rq);
    }
    if (__atomic_load_n(&this_cpu->current->attention, __ATOMIC_ACQUIRE) != 0) {
        nk_resched_request();
    }
}

/* Yield when something else than an equal is ready, or anything needs attention. */
static NK_NOINLINE void yield_slow(struct sched_rq *rq, struct nk_thread *current)
{
    if (__atomic_load_n(&rq->inbox, __ATOMIC_RELAXED) != NULL) {
        rq_drain_inbox(rq);
    }
    if (rq->ready_mask >> current->priority == 0 && current->attention == 0) {
        return;
    }
    thread_set_state(current, NK_THREAD_READY);
    current->slice_used = 0;
    queue_push(rq, current);
    sched_run_next(rq, current);
}

void nk_thread_yield(void)
{
    nk_assert(nk_preempt_depth() == 0);
    x86_cli();
    struct sched_rq *rq = this_cpu->rq;
    struct nk_thread *current = this_cpu->current;
    uint32_t ready = rq->ready_mask >> current->priority;
    bool plain = rq->inbox == NULL && current->attention == 0;
    if (nk_likely(ready == 0 && plain)) {
        x86_sti();
        return;
    }
    struct thread_queue *q = &rq->queue[current->priority];
    if (nk_likely(ready == 1 && plain && rq->slice_armed && q->head->attention == 0)) {
        /* Only equals: the first of them takes this thread's place and this one goes last, which
         * leaves the mask and the count as they are. */
        struct nk_thread *next = q->head;
        thread_set_state(current, NK_THREAD_READY);
        current->slice_used = 0;
        current->next = NULL;
        q->tail->next = current;
        q->tail = current;
        q->head = next->next;
        switch_to(rq, current, next);
    } else {
        yield_slow(rq, current);
    }
    x86_sti();
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

void sched_get_stats(unsigned cpu, struct sched_stats *out)
{
    nk_assert(cpu < nk_cpu_count);
    const struct sched_rq *rq = nk_cpu_table[cpu].rq;
    bool idle = nk_cpu_table[cpu].current == rq->idle; /* then its ticks want the time added */
    *out = (struct sched_stats){
        .switches = rq->switches,
        .idle_ticks = rq->idle->cpu_ticks + (idle ? x86_rdtsc() : 0),
        .slice_interrupts = rq->slice_interrupts,
        .runnable = rq->ready_count + !idle,
    };
}
