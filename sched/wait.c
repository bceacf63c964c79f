/* Blocking and waking by wait words.
 *
 * A word is 0, or holds a token (by a waker or by the timer), or says that its thread is parked.
 * Parking and waking are one atomic exchange each, so whichever comes second sees the other:
 * a wake can neither be lost between a thread's decision to block and its leaving the CPU, nor
 * make the thread ready twice. */
#include "base/percpu.h"
#include "base/x86.h"
#include "sched/rq.h"

enum thread_wait sched_wait(uint32_t *word)
{
    nk_assert(nk_preempt_depth() == 0);
#if defined(CONFIG_DEBUG)
    nk_assert(nk_irqs_on());
#endif
    x86_cli();
    return sched_wait_irqs_off(word);
}

enum thread_wait sched_wait_irqs_off(uint32_t *word)
{
    if (nk_likely(__atomic_load_n(word, __ATOMIC_RELAXED) == WAIT_NOTHING)) {
        struct nk_thread *current = this_cpu->current;
        thread_set_state(current, NK_THREAD_BLOCKED); /* before a waker can see it parked */
        uint32_t expected = WAIT_NOTHING;
        if (nk_likely(__atomic_compare_exchange_n(word, &expected, WAIT_PARKED, false,
                                                  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))) {
            current->slice_used = 0;
            sched_run_next(this_cpu->rq, current);
        } else {
            thread_set_state(current, NK_THREAD_READY);
            thread_set_state(current, NK_THREAD_RUNNING);
        }
    }
    x86_sti();
    /* Exchanged and not just stored: a waker that finds the token still here must be ordered
     * before what the thread reads next. */
    return (enum thread_wait)__atomic_exchange_n(word, WAIT_NOTHING, __ATOMIC_ACQ_REL);
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

void sched_signal_irqs_off(struct nk_thread *t, uint32_t *word)
{
    if (__atomic_exchange_n(word, WAIT_TOKEN, __ATOMIC_ACQ_REL) == WAIT_PARKED) {
        sched_make_ready(t);
    }
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
