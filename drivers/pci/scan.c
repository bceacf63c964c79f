/* What is on the buses, as it was at boot. */

#include "drivers/pci/pci.h"

#include "base/platform.h"
#include "base/x86.h"
#include "mm/paging.h"
#include "mm/slab.h"

#define BUSES     256
#define DEVICES   32
#define FUNCTIONS 8
#define NOBODY    0xffff /* vendor id where there is no function */

#define HEADER_MULTI   0x80
#define HEADER_KIND(h) ((h)&0x7f)
#define HEADER_DEVICE  0
#define HEADER_BRIDGE  1
#define CLASS_HOST     0x0600 /* base class and sub-class */

#define BAR_IO          0x1u
#define BAR_KIND        0x6u
#define BAR_WIDE        0x4u
#define BAR_PREFETCH    0x8u
#define BAR_IO_MASK     (~3u)
#define BAR_MEMORY_MASK (~15u)

static struct {
    struct pci_function **list;
    unsigned count, room;
    bool visited[BUSES];
} pci;

/* All ones written to a BAR come back in the bits that select within the size. */
static uint32_t probe_bits(const struct pci_function *f, unsigned offset)
{
    uint32_t old = pci_read(f, offset, 4);
    pci_write(f, offset, 4, UINT32_MAX);
    uint32_t bits = pci_read(f, offset, 4);
    pci_write(f, offset, 4, old);
    return bits;
}

/* Returns the number of registers the BAR takes. */
static unsigned read_bar(struct pci_function *f, unsigned index)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    struct pci_bar *bar = &f->bar[index];
    uint32_t low = pci_read(f, offset, 4);
    uint32_t bits = probe_bits(f, offset);
    if (bits == 0) {
        return 1;
    }
    bar->io = (low & BAR_IO) != 0;
    if (bar->io) { /* the upper half may be hard-wired to zero */
        bar->base = low & BAR_IO_MASK;
        bar->size = (uint16_t)(~(bits & BAR_IO_MASK) + 1);
        return 1;
    }
    bar->wide = (low & BAR_KIND) == BAR_WIDE && index + 1 < PCI_BARS;
    bar->prefetchable = (low & BAR_PREFETCH) != 0;
    bar->base = low & BAR_MEMORY_MASK;
    uint64_t mask = bits & BAR_MEMORY_MASK;
    if (bar->wide) {
        bar->base |= (uint64_t)pci_read(f, offset + 4, 4) << 32;
        mask |= (uint64_t)probe_bits(f, offset + 4) << 32;
    } else {
        mask |= UINT64_C(0xffffffff) << 32;
    }
    bar->size = ~mask + 1;
    return bar->wide ? 2 : 1;
}

/* Decoding is off meanwhile: a register full of ones would lie over something else. */
static void read_bars(struct pci_function *f)
{
    unsigned kind = HEADER_KIND(f->header_type);
    unsigned count = kind == HEADER_DEVICE ? PCI_BARS : kind == HEADER_BRIDGE ? 2 : 0;
    if (f->class >> 8 == CLASS_HOST) {
        return; /* the way to memory must stay open */
    }
    uint32_t command = pci_read(f, PCI_COMMAND, 2);
    pci_write(f, PCI_COMMAND, 2, command & ~(uint32_t)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    for (unsigned i = 0; i < count;) {
        i += read_bar(f, i);
    }
    pci_write(f, PCI_COMMAND, 2, command);
}

static void read_function(struct pci_function *f)
{
    f->device_id = (uint16_t)pci_read(f, PCI_DEVICE, 2);
    f->revision = (uint8_t)pci_read(f, PCI_REVISION, 1);
    f->class = pci_read(f, PCI_REVISION, 4) >> 8;
    f->header_type = (uint8_t)pci_read(f, PCI_HEADER_TYPE, 1);
    f->irq_line = (uint8_t)pci_read(f, PCI_IRQ_LINE, 1);
    f->irq_pin = (uint8_t)pci_read(f, PCI_IRQ_PIN, 1);
    if (HEADER_KIND(f->header_type) == HEADER_DEVICE) {
        f->subsystem_vendor = (uint16_t)pci_read(f, PCI_SUBSYSTEM_VENDOR, 2);
        f->subsystem = (uint16_t)pci_read(f, PCI_SUBSYSTEM, 2);
    }
    f->msi = (uint16_t)pci_find_capability(f, PCI_CAP_MSI, 0);
    f->msix = (uint16_t)pci_find_capability(f, PCI_CAP_MSIX, 0);
    f->express = (uint16_t)pci_find_capability(f, PCI_CAP_EXPRESS, 0);
    read_bars(f);
}

static bool add_to_list(struct pci_function *f)
{
    if (pci.count == pci.room) {
        unsigned room = pci.room == 0 ? 16 : 2 * pci.room;
        struct pci_function **list = krealloc(pci.list, room * sizeof(*list));
        if (list == NULL) {
            return false;
        }
        pci.list = list;
        pci.room = room;
    }
    pci.list[pci.count++] = f;
    return true;
}

/* One function, if it is there. Returns its header type, NOBODY if it is not. */
static unsigned scan_function(unsigned bus, unsigned device, unsigned function)
{
    struct pci_function place = {
        .bus = (uint8_t)bus,
        .device = (uint8_t)device,
        .function = (uint8_t)function,
    };
    place.vendor_id = (uint16_t)pci_read(&place, PCI_VENDOR, 2);
    if (place.vendor_id == NOBODY) {
        return NOBODY;
    }
    struct pci_function *f = kmalloc(sizeof(*f));
    if (f != NULL) {
        *f = place;
        read_function(f);
    }
    if (f == NULL || !add_to_list(f)) {
        nk_warn("pci: no memory for %02x:%02x.%x", bus, device, function);
        kfree(f);
    }
    return pci_read(&place, PCI_HEADER_TYPE, 1);
}

static void scan_bus(unsigned bus)
{
    pci.visited[bus] = true;
    pci_config_open_bus(bus);
    for (unsigned device = 0; device < DEVICES; device++) {
        unsigned header = scan_function(bus, device, 0);
        if (header == NOBODY || (header & HEADER_MULTI) == 0) {
            continue;
        }
        for (unsigned function = 1; function < FUNCTIONS; function++) {
            scan_function(bus, device, function);
        }
    }
}

/* The list grows while it is walked: buses behind bridges come in the order of their bridges. Each
 * is scanned once, whatever the bridges say. */
static void scan_all(void)
{
    scan_bus(0);
    for (unsigned i = 0; i < pci.count; i++) {
        const struct pci_function *f = pci.list[i];
        if (HEADER_KIND(f->header_type) != HEADER_BRIDGE) {
            continue;
        }
        unsigned bus = pci_read(f, PCI_SECONDARY_BUS, 1);
        if (bus == 0) {
            nk_warn("pci: firmware left the bridge %02x:%02x.%x without a bus", f->bus, f->device,
                    f->function);
        } else if (!pci.visited[bus]) {
            scan_bus(bus);
        }
    }
}

void pci_init(void)
{
    if (!pci_config_init()) {
        nk_info("pci: no bus");
        return;
    }
    scan_all();
    nk_info("pci: %u functions, configuration by %s", pci.count,
            pci_has_ecam() ? "memory" : "ports");
}

unsigned pci_count(void)
{
    return pci.count;
}

struct pci_function *pci_get(unsigned index)
{
    return index < pci.count ? pci.list[index] : NULL;
}

void pci_enable(struct pci_function *f, unsigned command)
{
    pci_write(f, PCI_COMMAND, 2, pci_read(f, PCI_COMMAND, 2) | command);
}

void pci_disable(struct pci_function *f, unsigned command)
{
    pci_write(f, PCI_COMMAND, 2, pci_read(f, PCI_COMMAND, 2) & ~command);
}

volatile void *pci_map_bar(struct pci_function *f, unsigned bar)
{
    struct pci_bar *b = bar < PCI_BARS ? &f->bar[bar] : NULL;
    if (b == NULL || b->size == 0 || b->io || b->base == 0) {
        return NULL;
    }
    if (b->registers == NULL) {
        b->registers = paging_map_mmio(NK_PA(b->base), b->size);
    }
    return b->registers;
}
