/* IOAPICs. Spec: Intel 82093AA data sheet. */

#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/acpi.h"
#include "kernel/irq_impl.h"
#include "mm/paging.h"

#define REGISTER_SELECT 0x00
#define REGISTER_WINDOW 0x10

#define IOAPIC_VERSION    0x01
#define IOAPIC_REDIRECT   0x10
#define VERSION_MAX_SHIFT 16

#define REDIRECT_ACTIVE_LOW (1u << 13)
#define REDIRECT_LEVEL      (1u << 15)
#define REDIRECT_MASKED     (1u << 16)

#define APIC_ID_ALL 0xff /* of 8 bits there are */

struct ioapic {
    volatile uint8_t *base;
    uint32_t gsi_base, input_count;
};

static struct ioapic ioapic[ACPI_IOAPICS_MAX];
static unsigned ioapic_count;

static uint32_t read_register(const struct ioapic *io, uint32_t r)
{
    *(volatile uint32_t *)(io->base + REGISTER_SELECT) = r;
    return *(volatile uint32_t *)(io->base + REGISTER_WINDOW);
}

static void write_register(const struct ioapic *io, uint32_t r, uint32_t value)
{
    *(volatile uint32_t *)(io->base + REGISTER_SELECT) = r;
    *(volatile uint32_t *)(io->base + REGISTER_WINDOW) = value;
}

static const struct ioapic *find(uint32_t gsi)
{
    for (unsigned i = 0; i < ioapic_count; i++) {
        if (gsi - ioapic[i].gsi_base < ioapic[i].input_count) {
            return &ioapic[i];
        }
    }
    return NULL;
}

bool ioapic_has_gsi(uint32_t gsi)
{
    return find(gsi) != NULL;
}

unsigned ioapic_init(void)
{
    unsigned inputs = 0;
    for (unsigned i = 0; i < acpi.ioapic_count; i++) {
        struct ioapic *io = &ioapic[ioapic_count];
        io->base = paging_map_mmio(NK_PA(acpi.ioapic[i].address), REGISTER_WINDOW + 4);
        if (io->base == NULL) {
            nk_warn("irq: no memory to map the IOAPIC at 0x%x", acpi.ioapic[i].address);
            continue;
        }
        io->gsi_base = acpi.ioapic[i].gsi_base;
        io->input_count = (read_register(io, IOAPIC_VERSION) >> VERSION_MAX_SHIFT & 0xff) + 1;
        for (uint32_t n = 0; n < io->input_count; n++) {
            write_register(io, IOAPIC_REDIRECT + n * 2, REDIRECT_MASKED);
        }
        inputs += io->input_count;
        ioapic_count++;
    }
    return inputs;
}

/* Physical destination: without interrupt remapping it reaches APIC ids up to 254, x2APIC or not.
 * The masked half is written first, so that no mixture of old and new can be delivered. */
static void ioapic_update(const struct irq_line *line)
{
    const struct ioapic *io = find(line->gsi);
    uint32_t r = IOAPIC_REDIRECT + (line->gsi - io->gsi_base) * 2;
    write_register(io, r, REDIRECT_MASKED);
    if (line->vector == 0) {
        return;
    }
    uint32_t low = line->vector | (line->active_low ? REDIRECT_ACTIVE_LOW : 0) |
                   (line->level ? REDIRECT_LEVEL : 0) | (line->masked ? REDIRECT_MASKED : 0);
    write_register(io, r + 1, nk_cpu_table[line->cpu].apic_id << 24);
    write_register(io, r, low);
}

static bool ioapic_reaches(unsigned cpu)
{
    return nk_cpu_table[cpu].apic_id < APIC_ID_ALL;
}

const struct irq_chip ioapic_chip = {"IOAPIC", ioapic_update, ioapic_reaches};
