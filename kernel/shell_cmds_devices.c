#include "kernel/shell_cmds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/block.h"
#include "drivers/net.h"
#include "drivers/pci/pci.h"
#include "kernel/irq.h"
#include "kernel/shell.h"
#include "sched/timer.h"

#define DUMP_WIDTH 16 /* bytes of a line */

static int list_lines(void)
{
    shell_printf("IRQ GSI VECTOR CPU KIND            COUNT  UNHANDLED STORMS WORST us NAME\n");
    struct nk_irq_info info;
    for (unsigned irq = 0; irq < NK_IRQ_COUNT; irq++) {
        if (!nk_irq_get_info(irq, &info)) {
            continue;
        }
        char gsi[8] = "  -";
        if (!info.message) {
            snprintf(gsi, sizeof(gsi), "%3u", info.gsi);
        }
        const char *kind = info.message      ? "message"
                           : !info.level     ? info.active_low ? "edge  low" : "edge  high"
                           : info.active_low ? "level low"
                                             : "level high";
        shell_printf("%3u %s   0x%02x %3u %-10s %10llu %10llu %6llu %8llu %s%s%s%s", info.irq, gsi,
                     info.vector, info.cpu, kind, (unsigned long long)info.count,
                     (unsigned long long)info.unhandled, (unsigned long long)info.storms,
                     (unsigned long long)nk_tsc_to_ns(info.worst_ticks) / 1000, info.name,
                     info.masked ? " (masked" : "", info.reason != NULL ? ": " : "",
                     info.reason != NULL ? info.reason : "");
        shell_printf(info.masked ? ")\n" : "\n");
    }
    return 0;
}

static int move_line(unsigned irq, const char *cpu_text)
{
    uint64_t cpu;
    bool good = shell_number(cpu_text, UINT32_MAX, &cpu);
    int err = good ? nk_irq_set_affinity(irq, (unsigned)cpu) : -EINVAL;
    if (err == -ENOTSUP) {
        shell_printf("irq: line %u cannot reach CPU %u: its controller serves CPU 0 only\n", irq,
                     (unsigned)cpu);
    } else if (err != 0) {
        shell_printf("irq: there is no CPU %s\n", cpu_text);
    }
    return err;
}

int cmd_irq(int argc, char **argv)
{
    if (argc == 1) {
        return list_lines();
    }
    uint64_t irq;
    struct nk_irq_info info;
    if (!shell_number(argv[1], NK_IRQ_COUNT, &irq) || !nk_irq_get_info((unsigned)irq, &info)) {
        shell_printf("irq: nobody is attached to a line %s\n", argv[1]);
        return -ENOENT;
    }
    if (argc == 4 && strcmp(argv[2], "cpu") == 0) {
        return move_line(info.irq, argv[3]);
    }
    if (argc == 3 && strcmp(argv[2], "open") == 0) {
        nk_irq_unmask(info.irq);
        return 0;
    }
    return shell_usage(argv[0]);
}

static const char *class_text(const struct pci_function *f)
{
    const char *name = pci_class_name(f->class);
    return name != NULL ? name : "device";
}

static void list_functions(void)
{
    shell_printf("ADDRESS VENDOR:ID CLASS  IRQ   DRIVER        WHAT\n");
    for (unsigned i = 0; i < pci_count(); i++) {
        static const char *const kind_table[] = {
            [PCI_IRQ_NONE] = "-",
            [PCI_IRQ_INTX] = "INTx",
            [PCI_IRQ_MSI] = "MSI",
            [PCI_IRQ_MSIX] = "MSI-X",
        };
        const struct pci_function *f = pci_get(i);
        shell_printf("%02x:%02x.%x %04x:%04x %06x %-5s %-13s %s\n", f->bus, f->device, f->function,
                     f->vendor_id, f->device_id, (unsigned)f->class, kind_table[f->irq_kind],
                     f->driver != NULL ? f->driver : "-", class_text(f));
    }
}

static void show_bars(const struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &f->bar[i];
        if (bar->size != 0) {
            shell_printf("  BAR %u: %s 0x%llx, %llu bytes%s%s\n", i, bar->io ? "ports" : "memory",
                         (unsigned long long)bar->base, (unsigned long long)bar->size,
                         bar->wide ? ", 64-bit" : "", bar->prefetchable ? ", prefetchable" : "");
        }
    }
}

static void show_capabilities(const struct pci_function *f)
{
    static const char *const name_table[] = {
        [0x01] = "power management",  [0x04] = "slot",
        [PCI_CAP_MSI] = "MSI",        [0x07] = "PCI-X",
        [0x08] = "HyperTransport",    [PCI_CAP_VENDOR] = "vendor's own",
        [0x0d] = "subsystem id",      [PCI_CAP_EXPRESS] = "PCI Express",
        [PCI_CAP_MSIX] = "MSI-X",     [0x12] = "SATA",
        [0x13] = "advanced features",
    };
    unsigned at = pci_next_capability(f, 0);
    for (unsigned n = 0; at != 0 && n < 48; n++) {
        uint32_t id = pci_read(f, at, 1);
        const char *name = id < NK_ARRAY_COUNT(name_table) ? name_table[id] : NULL;
        shell_printf("  capability 0x%02x at 0x%02x: %s\n", (unsigned)id, at,
                     name != NULL ? name : "unknown");
        at = pci_next_capability(f, at);
    }
}

static void show_function(const struct pci_function *f)
{
    shell_printf("%02x:%02x.%x %04x:%04x revision %u: %s, class %06x\n", f->bus, f->device,
                 f->function, f->vendor_id, f->device_id, f->revision, class_text(f),
                 (unsigned)f->class);
    if (f->subsystem_vendor != 0) {
        shell_printf("  subsystem %04x:%04x\n", f->subsystem_vendor, f->subsystem);
    }
    shell_printf("  driver: %s\n", f->driver != NULL ? f->driver : "none");
    shell_printf("  command %04x, status %04x\n", (unsigned)pci_read(f, PCI_COMMAND, 2),
                 (unsigned)pci_read(f, PCI_STATUS, 2));
    if ((f->header_type & 0x7f) == 1) {
        shell_printf("  buses behind it: %02x to %02x\n",
                     (unsigned)pci_read(f, PCI_SECONDARY_BUS, 1),
                     (unsigned)pci_read(f, PCI_SUBORDINATE_BUS, 1));
    }
    if (f->irq_pin != 0) {
        shell_printf("  INT%c# on line %u\n", 'A' + f->irq_pin - 1, f->irq_line);
    }
    for (unsigned i = 0; i < f->irq_count; i++) {
        shell_printf("  interrupt %u: line %u\n", i, f->irq[i]);
    }
    show_bars(f);
    show_capabilities(f);
}

/* "00:1f.2" */
static const struct pci_function *parse_address(const char *text)
{
    char *end;
    unsigned long bus = strtoul(text, &end, 16);
    unsigned long device = *end == ':' ? strtoul(end + 1, &end, 16) : UINT32_MAX;
    unsigned long function = *end == '.' ? strtoul(end + 1, &end, 16) : UINT32_MAX;
    for (unsigned i = 0; i < pci_count() && *end == '\0'; i++) {
        const struct pci_function *f = pci_get(i);
        if (f->bus == bus && f->device == device && f->function == function) {
            return f;
        }
    }
    return NULL;
}

int cmd_pci(int argc, char **argv)
{
    if (argc > 2) {
        return shell_usage(argv[0]);
    }
    if (argc == 1) {
        list_functions();
        return 0;
    }
    const struct pci_function *f = parse_address(argv[1]);
    if (f == NULL) {
        shell_printf("pci: there is no %s\n", argv[1]);
        return -ENOENT;
    }
    show_function(f);
    return 0;
}

static void list_block_devices(void)
{
    shell_printf("NAME        SECTORS  SIZE       READS     WRITES ERRORS RESETS DRIVER\n");
    const struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        shell_printf("%-6s %12llu %5u %11llu %10llu %6llu %6llu %s%s%s\n", d->name,
                     (unsigned long long)d->sector_count, (unsigned)d->sector_size,
                     (unsigned long long)d->stats.reads, (unsigned long long)d->stats.writes,
                     (unsigned long long)d->stats.errors, (unsigned long long)d->stats.resets,
                     d->driver, d->read_only ? ", read-only" : "", d->gone ? ", gone" : "");
    }
}

static void dump_line(uint64_t offset, const uint8_t *bytes)
{
    char text[DUMP_WIDTH + 1] = {0};
    shell_printf("%08llx ", (unsigned long long)offset);
    for (unsigned i = 0; i < DUMP_WIDTH; i++) {
        shell_printf(" %02x", bytes[i]);
        text[i] = bytes[i] >= ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '.';
    }
    shell_printf("  %s\n", text);
}

static int dump_sector(const char *name, const char *sector_text)
{
    struct nk_block_device *d = nk_block_find(name);
    uint64_t sector;
    if (d == NULL || !shell_number(sector_text, UINT64_MAX, &sector)) {
        shell_printf("block: %s %s\n", d == NULL ? "there is no device" : "not a sector number:",
                     d == NULL ? name : sector_text);
        return d == NULL ? -ENOENT : -EINVAL;
    }
    uint8_t *bytes = malloc(d->sector_size);
    if (bytes == NULL) {
        shell_printf("block: no memory\n");
        return -ENOMEM;
    }
    int err = nk_block_read(d, sector, 1, bytes);
    if (err != 0) {
        shell_printf("block: %s: sector %llu cannot be read: %s\n", name,
                     (unsigned long long)sector, strerror(-err));
    }
    for (unsigned at = 0; err == 0 && at < d->sector_size; at += DUMP_WIDTH) {
        dump_line(at, bytes + at);
    }
    free(bytes);
    return err;
}

int cmd_block(int argc, char **argv)
{
    if (argc == 1) {
        list_block_devices();
        return 0;
    }
    if (argc != 4 || strcmp(argv[1], "read") != 0) {
        return shell_usage(argv[0]);
    }
    return dump_sector(argv[2], argv[3]);
}

int cmd_net(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    shell_printf("NAME   ADDRESS           LINK       SENT   RECEIVED    DROPPED ERRORS RESETS "
                 "DRIVER\n");
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        shell_printf("%-6s %02x:%02x:%02x:%02x:%02x:%02x %-4s %10llu %10llu %10llu %6llu %6llu "
                     "%s%s\n",
                     d->name, d->mac[0], d->mac[1], d->mac[2], d->mac[3], d->mac[4], d->mac[5],
                     nk_net_link_up(d) ? "up" : "down", (unsigned long long)d->stats.sent,
                     (unsigned long long)d->stats.received, (unsigned long long)d->stats.dropped,
                     (unsigned long long)d->stats.errors, (unsigned long long)d->stats.resets,
                     d->driver, d->gone ? ", gone" : "");
    }
    return 0;
}
