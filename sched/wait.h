/* Inside sched/ only: blocking and waking by wait words.
 *
 * A word is 0, or holds a token (by a waker or by the timer), or says that its thread is parked.
 * Parking and waking are one atomic exchange each, so whichever comes second sees the other:
 * a wake can neither be lost between a thread's decision to block and its leaving the CPU, nor
 * make the thread ready twice. */
#pragma once

#include "sched/rq.h"

static inline void sched_check_may_block(void)
{
    nk_assert(nk_preempt_depth() == 0);
#if defined(CONFIG_DEBUG)
    nk_assert(nk_irqs_on());
#endif
}

/* Block the current thread until the word is signalled; the value it got. Interrupts are off
 * before and on after. */
static NK_ALWAYS_INLINE enum thread_wait sched_wait_irqs_off(struct nk_thread *current,
                                                             uint32_t *word)
{
    thread_set_state(current, NK_THREAD_BLOCKED); /* before a waker can see it parked */
    uint32_t expected = WAIT_NOTHING;
    if (nk_likely(__atomic_compare_exchange_n(word, &expected, WAIT_PARKED, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_ACQUIRE))) {
        current->slice_used = 0;
        sched_run_next(this_cpu->rq, current);
    } else {
        thread_set_state(current, NK_THREAD_READY);
        thread_set_state(current, NK_THREAD_RUNNING);
    }
    x86_sti();
    /* Exchanged and not just stored: a waker that finds the token still here must be ordered
     * before what the thread reads next. */
    return (enum thread_wait)__atomic_exchange_n(word, WAIT_NOTHING, __ATOMIC_ACQ_REL);
}

/* Wake the thread that waits on the word, or leave it a token. Interrupts are off;
 * sched_after_wake() must follow. */
static NK_ALWAYS_INLINE void sched_signal_irqs_off(struct nk_thread *t, uint32_t *word)
{
    uint32_t old = __atomic_exchange_n(word, WAIT_TOKEN, __ATOMIC_ACQ_REL);
    if (old == WAIT_PARKED) {
        sched_make_ready(t);
    } else if (old == WAIT_IDLING && t->cpu != this_cpu->id) {
        /* On its own CPU the interrupt we are in has ended the halt. */
        nk_platform_kick_cpu(t->cpu);
    }
}
