/* Inside kernel/ only: interrupt lines between irq.c (routing), irq_dispatch.c (delivery),
 * irq_thread.c, irq_msi.c and the interrupt controllers. */
#pragma once

#include "base/spinlock.h"
#include "kernel/irq.h"

/* Why a line is masked; it is open when none is left. */
enum irq_mask_reason {
    IRQ_MASKED_BY_OWNER = 1 << 0, /* nobody attached, or nk_irq_mask() */
    IRQ_MASKED_UNHANDLED = 1 << 1,
    IRQ_MASKED_STORM = 1 << 2,
};

struct irq_action {
    struct irq_action *next;
    nk_irq_handler fn;
    void *arg;
    const char *name;
};

struct irq_line {
    const struct irq_chip *chip; /* NULL: no such line */
    struct irq_action *actions;
    uint32_t gsi;
    uint8_t vector; /* 0: none yet */
    uint8_t cpu;
    uint8_t mask_reasons; /* enum irq_mask_reason */
    bool level, active_low;
    bool masked; /* what the hardware is told: a reason, or threads to wait for */
    bool storm_reported;
    uint16_t thread_count; /* threads that still serve a level line, which is masked until then */
    uint32_t running;      /* dispatches under way, on any CPU */
    uint32_t unhandled_in_a_row;
    uint32_t window_count; /* interrupts since window_start */
    uint32_t storm_count;
    uint64_t window_start; /* TSC */
    uint64_t count, unhandled;
    uint64_t worst_ticks;
    nk_irq_message_fn message; /* of a message-signalled line */
    void *message_arg;
};

struct irq_chip {
    const char *name;
    /* Write vector, CPU, trigger and mask of the line to the hardware; lock held, interrupts off.
     */
    void (*update)(const struct irq_line *line);
    bool (*reaches)(unsigned cpu);
};

extern const struct irq_chip ioapic_chip, pic_chip, msi_chip;

extern struct irq_line irq_lines[NK_IRQ_COUNT];

/* A vector without a line leads to one without actions, which saves its path a test. */
extern struct irq_line irq_no_line;
extern struct irq_line *irq_vector_line[256];

/* Protects the lines' routing, the lists of actions against other writers, and the controllers. */
extern struct nk_spinlock irq_lock;

/* Add or take away a reason to mask; any context but NMI, irq_lock not held. */
void irq_line_mask(struct irq_line *line, enum irq_mask_reason reason);
void irq_line_unmask(struct irq_line *line, uint8_t reasons);
void irq_line_update(struct irq_line *line); /* irq_lock held */

/* A level line waits for one more thread, or no longer for one; any context but NMI. */
void irq_line_hold(struct irq_line *line);
void irq_line_release(struct irq_line *line);

void irq_line_note_ticks(struct irq_line *line, uint64_t ticks); /* keeps the worst */

/* What the entry stubs call, with interrupts off and irq_depth and preempt_count raised. */
typedef void (*irq_vector_fn)(uint64_t vector);
extern const irq_vector_fn irq_vector_table[256];

/* Both mask every input. ioapic_init returns their number; 0: there is no IOAPIC. */
void pic_init(void);
unsigned ioapic_init(void);
bool ioapic_has_gsi(uint32_t gsi);

bool pic_is_level(unsigned irq); /* as firmware set it for PCI's lines */

/* The end of an interrupt of the 8259 line; false when it was spurious. */
bool pic_acknowledge(unsigned irq);
