/* The scheduler: per-CPU run queues, fixed-priority round robin, no periodic tick.
 * A CPU with one runnable thread has no slice timer armed. */
#pragma once

#include "base/types.h"

/* Boot CPU, after slab_init(): turns the running context into the thread "main". */
void sched_init(void);

/* On every CPU: its run queue, timer queue and idle thread. boot_stack_top: the stack this context
 * runs on. On other CPUs the context becomes the idle thread and sched_idle_loop() ends it. */
void sched_init_cpu(void *boot_stack_top);
void sched_idle_loop(void) __attribute__((noreturn));

/* The tail of an interrupt after which preempt_count is 0, with interrupts off: switches. */
void sched_interrupt_tail(void);

/* From the reschedule IPI: drain what other CPUs queued for this one. */
void sched_reschedule_interrupt(void);

/* Isolated CPUs, bit n for CPU n: they run only threads that are pinned to them or whose affinity
 * mask names them. CPU 0 cannot be isolated. Threads that are there move when they are next picked.
 * Errors: -EINVAL. */
int sched_isolate(uint64_t cpus) NK_MUST_CHECK;
uint64_t sched_isolated(void);

/* Whether an idle CPU that watches memory notices a store, as it ought to. Not the current CPU.
 * Where it does not, nk_platform_watches is to become false and the CPUs to be kicked. */
bool sched_watch_works(unsigned cpu);

/* Work stealing, off by default: a CPU of the set that has nothing to do asks the one of the set
 * with the most ready threads for one of them. 0: nobody does. */
void sched_set_stealing(uint64_t cpus);

struct sched_stats {
    uint64_t switches, idle_ticks, slice_interrupts, stolen;
    unsigned runnable;
    bool watches; /* it idles, and is woken without an interrupt */
};
void sched_get_stats(unsigned cpu, struct sched_stats *out);

#define SCHED_SLICE_NS 10000000u /* round-robin slice among equals: 10 ms */
