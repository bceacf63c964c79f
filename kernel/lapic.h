/* This CPU's local APIC, xAPIC or x2APIC, behind one interface.
 * Threading: every function acts on the APIC of the CPU it runs on; IPIs from any context.
 * Spec: Intel SDM vol. 3 chapter 11; AMD APM vol. 2 chapter 16. */
#pragma once

#include "base/types.h"
#include "base/x86.h"

void lapic_init(void);     /* boot CPU: mode, mapping */
void lapic_init_cpu(void); /* every CPU */
uint32_t lapic_id(void);
void lapic_send_ipi(uint32_t apic_id, unsigned vector);
void lapic_send_nmi(uint32_t apic_id);
void lapic_send_init(uint32_t apic_id);
void lapic_send_startup(uint32_t apic_id, unsigned page);
bool lapic_is_x2apic(void);

/* Without an IOAPIC the 8259s' output comes in through LINT0 of the boot CPU. */
void lapic_accept_8259(void);

/* TSC-deadline mode where present, else one-shot, calibrated on the boot CPU. */
void lapic_timer_init_cpu(void);

enum lapic_register { /* offsets of xAPIC; x2APIC's MSR is 0x800 + offset / 16 */
                      LAPIC_ID = 0x020,
                      LAPIC_TPR = 0x080,
                      LAPIC_EOI = 0x0b0,
                      LAPIC_SVR = 0x0f0,
                      LAPIC_ESR = 0x280,
                      LAPIC_ICR = 0x300,
                      LAPIC_ICR_HIGH = 0x310,
                      LAPIC_LVT_TIMER = 0x320,
                      LAPIC_LVT_LINT0 = 0x350,
                      LAPIC_LVT_LINT1 = 0x360,
                      LAPIC_LVT_ERROR = 0x370,
                      LAPIC_TIMER_COUNT = 0x380,
                      LAPIC_TIMER_CURRENT = 0x390,
                      LAPIC_TIMER_DIVIDE = 0x3e0,
};
#define LAPIC_LVT_MASKED (1u << 16)
#define LAPIC_X2_MSR(r)  (0x800u + ((r) >> 4))

/* Constant after lapic_init(). NULL: x2APIC mode. */
extern volatile uint8_t *lapic_base;

static inline uint32_t lapic_read(enum lapic_register r)
{
    if (lapic_base != NULL) {
        return *(volatile uint32_t *)(lapic_base + r);
    }
    return (uint32_t)x86_rdmsr(LAPIC_X2_MSR(r));
}

static inline void lapic_write(enum lapic_register r, uint32_t value)
{
    if (lapic_base != NULL) {
        *(volatile uint32_t *)(lapic_base + r) = value;
    } else {
        x86_wrmsr(LAPIC_X2_MSR(r), value);
    }
}

static inline void lapic_eoi(void)
{
    lapic_write(LAPIC_EOI, 0);
}
