/* How scheduling begins on a CPU, and what a CPU does that has nothing to run. */
#include "base/percpu.h"
#include "base/x86.h"
#include "sched/rq.h"
#include "sched/sched.h"

static const struct nk_thread_attr main_attr = {.name = "main", .cpu = NK_CPU_ANY};

void sched_init(void)
{
    timer_init();
    thread_init();
    fp_init();
}

static bool has_work(const struct sched_rq *rq)
{
    return rq->ready_mask != 0 || __atomic_load_n(&rq->inbox, __ATOMIC_RELAXED) != NULL;
}

/* Until an interrupt, or news by memory. An interrupt that preempts ends the watch in
 * sched_preempt(): this continues when there is nothing to run again. */
static void watch(struct sched_rq *rq)
{
    __atomic_exchange_n(&rq->watches, 1, __ATOMIC_SEQ_CST);
    if (has_work(rq) || __atomic_load_n(&rq->orders, __ATOMIC_RELAXED) != NULL) {
        x86_sti();
    } else {
        nk_platform_idle_watch(&rq->news);
    }
    x86_cli();
    sched_stop_watching(rq);
    x86_sti();
}

#define PATIENCE_NS UINT64_C(20000000)

static bool await(const uint32_t *word, uint32_t value)
{
    const uint64_t end = x86_rdtsc() + nk_ns_to_tsc(PATIENCE_NS);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
        if (x86_rdtsc() > end) {
            return false;
        }
        x86_pause();
    }
    return true;
}

/* A CPU that is too busy to watch proves nothing, and is believed. */
bool sched_watch_works(unsigned cpu)
{
    struct sched_rq *rq = nk_cpu_table[cpu].rq;
    if (!await(&rq->watches, 1)) {
        return true;
    }
    nk_preempt_disable(); /* the two halves of PATIENCE_NS shall not be spent elsewhere */
    sched_kick(cpu);
    bool works = await(&rq->news, 0);
    nk_preempt_enable();
    return works;
}

static NK_NORETURN void idle_loop(void *arg)
{
    (void)arg;
    struct sched_rq *rq = this_cpu->rq;
    const uint64_t bit = UINT64_C(1) << rq->cpu;
    for (;;) {
        thread_reap();
        x86_cli();
        if (has_work(rq)) {
            thread_set_state(rq->idle, NK_THREAD_READY);
            sched_run_next(rq, rq->idle);
            x86_sti();
            continue;
        }
        const uint64_t known = __atomic_load_n(&sched_idle_mask, __ATOMIC_RELAXED) |
                               __atomic_load_n(&sched_reserved_mask, __ATOMIC_RELAXED);
        if (!(known & bit)) {
            __atomic_fetch_or(&sched_idle_mask, bit, __ATOMIC_RELAXED);
            sched_steal(rq);
        }
        if (nk_platform_watches) {
            watch(rq);
        } else {
            nk_platform_idle();
        }
    }
}

static struct nk_thread *make_or_panic(const struct nk_thread_attr *attr, bool with_stack)
{
    struct nk_thread *t = thread_make(attr, idle_loop, NULL, with_stack);
    if (t == NULL) {
        nk_panic("sched: no memory for thread %s", attr->name);
    }
    return t;
}

/* What runs here already is a thread from now on. */
static void adopt(struct nk_thread *t, void *stack_top)
{
    t->stack_top = stack_top;
    t->on_cpu = 1;
    t->cpu = this_cpu->id;
    t->cpu_ticks = -x86_rdtsc();
    this_cpu->rq->switch_tsc = x86_rdtsc();
    thread_set_state(t, NK_THREAD_READY);
    thread_set_state(t, NK_THREAD_RUNNING);
    this_cpu->current = t;
}

void sched_init_cpu(void *boot_stack_top)
{
    unsigned cpu = this_cpu->id;
    bool boot_cpu = nk_cpu_table[0].rq == NULL;
    struct nk_thread_attr attr = {.name = "idle", .cpu = (int)cpu};
    struct nk_thread *idle = make_or_panic(&attr, boot_cpu);
    idle->priority = 0;
    idle->cpu = cpu;
    struct sched_rq *rq = rq_create(cpu);
    rq->idle = idle;
    nk_this_cpu()->timers = timer_queue_create();
    nk_this_cpu()->rq = rq;
    fp_init_cpu();
    nk_resched_clear();
    if (boot_cpu) {
        thread_prepare(idle);
        thread_set_state(idle, NK_THREAD_READY);
        adopt(make_or_panic(&main_attr, false), boot_stack_top);
    } else {
        adopt(idle, boot_stack_top);
    }
}

void sched_idle_loop(void)
{
    nk_assert(this_cpu->current == this_cpu->rq->idle);
    idle_loop(NULL);
}
