#include "tests/kernel/vanish.h"

#include <string.h>

#include "tests/kernel/ktest.h"

/* PCI Express Base 5.0, 7.5.3.9 and 7.5.3.10. */
#define SLOT_CAPABILITIES 0x14
#define HAS_POWER_CONTROL (1u << 1)
#define SLOT_CONTROL      0x18
#define POWER_OFF         (1u << 10)
#define INDICATOR_OFF     (3u << 8)
#define CLASS_BRIDGE      0x060400
#define NOBODY            0xffff

struct pci_function *function_of(const char *driver, unsigned irq)
{
    for (unsigned i = 0; i < pci_count(); i++) {
        struct pci_function *f = pci_get(i);
        bool named = f->driver != NULL && strcmp(f->driver, driver) == 0;
        if (named && (irq == ANY_LINE || (f->irq_count > 0 && f->irq[0] == irq))) {
            return f;
        }
    }
    return NULL;
}

/* The port whose slot the function is in, if its power can be switched off; else NULL. */
static struct pci_function *slot_of(const struct pci_function *f)
{
    for (unsigned i = 0; i < pci_count(); i++) {
        struct pci_function *port = pci_get(i);
        if (port->class == CLASS_BRIDGE && port->express != 0 && f->bus != 0 &&
            pci_read(port, PCI_SECONDARY_BUS, 1) == f->bus &&
            (pci_read(port, port->express + SLOT_CAPABILITIES, 4) & HAS_POWER_CONTROL) != 0) {
            return port;
        }
    }
    return NULL;
}

void make_vanish(struct pci_function *f)
{
    struct pci_function *slot = slot_of(f);
    if (slot != NULL) {
        uint32_t control = pci_read(slot, slot->express + SLOT_CONTROL, 2);
        pci_write(slot, slot->express + SLOT_CONTROL, 2, control | POWER_OFF | INDICATOR_OFF);
        EXPECT_EQ(pci_read(f, PCI_VENDOR, 2), NOBODY);
        return;
    }
    pci_disable(f, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}
