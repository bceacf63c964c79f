/* PCI: what is there, and the three kinds of interrupts. */
#include "base/errno.h"
#include "base/percpu.h"
#include "kernel/irq.h"
#include "kernel/time.h"
#include "tests/kernel/edu.h"
#include "tests/kernel/ktest.h"

#define VENDOR_INTEL 0x8086
#define VENDOR_QEMU  0x1234
#define DEVICE_EDU   0x11e8
#define HOST_440FX   0x1237
#define HOST_Q35     0x29c0
#define CLASS_BRIDGE 0x060400

static struct pci_function *find(uint16_t vendor, uint16_t device)
{
    for (unsigned i = 0; i < pci_count(); i++) {
        struct pci_function *f = pci_get(i);
        if (f->vendor_id == vendor && f->device_id == device) {
            return f;
        }
    }
    return NULL;
}

bool edu_open(struct edu *e)
{
    *e = (struct edu){.f = find(VENDOR_QEMU, DEVICE_EDU), .acknowledges = true, .claims = true};
    if (e->f == NULL) {
        return false;
    }
    pci_enable(e->f, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    e->registers = pci_map_bar(e->f, 0);
    return e->registers != NULL;
}

uint32_t edu_read(const struct edu *e, unsigned reg)
{
    return *(volatile uint32_t *)(e->registers + reg);
}

void edu_write(const struct edu *e, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(e->registers + reg) = value;
}

bool edu_interrupt(void *arg)
{
    struct edu *e = arg;
    uint32_t raised = edu_read(e, EDU_IRQ);
    e->cpu = this_cpu->id;
    e->count++;
    if (e->acknowledges) {
        edu_write(e, EDU_IRQ_ACK, raised);
    }
    return e->claims && raised != 0;
}

bool edu_comes(const struct edu *e, unsigned count)
{
    for (unsigned ms = 0; ms < 5000 && e->count < count; ms++) {
        nk_udelay(1000);
    }
    return e->count >= count;
}

KTEST(pci_functions)
{
    ASSERT(pci_count() > 1);
    const struct pci_function *host = pci_get(0);
    EXPECT_EQ(host->vendor_id, VENDOR_INTEL);
    EXPECT(host->device_id == HOST_440FX || host->device_id == HOST_Q35);
    EXPECT_EQ(host->device_id == HOST_Q35, pci_has_ecam());
    EXPECT_EQ(host->class >> 8, 0x0600);
    EXPECT_STREQ(pci_class_name(host->class), "host bridge");
    EXPECT(pci_class_name(0xff0000) == NULL);
    EXPECT(pci_get(pci_count()) == NULL);
    for (unsigned i = 0; i < pci_count(); i++) {
        const struct pci_function *f = pci_get(i);
        EXPECT_EQ(pci_read(f, PCI_VENDOR, 4), f->vendor_id | (uint32_t)f->device_id << 16);
        EXPECT_EQ(pci_read(f, PCI_VENDOR + 1, 1), f->vendor_id >> 8);
        for (unsigned j = 0; j < i; j++) {
            const struct pci_function *g = pci_get(j);
            EXPECT(f->bus != g->bus || f->device != g->device || f->function != g->function);
        }
    }
    struct pci_function nobody = {.bus = 0, .device = 31, .function = 7};
    EXPECT_EQ(pci_read(&nobody, PCI_VENDOR, 2), 0xffff);
    pci_write(&nobody, PCI_COMMAND, 2, 7); /* goes nowhere */
}

KTEST(pci_bars)
{
    struct edu e;
    KTEST_SKIP_UNLESS(edu_open(&e), "needs -device edu");
    EXPECT_EQ(e.f->bar[0].size, NK_MIB(1));
    EXPECT(!e.f->bar[0].io);
    EXPECT_EQ(e.f->bar[0].base % NK_MIB(1), 0);
    for (unsigned i = 1; i < PCI_BARS; i++) {
        EXPECT_EQ(e.f->bar[i].size, 0);
        EXPECT(pci_map_bar(e.f, i) == NULL);
    }
    EXPECT_EQ(edu_read(&e, EDU_ID), 0x010000ed);
    edu_write(&e, EDU_INVERT, 0x12345678);
    EXPECT_EQ(edu_read(&e, EDU_INVERT), (uint32_t)~0x12345678);

    pci_disable(e.f, PCI_COMMAND_MEMORY); /* as if it had gone */
    EXPECT_NE(edu_read(&e, EDU_ID), 0x010000ed);
    pci_enable(e.f, PCI_COMMAND_MEMORY);
    EXPECT_EQ(edu_read(&e, EDU_ID), 0x010000ed);
}

KTEST(pci_bridge)
{
    const struct pci_function *bridge = NULL;
    unsigned behind = 0;
    for (unsigned i = 0; i < pci_count(); i++) {
        const struct pci_function *f = pci_get(i);
        bridge = f->class == CLASS_BRIDGE ? f : bridge;
        behind += bridge != NULL && f->bus == pci_read(bridge, PCI_SECONDARY_BUS, 1);
    }
    KTEST_SKIP_UNLESS(bridge != NULL, "needs a bridge");
    EXPECT_GE(behind, 1);
    EXPECT(bridge->express == 0 || pci_has_ecam());
}

static void check_deliveries(struct edu *e)
{
    unsigned irq = e->f->irq[0];
    ASSERT_EQ(nk_irq_attach(irq, "edu", edu_interrupt, e), 0);
    for (unsigned i = 1; i <= 5; i++) {
        edu_write(e, EDU_IRQ_RAISE, 1u << i);
        ASSERT(edu_comes(e, i));
        EXPECT_EQ(edu_read(e, EDU_IRQ), 0);
    }
    struct nk_irq_info info;
    ASSERT(nk_irq_get_info(irq, &info));
    EXPECT_GE(info.count, 5);
    EXPECT_EQ(info.message, e->f->irq_kind != PCI_IRQ_INTX);
    EXPECT_GT(info.worst_ticks, 0);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        ASSERT_EQ(nk_irq_set_affinity(irq, cpu), 0);
        edu_write(e, EDU_IRQ_RAISE, 1);
        ASSERT(edu_comes(e, 6 + cpu));
        EXPECT_EQ(e->cpu, cpu);
    }
    EXPECT_EQ(nk_irq_set_affinity(irq, 0), 0);
    nk_irq_detach(irq, edu_interrupt, e);
    pci_irq_close(e->f);
    edu_write(e, EDU_IRQ_RAISE, 1);
    nk_udelay(10000);
    EXPECT_EQ(e->count, 5 + nk_cpu_count);
    edu_write(e, EDU_IRQ_ACK, 1);
}

KTEST(pci_intx)
{
    struct edu e;
    KTEST_SKIP_UNLESS(edu_open(&e), "needs -device edu");
    ASSERT_EQ(pci_irq_open(e.f, 1, PCI_IRQ_INTX), 0);
    EXPECT_EQ(e.f->irq_kind, PCI_IRQ_INTX);
    EXPECT_EQ(pci_irq_open(e.f, 1, PCI_IRQ_ANY), -EBUSY);
    check_deliveries(&e);
    EXPECT_EQ(pci_irq_open(e.f, 1, PCI_IRQ_MSIX), -ENOTSUP); /* edu has none */
}

KTEST(pci_msi)
{
    struct edu e;
    KTEST_SKIP_UNLESS(edu_open(&e), "needs -device edu");
    for (unsigned round = 0; round < 3; round++) {
        e.count = 0;
        ASSERT_EQ(pci_irq_open(e.f, 4, PCI_IRQ_ANY), 0);
        EXPECT_EQ(e.f->irq_kind, PCI_IRQ_MSI);
        EXPECT_EQ(e.f->irq_count, 1);
        EXPECT_GE(e.f->irq[0], NK_IRQ_MESSAGE_FIRST);
        check_deliveries(&e);
    }
}

KTEST(pci_msix)
{
    struct pci_function *f = NULL;
    for (unsigned i = 0; i < pci_count(); i++) {
        if (pci_get(i)->msix != 0 && pci_get(i)->irq_kind == PCI_IRQ_NONE) {
            f = pci_get(i);
        }
    }
    KTEST_SKIP_UNLESS(f != NULL, "needs an idle device with MSI-X");
    ASSERT_EQ(pci_irq_open(f, 2, PCI_IRQ_ANY), 0);
    EXPECT_EQ(f->irq_kind, PCI_IRQ_MSIX);
    EXPECT_GE(f->irq_count, 1);
    EXPECT_EQ(f->msix_table[3] & 1, 1); /* masked until somebody attaches */
    struct edu nobody = {.f = f};
    ASSERT_EQ(nk_irq_attach(f->irq[0], "nobody", edu_interrupt, &nobody), 0);
    struct nk_irq_info info;
    ASSERT(nk_irq_get_info(f->irq[0], &info));
    EXPECT_EQ(f->msix_table[0], 0xfee00000 | nk_cpu_table[0].apic_id << 12);
    EXPECT_EQ(f->msix_table[2], info.vector);
    EXPECT_EQ(f->msix_table[3] & 1, 0);
    nk_irq_mask(f->irq[0]);
    EXPECT_EQ(f->msix_table[3] & 1, 1);
    nk_irq_unmask(f->irq[0]);
    EXPECT_EQ(f->msix_table[3] & 1, 0);
    nk_irq_detach(f->irq[0], edu_interrupt, &nobody);
    EXPECT_EQ(f->msix_table[3] & 1, 1);
    pci_irq_close(f);
}
