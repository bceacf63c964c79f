/* From a vector to what it means: the system's own interrupts, and the handlers of lines. */

#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/irq_impl.h"
#include "kernel/lapic.h"
#include "kernel/smp_call.h"
#include "sched/sched.h"
#include "sched/timer.h"

#define UNHANDLED_LIMIT     10000 /* in a row: then the line is stuck and gets masked */
#define UNEXPECTED_REPORTED 16

/* More interrupts than STORM_COUNT within STORM_WINDOW_NS leave a CPU no time for anything else:
 * the line is masked for STORM_REST_NS, each time anew. */
#define STORM_COUNT     10000
#define STORM_WINDOW_NS 100000000
#define STORM_REST_NS   1000000000

static struct nk_timer storm_timer;
static bool storm_timer_armed; /* atomic */

static void timer_interrupt(uint64_t vector)
{
    (void)vector;
    this_cpu->irq_count[NK_IRQ_TIMER]++;
    this_cpu->timer_deadline = 0;
    lapic_eoi();
    nk_timer_interrupt();
}

static void reschedule_interrupt(uint64_t vector)
{
    (void)vector;
    this_cpu->irq_count[NK_IRQ_RESCHED]++;
    this_cpu->kicked = false;
    lapic_eoi();
    sched_reschedule_interrupt();
}

/* The guest had left when it came. */
static void posted_interrupt(uint64_t vector)
{
    (void)vector;
    lapic_eoi();
}

static void call_interrupt(uint64_t vector)
{
    this_cpu->irq_count[NK_IRQ_CALL]++;
    lapic_eoi();
    smp_call_interrupt(vector);
}

static void error_interrupt(uint64_t vector)
{
    static uint32_t reported;
    (void)vector;
    lapic_write(LAPIC_ESR, 0); /* latches the errors for reading */
    uint32_t errors = lapic_read(LAPIC_ESR);
    lapic_eoi();
    if (__atomic_fetch_add(&reported, 1, __ATOMIC_RELAXED) < UNEXPECTED_REPORTED) {
        nk_warn("irq: APIC error 0x%x on CPU %u", errors, this_cpu->id);
    }
}

static void unexpected_interrupt(uint64_t vector)
{
    static uint32_t reported;
    lapic_eoi();
    if (__atomic_fetch_add(&reported, 1, __ATOMIC_RELAXED) < UNEXPECTED_REPORTED) {
        nk_warn("irq: unexpected vector 0x%lx on CPU %u", vector, this_cpu->id);
    }
}

static NK_NOINLINE void note_unhandled(struct irq_line *line)
{
    line->unhandled++;
    if (++line->unhandled_in_a_row == UNHANDLED_LIMIT && line != &irq_no_line) {
        nk_warn("irq: line %u fires without its devices asking for it; masked",
                (unsigned)(line - irq_lines));
        irq_line_mask(line, IRQ_MASKED_UNHANDLED);
    }
}

static void end_storms(struct nk_timer *t)
{
    (void)t;
    __atomic_store_n(&storm_timer_armed, false, __ATOMIC_SEQ_CST);
    for (unsigned irq = 0; irq < NK_IRQ_COUNT; irq++) {
        if (irq_lines[irq].mask_reasons & IRQ_MASKED_STORM) {
            irq_line_unmask(&irq_lines[irq], IRQ_MASKED_STORM);
        }
    }
}

/* STORM_COUNT interrupts are over: how long did they take? */
static NK_NOINLINE void end_window(struct irq_line *line, uint64_t now)
{
    uint64_t took = now - line->window_start;
    line->window_start = now;
    line->window_count = 0;
    bool unhandled = line->unhandled_in_a_row > STORM_COUNT / 2; /* note_unhandled() decides */
    if (took > nk_ns_to_tsc(STORM_WINDOW_NS) || unhandled || line == &irq_no_line) {
        return;
    }
    line->storm_count++;
    if (!line->storm_reported) {
        line->storm_reported = true;
        nk_warn("irq: line %u screams: %d interrupts in %lu ms; masked for %d ms whenever it does",
                (unsigned)(line - irq_lines), STORM_COUNT, nk_tsc_to_ns(took) / 1000000,
                STORM_REST_NS / 1000000);
    }
    irq_line_mask(line, IRQ_MASKED_STORM);
    if (!__atomic_exchange_n(&storm_timer_armed, true, __ATOMIC_SEQ_CST)) {
        nk_timer_init(&storm_timer, end_storms);
        nk_timer_arm(&storm_timer, now + nk_ns_to_tsc(STORM_REST_NS));
    }
}

/* Lock-free against attach and detach: an action is linked when complete, and detach waits for
 * `running` to fall to zero before it frees one. */
static NK_ALWAYS_INLINE void run_actions(struct irq_line *line)
{
    uint64_t start = x86_rdtsc();
    __atomic_fetch_add(&line->running, 1, __ATOMIC_ACQ_REL);
    bool handled = false;
    struct irq_action *a = __atomic_load_n(&line->actions, __ATOMIC_ACQUIRE);
    while (a != NULL) {
        handled |= a->fn(a->arg);
        a = __atomic_load_n(&a->next, __ATOMIC_ACQUIRE);
    }
    line->count++;
    if (nk_likely(handled)) {
        line->unhandled_in_a_row = 0;
    } else {
        note_unhandled(line);
    }
    uint64_t now = x86_rdtsc();
    irq_line_note_ticks(line, now - start);
    if (nk_unlikely(++line->window_count >= STORM_COUNT)) {
        end_window(line, now);
    }
    __atomic_fetch_sub(&line->running, 1, __ATOMIC_ACQ_REL);
}

static void device_interrupt(uint64_t vector)
{
    this_cpu->irq_count[NK_IRQ_DEVICE]++;
    run_actions(__atomic_load_n(&irq_vector_line[vector], __ATOMIC_ACQUIRE));
    lapic_eoi(); /* after the handlers: a level line must be quiet by then */
}

/* ExtINT bypasses the APIC's in-service register: the EOI goes to the 8259s alone. Masked 8259s
 * still make a spurious interrupt now and then. */
static void pic_interrupt(uint64_t vector)
{
    unsigned irq = (unsigned)vector - NK_VECTOR_8259;
    this_cpu->irq_count[NK_IRQ_DEVICE]++;
    if (irq_lines[irq].chip == &pic_chip) {
        run_actions(&irq_lines[irq]);
    }
    pic_acknowledge(irq);
}

const irq_vector_fn irq_vector_table[256] = {
    [0 ... NK_VECTOR_8259 - 1] = unexpected_interrupt, /* exceptions do not come this way */
    [NK_VECTOR_8259... NK_VECTOR_DEVICE_FIRST - 1] = pic_interrupt,
    [NK_VECTOR_DEVICE_FIRST... NK_VECTOR_DEVICE_LAST] = device_interrupt,
    [NK_VECTOR_DEVICE_LAST + 1 ... NK_VECTOR_CALL - 1] = unexpected_interrupt,
    [NK_VECTOR_CALL] = call_interrupt,
    [NK_VECTOR_RESCHED] = reschedule_interrupt,
    [NK_VECTOR_TIMER] = timer_interrupt,
    [NK_VECTOR_POSTED] = posted_interrupt,
    [NK_VECTOR_POSTED + 1 ... NK_VECTOR_ERROR - 1] = unexpected_interrupt,
    [NK_VECTOR_ERROR] = error_interrupt,
    [NK_VECTOR_SPURIOUS] = unexpected_interrupt, /* has a stub of its own */
};
