/* Configuration space: by memory (ECAM) where ACPI's MCFG has the bus, else by ports 0xcf8/0xcfc
 * ("mechanism 1", PCI Local Bus 3.0 section 3.2.2.3.2). */

#include "drivers/pci/pci.h"

#include <string.h>

#include "base/platform.h"
#include "base/spinlock.h"
#include "kernel/acpi.h"
#include "mm/paging.h"

#define PORT_ADDRESS   0xcf8
#define PORT_DATA      0xcfc
#define ADDRESS_ENABLE 0x80000000u

#define BUSES            256
#define ECAM_BUS_SIZE    0x100000
#define CONFIG_SIZE      256
#define CONFIG_SIZE_ECAM 4096

#define CAPABILITIES_LOW 0x40
#define CAPABILITIES_MAX 48 /* that fit behind the header: a list that is longer is a loop */
#define STATUS_HAS_LIST  0x10

/* PCI Firmware 3.2 table 4-2. */
struct mcfg_entry {
    uint64_t base;
    uint16_t segment;
    uint8_t first_bus, last_bus;
    uint32_t reserved;
};
#define MCFG_ENTRIES 44 /* offset of the first */

static struct mcfg_entry ecam; /* of segment 0; base 0: none */
static volatile uint8_t *ecam_bus[BUSES];

/* Protects the address port against another context that uses the data port. */
static struct nk_spinlock config_lock = NK_SPINLOCK_INIT(NK_RANK_PCI);

static void find_ecam(void)
{
    const struct acpi_header *mcfg = acpi_find_table("MCFG");
    if (mcfg == NULL) {
        return;
    }
    for (size_t at = MCFG_ENTRIES; at + sizeof(struct mcfg_entry) <= mcfg->length;
         at += sizeof(struct mcfg_entry)) {
        struct mcfg_entry e;
        memcpy(&e, (const uint8_t *)mcfg + at, sizeof(e));
        if (e.segment != 0) {
            nk_warn("pci: segment %u was left out", e.segment);
        } else if (e.base != 0 && e.base % ECAM_BUS_SIZE == 0) {
            ecam = e;
        }
    }
}

/* The address register keeps what is written to it, bar the reserved bits. */
static bool has_mechanism_1(void)
{
    x86_outl(PORT_ADDRESS, ADDRESS_ENABLE);
    return x86_inl(PORT_ADDRESS) == ADDRESS_ENABLE;
}

bool pci_config_init(void)
{
    find_ecam();
    return ecam.base != 0 || has_mechanism_1();
}

void pci_config_open_bus(unsigned bus)
{
    if (ecam.base != 0 && bus >= ecam.first_bus && bus <= ecam.last_bus && ecam_bus[bus] == NULL) {
        /* The base is that of bus 0, whatever the first bus is. */
        ecam_bus[bus] =
            paging_map_mmio(NK_PA(ecam.base + (uint64_t)bus * ECAM_BUS_SIZE), ECAM_BUS_SIZE);
    }
}

bool pci_has_ecam(void)
{
    return ecam_bus[0] != NULL;
}

static volatile uint8_t *ecam_address(const struct pci_function *f, unsigned offset)
{
    volatile uint8_t *bus = ecam_bus[f->bus];
    if (bus == NULL || offset >= CONFIG_SIZE_ECAM) {
        return NULL;
    }
    return bus + ((uint32_t)f->device << 15 | (uint32_t)f->function << 12 | offset);
}

static uint16_t select_register(const struct pci_function *f, unsigned offset)
{
    x86_outl(PORT_ADDRESS, ADDRESS_ENABLE | (uint32_t)f->bus << 16 | (uint32_t)f->device << 11 |
                               (uint32_t)f->function << 8 | (offset & 0xfc));
    return (uint16_t)(PORT_DATA + offset % 4);
}

uint32_t pci_read(const struct pci_function *f, unsigned offset, unsigned bytes)
{
    volatile uint8_t *at = ecam_address(f, offset);
    if (at != NULL) {
        return bytes == 1 ? *at : bytes == 2 ? *(volatile uint16_t *)at : *(volatile uint32_t *)at;
    }
    if (offset >= CONFIG_SIZE) {
        return UINT32_MAX;
    }
    uint64_t flags = nk_spin_lock_irqsave(&config_lock);
    uint16_t port = select_register(f, offset);
    uint32_t value = bytes == 1 ? x86_inb(port) : bytes == 2 ? x86_inw(port) : x86_inl(port);
    nk_spin_unlock_irqrestore(&config_lock, flags);
    return value;
}

static void write_port(uint16_t port, unsigned bytes, uint32_t value)
{
    if (bytes == 1) {
        x86_outb(port, (uint8_t)value);
    } else if (bytes == 2) {
        x86_outw(port, (uint16_t)value);
    } else {
        x86_outl(port, value);
    }
}

void pci_write(const struct pci_function *f, unsigned offset, unsigned bytes, uint32_t value)
{
    volatile uint8_t *at = ecam_address(f, offset);
    if (at != NULL) {
        if (bytes == 1) {
            *at = (uint8_t)value;
        } else if (bytes == 2) {
            *(volatile uint16_t *)at = (uint16_t)value;
        } else {
            *(volatile uint32_t *)at = value;
        }
    } else if (offset < CONFIG_SIZE) {
        uint64_t flags = nk_spin_lock_irqsave(&config_lock);
        write_port(select_register(f, offset), bytes, value);
        nk_spin_unlock_irqrestore(&config_lock, flags);
    }
}

unsigned pci_next_capability(const struct pci_function *f, unsigned after)
{
    if ((pci_read(f, PCI_STATUS, 2) & STATUS_HAS_LIST) == 0) {
        return 0;
    }
    unsigned at = pci_read(f, after == 0 ? PCI_CAPABILITIES : after + 1, 1) & 0xfc;
    return at >= CAPABILITIES_LOW ? at : 0;
}

unsigned pci_find_capability(const struct pci_function *f, enum pci_capability id, unsigned after)
{
    unsigned at = pci_next_capability(f, after);
    for (unsigned n = 0; at != 0 && n < CAPABILITIES_MAX; n++) {
        if (pci_read(f, at, 1) == (uint32_t)id) {
            return at;
        }
        at = pci_next_capability(f, at);
    }
    return 0;
}
