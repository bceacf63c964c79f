/* Interrupt routing: one numbering for every line.
 *   0..15 the ISA lines (through MADT overrides), 16.. the IOAPIC inputs (GSI numbers). */
#pragma once

#include "base/types.h"

#define NK_IRQ_COUNT 256

/* Vectors. Higher is more urgent (APM vol. 2 "Interrupt Priority"). */
enum nk_vector {
    NK_VECTOR_DEVICE_FIRST = 0x30,
    NK_VECTOR_DEVICE_LAST = 0xdf,
    NK_VECTOR_CALL = 0xf0,
    NK_VECTOR_RESCHED = 0xf1,
    NK_VECTOR_TIMER = 0xf2,
    NK_VECTOR_ERROR = 0xfe,
    NK_VECTOR_SPURIOUS = 0xff,
};

/* Interrupt context, interrupts off. Returns true when the device had raised it (shared lines). */
typedef bool (*nk_irq_handler)(void *arg);

/* Attach a handler and unmask the line. Errors: -EINVAL no such line, -ENOMEM. */
int nk_irq_attach(unsigned irq, const char *name, nk_irq_handler fn, void *arg) NK_MUST_CHECK;
void nk_irq_detach(unsigned irq, nk_irq_handler fn, void *arg);
int nk_irq_set_affinity(unsigned irq, unsigned cpu) NK_MUST_CHECK;
void nk_irq_mask(unsigned irq);
void nk_irq_unmask(unsigned irq);

struct nk_irq_info {
    unsigned irq, gsi, vector, cpu;
    bool level, active_low, masked;
    uint64_t count, unhandled;
    const char *name;
};
bool nk_irq_get_info(unsigned irq, struct nk_irq_info *out); /* false: not attached */

void irq_init(void); /* masks the PICs, sets up IOAPICs from the MADT */
struct nk_trap_frame;
void irq_dispatch(struct nk_trap_frame *f); /* from the entry stubs */
