/* Interrupt routing: one numbering for every line.
 *   0..15  the ISA lines (through MADT overrides), 16..255 the IOAPIC inputs (GSI numbers),
 *   256..  message-signalled lines (MSI, MSI-X), which drivers get by nk_irq_message_alloc(). */
#pragma once

#include "base/types.h"

#define NK_IRQ_MESSAGE_FIRST 256
#define NK_IRQ_COUNT         432 /* as many messages as there are device vectors */

/* Vectors. Higher is more urgent (APM vol. 2 "Interrupt Priority"). */
enum nk_vector {
    NK_VECTOR_8259 = 0x20, /* 16 of them, when there is no IOAPIC */
    NK_VECTOR_DEVICE_FIRST = 0x30,
    NK_VECTOR_DEVICE_LAST = 0xdf,
    NK_VECTOR_CALL = 0xf0,
    NK_VECTOR_RESCHED = 0xf1,
    NK_VECTOR_TIMER = 0xf2,
    NK_VECTOR_POSTED = 0xf3, /* nothing to do: it is meant for the guest that runs there */
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

/* A handler in a thread of its own, where it may block. A level line stays masked until the thread
 * has served it; other handlers of the line wait meanwhile. Context: thread.
 * Errors: those of nk_irq_attach() and of nk_thread_start(). */
struct nk_irq_thread;
int nk_irq_attach_thread(struct nk_irq_thread **out, unsigned irq, const char *name,
                         nk_irq_handler fn, void *arg) NK_MUST_CHECK;
void nk_irq_detach_thread(struct nk_irq_thread *t); /* not from the handler itself */

/* Deliver the line to this CPU. Errors: -EINVAL no such line or CPU, -ENOTSUP the line's
 * controller does not reach that CPU. */
int nk_irq_set_affinity(unsigned irq, unsigned cpu) NK_MUST_CHECK;

/* On return no handler of the line is running that was called before. Context: thread. */
void nk_irq_synchronize(unsigned irq);

/* The IOAPIC input of an edge-triggered line; false: the line has none. */
bool nk_irq_edge_input(unsigned irq, unsigned *gsi);

/* Not counted: one unmask undoes any number of masks, and what the kernel itself masked because of
 * a fault. Context: any but NMI. */
void nk_irq_mask(unsigned irq);
void nk_irq_unmask(unsigned irq);

/* A line that a device signals by writing `data` to `address`. The kernel calls `write` whenever
 * one of the three changes; with interrupts off, under its own lock: it only writes registers.
 * Errors: -ENOSPC no line left. */
typedef void (*nk_irq_message_fn)(void *arg, uint64_t address, uint32_t data, bool masked);
int nk_irq_message_alloc(nk_irq_message_fn write, void *arg, unsigned *irq) NK_MUST_CHECK;
void nk_irq_message_free(unsigned irq); /* nothing is attached any more */

struct nk_irq_info {
    unsigned irq, gsi, vector, cpu; /* gsi: of wired lines */
    bool level, active_low, message, masked;
    uint64_t count, unhandled, storms;
    /* Longest time from the interrupt's arrival at the CPU until its handlers were done, or until
     * the thread of a threaded handler began, in TSC ticks. */
    uint64_t worst_ticks;
    const char *name, *reason; /* reason: why the kernel masked it, or NULL */
};
bool nk_irq_get_info(unsigned irq, struct nk_irq_info *out); /* false: not attached */

void irq_init(void); /* masks the 8259s, sets up IOAPICs from the MADT */
