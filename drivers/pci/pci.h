/* PCI and PCI Express: the functions that were there at boot, their registers and interrupts.
 *
 * Addresses are as firmware assigned them; nothing is moved. Hot plug is not handled: a function
 * that goes away reads as all ones.
 * Threading: the list is written by pci_init() and constant afterwards. Configuration accesses from
 * any context but NMI; the rest from threads, one caller at a time for each function.
 * Spec: PCI Local Bus 3.0; PCI Express Base 5.0 chapter 7; PCI Firmware 3.2 (MCFG). */
#pragma once

#include "base/types.h"

#define PCI_BARS     6
#define PCI_IRQS_MAX 8

enum pci_register { /* offsets in configuration space */
                    PCI_VENDOR = 0x00,
                    PCI_DEVICE = 0x02,
                    PCI_COMMAND = 0x04,
                    PCI_STATUS = 0x06,
                    PCI_REVISION = 0x08, /* and above it the class, three bytes */
                    PCI_HEADER_TYPE = 0x0e,
                    PCI_BAR0 = 0x10,
                    PCI_SECONDARY_BUS = 0x19, /* of bridges */
                    PCI_SUBORDINATE_BUS = 0x1a,
                    PCI_SUBSYSTEM_VENDOR = 0x2c,
                    PCI_SUBSYSTEM = 0x2e,
                    PCI_CAPABILITIES = 0x34,
                    PCI_IRQ_LINE = 0x3c,
                    PCI_IRQ_PIN = 0x3d,
};

enum pci_command {
    PCI_COMMAND_IO = 1 << 0,
    PCI_COMMAND_MEMORY = 1 << 1,
    PCI_COMMAND_MASTER = 1 << 2,
    PCI_COMMAND_INTX_OFF = 1 << 10,
};

enum pci_capability {
    PCI_CAP_MSI = 0x05,
    PCI_CAP_VENDOR = 0x09,
    PCI_CAP_EXPRESS = 0x10,
    PCI_CAP_MSIX = 0x11,
};

enum pci_irq_kind {
    PCI_IRQ_NONE = 0,
    PCI_IRQ_INTX = 1 << 0,
    PCI_IRQ_MSI = 1 << 1,
    PCI_IRQ_MSIX = 1 << 2,
    PCI_IRQ_ANY = PCI_IRQ_INTX | PCI_IRQ_MSI | PCI_IRQ_MSIX,
};

struct pci_bar {
    uint64_t base, size; /* size 0: there is none */
    bool io, wide, prefetchable;
    volatile void *registers; /* once mapped: it stays */
};

struct pci_function {
    uint8_t bus, device, function;
    uint8_t revision, header_type;
    uint8_t irq_line, irq_pin; /* pin 0: none; line as firmware noted it */
    uint16_t vendor_id, device_id;
    uint16_t subsystem_vendor, subsystem;
    uint32_t class;              /* base class, sub-class, interface: 0x010802 */
    uint16_t msi, msix, express; /* offsets of the capabilities, 0: none */
    struct pci_bar bar[PCI_BARS];
    const char *driver; /* who drives it, NULL: nobody */

    enum pci_irq_kind irq_kind; /* pci_irq_open(), drivers/pci/interrupt.c */
    unsigned irq_count;
    unsigned irq[PCI_IRQS_MAX]; /* line numbers for nk_irq_attach() */
    volatile uint32_t *msix_table;
};

void pci_init(void);
unsigned pci_count(void);
struct pci_function *pci_get(unsigned index); /* NULL past the last */
bool pci_has_ecam(void);

/* bytes: 1, 2 or 4; offset a multiple of it, below 256, or below 4096 with ECAM. What is not there
 * reads as all ones. */
uint32_t pci_read(const struct pci_function *f, unsigned offset, unsigned bytes);
void pci_write(const struct pci_function *f, unsigned offset, unsigned bytes, uint32_t value);

/* The next capability of this kind behind `after` (0: the first); 0: no more. */
unsigned pci_find_capability(const struct pci_function *f, enum pci_capability id, unsigned after);
/* The next of any kind behind `after` (0: the first); 0: no more. */
unsigned pci_next_capability(const struct pci_function *f, unsigned after);

/* Switch address decoding and bus mastering on or off: enum pci_command. */
void pci_enable(struct pci_function *f, unsigned command);
void pci_disable(struct pci_function *f, unsigned command);

/* Registers behind a memory BAR, mapped at the first call. NULL: no such BAR, or no memory for the
 * mapping. */
volatile void *pci_map_bar(struct pci_function *f, unsigned bar) NK_MUST_CHECK;

/* Interrupt lines for the function, into f->irq[]: up to `wanted` MSI-X vectors, else one MSI, else
 * its INTx line, which others may share; only kinds in `allowed`. The lines deliver nothing until
 * somebody attaches to them. Errors: -ENOTSUP none of these, -ENOSPC no line left, -EBUSY open. */
int pci_irq_open(struct pci_function *f, unsigned wanted, unsigned allowed) NK_MUST_CHECK;
void pci_irq_close(struct pci_function *f); /* everybody has detached */

/* "SATA controller"; NULL for a class that the table does not know. */
const char *pci_class_name(uint32_t class);

/* Inside drivers/pci/: how configuration space is reached (config.c). */
bool pci_config_init(void);             /* false: there is no bus */
void pci_config_open_bus(unsigned bus); /* by memory, if the tables say so */
