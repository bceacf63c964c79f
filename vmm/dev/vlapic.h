/* The local APIC's state, shared between dev/vlapic.c (registers), dev/vlapic_timer.c and
 * core/irq.c (delivery).
 *
 * Everything but irr, tmr and errors belongs to the vCPU's own thread. Those three are atomic, so
 * that a message from another thread takes no lock. */
#pragma once

#include <vmm/types.h>
#include "core/bus.h"
#include "core/vcpu.h"

enum vlapic_lvt { /* in the order of the registers from 0x320 */
                  VLAPIC_LVT_TIMER,
                  VLAPIC_LVT_THERMAL,
                  VLAPIC_LVT_PERF,
                  VLAPIC_LVT_LINT0,
                  VLAPIC_LVT_LINT1,
                  VLAPIC_LVT_ERROR,
                  VLAPIC_LVT_COUNT
};

/* Registers by their number: memory offset / 16, MSR - 0x800. */
enum vlapic_register {
    VLAPIC_REG_ID = 0x02,
    VLAPIC_REG_VERSION = 0x03,
    VLAPIC_REG_TPR = 0x08,
    VLAPIC_REG_APR = 0x09,
    VLAPIC_REG_PPR = 0x0a,
    VLAPIC_REG_EOI = 0x0b,
    VLAPIC_REG_REMOTE_READ = 0x0c,
    VLAPIC_REG_LDR = 0x0d,
    VLAPIC_REG_DFR = 0x0e,
    VLAPIC_REG_SVR = 0x0f,
    VLAPIC_REG_ISR = 0x10,
    VLAPIC_REG_TMR = 0x18,
    VLAPIC_REG_IRR = 0x20,
    VLAPIC_REG_ESR = 0x28,
    VLAPIC_REG_ICR = 0x30,
    VLAPIC_REG_ICR_HIGH = 0x31,
    VLAPIC_REG_LVT = 0x32,
    VLAPIC_REG_INITIAL_COUNT = 0x38,
    VLAPIC_REG_CURRENT_COUNT = 0x39,
    VLAPIC_REG_DIVIDE = 0x3e,
    VLAPIC_REG_SELF_IPI = 0x3f,
    VLAPIC_REG_COUNT = 0x40,
};

#define VLAPIC_FIRST_VECTOR 16 /* those below are illegal in messages */
#define VLAPIC_LVT_MASKED   (1u << 16)
#define VLAPIC_SVR_ENABLED  (1u << 8)
#define VLAPIC_BASE_BSP     (1u << 8)
#define VLAPIC_BASE_X2APIC  (1u << 10)
#define VLAPIC_BASE_ENABLED (1u << 11)
#define VLAPIC_BASE_MODE    (VLAPIC_BASE_X2APIC | VLAPIC_BASE_ENABLED)

enum vlapic_delivery {
    VLAPIC_FIXED = 0,
    VLAPIC_LOWEST = 1,
    VLAPIC_SMI = 2,
    VLAPIC_NMI = 4,
    VLAPIC_INIT = 5,
    VLAPIC_STARTUP = 6,
    VLAPIC_EXTINT = 7,
};

enum vlapic_error { /* bits of ESR, SDM vol. 3 figure 10-9 */
                    VLAPIC_ERROR_SEND_VECTOR = 1 << 5,
                    VLAPIC_ERROR_RECEIVE_VECTOR = 1 << 6,
                    VLAPIC_ERROR_REGISTER = 1 << 7,
};

struct vlapic {
    struct vcpu *vcpu;
    uint64_t base; /* IA32_APIC_BASE */
    uint64_t irr[4], tmr[4];
    uint32_t errors; /* seen since the last write to ESR */

    /* What is in service, innermost last, from nested[1] on; nested[0] is 0, "nothing". An
     * interrupt is taken only above the class of those in service, so each of the 15 classes is
     * there at most once. The ISR register is computed from it. */
    uint8_t nested[16];
    unsigned nested_count;
    uint32_t tpr, ppr;
    uint32_t ldr, dfr, svr, esr;
    uint64_t icr;
    uint32_t lvt[VLAPIC_LVT_COUNT];
    uint64_t pv_eoi; /* MSR_KVM_PV_EOI_EN, 0: off */
    bool page_stale; /* registers were written since dev/vlapic_page.c copied them */

    struct vmm_timer *timer;
    uint32_t initial_count, divide;
    uint64_t expiry_ns; /* end of the current count: one-shot, periodic */
    uint64_t deadline;  /* guest TSC, 0: none */
};

static inline struct vlapic *vlapic_of(const struct vcpu *v)
{
    return v->lapic->state;
}

static inline uint8_t vlapic_in_service(const struct vlapic *a)
{
    return a->nested[a->nested_count];
}

static inline bool vlapic_x2apic(const struct vlapic *a)
{
    return (a->base & VLAPIC_BASE_X2APIC) != 0;
}

/* Takes messages: enabled in APIC_BASE and by software. */
static inline bool vlapic_accepts(const struct vlapic *a)
{
    return (a->base & VLAPIC_BASE_ENABLED) != 0 && (a->svr & VLAPIC_SVR_ENABLED) != 0;
}

static inline int vlapic_highest(const uint64_t bits[4])
{
    int i = 3;
    uint64_t word = __atomic_load_n(&bits[3], __ATOMIC_RELAXED);

    while (word == 0 && i > 0) {
        word = __atomic_load_n(&bits[--i], __ATOMIC_RELAXED);
    }
    return word != 0 ? i * 64 + 63 - __builtin_clzll(word) : -1;
}

/* Is anything requested at all? Most questions end here. */
static inline bool vlapic_requested(const struct vlapic *a)
{
    return (__atomic_load_n(&a->irr[0], __ATOMIC_RELAXED) |
            __atomic_load_n(&a->irr[1], __ATOMIC_RELAXED) |
            __atomic_load_n(&a->irr[2], __ATOMIC_RELAXED) |
            __atomic_load_n(&a->irr[3], __ATOMIC_RELAXED)) != 0;
}

static inline bool vlapic_test(const uint64_t bits[4], uint8_t vector)
{
    return (__atomic_load_n(&bits[vector / 64], __ATOMIC_RELAXED) >> (vector % 64) & 1) != 0;
}

/* Priorities after the page has given back what is requested and in service. */
void vlapic_renew(struct vlapic *a);

/* Put a vector into the IRR; any thread. */
void vlapic_accept(struct vlapic *a, uint8_t vector, bool level);
/* An unmasked local interrupt happened. The vCPU's thread, or LINT0 from any. */
void vlapic_local(struct vlapic *a, enum vlapic_lvt which);
/* What is pending may be deliverable now. */
void vlapic_notice(struct vlapic *a);
/* Does the PIC's INT pin reach this CPU? */
bool vlapic_extint_enabled(const struct vlapic *a);

/* For dev/vlapic_mode.c: the window's handler. */
void vlapic_access(struct vdev *dev, struct vdev_access *access);

/* For dev/vlapic_page.c. False: there is no such register. */
bool vlapic_register_read(struct vlapic *a, unsigned reg, uint32_t *value);
bool vlapic_register_write(struct vlapic *a, unsigned reg, uint32_t value); /* of the memory form */
void vlapic_set_tpr(struct vlapic *a, uint32_t tpr);

/* Something to be told in ESR. Any thread. */
void vlapic_error(struct vlapic *a, uint32_t error);

/* Nothing beyond the LAPIC has to hear of this end. */
void vlapic_end_innermost(struct vlapic *a);

/* dev/vlapic_eoi.c */
void vlapic_pv_eoi_arm(struct vlapic *a);
void vlapic_pv_eoi_settle(struct vlapic *a);

/* dev/vlapic_state.c: of struct vdev_class */
int vlapic_save(struct vdev *dev, struct vdev_stream *out);
int vlapic_load(struct vdev *dev, struct vdev_stream *in);

/* dev/vlapic_send.c: a write to the ICR. */
void vlapic_send(struct vlapic *a, uint64_t icr);

/* dev/vlapic_timer.c */
int vlapic_timer_create(struct vlapic *a) VMM_MUST_CHECK;
void vlapic_timer_reset(struct vlapic *a);
void vlapic_timer_update(struct vlapic *a); /* mask, mode or deadline changed: arm or cancel */
void vlapic_timer_set_mode(struct vlapic *a, uint32_t lvt);
void vlapic_timer_set_count(struct vlapic *a, uint32_t count);
void vlapic_timer_set_divide(struct vlapic *a, uint32_t divide);
uint32_t vlapic_timer_count(struct vlapic *a);
