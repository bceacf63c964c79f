/* The choice of the next thread and the way to it. */
#include "sched/rq.h"
#include "sched/sched.h"

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
    sched_settle(t);
    if (!(sched_allowed(t) >> rq->cpu & 1)) {
        if (t->slack) {
            partition_slack_over(t);
        }
        sched_send_to(sched_pick_cpu(t), t);
        return true;
    }
    return rq->gated != 0 && !partition_admits(rq, t);
}

static NK_NOINLINE void switch_special(struct nk_thread *prev, struct nk_thread *next)
{
    const uint8_t both = prev->on_switch | next->on_switch;
    if (prev->on_switch & SWITCH_DEADLINE) {
        deadline_switch_out(prev);
    }
    if (next->on_switch & SWITCH_DEADLINE) {
        deadline_switch_in(next);
    }
    if (both & SWITCH_FP) {
        fp_switch(prev, next);
    }
    sched_switch(prev, next);
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
    if (nk_unlikely((prev->on_switch | next->on_switch) != 0)) {
        switch_special(prev, next);
        return;
    }
    sched_switch(prev, next);
}

static void run_next_queued(struct sched_rq *rq, struct nk_thread *prev);

static inline void run_picked(struct sched_rq *rq, struct nk_thread *prev, struct nk_thread *next)
{
    if (nk_unlikely(next == prev)) {
        thread_set_state(next, NK_THREAD_RUNNING);
        return;
    }
    switch_to(rq, prev, next);
}

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
    sched_slice_arm(rq, 0);
    run_next_queued(rq, prev);
}

static NK_NOINLINE void divert_and_run_next(struct sched_rq *rq, struct nk_thread *prev,
                                            struct nk_thread *next)
{
    if (divert(rq, next)) {
        run_next_queued(rq, prev);
    } else {
        run_picked(rq, prev, next);
    }
}

static NK_NOINLINE void run_idle(struct sched_rq *rq, struct nk_thread *prev)
{
    struct nk_thread *idle = rq->idle;
    if (rq->gated != 0) {
        struct nk_thread *t = partition_slack(rq);
        if (t != NULL) {
            run_picked(rq, prev, t);
            return;
        }
    }
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
    if (nk_unlikely((next->attention | rq->gated) != 0)) {
        divert_and_run_next(rq, prev, next);
        return;
    }
    run_picked(rq, prev, next);
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

/* The turn of a thread is over and equals wait: it moves to a CPU that has nothing to do, if there
 * is one and it may, and goes behind its equals otherwise. */
static void end_turn(struct sched_rq *rq, struct nk_thread *current)
{
    current->slice_used = 0;
    int idle = current->pinned == NK_CPU_ANY ? sched_claim_idle_cpu(sched_allowed(current)) : -1;
    if (idle >= 0) {
        sched_send_to((unsigned)idle, current);
        run_next_queued(rq, current);
    } else {
        queue_push(rq, current);
        sched_run_next(rq, current);
    }
}

void sched_preempt(void)
{
    struct sched_rq *rq = this_cpu->rq;
    struct nk_thread *current = this_cpu->current;
    bool over = rq->slice_over;
    rq->slice_over = false;
    if ((current->on_switch & SWITCH_DEADLINE) && deadline_rests(current)) {
        thread_set_state(current, NK_THREAD_BLOCKED);
        sched_run_next(rq, current);
        return;
    }
    thread_set_state(current, NK_THREAD_READY);
    if (current == rq->idle) {
        if (rq->watches) {
            sched_stop_watching(rq);
        }
        sched_run_next(rq, current);
        return;
    }
    if (current->priority == NK_PRIORITY_DEADLINE) {
        deadline_push(rq, current);
        sched_run_next(rq, current);
        return;
    }
    current->slice_used += x86_rdtsc() - rq->switch_tsc;
    if (over) {
        end_turn(rq, current);
    } else {
        queue_push_front(rq, current); /* it keeps the rest of its turn */
        sched_run_next(rq, current);
    }
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

static NK_NOINLINE void carry_out_orders(struct sched_rq *rq)
{
    struct sched_order *order = __atomic_exchange_n(&rq->orders, NULL, __ATOMIC_ACQ_REL);
    while (order != NULL) {
        struct sched_order *next = order->next;
        order->fn(rq, order);
        order = next;
    }
}

void sched_reschedule_interrupt(void)
{
    struct sched_rq *rq = this_cpu->rq;
    if (__atomic_load_n(&rq->inbox, __ATOMIC_RELAXED) != NULL) {
        rq_drain_inbox(rq);
    }
    if (nk_unlikely(__atomic_load_n(&rq->orders, __ATOMIC_RELAXED) != NULL)) {
        carry_out_orders(rq);
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
    if (current->priority == NK_PRIORITY_DEADLINE) {
        deadline_push(rq, current);
    } else {
        queue_push(rq, current);
    }
    sched_run_next(rq, current);
}

void nk_thread_yield(void)
{
    nk_assert(nk_preempt_depth() == 0);
    x86_cli();
    struct sched_rq *rq = this_cpu->rq;
    struct nk_thread *current = this_cpu->current;
    uint32_t ready = rq->ready_mask >> current->priority;
    bool plain = rq->inbox == NULL && (current->attention | rq->gated) == 0;
    if (nk_likely(ready == 0 && plain)) {
        x86_sti();
        return;
    }
    struct thread_queue *q = &rq->queue[current->priority];
    if (nk_likely(ready == 1 && plain && rq->slice_armed && q->head->attention == 0 &&
                  current->priority != NK_PRIORITY_DEADLINE)) {
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

void sched_get_stats(unsigned cpu, struct sched_stats *out)
{
    nk_assert(cpu < nk_cpu_count);
    const struct sched_rq *rq = nk_cpu_table[cpu].rq;
    bool idle = nk_cpu_table[cpu].current == rq->idle;
    *out = (struct sched_stats){
        .switches = rq->switches,
        .idle_ticks = thread_ticks(rq->idle),
        .slice_interrupts = rq->slice_interrupts,
        .stolen = rq->stolen,
        .runnable = rq->ready_count + !idle,
        .watches = __atomic_load_n(&rq->watches, __ATOMIC_RELAXED) != 0,
    };
}
