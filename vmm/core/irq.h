/* The interrupt fabric: from a device's line to a vector in a vCPU.
 *
 *   line -> PIC pair  -> (ExtINT, LAPIC LINT0 of vCPU 0)
 *        -> IOAPIC -> message -> LAPICs
 *
 * Lock order: device > PIC or IOAPIC. A LAPIC has no lock. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

struct vm;
struct vmm_timer;

/* Of one VM. */
struct vmm_irq_fabric {
    uint32_t lines;              /* atomic: asserted GSIs, as devices last set them */
    uint32_t pic_output;         /* atomic: the master PIC's INT pin */
    uint32_t legacy_replaced;    /* atomic: the HPET has the lines of PIT and RTC */
    uint32_t lowest_next;        /* where the search for a lowest-priority target begins */
    struct vmm_timer *irq0_user; /* run when somebody unmasks line 0 */
};
int vmm_irq_create(struct vm *vm) VMM_MUST_CHECK;
void vmm_irq_destroy(struct vm *vm);

/* Values of vcpu->irq_look. */
#define VMM_IRQ_QUIET 0     /* nothing came since a search that found nothing */
#define VMM_IRQ_LOOK  1     /* something may have changed */
#define VMM_IRQ_FOUND 0x100 /* | vector: what the last search found in the LAPIC still holds */

/* The highest-priority interrupt this vCPU could take now by its LAPIC's priorities, -1: none.
 * Does not acknowledge. One load when nothing changed since the last question.
 * Context: the vCPU's thread. */
int vmm_irq_look(struct vcpu *v);
static inline int vmm_irq_pending(struct vcpu *v)
{
    uint32_t look = __atomic_load_n(&v->irq_look, __ATOMIC_ACQUIRE);

    if (look == VMM_IRQ_QUIET) {
        return -1;
    }
    return (look & VMM_IRQ_FOUND) != 0 ? (int)(look & 0xff) : vmm_irq_look(v);
}
/* Does TPR (CR8) hold back what is requested, be it not alone in that? A guest's write to CR8 that
 * causes no exit would let it pass unseen. */
bool vmm_irq_tpr_blocked(struct vcpu *v);
/* What vmm_irq_pending() gave comes from the PIC, which TPR does not hold back. */
bool vmm_irq_is_external(struct vcpu *v);
/* Take it: PIC INTA cycle or LAPIC IRR->ISR. Returns the vector, -1: it went away. */
int vmm_irq_acknowledge(struct vcpu *v);

/* A message on the interrupt bus (IOAPIC, MSI): address/data split up already. */
struct vmm_irq_message {
    uint32_t destination;
    uint8_t vector;
    uint8_t delivery_mode; /* 0 fixed, 1 lowest, 2 SMI, 4 NMI, 5 INIT, 6 startup, 7 ExtINT */
    bool logical, level;
    bool wide; /* the destination has 32 bits: 0xff is one of many */
};
void vmm_irq_deliver(struct vm *vm, const struct vmm_irq_message *m);
/* Is there a LAPIC that takes it? */
bool vmm_irq_taken(struct vm *vm, const struct vmm_irq_message *m);
/* The same from what a device writes where: MSI's address and data. One that is no interrupt
 * message goes nowhere. Context: any thread. */
void vmm_irq_msi(struct vm *vm, uint64_t address, uint32_t data);

/* Can an edge on this line reach a CPU, or is it masked everywhere? Any context, no lock. */
bool vmm_irq_visible(struct vm *vm, unsigned gsi);
/* The lines of PIT and RTC, as these two devices see them: when the HPET has taken the lines over
 * (its legacy replacement route), nothing that they do is seen. */
void vmm_irq_set_legacy(struct vm *vm, unsigned gsi, bool level);
bool vmm_irq_visible_legacy(struct vm *vm, unsigned gsi);
void vmm_irq_replace_legacy(struct vm *vm, bool replaced);
/* Has the last edge on this line not been acknowledged yet? */
bool vmm_irq_in_flight(struct vm *vm, unsigned gsi);
/* For the chips: the PIC's INT pin changed; line 0 was unmasked somewhere. */
void vmm_irq_pic_output(struct vm *vm, bool level);
void vmm_irq_line0_unmasked(struct vm *vm);

/* LAPIC of one vCPU (dev/vlapic.c), for the run loop and the MSR handlers. */
#define VLAPIC_TIMER_KHZ 1000000 /* the LAPIC timer's clock (CPUID 15h, 40000010h) */
int vlapic_create(struct vcpu *v) VMM_MUST_CHECK; /* sets v->lapic */
void vlapic_init(struct vcpu *v);        /* INIT: all but ID and APIC_BASE (SDM 10.4.7.3) */
void vlapic_tsc_changed(struct vcpu *v); /* the guest's TSC jumped: WRMSR TSC, TSC_ADJUST */
bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value); /* false: #GP */
bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t value);
uint64_t vlapic_base_read(struct vcpu *v); /* IA32_APIC_BASE */
bool vlapic_base_write(struct vcpu *v, uint64_t value);
uint64_t vlapic_cr8_read(struct vcpu *v);
void vlapic_cr8_write(struct vcpu *v, uint64_t value);
bool vlapic_pv_eoi_set(struct vcpu *v, uint64_t value); /* MSR_KVM_PV_EOI_EN; false: #GP */
uint64_t vlapic_pv_eoi_get(const struct vcpu *v);
uint64_t vlapic_deadline_read(struct vcpu *v); /* IA32_TSC_DEADLINE */
void vlapic_deadline_write(struct vcpu *v, uint64_t tsc);

/* EOI of a level interrupt on its way from a LAPIC to the IOAPIC. */
void vioapic_eoi(struct vm *vm, uint8_t vector);

/* Timers that fired for this vCPU: run their callbacks. Called by the run loop on VMM_REQ_TIMER. */
void vmm_timers_run(struct vcpu *v);
/* The thread of a vCPU that ends_at_deadline is about to sleep; it does no more. */
void vmm_timers_sleep(struct vcpu *v);
void vmm_timers_awake(struct vcpu *v);
