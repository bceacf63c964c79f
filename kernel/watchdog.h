/* Finds CPUs that are stuck with interrupts off, and logs what they are doing.
 *
 * One CPU looks at the others from its timer and disturbs none of them: it only reads whether an
 * interrupt that is due - a cross-CPU call, a reschedule, their own timer - has stayed unanswered
 * for the whole limit. That CPU, and no other, then gets an NMI, which collects a backtrace. A CPU
 * for which nothing is due is left alone, however long it computes. Nobody looks at the CPU that
 * looks. */
#pragma once

#include "base/types.h"

struct nk_trap_frame;

/* After SMP start: every `watchdog=<seconds>` of the command line, 10 by default, 0 for never. */
void watchdog_init(void);

void watchdog_set_limit(uint64_t ns); /* 0: off. Thread context */

/* From the NMI path: true if the watchdog had asked. */
bool watchdog_nmi(const struct nk_trap_frame *f);
