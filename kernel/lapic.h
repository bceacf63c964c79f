/* This CPU's local APIC, xAPIC or x2APIC, behind one interface.
 * Spec: Intel SDM vol. 3 chapter 11; AMD APM vol. 2 chapter 16. */
#pragma once

#include "base/types.h"

void lapic_init(void);     /* boot CPU: mode, mapping */
void lapic_init_cpu(void); /* every CPU */
uint32_t lapic_id(void);
void lapic_eoi(void);
void lapic_send_ipi(uint32_t apic_id, unsigned vector);
void lapic_send_nmi(uint32_t apic_id);
void lapic_send_init(uint32_t apic_id);
void lapic_send_startup(uint32_t apic_id, unsigned page);
void lapic_timer_init_cpu(void); /* TSC-deadline mode where present, else one-shot, calibrated */
