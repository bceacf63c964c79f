/* A function's interrupts: MSI-X, MSI, or its INTx line.
 * Spec: PCI Local Bus 3.0 sections 6.8.1 "MSI Capability", 6.8.2 "MSI-X Capability". */

#include "drivers/pci/pci.h"

#include "base/errno.h"
#include "kernel/irq.h"

#define MSI_CONTROL      2
#define MSI_ENABLE       (1u << 0)
#define MSI_MULTIPLE     (7u << 4)
#define MSI_64BIT        (1u << 7)
#define MSI_ADDRESS      4
#define MSI_ADDRESS_HIGH 8

#define MSIX_CONTROL       2
#define MSIX_SIZE          0x7ff /* number of entries - 1 */
#define MSIX_MASK_ALL      (1u << 14)
#define MSIX_ENABLE        (1u << 15)
#define MSIX_TABLE         4
#define MSIX_BAR           7u
#define MSIX_ENTRY_WORDS   4
#define MSIX_ENTRY_CONTROL 3
#define MSIX_ENTRY_MASKED  1u

/* While disabled MSI falls back to INTx, which is switched off: so this masks. */
static void write_msi(void *arg, uint64_t address, uint32_t data, bool masked)
{
    const struct pci_function *f = arg;
    uint32_t control = pci_read(f, f->msi + MSI_CONTROL, 2) & ~(MSI_ENABLE | MSI_MULTIPLE);
    unsigned data_at = MSI_ADDRESS + 4;
    pci_write(f, f->msi + MSI_CONTROL, 2, control);
    if (masked) {
        return;
    }
    pci_write(f, f->msi + MSI_ADDRESS, 4, (uint32_t)address);
    if (control & MSI_64BIT) {
        pci_write(f, f->msi + MSI_ADDRESS_HIGH, 4, (uint32_t)(address >> 32));
        data_at = MSI_ADDRESS_HIGH + 4;
    }
    pci_write(f, f->msi + data_at, 2, data);
    pci_write(f, f->msi + MSI_CONTROL, 2, control | MSI_ENABLE);
}

/* arg is the entry. An entry may only be changed while it is masked. */
static void write_msix(void *arg, uint64_t address, uint32_t data, bool masked)
{
    volatile uint32_t *entry = arg;
    entry[MSIX_ENTRY_CONTROL] = MSIX_ENTRY_MASKED;
    entry[0] = (uint32_t)address;
    entry[1] = (uint32_t)(address >> 32);
    entry[2] = data;
    if (!masked) {
        entry[MSIX_ENTRY_CONTROL] = 0;
    }
}

static int add_line(struct pci_function *f, nk_irq_message_fn write, void *arg)
{
    int err = nk_irq_message_alloc(write, arg, &f->irq[f->irq_count]);
    f->irq_count += err == 0;
    return err;
}

static int open_msix(struct pci_function *f, unsigned wanted)
{
    uint32_t control = pci_read(f, f->msix + MSIX_CONTROL, 2);
    uint32_t place = pci_read(f, f->msix + MSIX_TABLE, 4);
    unsigned count = (control & MSIX_SIZE) + 1;
    const struct pci_bar *bar = &f->bar[place & MSIX_BAR];
    uint64_t offset = place & ~MSIX_BAR;
    if ((place & MSIX_BAR) >= PCI_BARS ||
        bar->size < offset + (uint64_t)count * MSIX_ENTRY_WORDS * 4) {
        return -ENOTSUP;
    }
    if (f->msix_table == NULL) {
        volatile uint8_t *registers = pci_map_bar(f, place & MSIX_BAR);
        if (registers == NULL) {
            return -ENOTSUP;
        }
        f->msix_table = (volatile uint32_t *)(registers + offset);
    }
    pci_enable(f, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_OFF);
    pci_write(f, f->msix + MSIX_CONTROL, 2, control | MSIX_ENABLE | MSIX_MASK_ALL);
    f->irq_kind = PCI_IRQ_MSIX;
    int err = 0;
    for (unsigned i = 0; i < count; i++) {
        volatile uint32_t *entry = f->msix_table + i * MSIX_ENTRY_WORDS;
        entry[MSIX_ENTRY_CONTROL] = MSIX_ENTRY_MASKED;
        if (err == 0 && i < wanted && i < PCI_IRQS_MAX) {
            err = add_line(f, write_msix, (void *)entry);
        }
    }
    pci_write(f, f->msix + MSIX_CONTROL, 2, (control & ~MSIX_MASK_ALL) | MSIX_ENABLE);
    return f->irq_count > 0 ? 0 : err;
}

static int open_msi(struct pci_function *f)
{
    pci_enable(f, PCI_COMMAND_INTX_OFF);
    f->irq_kind = PCI_IRQ_MSI;
    return add_line(f, write_msi, f);
}

/* The line number is firmware's word for it: what says more, ACPI's _PRT, takes an interpreter. */
static int open_intx(struct pci_function *f)
{
    pci_disable(f, PCI_COMMAND_INTX_OFF);
    f->irq_kind = PCI_IRQ_INTX;
    f->irq[f->irq_count++] = f->irq_line;
    return 0;
}

int pci_irq_open(struct pci_function *f, unsigned wanted, unsigned allowed)
{
    if (f->irq_kind != PCI_IRQ_NONE) {
        return -EBUSY;
    }
    int err = -ENOTSUP;
    if (f->msix != 0 && (allowed & PCI_IRQ_MSIX)) {
        err = open_msix(f, wanted);
    }
    if (err != 0 && f->msi != 0 && (allowed & PCI_IRQ_MSI)) {
        pci_irq_close(f);
        err = open_msi(f);
    }
    bool has_line = f->irq_pin != 0 && f->irq_line != 0 && f->irq_line != UINT8_MAX;
    if (err != 0 && has_line && (allowed & PCI_IRQ_INTX)) {
        pci_irq_close(f);
        err = open_intx(f);
    }
    if (err != 0) {
        pci_irq_close(f);
    }
    return err;
}

/* The function stays silent afterwards: others may still use the line. */
void pci_irq_close(struct pci_function *f)
{
    pci_enable(f, PCI_COMMAND_INTX_OFF);
    if (f->irq_kind == PCI_IRQ_MSIX) {
        uint32_t control = pci_read(f, f->msix + MSIX_CONTROL, 2);
        pci_write(f, f->msix + MSIX_CONTROL, 2, control & ~MSIX_ENABLE);
    }
    for (unsigned i = 0; i < f->irq_count && f->irq_kind != PCI_IRQ_INTX; i++) {
        nk_irq_message_free(f->irq[i]);
    }
    f->irq_count = 0;
    f->irq_kind = PCI_IRQ_NONE;
}
