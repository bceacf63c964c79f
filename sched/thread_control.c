/* What one thread may ask of another: pause, resume, pin; and what it may know of it. */
#include "base/errno.h"
#include "base/percpu.h"
#include "base/x86.h"
#include "sched/partition.h"
#include "sched/rq.h"

static const char *const state_name_table[] = {
    [NK_THREAD_NEW] = "new",         [NK_THREAD_READY] = "ready",   [NK_THREAD_RUNNING] = "running",
    [NK_THREAD_BLOCKED] = "blocked", [NK_THREAD_PAUSED] = "paused", [NK_THREAD_DONE] = "done",
};

/* Let the CPU that has the thread see its attention flags: at once if the thread runs, else when
 * its turn comes. */
static void call_attention(struct nk_thread *t)
{
    if (t == nk_thread_current()) {
        uint64_t flags = nk_irq_save();
        nk_resched_request();
        sched_after_wake(flags);
        return;
    }
    nk_preempt_disable();
    enum nk_thread_state state = nk_thread_get_state(t);
    unsigned cpu = __atomic_load_n(&t->cpu, __ATOMIC_RELAXED);
    if ((state == NK_THREAD_RUNNING || state == NK_THREAD_READY) && cpu != this_cpu->id) {
        sched_kick(cpu);
    }
    nk_preempt_enable();
}

int nk_thread_pause(struct nk_thread *t)
{
    if (!thread_is_alive(t)) {
        return -EINVAL;
    }
    uint32_t old = __atomic_load_n(&t->attention, __ATOMIC_RELAXED);
    do {
        if (old & ATTENTION_PAUSED) {
            return 0;
        }
    } while (!__atomic_compare_exchange_n(&t->attention, &old, old | ATTENTION_PAUSE, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    call_attention(t);
    return 0;
}

int nk_thread_resume(struct nk_thread *t)
{
    const uint32_t both = ATTENTION_PAUSE | ATTENTION_PAUSED;
    uint64_t flags = nk_irq_save();
    uint32_t old = __atomic_fetch_and(&t->attention, ~both, __ATOMIC_ACQ_REL);
    if (old & ATTENTION_PAUSED) {
        sched_make_ready(t);
    }
    sched_after_wake(flags);
    return old & both ? 0 : -EINVAL;
}

/* Where it may run has changed. */
static void check_place(struct nk_thread *t)
{
    __atomic_fetch_or(&t->attention, ATTENTION_MIGRATE, __ATOMIC_ACQ_REL);
    call_attention(t);
}

int nk_thread_pin(struct nk_thread *t, int cpu)
{
    if (cpu < NK_CPU_ANY || cpu >= (int)nk_cpu_count) {
        return -EINVAL;
    }
    if (t->on_switch & SWITCH_DEADLINE) {
        return -EBUSY; /* it was admitted to its CPU */
    }
    __atomic_store_n(&t->pinned, cpu, __ATOMIC_RELEASE);
    __atomic_store_n(&t->wakes_on, thread_is_alive(t) ? WAKES_ASK : cpu, __ATOMIC_RELEASE);
    if (thread_is_alive(t)) {
        check_place(t);
    }
    return 0;
}

int nk_thread_set_affinity(struct nk_thread *t, uint64_t cpus)
{
    uint64_t all = UINT64_MAX >> (64 - nk_cpu_count);
    if ((cpus & all) == 0) {
        return -EINVAL;
    }
    if (t->on_switch & SWITCH_DEADLINE) {
        return -EBUSY;
    }
    cpus = cpus == NK_AFFINITY_ANY ? cpus : cpus & all;
    __atomic_store_n(&t->affinity, cpus, __ATOMIC_RELEASE);
    return nk_thread_pin(t, NK_CPU_ANY);
}

int nk_thread_set_partition(struct nk_thread *t, unsigned partition)
{
    if (partition > NK_PARTITION_MAX) {
        return -EINVAL;
    }
    __atomic_store_n(&t->partition, (uint8_t)partition, __ATOMIC_RELEASE);
    if (thread_is_alive(t)) {
        check_place(t);
    }
    return 0;
}

const char *nk_thread_name(const struct nk_thread *t)
{
    return t->name;
}

enum nk_thread_state nk_thread_get_state(const struct nk_thread *t)
{
    return (enum nk_thread_state)__builtin_ctz(__atomic_load_n(&t->state, __ATOMIC_ACQUIRE));
}

const char *nk_thread_state_name(enum nk_thread_state s)
{
    return s < NK_ARRAY_COUNT(state_name_table) ? state_name_table[s] : "?";
}

void **nk_thread_reent_slot(void)
{
    struct nk_thread *t = nk_thread_current();
    return t == NULL ? NULL : &t->reent;
}
