/* Other CPUs: start, cross-CPU calls, stop. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"

/* INIT/SIPI to every enabled CPU of the MADT, all at once; logs those that stay silent.
 * Context: boot CPU, interrupts on, after the scheduler. */
void smp_start_all(void);

/* Run fn(arg) on the CPU in interrupt context; wait: until it has returned.
 * cpu may be the current one. Context: any but NMI; to wait for another CPU, interrupts on and no
 * spin lock held that the other may want.
 * Errors: -EINVAL no such CPU, -ENOMEM (not when waiting). */
int nk_cpu_call(unsigned cpu, void (*fn)(void *arg), void *arg, bool wait) NK_MUST_CHECK;
void nk_cpu_call_others(void (*fn)(void *arg), void *arg); /* waits for all */

void smp_stop_others(void); /* panic: NMI; each CPU leaves its frame and halts */

/* A CPU on its way up finds its slot by APIC id (kernel/smp_entry.asm). The starting CPU withdraws
 * the slot of one that took too long, so that it cannot appear later. */
enum smp_ap_state { SMP_AP_WITHDRAWN, SMP_AP_WAITED_FOR, SMP_AP_ARRIVED };

struct smp_ap_slot {
    uint32_t apic_id;
    uint32_t state; /* enum smp_ap_state */
    void *stack_top;
    struct nk_cpu *cpu; /* given once it is known who else arrived */
};
