/* One-shot timers on per-CPU queues, in TSC ticks.
 * The callback runs in interrupt context on the CPU where the timer was armed; it may re-arm. */
#pragma once

#include "base/types.h"

struct nk_timer {
    uint64_t deadline; /* TSC; 0: not armed */
    void (*fn)(struct nk_timer *t);
    struct nk_timer *child, *next; /* pairing heap: first child, next sibling */
    struct nk_timer **link;        /* what points at this timer */
    uint32_t cpu;                  /* whose queue it is, or was last, on */
};

void nk_timer_init(struct nk_timer *t, void (*fn)(struct nk_timer *t));

/* Arm (or move) on the current CPU's queue. Context: any but NMI. A timer armed on another CPU is
 * first taken off that CPU's queue. Two CPUs may not arm one timer at the same time. */
void nk_timer_arm(struct nk_timer *t, uint64_t deadline_tsc);

/* Off the queue; true when it was armed. On return the callback is not running and will not run,
 * unless the caller is the callback itself. */
bool nk_timer_cancel(struct nk_timer *t);

/* The earliest timer of the CPU, as a picture of this moment; false: none is armed. */
bool nk_timer_next(unsigned cpu, uint64_t *deadline_tsc, void (**fn)(struct nk_timer *t));

/* The timer interrupt's handler, called by kernel/ with interrupts off. */
void nk_timer_interrupt(void);

uint64_t nk_ns_to_tsc(uint64_t ns);
uint64_t nk_tsc_to_ns(uint64_t ticks);
uint64_t nk_now_ns(void); /* since boot, monotonic */
