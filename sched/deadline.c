#include "sched/deadline.h"

#include "base/errno.h"
#include "mm/slab.h"
#include "sched/wait.h"

#define NS_MIN     10000 /* shorter periods and slices cost more to keep than they give */
#define NS_MAX     (UINT64_C(1) << 40)
#define LOAD_UNIT  1000000
#define GANG_DELAY UINT64_C(200000) /* ns from the last admission to the common start */

struct thread_deadline {
    struct nk_thread *thread;
    uint64_t period, slice; /* ticks; period 0: sporadic */
    uint64_t next_release;  /* periodic: TSC */
    uint64_t limit;         /* thread_ticks() at which the slice is used up */
    unsigned load;
    int fixed_pin; /* to go back to */
    bool done;     /* the job of this period is */
    bool used_up;  /* its slice is: the thread shall rest, */
    bool rests;    /* and does: BLOCKED until the next period */
    uint32_t word; /* wait word of nk_thread_wait_period() */
    struct nk_timer release, budget;
    struct nk_deadline_info info;
};

static void set_own_urgency(struct nk_thread *t, uint64_t urgency)
{
    __atomic_store_n(&t->own_urgency, urgency, __ATOMIC_RELAXED);
}

static struct nk_spinlock load_lock = NK_SPINLOCK_INIT(NK_RANK_THREAD);
static unsigned load_table[CONFIG_NR_CPUS];

/* --- the queue of ready threads with deadlines ------------------------------------------------ */

/* Behind those with the same deadline. The first runs first. */
void deadline_push(struct sched_rq *rq, struct nk_thread *t)
{
    struct thread_queue *q = &rq->queue[NK_PRIORITY_DEADLINE];
    if (!(rq->ready_mask >> NK_PRIORITY_DEADLINE & 1)) {
        queue_push(rq, t);
        return;
    }
    rq->ready_count++;
    struct nk_thread **link = &q->head;
    while (*link != NULL && (*link)->deadline <= t->deadline) {
        link = &(*link)->next;
    }
    t->next = *link;
    *link = t;
    if (t->next == NULL) {
        q->tail = t;
    }
}

/* --- budget: what a switch has to do ---------------------------------------------------------- */

void deadline_switch_in(struct nk_thread *t)
{
    struct thread_deadline *d = t->edf;
    uint64_t used_up_in = d->limit - thread_ticks(t);
    if (d->used_up) {
        return; /* it runs for those who wait for it */
    }
    nk_timer_arm(&d->budget, x86_rdtsc() + ((int64_t)used_up_in > 0 ? used_up_in : 0));
}

void deadline_switch_out(struct nk_thread *t)
{
    nk_timer_cancel(&t->edf->budget);
}

/* Not while somebody waits for one of its mutexes: then it goes on with what it is lent. */
bool deadline_rests(struct nk_thread *t)
{
    struct thread_deadline *d = t->edf;
    if (d->used_up) {
        set_own_urgency(t, 0);
        sched_settle(t);
        d->rests = t->lending.lent == 0;
    }
    return d->rests;
}

void deadline_lent(struct nk_thread *t)
{
    if ((t->on_switch & SWITCH_DEADLINE) && t->edf->rests && t->lending.lent != 0) {
        t->edf->rests = false;
        sched_make_ready(t);
    }
}

static void leave(struct nk_thread *t);

static void budget_expired(struct nk_timer *timer)
{
    struct thread_deadline *d = NK_CONTAINER_OF(timer, struct thread_deadline, budget);
    struct nk_thread *t = d->thread;
    if (t != this_cpu->current) {
        return;
    }
    if ((int64_t)(d->limit - thread_ticks(t)) > 0) {
        deadline_switch_in(t);
        return;
    }
    d->info.exhausted++;
    d->done = true;
    if (d->period == 0) {
        leave(t);
    } else {
        d->used_up = true;
    }
    nk_resched_request();
}

/* --- periods ---------------------------------------------------------------------------------- */

/* On the thread's CPU, interrupts off. */
static void begin_job(struct thread_deadline *d, uint64_t deadline)
{
    struct nk_thread *t = d->thread;
    bool rested = d->rests;
    d->info.jobs++;
    d->done = d->used_up = d->rests = false;
    d->limit = thread_ticks(t) + d->slice;
    set_own_urgency(t, urgency_of_deadline(deadline));
    if (rested) {
        sched_make_ready(t);
    } else if (d->word == WAIT_PARKED) {
        sched_signal_irqs_off(t, &d->word);
    } else {
        if (t == this_cpu->current) {
            deadline_switch_in(t);
        }
        sched_apply_urgency(this_cpu->rq, t);
    }
}

static void period_begins(struct nk_timer *timer)
{
    struct thread_deadline *d = NK_CONTAINER_OF(timer, struct thread_deadline, release);
    if (d->period == 0) { /* a sporadic thread's time is over */
        d->info.missed += !d->done;
        leave(d->thread);
        nk_resched_request();
        return;
    }
    d->info.missed += d->info.jobs > 0 && !d->done;
    d->next_release += d->period;
    uint64_t now = x86_rdtsc();
    while (d->next_release <= now) { /* this CPU was held up for whole periods */
        d->next_release += d->period;
        d->info.missed++;
    }
    nk_timer_arm(timer, d->next_release);
    begin_job(d, d->next_release);
}

static bool in_class(const struct nk_thread *t)
{
    return (t->on_switch & SWITCH_DEADLINE) != 0;
}

/* --- coming and going ------------------------------------------------------------------------- */

static bool take_load(unsigned cpu, unsigned load)
{
    uint64_t flags = nk_spin_lock_irqsave(&load_lock);
    bool fits = load_table[cpu] + load <= DEADLINE_LOAD_MAX;
    load_table[cpu] += fits ? load : 0;
    nk_spin_unlock_irqrestore(&load_lock, flags);
    return fits;
}

static void give_load(unsigned cpu, unsigned load)
{
    uint64_t flags = nk_spin_lock_irqsave(&load_lock);
    load_table[cpu] -= load;
    nk_spin_unlock_irqrestore(&load_lock, flags);
}

unsigned nk_deadline_load(unsigned cpu)
{
    nk_assert(cpu < nk_cpu_count);
    return __atomic_load_n(&load_table[cpu], __ATOMIC_RELAXED);
}

/* Off the class, on its own CPU with interrupts off. The record stays until the thread itself
 * comes by: a timer's callback may be using it. */
static void leave(struct nk_thread *t)
{
    struct thread_deadline *d = t->edf;
    nk_timer_cancel(&d->release);
    nk_timer_cancel(&d->budget);
    give_load(t->cpu, d->load);
    d->load = 0;
    t->on_switch &= (uint8_t)~SWITCH_DEADLINE;
    set_own_urgency(t, t->own_priority);
    __atomic_store_n(&t->pinned, d->fixed_pin, __ATOMIC_RELAXED);
    sched_apply_urgency(this_cpu->rq, t);
}

void nk_thread_end_deadline(void)
{
    struct nk_thread *t = nk_thread_current();
    uint64_t flags = nk_irq_save();
    struct thread_deadline *d = t->edf;
    if (d != NULL) {
        if (in_class(t)) {
            leave(t);
            nk_resched_request();
        }
        t->edf = NULL;
    }
    sched_after_wake(flags);
    kfree(d);
}

static int check(const struct nk_deadline *d)
{
    uint64_t span = d->period_ns != 0 ? d->period_ns : d->deadline_ns;
    bool valid = d->slice_ns >= NS_MIN && span >= d->slice_ns && span < NS_MAX &&
                 (d->period_ns == 0 || d->deadline_ns == 0);
    return valid ? 0 : -EINVAL;
}

/* Admission: the record, and the load on this CPU, where the thread stays from now on. */
static int reserve(const struct nk_deadline *params, struct thread_deadline **out)
{
    struct nk_thread *t = nk_thread_current();
    if (in_class(t)) {
        return -EBUSY;
    }
    int err = check(params);
    if (err != 0) {
        return err;
    }
    struct thread_deadline *d = kzalloc(sizeof(*d));
    if (d == NULL) {
        return -ENOMEM;
    }
    uint64_t span = params->period_ns != 0 ? params->period_ns : params->deadline_ns;
    d->thread = t;
    d->period = nk_ns_to_tsc(params->period_ns);
    d->slice = nk_ns_to_tsc(params->slice_ns);
    d->load = (unsigned)((params->slice_ns * LOAD_UNIT + span - 1) / span);
    d->fixed_pin = t->pinned;
    nk_timer_init(&d->release, period_begins);
    nk_timer_init(&d->budget, budget_expired);
    nk_preempt_disable();
    bool fits = take_load(this_cpu->id, d->load);
    if (fits) {
        t->pinned = (int)this_cpu->id;
    }
    nk_preempt_enable();
    if (!fits) {
        kfree(d);
        return -ENOSPC;
    }
    *out = d;
    return 0;
}

static void cancel_reservation(struct thread_deadline *d)
{
    give_load(d->thread->cpu, d->load);
    d->thread->pinned = d->fixed_pin;
    kfree(d);
}

/* Returns when the first period begins. */
static void begin(struct thread_deadline *d, const struct nk_deadline *params, uint64_t start)
{
    struct nk_thread *t = d->thread;
    nk_thread_end_deadline(); /* the record of a sporadic time that is over */
    sched_check_may_block();
    x86_cli();
    t->edf = d;
    t->slack = false; /* threads with deadlines are not lent other partitions' time */
    t->on_switch |= SWITCH_DEADLINE;
    if (d->period == 0) {
        nk_timer_arm(&d->release, x86_rdtsc() + nk_ns_to_tsc(params->deadline_ns));
        begin_job(d, d->release.deadline);
        sched_after_wake(X86_RFLAGS_IF);
        return;
    }
    d->limit = UINT64_MAX / 2; /* nothing is counted before */
    d->next_release = start;
    set_own_urgency(t, urgency_of_deadline(start));
    sched_settle(t);
    nk_timer_arm(&d->release, start);
    sched_wait_irqs_off(t, &d->word);
}

int nk_thread_set_deadline(const struct nk_deadline *params)
{
    struct thread_deadline *d;
    int err = reserve(params, &d);
    if (err == 0) {
        uint64_t now = x86_rdtsc();
        begin(d, params, params->start_tsc > now ? params->start_tsc : now);
    }
    return err;
}

bool nk_thread_wait_period(void)
{
    struct thread_deadline *d = nk_thread_current()->edf;
    nk_assert(d != NULL && d->period != 0);
    uint64_t missed = d->info.missed;
    sched_check_may_block();
    x86_cli(); /* a period that began between the two would go unnoticed */
    d->done = true;
    sched_wait_irqs_off(d->thread, &d->word);
    return d->info.missed == missed;
}

void nk_thread_deadline_info(struct nk_deadline_info *out)
{
    const struct thread_deadline *d = nk_thread_current()->edf;
    *out = d != NULL ? d->info : (struct nk_deadline_info){.jobs = 0};
}

/* --- gangs ------------------------------------------------------------------------------------ */

void nk_gang_init(struct nk_gang *g, unsigned count)
{
    nk_barrier_init(&g->admitted, count);
    nk_barrier_init(&g->decided, count);
    g->error = 0;
    g->start_tsc = 0;
}

/* The first barrier says that everybody has tried, the second that the start has been set. */
int nk_gang_set_deadline(struct nk_gang *g, const struct nk_deadline *params)
{
    struct thread_deadline *d;
    int err = reserve(params, &d);
    if (err != 0) {
        __atomic_store_n(&g->error, err, __ATOMIC_RELAXED);
    }
    if (nk_barrier_wait(&g->admitted)) {
        g->start_tsc = x86_rdtsc() + nk_ns_to_tsc(GANG_DELAY);
    }
    nk_barrier_wait(&g->decided);
    int gang_error = __atomic_load_n(&g->error, __ATOMIC_RELAXED);
    if (gang_error == 0) {
        begin(d, params, g->start_tsc);
    } else if (err == 0) {
        cancel_reservation(d);
    }
    return gang_error;
}
