/* Interrupt routing: one numbering for every line.
 *   0..15 the ISA lines (through MADT overrides), 16.. the IOAPIC inputs (GSI numbers). */
#pragma once

#include "base/types.h"

#define NK_IRQ_COUNT 256

/* Vectors. Higher is more urgent (APM vol. 2 "Interrupt Priority"). */
enum nk_vector {
    NK_VECTOR_8259 = 0x20, /* 16 of them, when there is no IOAPIC */
    NK_VECTOR_DEVICE_FIRST = 0x30,
    NK_VECTOR_DEVICE_LAST = 0xdf,
    NK_VECTOR_CALL = 0xf0,
    NK_VECTOR_RESCHED = 0xf1,
    NK_VECTOR_TIMER = 0xf2,
    NK_VECTOR_ERROR = 0xfe,
    NK_VECTOR_SPURIOUS = 0xff,
};

/* struct nk_cpu.irq_count[] */
enum nk_irq_kind { NK_IRQ_TIMER, NK_IRQ_RESCHED, NK_IRQ_CALL, NK_IRQ_DEVICE };

/* Interrupt context, interrupts off. Returns true when the device had raised it (shared lines). */
typedef bool (*nk_irq_handler)(void *arg);

/* Attach a handler, the last one behind those already there, and unmask the line at the first.
 * Context: thread. Errors: -EINVAL no such line, -ENOMEM, -ENOSPC no vector left. */
int nk_irq_attach(unsigned irq, const char *name, nk_irq_handler fn, void *arg) NK_MUST_CHECK;

/* On return the handler is not running and will not run. Context: thread. */
void nk_irq_detach(unsigned irq, nk_irq_handler fn, void *arg);

/* Deliver the line to this CPU. Errors: -EINVAL no such line or CPU, -ENOTSUP the line's
 * controller knows one CPU only. */
int nk_irq_set_affinity(unsigned irq, unsigned cpu) NK_MUST_CHECK;

/* Not counted: one unmask undoes any number of masks. Context: any but NMI. */
void nk_irq_mask(unsigned irq);
void nk_irq_unmask(unsigned irq);

struct nk_irq_info {
    unsigned irq, gsi, vector, cpu;
    bool level, active_low, masked;
    uint64_t count, unhandled;
    const char *name;
};
bool nk_irq_get_info(unsigned irq, struct nk_irq_info *out); /* false: not attached */

void irq_init(void); /* masks the 8259s, sets up IOAPICs from the MADT */

/* What the entry stubs call, with interrupts off and irq_depth and preempt_count raised. */
typedef void (*irq_vector_fn)(uint64_t vector);
extern const irq_vector_fn irq_vector_table[256];

/* ---- Between irq.c and the interrupt controllers. */

struct irq_line {
    const struct irq_chip *chip; /* NULL: no such line */
    struct irq_action *actions;
    uint32_t gsi;
    uint8_t vector; /* 0: none yet */
    uint8_t cpu;
    bool level, active_low, masked;
    uint32_t running; /* dispatches under way, on any CPU */
    uint32_t unhandled_in_a_row;
    uint64_t count, unhandled;
};

struct irq_chip {
    const char *name;
    /* Write vector, CPU, trigger and mask of the line to the hardware; lock held, interrupts off.
     */
    void (*update)(const struct irq_line *line);
    bool any_cpu; /* knows more than the boot CPU */
};

extern const struct irq_chip ioapic_chip, pic_chip;

/* Both mask every input. ioapic_init returns their number; 0: there is no IOAPIC. */
void pic_init(void);
unsigned ioapic_init(void);
bool ioapic_has_gsi(uint32_t gsi);

/* The end of an interrupt of the 8259 line; false when it was spurious. */
bool pic_acknowledge(unsigned irq);
