/* Other CPUs: start, cross-CPU calls, stop. */
#pragma once

#include "base/types.h"

void smp_start_all(void); /* INIT/SIPI to every enabled CPU of the MADT; logs those that stay silent */

/* Run fn(arg) on the CPU in interrupt context; wait: until it has returned.
 * cpu may be the current one. Errors: -EINVAL no such CPU. Context: interrupts on when waiting. */
int nk_cpu_call(unsigned cpu, void (*fn)(void *arg), void *arg, bool wait) NK_MUST_CHECK;
void nk_cpu_call_others(void (*fn)(void *arg), void *arg); /* waits for all */

void smp_stop_others(void); /* panic: NMI; each CPU leaves its frame and halts */
