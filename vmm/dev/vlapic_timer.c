/* The local APIC's timer: one-shot, periodic, TSC-deadline.
 * Spec: Intel SDM vol. 3 section 10.5.4.
 *
 * Its clock of 1 GHz makes a count a number of nanoseconds. The host is asked for a wake-up only
 * while the timer's interrupt is not masked; the count register is computed when it is read. */
#include "core/clock.h"
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/vlapic.h"

#define MODE_PERIODIC 1
#define MODE_DEADLINE 2

/* A shorter period would keep a CPU busy with nothing else. */
#define MIN_PERIOD_NS 10000

static unsigned timer_mode(const struct vlapic *a)
{
    return a->lvt[VLAPIC_LVT_TIMER] >> 17 & 3;
}

/* Divide configuration: bits 3, 1, 0 select 2, 4, .. 128, and 7 means 1. */
static uint64_t divisor(const struct vlapic *a)
{
    unsigned code = (a->divide & 3) | (a->divide >> 1 & 4);

    return UINT64_C(1) << ((code + 1) & 7);
}

static uint64_t period_ns(const struct vlapic *a)
{
    uint64_t period = a->initial_count * divisor(a);

    return period < MIN_PERIOD_NS ? MIN_PERIOD_NS : period;
}

/* The guest's TSC at time zero. */
static uint64_t tsc_at_zero(const struct vlapic *a)
{
    return a->vcpu->vm->clock_base_cycles + a->vcpu->tsc_offset;
}

/* A TSC of before time zero, or of centuries behind it: never. */
static __attribute__((noinline)) uint64_t past_or_never(const struct vlapic *a, uint64_t tsc)
{
    return tsc <= tsc_at_zero(a) + vmm_clock_cycles(a->vcpu->vm) ? 0 : INT64_MAX;
}

/* Guest cycles at which the guest's TSC shows this. */
static uint64_t deadline_cycles(const struct vlapic *a, uint64_t tsc)
{
    int64_t cycles = (int64_t)(tsc - tsc_at_zero(a));

    return vmm_unlikely(cycles < 0) ? past_or_never(a, tsc) : (uint64_t)cycles;
}

/* A periodic timer that nobody heard goes on in step. */
static void timer_catch_up(struct vlapic *a, uint64_t now)
{
    uint64_t period = period_ns(a);

    if (timer_mode(a) == MODE_PERIODIC && a->initial_count != 0 && a->expiry_ns <= now) {
        a->expiry_ns += ((now - a->expiry_ns) / period + 1) * period;
    }
}

/* Ask for the wake-up that the timer needs, if any. An expiry up to `now` has been dealt with: who
 * sets a new one passes the time that it counts from, so that even the shortest count fires. */
static void update_from(struct vlapic *a, uint64_t now)
{
    bool heard = (a->lvt[VLAPIC_LVT_TIMER] & VLAPIC_LVT_MASKED) == 0;

    if (heard && timer_mode(a) == MODE_DEADLINE && a->deadline != 0) {
        vmm_timer_arm_cycles(a->timer, deadline_cycles(a, a->deadline));
        return;
    }
    if (heard && timer_mode(a) <= MODE_PERIODIC && a->initial_count != 0) {
        timer_catch_up(a, now);
        if (a->expiry_ns > now) {
            vmm_timer_arm(a->timer, a->expiry_ns);
            return;
        }
        if (vmm_timer_armed(a->timer)) {
            return; /* it is late, not done */
        }
    }
    if (vmm_timer_armed(a->timer)) {
        vmm_timer_cancel(a->timer);
    }
}

void vlapic_timer_update(struct vlapic *a)
{
    update_from(a, vmm_clock_ns(a->vcpu->vm));
}

/* The vCPU's thread. */
static void timer_expired(struct vdev *dev, void *arg)
{
    struct vlapic *a = arg;
    uint32_t lvt = a->lvt[VLAPIC_LVT_TIMER];

    (void)dev;
    if (timer_mode(a) == MODE_PERIODIC) {
        vlapic_timer_update(a);
    } else {
        a->deadline = 0;
    }
    if ((lvt & VLAPIC_LVT_MASKED) == 0) { /* always a fixed message */
        vlapic_accept(a, (uint8_t)lvt, false);
    }
}

/* A masked timer's deadline passes too. */
static void forget_passed(struct vlapic *a)
{
    if (a->deadline != 0 && !vmm_timer_armed(a->timer) &&
        deadline_cycles(a, a->deadline) <= vmm_clock_cycles(a->vcpu->vm)) {
        a->deadline = 0;
    }
}

/* A change between TSC-deadline mode and the others disarms (SDM 10.5.4.1). */
void vlapic_timer_set_mode(struct vlapic *a, uint32_t lvt)
{
    bool was_deadline = timer_mode(a) == MODE_DEADLINE;

    forget_passed(a);
    a->lvt[VLAPIC_LVT_TIMER] = lvt;
    if (was_deadline != (timer_mode(a) == MODE_DEADLINE)) {
        a->initial_count = 0;
        a->deadline = 0;
    }
    vlapic_timer_update(a);
}

void vlapic_timer_set_count(struct vlapic *a, uint32_t count)
{
    if (timer_mode(a) == MODE_DEADLINE) {
        return;
    }
    uint64_t now = vmm_clock_ns(a->vcpu->vm);

    a->initial_count = count;
    a->expiry_ns = now + (timer_mode(a) == MODE_PERIODIC ? period_ns(a) : count * divisor(a));
    update_from(a, now);
}

/* The count goes on from where it is, at the new rate. */
void vlapic_timer_set_divide(struct vlapic *a, uint32_t divide)
{
    uint32_t count = vlapic_timer_count(a);
    uint64_t now = vmm_clock_ns(a->vcpu->vm);

    a->divide = divide;
    if (count != 0) {
        a->expiry_ns = now + count * divisor(a);
        update_from(a, now);
    }
}

uint32_t vlapic_timer_count(struct vlapic *a)
{
    uint64_t now = vmm_clock_ns(a->vcpu->vm);
    uint64_t expiry = a->expiry_ns;

    if (timer_mode(a) == MODE_DEADLINE || a->initial_count == 0) {
        return 0;
    }
    if (expiry <= now) {
        if (timer_mode(a) != MODE_PERIODIC) {
            return 0;
        }
        expiry += ((now - expiry) / period_ns(a) + 1) * period_ns(a);
    }
    return (uint32_t)((expiry - now + divisor(a) - 1) / divisor(a));
}

uint64_t vlapic_deadline_read(struct vcpu *v)
{
    struct vlapic *a = vlapic_of(v);

    forget_passed(a);
    return a->deadline;
}

void vlapic_deadline_write(struct vcpu *v, uint64_t tsc)
{
    struct vlapic *a = vlapic_of(v);

    if (timer_mode(a) == MODE_DEADLINE) {
        a->deadline = tsc;
        vlapic_timer_update(a);
    }
}

void vlapic_tsc_changed(struct vcpu *v)
{
    vlapic_timer_update(vlapic_of(v));
}

int vlapic_timer_create(struct vlapic *a)
{
    return vmm_timer_create_lockless(a->vcpu->lapic, a->vcpu, timer_expired, a, &a->timer);
}

void vlapic_timer_reset(struct vlapic *a)
{
    a->initial_count = 0;
    a->divide = 0;
    a->expiry_ns = 0;
    a->deadline = 0;
    vlapic_timer_update(a);
}
