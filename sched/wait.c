#include "base/percpu.h"
#include "base/x86.h"
#include "sched/wait.h"

enum thread_wait sched_wait(uint32_t *word)
{
    sched_check_may_block();
    x86_cli();
    return sched_wait_irqs_off(this_cpu->current, word);
}

enum thread_wait sched_wait_until(uint32_t *word, uint64_t tsc)
{
    struct nk_thread *current = this_cpu->current;
    current->timer_word = word;
    nk_timer_arm(&current->timer, tsc);
    enum thread_wait got = sched_wait(word);
    if (got == WAIT_TOKEN && !nk_timer_cancel(&current->timer)) {
        uint32_t late = WAIT_TIMEOUT; /* the timer came as well: its token is not the next wait's */
        __atomic_compare_exchange_n(word, &late, WAIT_NOTHING, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE);
    }
    return got;
}

void sched_signal(struct nk_thread *t, uint32_t *word)
{
    uint64_t flags = nk_irq_save();
    sched_signal_irqs_off(t, word);
    sched_after_wake(flags);
}

void sched_wait_timeout(struct nk_timer *timer)
{
    struct nk_thread *t = NK_CONTAINER_OF(timer, struct nk_thread, timer);
    uint32_t old = __atomic_load_n(t->timer_word, __ATOMIC_RELAXED);
    do {
        if (old == WAIT_TOKEN) {
            return;
        }
    } while (!__atomic_compare_exchange_n(t->timer_word, &old, WAIT_TIMEOUT, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (old == WAIT_PARKED) {
        sched_make_ready(t);
    }
}

void nk_thread_park(void)
{
    sched_wait(&nk_thread_current()->park);
}

/* Nobody else ran meanwhile: the time was the CPU's, not the thread's. */
static void account_halt(struct nk_thread *t, uint64_t begin, uint64_t switches)
{
    if (switches == t->switches) {
        uint64_t ticks = x86_rdtsc() - begin;
        t->cpu_ticks -= ticks;
        this_cpu->rq->idle->cpu_ticks += ticks;
    }
}

void nk_thread_park_idling(void)
{
    struct nk_thread *t = this_cpu->current;
    sched_check_may_block();
    x86_cli();
    for (;;) {
        struct sched_rq *rq = this_cpu->rq;
        uint32_t expected = WAIT_NOTHING;
        if (rq->ready_mask != 0 || __atomic_load_n(&rq->inbox, __ATOMIC_RELAXED) != NULL ||
            (t->on_switch & SWITCH_DEADLINE) != 0 ||
            !__atomic_compare_exchange_n(&t->park, &expected, WAIT_IDLING, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            sched_wait_irqs_off(t, &t->park);
            return;
        }
        uint64_t switches = t->switches, begin = x86_rdtsc();
        nk_platform_idle();
        x86_cli();
        account_halt(t, begin, switches);
        if (__atomic_exchange_n(&t->park, WAIT_NOTHING, __ATOMIC_ACQ_REL) == WAIT_TOKEN) {
            x86_sti();
            return;
        }
    }
}

bool nk_thread_park_until(uint64_t tsc)
{
    return sched_wait_until(&nk_thread_current()->park, tsc) == WAIT_TOKEN;
}

void nk_thread_wake(struct nk_thread *t)
{
    sched_signal(t, &t->park);
}

void nk_thread_sleep_until(uint64_t tsc)
{
    struct nk_thread *current = nk_thread_current();
    while (x86_rdtsc() < tsc) {
        sched_wait_until(&current->wait, tsc);
    }
}

void nk_thread_sleep_ns(uint64_t ns)
{
    nk_thread_sleep_until(x86_rdtsc() + nk_ns_to_tsc(ns));
}
