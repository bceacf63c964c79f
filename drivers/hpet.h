/* The high precision event timer: a counter that runs at a known rate, and one event beside the
 * CPUs' own timers. Spec: IA-PC HPET 1.0a.
 * Threading: the event belongs to who opened it. */
#pragma once

#include "base/types.h"

/* Map it and let it count. False: the machine has none that can be used. */
bool hpet_open(void);

/* Of an open one. The counter's low 32 bits are enough for every span, and read alike on all. */
uint64_t hpet_hz(void);
uint32_t hpet_read(void);

/* Its event is taken, with an interrupt for it: a message, or an edge-triggered line of the IOAPIC
 * that others may share. Context: thread.
 * Errors: -ENODEV no HPET, or no interrupt; -EBUSY somebody has it; -ENOMEM, -ENOSPC. */
int hpet_event_open(void) NK_MUST_CHECK;
void hpet_event_close(void); /* on return `fired` is not running, and does not come any more */

/* Call fired(arg) in interrupt context when ns nanoseconds have passed by its counter, in place of
 * what was armed before. Errors: -EINVAL farther than it counts. Context: any but NMI. */
int hpet_event_arm(uint64_t ns, void (*fired)(void *arg), void *arg) NK_MUST_CHECK;

/* Sleep by an event of its own. Errors: as the two; -ETIMEDOUT the interrupt did not come. */
int hpet_sleep(uint64_t ns) NK_MUST_CHECK;
