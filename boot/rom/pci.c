/* Numbers for buses, places for BARs, windows for bridges: what firmware does for an operating
 * system. Spec: PCI Local Bus 3.0 chapter 6; PCI-to-PCI Bridge Architecture 1.2 chapter 3.
 *
 * Buses are numbered depth first. So are places given: a bridge's window begins where the next free
 * address is and ends behind the last function below it. */

#include "boot/rom/rom.h"

#include "base/x86.h"
#include "boot/rom/pci.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA    0xcfc
#define ENABLE       (1u << 31)

#define DEVICES   32
#define FUNCTIONS 8
#define BUSES     256
#define NOBODY    0xffff
#define BARS      6

#define REG_ID         0x00
#define REG_COMMAND    0x04
#define REG_CLASS      0x0a
#define REG_HEADER     0x0e
#define REG_BAR        0x10
#define REG_BUSES      0x18 /* bridge: primary, secondary, subordinate */
#define REG_IO         0x1c /* bridge: base and limit, in 4 KiB */
#define REG_MEMORY     0x20 /* bridge: base and limit, in 1 MiB */
#define REG_PREFETCH   0x24
#define REG_PREFETCH_H 0x28
#define REG_IO_HIGH    0x30
#define REG_IRQ_LINE   0x3c
#define REG_IRQ_PIN    0x3d

#define COMMAND_IO     (1u << 0)
#define COMMAND_MEMORY (1u << 1)
#define COMMAND_MASTER (1u << 2)
#define HEADER_MULTI   0x80
#define CLASS_HOST     0x0600

#define BAR_IO   0x1u
#define BAR_64   0x4u
#define IO_STEP  NK_KIB(4)
#define MEM_STEP NK_MIB(1)
#define CLOSED   0x0000fff0u /* a window whose limit lies below its base */

#define IO_FIRST  0xc000 /* below are the chipset's own ports */
#define IO_END    0x10000
#define MEM_FIRST UINT64_C(0xc0000000)
#define MEM_END   UINT64_C(0xfec00000) /* IOAPIC, HPET, LAPIC, flash */

static struct {
    uint64_t io, memory, high; /* the next free addresses */
    unsigned buses, functions, failures;
} pci;

static void select(uint32_t place, unsigned offset)
{
    x86_outl(PORT_ADDRESS, ENABLE | place << 8 | (offset & 0xfc));
}

uint32_t pci_read(uint32_t place, unsigned offset, unsigned bytes)
{
    uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));
    select(place, offset);
    return bytes == 1 ? x86_inb(port) : bytes == 2 ? x86_inw(port) : x86_inl(port);
}

void pci_write(uint32_t place, unsigned offset, unsigned bytes, uint32_t value)
{
    uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));
    select(place, offset);
    if (bytes == 1) {
        x86_outb(port, (uint8_t)value);
    } else if (bytes == 2) {
        x86_outw(port, (uint16_t)value);
    } else {
        x86_outl(port, value);
    }
}

static void command(uint32_t place, uint32_t set)
{
    pci_write(place, REG_COMMAND, 2, pci_read(place, REG_COMMAND, 2) | set);
}

/* All ones come back in the bits that select within the size. */
static uint32_t probe(uint32_t place, unsigned offset)
{
    pci_write(place, offset, 4, UINT32_MAX);
    return pci_read(place, offset, 4);
}

/* `size` bytes, aligned to their size, at *next; false when they would go beyond the end. */
static bool take(uint64_t *next, uint64_t end, uint64_t size, uint64_t *at)
{
    *at = nk_align_up(*next, size);
    if (*at + size > end || *at + size < *at) {
        return false;
    }
    *next = *at + size;
    return true;
}

/* One BAR. Returns the command bit that it needs, 0 when there is none or no place for it. */
static uint32_t place_bar(uint32_t place, unsigned offset, bool wide, unsigned bus)
{
    uint32_t low = pci_read(place, offset, 4);
    uint64_t at, mask = probe(place, offset);
    bool io = (low & BAR_IO) != 0, placed;
    if (mask == 0) {
        return 0;
    }
    if (io) { /* the upper half may be hard-wired to zero */
        uint64_t size = (uint16_t)(~(mask & ~3u) + 1);
        placed = size != 0 && take(&pci.io, IO_END, size, &at);
    } else {
        mask = (mask & ~15u) | (wide ? (uint64_t)probe(place, offset + 4) : UINT32_MAX) << 32;
        placed = take(&pci.memory, MEM_END, ~mask + 1, &at) ||
                 (wide && bus == 0 && take(&pci.high, UINT64_MAX, ~mask + 1, &at));
    }
    if (!placed) {
        pci.failures++;
        at = 0;
    }
    pci_write(place, offset, 4, (uint32_t)at);
    if (wide) {
        pci_write(place, offset + 4, 4, (uint32_t)(at >> 32));
    }
    return !placed ? 0 : io ? COMMAND_IO : COMMAND_MEMORY;
}

static void place_bars(uint32_t place, unsigned count)
{
    uint32_t needed = 0;
    bool failed = false;
    for (unsigned i = 0; i < count; i++) {
        unsigned offset = REG_BAR + 4 * i, failures = pci.failures;
        uint32_t low = pci_read(place, offset, 4);
        bool wide = (low & (BAR_IO | BAR_64)) == BAR_64 && i + 1 < count;
        needed |= place_bar(place, offset, wide, place >> 8);
        failed = failed || pci.failures != failures;
        i += wide;
    }
    if (failed) {
        say("pci %x:%x.%x: no room for its registers", place >> 8, place >> 3 & 31, place & 7);
        return; /* decoding half of them would put the others at address 0 */
    }
    command(place, needed);
}

static void scan_bus(unsigned bus);

static void open_bridge(uint32_t place)
{
    unsigned secondary = ++pci.buses;
    uint64_t io = pci.io, at = pci.memory;
    pci_write(place, REG_BUSES, 4, place >> 8 | secondary << 8 | (BUSES - 1) << 16);
    scan_bus(secondary);
    pci_write(place, REG_BUSES + 2, 1, pci.buses);

    pci_write(place, REG_IO, 2, 0x00f0);
    pci_write(place, REG_IO_HIGH, 4, 0);
    pci_write(place, REG_MEMORY, 4, CLOSED);
    pci_write(place, REG_PREFETCH, 4, CLOSED);
    pci_write(place, REG_PREFETCH_H, 4, 0);
    if (pci.io != io) {
        pci.io = nk_align_up(pci.io, IO_STEP);
        pci_write(place, REG_IO, 2, (uint32_t)(io >> 8 | ((pci.io - 1) >> 8 & 0xf0) << 8));
    }
    if (pci.memory != at) {
        pci.memory = nk_align_up(pci.memory, MEM_STEP);
        pci_write(place, REG_MEMORY, 4,
                  (uint32_t)(at >> 16 | (((pci.memory - 1) >> 16 & 0xfff0) << 16)));
    }
    command(place, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
}

/* A window's first address is a multiple of its step; a bus with nothing below costs nothing. */
static void scan_bridge(uint32_t place)
{
    uint64_t io = pci.io, at = pci.memory;
    pci.io = nk_align_up(io, IO_STEP);
    pci.memory = nk_align_up(at, MEM_STEP);
    uint64_t io_from = pci.io, at_from = pci.memory;
    open_bridge(place);
    pci.io = pci.io == io_from ? io : pci.io;
    pci.memory = pci.memory == at_from ? at : pci.memory;
    place_bars(place, 2);
}

/* Returns its header type, NOBODY if there is none. */
static unsigned scan_function(uint32_t place)
{
    if (pci_read(place, REG_ID, 2) == NOBODY) {
        return NOBODY;
    }
    unsigned header = pci_read(place, REG_HEADER, 1);
    pci.functions++;
    if ((header & ~HEADER_MULTI) == 1 && pci.buses < BUSES - 1) {
        scan_bridge(place);
    } else if ((header & ~HEADER_MULTI) == 0 && pci_read(place, REG_CLASS, 2) != CLASS_HOST) {
        place_bars(place, BARS);
    }
    return header;
}

static void scan_bus(unsigned bus)
{
    for (unsigned device = 0; device < DEVICES; device++) {
        uint32_t place = bus << 8 | device << 3;
        unsigned header = scan_function(place);
        if (header == NOBODY || (header & HEADER_MULTI) == 0) {
            continue;
        }
        for (unsigned function = 1; function < FUNCTIONS; function++) {
            (void)scan_function(place | function);
        }
    }
}

/* A function's pin, swizzled at each bridge on the way to bus 0 (Bridge Architecture 9.1). */
static void route_bus(unsigned bus, unsigned device_at_root, unsigned turns)
{
    for (uint32_t place = bus << 8; place < (bus + 1) << 8; place++) {
        unsigned device = place >> 3 & 31;
        if (pci_read(place, REG_ID, 2) == NOBODY) {
            continue;
        }
        unsigned root = bus == 0 ? device : device_at_root;
        unsigned pin = pci_read(place, REG_IRQ_PIN, 1);
        unsigned swizzle = bus == 0 ? 0 : turns + device;
        if (pin >= 1 && pin <= 4) {
            pci_write(place, REG_IRQ_LINE, 1, chipset_irq(root, (pin - 1 + swizzle) % 4));
        }
        if ((pci_read(place, REG_HEADER, 1) & ~HEADER_MULTI) == 1) {
            route_bus(pci_read(place, REG_BUSES + 1, 1), root, swizzle);
        }
    }
}

void pci_start(void)
{
    if (pci_read(0, REG_ID, 2) == NOBODY) {
        return;
    }
    uint64_t end = memory_end_below(ROM_END);
    pci.io = IO_FIRST;
    pci.memory = end > MEM_FIRST ? nk_align_up(end, NK_MIB(16)) : MEM_FIRST;
    pci.high = nk_align_up(memory_end_below(UINT64_MAX), NK_GIB(1));
    pci.high = pci.high < ROM_END ? ROM_END : pci.high;
    chipset_start();
    scan_bus(0);
    route_bus(0, 0, 0);
    say("pci: %u functions on %u buses", pci.functions, pci.buses + 1);
}
