/* See irq.h. The vector table, and the lines behind the device vectors. */

#include "kernel/irq.h"

#include "base/errno.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "kernel/acpi.h"
#include "kernel/lapic.h"
#include "kernel/smp_call.h"
#include "mm/slab.h"
#include "sched/sched.h"
#include "sched/timer.h"

#define ISA_LINES           16
#define UNHANDLED_LIMIT     10000 /* in a row: then the line is stuck and gets masked */
#define UNEXPECTED_REPORTED 16

struct irq_action {
    struct irq_action *next;
    nk_irq_handler fn;
    void *arg;
    const char *name;
};

static struct irq_line lines[NK_IRQ_COUNT];

/* A vector without a line leads to one without actions, which saves its path a test. */
static struct irq_line no_line;
static struct irq_line *vector_line[256] = {[0 ... 255] = &no_line};

/* Protects the lines' routing, the lists of actions against other writers, and the controllers. */
static struct nk_spinlock irq_lock = NK_SPINLOCK_INIT(NK_RANK_IRQ);

static void timer_interrupt(uint64_t vector)
{
    (void)vector;
    this_cpu->irq_count[NK_IRQ_TIMER]++;
    lapic_eoi();
    nk_timer_interrupt();
}

static void reschedule_interrupt(uint64_t vector)
{
    (void)vector;
    this_cpu->irq_count[NK_IRQ_RESCHED]++;
    lapic_eoi();
    sched_reschedule_interrupt();
}

static void call_interrupt(uint64_t vector)
{
    this_cpu->irq_count[NK_IRQ_CALL]++;
    lapic_eoi();
    smp_call_interrupt(vector);
}

static void error_interrupt(uint64_t vector)
{
    (void)vector;
    lapic_write(LAPIC_ESR, 0); /* latches the errors for reading */
    nk_warn("irq: APIC error 0x%x on CPU %u", lapic_read(LAPIC_ESR), this_cpu->id);
    lapic_eoi();
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
    if (++line->unhandled_in_a_row == UNHANDLED_LIMIT && line != &no_line) {
        unsigned irq = (unsigned)(line - lines);
        nk_warn("irq: line %u fires without its devices asking for it; masked", irq);
        nk_irq_mask(irq);
    }
}

/* Lock-free against attach and detach: an action is linked when complete, and detach waits for
 * `running` to fall to zero before it frees one. */
static NK_ALWAYS_INLINE void run_actions(struct irq_line *line)
{
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
    __atomic_fetch_sub(&line->running, 1, __ATOMIC_ACQ_REL);
}

static void device_interrupt(uint64_t vector)
{
    this_cpu->irq_count[NK_IRQ_DEVICE]++;
    run_actions(__atomic_load_n(&vector_line[vector], __ATOMIC_ACQUIRE));
    lapic_eoi(); /* after the handlers: a level line must be quiet by then */
}

/* ExtINT bypasses the APIC's in-service register: the EOI goes to the 8259s alone. Masked 8259s
 * still make a spurious interrupt now and then. */
static void pic_interrupt(uint64_t vector)
{
    unsigned irq = (unsigned)vector - NK_VECTOR_8259;
    this_cpu->irq_count[NK_IRQ_DEVICE]++;
    if (lines[irq].chip == &pic_chip) {
        run_actions(&lines[irq]);
    }
    pic_acknowledge(irq);
}

const irq_vector_fn irq_vector_table[256] = {
    [0 ... NK_VECTOR_8259 - 1] = unexpected_interrupt, /* exceptions do not come this way */
    [NK_VECTOR_8259... NK_VECTOR_8259 + ISA_LINES - 1] = pic_interrupt,
    [NK_VECTOR_DEVICE_FIRST... NK_VECTOR_DEVICE_LAST] = device_interrupt,
    [NK_VECTOR_DEVICE_LAST + 1 ... NK_VECTOR_CALL - 1] = unexpected_interrupt,
    [NK_VECTOR_CALL] = call_interrupt,
    [NK_VECTOR_RESCHED] = reschedule_interrupt,
    [NK_VECTOR_TIMER] = timer_interrupt,
    [NK_VECTOR_TIMER + 1 ... NK_VECTOR_ERROR - 1] = unexpected_interrupt,
    [NK_VECTOR_ERROR] = error_interrupt,
    [NK_VECTOR_SPURIOUS] = unexpected_interrupt, /* has a stub of its own */
};

/* An input without a line: an ISA line that the MADT wires elsewhere leaves one. */
static bool input_taken(uint32_t gsi)
{
    for (unsigned irq = 0; irq < ISA_LINES; irq++) {
        if (acpi.isa[irq].present && acpi.isa[irq].gsi == gsi) {
            return true;
        }
    }
    return false;
}

static void init_isa_line(unsigned irq, bool ioapic)
{
    const struct acpi_override *o = &acpi.isa[irq];
    struct irq_line *line = &lines[irq];
    line->masked = true;
    line->gsi = o->present && ioapic ? o->gsi : irq;
    line->level = o->present && ioapic && o->level;
    line->active_low = o->present && ioapic && o->active_low;
    if (!ioapic) {
        line->chip = &pic_chip;
    } else if (ioapic_has_gsi(line->gsi) && (o->present || !input_taken(irq))) {
        line->chip = &ioapic_chip;
    }
}

void irq_init(void)
{
    pic_init();
    unsigned inputs = ioapic_init();
    bool ioapic = inputs > 0;
    for (unsigned irq = 0; irq < ISA_LINES; irq++) {
        init_isa_line(irq, ioapic);
    }
    for (unsigned irq = ISA_LINES; irq < NK_IRQ_COUNT && ioapic; irq++) {
        /* PCI's lines, unless an ISA line was moved here. */
        if (ioapic_has_gsi(irq) && !input_taken(irq)) {
            lines[irq] = (struct irq_line){
                .chip = &ioapic_chip,
                .gsi = irq,
                .level = true,
                .active_low = true,
                .masked = true,
            };
        }
    }
    if (ioapic) {
        nk_info("irq: %s, %u IOAPIC inputs", lapic_is_x2apic() ? "x2APIC" : "xAPIC", inputs);
    } else {
        nk_warn("irq: no IOAPIC; device interrupts come through the 8259s, to the boot CPU");
        lapic_accept_8259();
    }
}

static struct irq_line *find_line(unsigned irq)
{
    return irq < NK_IRQ_COUNT && lines[irq].chip != NULL ? &lines[irq] : NULL;
}

static int take_vector(struct irq_line *line)
{
    if (line->chip == &pic_chip) {
        line->vector = (uint8_t)(NK_VECTOR_8259 + line->gsi);
        return 0;
    }
    for (unsigned v = NK_VECTOR_DEVICE_FIRST; v <= NK_VECTOR_DEVICE_LAST; v++) {
        if (vector_line[v] == &no_line) {
            line->vector = (uint8_t)v;
            __atomic_store_n(&vector_line[v], line, __ATOMIC_RELEASE);
            return 0;
        }
    }
    return -ENOSPC;
}

static void release_vector(struct irq_line *line)
{
    __atomic_store_n(&vector_line[line->vector], &no_line, __ATOMIC_RELEASE);
    line->vector = 0;
}

int nk_irq_attach(unsigned irq, const char *name, nk_irq_handler fn, void *arg)
{
    struct irq_line *line = find_line(irq);
    if (line == NULL || fn == NULL) {
        return -EINVAL;
    }
    struct irq_action *action = kmalloc(sizeof(*action));
    if (action == NULL) {
        return -ENOMEM;
    }
    *action = (struct irq_action){NULL, fn, arg, name};

    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    bool first = line->actions == NULL;
    int err = first ? take_vector(line) : 0;
    if (err == 0) {
        struct irq_action **end = &line->actions;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        __atomic_store_n(end, action, __ATOMIC_RELEASE);
        if (first) {
            line->masked = false;
            line->unhandled_in_a_row = 0;
            line->chip->update(line);
        }
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    if (err != 0) {
        kfree(action);
    }
    return err;
}

void nk_irq_detach(unsigned irq, nk_irq_handler fn, void *arg)
{
    struct irq_line *line = find_line(irq);
    if (line == NULL) {
        return;
    }
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    struct irq_action **at = &line->actions;
    while (*at != NULL && ((*at)->fn != fn || (*at)->arg != arg)) {
        at = &(*at)->next;
    }
    struct irq_action *action = *at;
    if (action != NULL) {
        __atomic_store_n(at, action->next, __ATOMIC_RELEASE);
        if (line->actions == NULL) {
            release_vector(line);
            line->masked = true;
            line->chip->update(line);
        }
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);

    /* Either a dispatch is seen running here, or it saw the list without the action. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    while (__atomic_load_n(&line->running, __ATOMIC_ACQUIRE) != 0) {
        x86_pause();
    }
    kfree(action);
}

int nk_irq_set_affinity(unsigned irq, unsigned cpu)
{
    struct irq_line *line = find_line(irq);
    if (line == NULL || cpu >= nk_cpu_count) {
        return -EINVAL;
    }
    if (!line->chip->any_cpu && cpu != 0) {
        return -ENOTSUP;
    }
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->cpu = (uint8_t)cpu;
    line->chip->update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    return 0;
}

static void set_masked(unsigned irq, bool masked)
{
    struct irq_line *line = find_line(irq);
    if (line == NULL) {
        return;
    }
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->masked = masked;
    line->unhandled_in_a_row = 0;
    line->chip->update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}

void nk_irq_mask(unsigned irq)
{
    set_masked(irq, true);
}

void nk_irq_unmask(unsigned irq)
{
    set_masked(irq, false);
}

bool nk_irq_get_info(unsigned irq, struct nk_irq_info *out)
{
    struct irq_line *line = find_line(irq);
    if (line == NULL) {
        return false;
    }
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    bool attached = line->actions != NULL;
    if (attached) {
        *out = (struct nk_irq_info){
            .irq = irq,
            .gsi = line->gsi,
            .vector = line->vector,
            .cpu = line->cpu,
            .level = line->level,
            .active_low = line->active_low,
            .masked = line->masked,
            .count = line->count,
            .unhandled = line->unhandled,
            .name = line->actions->name,
        };
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    return attached;
}
