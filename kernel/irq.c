/* See irq.h. The lines: what they are, who is attached, where they go. */

#include "kernel/irq_impl.h"

#include "base/errno.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/acpi.h"
#include "kernel/lapic.h"
#include "mm/slab.h"

#define ISA_LINES 16

struct irq_line irq_lines[NK_IRQ_COUNT];
struct irq_line irq_no_line;
struct irq_line *irq_vector_line[256] = {[0 ... 255] = &irq_no_line};
struct nk_spinlock irq_lock = NK_SPINLOCK_INIT(NK_RANK_IRQ);

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
    struct irq_line *line = &irq_lines[irq];
    line->mask_reasons = IRQ_MASKED_BY_OWNER;
    line->masked = true;
    line->gsi = o->present && ioapic ? o->gsi : irq;
    line->level = ioapic ? o->present && o->level : pic_is_level(irq);
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
    for (unsigned irq = ISA_LINES; irq < NK_IRQ_MESSAGE_FIRST && ioapic; irq++) {
        /* PCI's lines, unless an ISA line was moved here. */
        if (ioapic_has_gsi(irq) && !input_taken(irq)) {
            irq_lines[irq] = (struct irq_line){
                .chip = &ioapic_chip,
                .gsi = irq,
                .level = true,
                .active_low = true,
                .mask_reasons = IRQ_MASKED_BY_OWNER,
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
    return irq < NK_IRQ_COUNT && irq_lines[irq].chip != NULL ? &irq_lines[irq] : NULL;
}

static int take_vector(struct irq_line *line)
{
    if (line->chip == &pic_chip) {
        line->vector = (uint8_t)(NK_VECTOR_8259 + line->gsi);
        return 0;
    }
    for (unsigned v = NK_VECTOR_DEVICE_FIRST; v <= NK_VECTOR_DEVICE_LAST; v++) {
        if (irq_vector_line[v] == &irq_no_line) {
            line->vector = (uint8_t)v;
            __atomic_store_n(&irq_vector_line[v], line, __ATOMIC_RELEASE);
            return 0;
        }
    }
    return -ENOSPC;
}

static void release_vector(struct irq_line *line)
{
    __atomic_store_n(&irq_vector_line[line->vector], &irq_no_line, __ATOMIC_RELEASE);
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
            line->mask_reasons = 0;
            line->count = line->unhandled = line->worst_ticks = 0;
            line->storm_count = 0;
            line->unhandled_in_a_row = line->window_count = 0;
            line->window_start = x86_rdtsc();
            irq_line_update(line);
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
            line->mask_reasons = IRQ_MASKED_BY_OWNER;
            irq_line_update(line);
        }
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);

    nk_irq_synchronize(irq); /* or the dispatch saw the list without the action */
    kfree(action);
}

void nk_irq_synchronize(unsigned irq)
{
    const struct irq_line *line = find_line(irq);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    while (line != NULL && __atomic_load_n(&line->running, __ATOMIC_ACQUIRE) != 0) {
        x86_pause();
    }
}

bool nk_irq_edge_input(unsigned irq, unsigned *gsi)
{
    const struct irq_line *line = find_line(irq);
    if (line == NULL || line->chip != &ioapic_chip || line->level) {
        return false;
    }
    *gsi = line->gsi;
    return true;
}

int nk_irq_set_affinity(unsigned irq, unsigned cpu)
{
    int err = -EINVAL;
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    struct irq_line *line = find_line(irq); /* a message line may just be given back */
    if (line != NULL && cpu < nk_cpu_count) {
        err = line->chip->reaches(cpu) ? 0 : -ENOTSUP;
    }
    if (err == 0) {
        line->cpu = (uint8_t)cpu;
        line->chip->update(line);
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    return err;
}

void nk_irq_mask(unsigned irq)
{
    struct irq_line *line = find_line(irq);
    if (line != NULL) {
        irq_line_mask(line, IRQ_MASKED_BY_OWNER);
    }
}

void nk_irq_unmask(unsigned irq)
{
    struct irq_line *line = find_line(irq);
    if (line != NULL) {
        irq_line_unmask(line, UINT8_MAX);
    }
}

void irq_line_update(struct irq_line *line)
{
    line->masked = line->mask_reasons != 0 || line->thread_count != 0;
    if (line->chip != NULL) { /* a message line that was freed may still be on somebody's mind */
        line->chip->update(line);
    }
}

void irq_line_mask(struct irq_line *line, enum irq_mask_reason reason)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->mask_reasons |= (uint8_t)reason;
    irq_line_update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}

void irq_line_unmask(struct irq_line *line, uint8_t reasons)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->mask_reasons &= (uint8_t)~reasons;
    line->unhandled_in_a_row = line->window_count = 0;
    line->window_start = x86_rdtsc();
    irq_line_update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}

void irq_line_hold(struct irq_line *line)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->thread_count++;
    irq_line_update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}

void irq_line_release(struct irq_line *line)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    line->thread_count--;
    irq_line_update(line);
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}

void irq_line_note_ticks(struct irq_line *line, uint64_t ticks)
{
    if (nk_unlikely(ticks > line->worst_ticks)) {
        line->worst_ticks = ticks;
    }
}

static const char *mask_reason(const struct irq_line *line)
{
    if (line->mask_reasons & IRQ_MASKED_UNHANDLED) {
        return "nobody asks for it";
    }
    return line->mask_reasons & IRQ_MASKED_STORM ? "storm" : NULL;
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
            .message = line->chip == &msi_chip,
            .masked = line->masked,
            .storms = line->storm_count,
            .worst_ticks = line->worst_ticks,
            .reason = mask_reason(line),
            .count = line->count,
            .unhandled = line->unhandled,
            .name = line->actions->name,
        };
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    return attached;
}
