/* Guest timers: all timers of a vCPU share one host timer. Devices' timers are vCPU 0's.
 *
 * Lock order: device > queue. The host's callback takes no lock: it posts VMM_REQ_TIMER, and
 * vmm_timers_run() (core/irq.h) does the work in the vCPU's thread. Whoever resumes a paused VM
 * posts VMM_REQ_TIMER to every vCPU: nothing is armed while the guest's clock stands. */
#pragma once

#include <vmm/host.h>
#include <vmm/vdev.h>

struct vmm_timer_queue;

int vmm_timers_create(struct vcpu *v) VMM_MUST_CHECK; /* before the vCPU's LAPIC and the platform */
void vmm_timers_destroy(struct vcpu *v);              /* after the devices */

/* A timer of one vCPU whose callback runs in its thread, without the device's lock. */
int vmm_timer_create_lockless(struct vdev *dev, struct vcpu *v,
                              void (*fn)(struct vdev *dev, void *arg), void *arg,
                              struct vmm_timer **out) VMM_MUST_CHECK;
/* Guest cycles, INT64_MAX at most. */
void vmm_timer_arm_cycles(struct vmm_timer *t, uint64_t deadline_cycles);
bool vmm_timer_armed(const struct vmm_timer *t);
/* Have the callback run as soon as its vCPU looks; needs no device lock. */
void vmm_timer_run_soon(struct vmm_timer *t);
