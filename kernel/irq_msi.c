/* Message-signalled lines. Spec: AMD APM vol. 2 section 16.11; Intel SDM vol. 3 section 11.11;
 * PCI Local Bus 3.0 section 6.8. */

#include "base/errno.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/irq_impl.h"

#define MESSAGE_ADDRESS 0xfee00000u /* physical destination mode, no redirection */
#define ID_SHIFT        12
#define APIC_ID_ALL     0xff

/* The data is the vector alone: fixed delivery, edge. */
static void msi_update(const struct irq_line *line)
{
    if (line->message != NULL) {
        uint32_t address = MESSAGE_ADDRESS | nk_cpu_table[line->cpu].apic_id << ID_SHIFT;
        line->message(line->message_arg, address, line->vector, line->masked || line->vector == 0);
    }
}

/* Without interrupt remapping the address has 8 bits for the APIC id. */
static bool msi_reaches(unsigned cpu)
{
    return nk_cpu_table[cpu].apic_id < APIC_ID_ALL;
}

const struct irq_chip msi_chip = {"MSI", msi_update, msi_reaches};

int nk_irq_message_alloc(nk_irq_message_fn write, void *arg, unsigned *irq)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    int err = -ENOSPC;
    for (unsigned i = NK_IRQ_MESSAGE_FIRST; i < NK_IRQ_COUNT && err != 0; i++) {
        if (irq_lines[i].chip == NULL) {
            irq_lines[i] = (struct irq_line){
                .chip = &msi_chip,
                .message = write,
                .message_arg = arg,
                .mask_reasons = IRQ_MASKED_BY_OWNER,
                .masked = true,
            };
            *irq = i;
            err = 0;
        }
    }
    nk_spin_unlock_irqrestore(&irq_lock, flags);
    return err;
}

void nk_irq_message_free(unsigned irq)
{
    uint64_t flags = nk_spin_lock_irqsave(&irq_lock);
    nk_assert(irq >= NK_IRQ_MESSAGE_FIRST && irq < NK_IRQ_COUNT && irq_lines[irq].vector == 0);
    irq_lines[irq] = (struct irq_line){.chip = NULL};
    nk_spin_unlock_irqrestore(&irq_lock, flags);
}
