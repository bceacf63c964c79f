/* What is particular to the two chipsets that emulators have: where the power management block and
 * the memory-mapped configuration space are, and which lines PCI interrupts take.
 * Spec: Intel 290562 (PIIX4) chapters 4 and 7; Intel 307013 (ICH9) chapter 13; Intel 316966 (Q35).
 */

#include "boot/rom/pci.h"

#include "base/x86.h"
#include "boot/rom/rom.h"

#define ID_440FX    0x12378086u
#define ID_Q35      0x29c08086u
#define ID_PIIX4_PM 0x71138086u

#define PLACE(device, function) ((uint32_t)(device) << 3 | (function))
#define PIIX_ISA                PLACE(1, 0)
#define ICH9_LPC                PLACE(31, 0)

#define PIRQ_A_TO_D 0x60
#define PIRQ_E_TO_H 0x68
#define ELCR        0x4d0

#define PIIX4_PM_BASE   0x40
#define PIIX4_PM_ENABLE 0x80
#define ICH9_PM_BASE    0x40
#define ICH9_PM_CONTROL 0x44
#define ICH9_PM_ENABLE  0x80
#define Q35_PCIEXBAR    0x60 /* 8 bytes; bit 0 enables, bits 2:1 = 0: 256 MiB */
#define PCIEXBAR_AT     UINT64_C(0xb0000000)
#define PCIEXBAR_SIZE   NK_MIB(256)
#define ICH9_RCBA       0xf0 /* bit 0 enables */
#define RCBA_AT         UINT64_C(0xfed1c000)
#define RCBA_SIZE       NK_KIB(16)
#define RCBA_GCS        0x3410
#define GCS_NO_REBOOT   (1u << 5)
#define FUNCTIONS       8

/* ICH9 13.9: the TCO timer runs out twice, then it resets. */
#define TCO_BASE     (CHIPSET_PM_BASE + 0x60)
#define TCO_RELOAD   0x00
#define TCO_STATUS_1 0x04
#define TCO_STATUS_2 0x06
#define TCO_CONTROL  0x08
#define TCO_HALT     (1u << 11)
#define TCO_TIMER    0x12
#define TCO_60_S     100 /* in 0.6 s */

static const uint8_t irq_of_pirq[4] = {10, 10, 11, 11}; /* free on every PC */

static uint32_t id;
static bool has_pm;

static void route(uint32_t place, unsigned offset)
{
    for (unsigned i = 0; i < 4; i++) {
        pci_write(place, offset + i, 1, irq_of_pirq[i]);
    }
}

static void start_440fx(void)
{
    route(PIIX_ISA, PIRQ_A_TO_D);
    for (unsigned function = 1; function < FUNCTIONS; function++) {
        uint32_t place = PIIX_ISA | function;
        if (pci_read(place, 0, 4) == ID_PIIX4_PM) {
            pci_write(place, PIIX4_PM_BASE, 4, CHIPSET_PM_BASE | 1);
            pci_write(place, PIIX4_PM_ENABLE, 1, 1);
            has_pm = true;
        }
    }
}

static void start_q35(void)
{
    route(ICH9_LPC, PIRQ_A_TO_D);
    route(ICH9_LPC, PIRQ_E_TO_H);
    pci_write(ICH9_LPC, ICH9_PM_BASE, 4, CHIPSET_PM_BASE | 1);
    pci_write(ICH9_LPC, ICH9_PM_CONTROL, 1, ICH9_PM_ENABLE);
    pci_write(0, Q35_PCIEXBAR + 4, 4, 0);
    pci_write(0, Q35_PCIEXBAR, 4, (uint32_t)PCIEXBAR_AT | 1);
    memory_reserve(PCIEXBAR_AT, PCIEXBAR_SIZE);
    pci_write(ICH9_LPC, ICH9_RCBA, 4, (uint32_t)RCBA_AT | 1);
    memory_reserve(RCBA_AT, RCBA_SIZE);
    has_pm = true;
}

void chipset_start(void)
{
    id = pci_read(0, 0, 4);
    if (id == ID_440FX) {
        start_440fx();
    } else if (id == ID_Q35) {
        start_q35();
    } else {
        say("chipset %x is unknown: its interrupts and power management stay as they are", id);
        return;
    }
    x86_outb(ELCR + 1, (1 << (10 - 8)) | (1 << (11 - 8))); /* PCI's lines are level-triggered */
}

bool chipset_has_pm(void)
{
    return has_pm;
}

uint16_t chipset_watch(void)
{
    volatile uint32_t *gcs = (volatile uint32_t *)(RCBA_AT + RCBA_GCS);
    if (id != ID_Q35) {
        return 0;
    }
    *gcs &= ~GCS_NO_REBOOT;
    if (*gcs & GCS_NO_REBOOT) { /* strapped so on this board */
        return 0;
    }
    x86_outw(TCO_BASE + TCO_CONTROL, TCO_HALT);
    x86_outw(TCO_BASE + TCO_STATUS_1, UINT16_MAX); /* writing ones clears */
    x86_outw(TCO_BASE + TCO_STATUS_2, UINT16_MAX);
    x86_outw(TCO_BASE + TCO_TIMER, TCO_60_S);
    x86_outw(TCO_BASE + TCO_CONTROL, 0);
    x86_outw(TCO_BASE + TCO_RELOAD, 1);
    return TCO_BASE;
}

unsigned chipset_irq(unsigned device, unsigned pin)
{
    if (id == ID_440FX) {
        return irq_of_pirq[(device + pin - 1) % 4];
    }
    if (id != ID_Q35) {
        return 0xff;
    }
    /* ICH9: devices below 25 rotate over PIRQ E to H, the others' pins go straight to A to D. */
    return irq_of_pirq[device < 25 ? (device + pin) % 4 : pin];
}
