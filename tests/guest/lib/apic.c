/* LAPIC, IOAPIC and the PIC pair. */
#include "tests/guest/lib/guest.h"

#define MSR_APIC_BASE    0x1b
#define APIC_BASE_X2APIC (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
#define MSR_X2APIC       0x800 /* + register / 16 */
#define SPURIOUS_VECTOR  0xff

#define COM1_IER 0x3f9
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc
#define IER_THR  2
#define MCR_OUT2 8 /* connects the UART to its line */

#define PIC1 0x20
#define PIC2 0xa0

static bool x2apic;

uint32_t guest_lapic_read(unsigned reg)
{
    if (x2apic) {
        return (uint32_t)x86_rdmsr(MSR_X2APIC + reg / 16);
    }
    return *(volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + reg);
}

void guest_lapic_write(unsigned reg, uint32_t value)
{
    if (x2apic) {
        x86_wrmsr(MSR_X2APIC + reg / 16, value);
    } else {
        *(volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + reg) = value;
    }
}

void guest_lapic_init(void)
{
    x86_wrmsr(MSR_APIC_BASE, x86_rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
    guest_lapic_write(LAPIC_SPURIOUS, LAPIC_ENABLED | SPURIOUS_VECTOR);
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
    guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT);
}

bool guest_x2apic_available(void)
{
    return (x86_cpuid(1, 0).ecx & (1u << 21)) != 0;
}

void guest_x2apic_enable(void)
{
    x86_wrmsr(MSR_APIC_BASE, x86_rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    x2apic = true;
}

bool guest_x2apic_enabled(void)
{
    return (x86_rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0;
}

void guest_eoi(void)
{
    guest_lapic_write(LAPIC_EOI, 0);
}

void guest_ipi(uint32_t destination, uint32_t command)
{
    if (x2apic) {
        x86_wrmsr(MSR_X2APIC_ICR, (uint64_t)destination << 32 | command);
    } else {
        guest_lapic_write(LAPIC_ICR_HIGH, destination << 24);
        guest_lapic_write(LAPIC_ICR_LOW, command);
    }
}

static volatile uint32_t *ioapic_register(unsigned offset)
{
    return (volatile uint32_t *)(uint64_t)(GUEST_IOAPIC_BASE + offset);
}

uint32_t guest_ioapic_read(unsigned reg)
{
    *ioapic_register(0) = reg;
    return *ioapic_register(0x10);
}

void guest_ioapic_write(unsigned reg, uint32_t value)
{
    *ioapic_register(0) = reg;
    *ioapic_register(0x10) = value;
}

void guest_ioapic_route(unsigned pin, uint8_t vector, uint32_t flags)
{
    /* A masked entry cannot deliver while its halves disagree. */
    guest_ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
    guest_ioapic_write(0x11 + 2 * pin, guest_lapic_read(LAPIC_ID) & (x2apic ? ~0u : 0xff000000u));
    guest_ioapic_write(0x10 + 2 * pin, vector | flags);
}

void guest_ioapic_eoi(uint8_t vector)
{
    *ioapic_register(0x40) = vector;
}

void guest_com1_raise(void)
{
    x86_outb(COM1_MCR, x86_inb(COM1_MCR) | MCR_OUT2);
    x86_outb(COM1_IER, 0);
    x86_outb(COM1_IER, IER_THR);
}

void guest_com1_lower(void)
{
    x86_outb(COM1_IER, 0);
    x86_inb(COM1_IIR);
}

void guest_pic_init(void)
{
    x86_outb(PIC1, 0x11); /* ICW1: edge, cascade, ICW4 follows */
    x86_outb(PIC2, 0x11);
    x86_outb(PIC1 + 1, GUEST_PIC_VECTOR);
    x86_outb(PIC2 + 1, GUEST_PIC_VECTOR + 8);
    x86_outb(PIC1 + 1, 4); /* ICW3: the second one on line 2 */
    x86_outb(PIC2 + 1, 2);
    x86_outb(PIC1 + 1, 1); /* ICW4: 8086 mode */
    x86_outb(PIC2 + 1, 1);
    guest_pic_mask_all();
}

void guest_pic_mask_all(void)
{
    x86_outb(PIC1 + 1, 0xff);
    x86_outb(PIC2 + 1, 0xff);
}

void guest_pic_unmask(unsigned irq)
{
    if (irq >= 8) {
        x86_outb(PIC2 + 1, x86_inb(PIC2 + 1) & (uint8_t) ~(1u << (irq - 8)));
        irq = 2;
    }
    x86_outb(PIC1 + 1, x86_inb(PIC1 + 1) & (uint8_t) ~(1u << irq));
}

void guest_pic_eoi(unsigned irq)
{
    if (irq >= 8) {
        x86_outb(PIC2, 0x20);
    }
    x86_outb(PIC1, 0x20);
}
