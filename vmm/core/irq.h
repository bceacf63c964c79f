/* The interrupt fabric: from a device's line to a vector in a vCPU.
 *
 *   line -> PIC pair  -> (ExtINT, LAPIC LINT0 of vCPU 0)
 *        -> IOAPIC -> message -> LAPICs
 *
 * Lock order: device > PIC or IOAPIC > LAPIC. A LAPIC never calls upward with its lock held. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

/* The highest-priority interrupt this vCPU could take now, -1: none. Does not acknowledge. */
int vmm_irq_pending(struct vcpu *v);
/* Take it: PIC INTA cycle or LAPIC IRR->ISR. Returns the vector, -1: it went away. */
int vmm_irq_acknowledge(struct vcpu *v);

/* A message on the interrupt bus (IOAPIC, MSI): address/data split up already. */
struct vmm_irq_message {
    uint32_t destination;
    uint8_t vector;
    uint8_t delivery_mode; /* 0 fixed, 1 lowest, 2 SMI, 4 NMI, 5 INIT, 6 startup, 7 ExtINT */
    bool logical, level;
};
void vmm_irq_deliver(struct vm *vm, const struct vmm_irq_message *m);

/* LAPIC of one vCPU (dev/lapic.c), for the run loop and the MSR handlers. */
bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);  /* false: #GP */
bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t value);
uint64_t vlapic_base_read(struct vcpu *v);                /* IA32_APIC_BASE */
bool vlapic_base_write(struct vcpu *v, uint64_t value);
uint64_t vlapic_cr8_read(struct vcpu *v);
void vlapic_cr8_write(struct vcpu *v, uint64_t value);
uint64_t vlapic_deadline_read(struct vcpu *v);            /* IA32_TSC_DEADLINE */
void vlapic_deadline_write(struct vcpu *v, uint64_t tsc);

/* EOI of a level interrupt on its way from a LAPIC to the IOAPIC. */
void vioapic_eoi(struct vm *vm, uint8_t vector);

/* Timers that fired for this vCPU: run their callbacks. Called by the run loop on VMM_REQ_TIMER. */
void vmm_timers_run(struct vcpu *v);
