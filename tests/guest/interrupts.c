/* From a line to a handler: PIC pair, IOAPIC, LAPIC, x2APIC. The interrupting device is COM1: with
 * its transmit interrupt enabled it raises line 4 at once, as often as one likes. */
#include "tests/guest/lib/guest.h"

#define COM1_IER    0x3f9
#define COM1_IIR    0x3fa
#define COM1_MCR    0x3fc
#define COM1_IRQ    4
#define IER_THR     2
#define MCR_OUT2    8
#define VECTOR      0x61 /* of IOAPIC pins */
#define VECTOR_LOW  0x71
#define VECTOR_HIGH 0x81

static volatile uint32_t interrupts;
static volatile uint8_t order[4];
static volatile uint32_t in_service, requested;
static void (*eoi)(void);

static void pic_eoi_com1(void)
{
    guest_pic_eoi(COM1_IRQ);
}

static void on_com1(struct guest_frame *frame)
{
    (void)frame;
    interrupts++;
    x86_inb(COM1_IIR); /* withdraws the transmit interrupt */
    eoi();
}

static void on_ipi(struct guest_frame *frame)
{
    unsigned word = (unsigned)frame->vector / 32 * 0x10;
    if (interrupts < 4) {
        order[interrupts] = (uint8_t)frame->vector;
    }
    interrupts++;
    in_service = guest_lapic_read(LAPIC_ISR + word);
    requested = guest_lapic_read(LAPIC_IRR + word);
    guest_eoi();
}

/* One rising edge of COM1's line; does an interrupt come? */
static bool raise_com1(void)
{
    interrupts = 0;
    x86_outb(COM1_IER, 0);
    x86_outb(COM1_IER, IER_THR);
    guest_wait(&interrupts, 20000);
    x86_outb(COM1_IER, 0);
    return interrupts != 0;
}

static void check_pic(void)
{
    guest_set_handler(GUEST_PIC_VECTOR + COM1_IRQ, on_com1);
    eoi = pic_eoi_com1;
    guest_check(!raise_com1(), "pic: masked");
    /* The request was remembered; without a line it is withdrawn. */
    guest_pic_unmask(COM1_IRQ);
    guest_check(raise_com1(), "pic: delivered");
    guest_check(raise_com1(), "pic: again after its EOI");

    x86_outb(COM1_IER, IER_THR);
    x86_outb(0x20, 0x0a); /* OCW3: read IRR */
    guest_check_equal(x86_inb(0x20) & 1u << COM1_IRQ, 1u << COM1_IRQ, "pic: request in IRR");
    x86_outb(COM1_IER, 0);
    x86_inb(COM1_IIR);

    if (guest_in_vm()) { /* QEMU's emulator takes a vector of -1 here */
        guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT | LAPIC_MASKED);
        guest_check(!raise_com1(), "pic: LINT0 masked");
        guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT);
    }
    guest_pic_mask_all();
}

static void check_ioapic(void)
{
    guest_set_handler(VECTOR, on_com1);
    eoi = guest_eoi;
    guest_ioapic_route(COM1_IRQ, VECTOR, IOAPIC_MASKED);
    guest_check(!raise_com1(), "ioapic: masked");
    guest_ioapic_route(COM1_IRQ, VECTOR, 0);
    guest_check(raise_com1(), "ioapic: edge delivered");
    guest_check(raise_com1(), "ioapic: again after its EOI");
    guest_ioapic_route(COM1_IRQ, VECTOR, IOAPIC_LEVEL);
    guest_check(raise_com1(), "ioapic: level delivered");
    guest_check(raise_com1(), "ioapic: level again after its EOI");
    guest_check_equal(guest_ioapic_read(0x10 + 2 * COM1_IRQ) & 1u << 14, 0,
                      "ioapic: remote IRR cleared by the EOI");
    guest_ioapic_route(COM1_IRQ, VECTOR, IOAPIC_MASKED);

    /* The PIT's line 0 is on pin 2 (MADT source override). */
    guest_set_handler(VECTOR, on_ipi);
    guest_ioapic_route(2, VECTOR, 0);
    interrupts = 0;
    guest_pit_periodic(GUEST_PIT_HZ / 100);
    guest_check(guest_wait(&interrupts, 1000000), "ioapic: PIT on pin 2");
    guest_ioapic_route(2, VECTOR, IOAPIC_MASKED);
    volatile uint32_t never = 0;
    guest_wait(&never, 1000); /* takes the one that may be pending */
    /* A tick that came before the mask is in the LAPIC: let it out here. */
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static void send_self(uint8_t vector)
{
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | vector);
}

static void check_lapic(const char *delivered, const char *priority)
{
    guest_set_handler(VECTOR_LOW, on_ipi);
    guest_set_handler(VECTOR_HIGH, on_ipi);
    interrupts = 0;
    send_self(VECTOR_LOW);
    uint32_t pending = guest_lapic_read(LAPIC_IRR + VECTOR_LOW / 32 * 0x10);
    guest_check_equal(interrupts, 0, "lapic: held back while interrupts are off");
    guest_check((pending & 1u << VECTOR_LOW % 32) != 0, "lapic: pending in IRR");
    guest_check(guest_wait(&interrupts, 1000000), delivered);
    guest_check((in_service & 1u << VECTOR_LOW % 32) != 0, "lapic: in service in its handler");
    guest_check((requested & 1u << VECTOR_LOW % 32) == 0, "lapic: no longer requested there");

    interrupts = 0;
    send_self(VECTOR_LOW);
    send_self(VECTOR_HIGH);
    send_self(VECTOR_HIGH);
    guest_wait(&interrupts, 1000000);
    __asm__ volatile("sti; nop; nop; nop; cli");
    guest_check_equal(interrupts, 2, "lapic: a vector is pending once");
    guest_check(order[0] == VECTOR_HIGH && order[1] == VECTOR_LOW, priority);
}

/* No other IRET is between them that could end the blocking of the first. */
static void check_two_nmis(void)
{
    interrupts = 0;
    for (unsigned i = 0; i < 2; i++) {
        guest_lapic_write(LAPIC_ICR_HIGH, guest_lapic_read(LAPIC_ID));
        guest_lapic_write(LAPIC_ICR_LOW, 0x4400);
        for (unsigned n = 0; n < 1000 && interrupts <= i; n++) {
            guest_delay_us(100);
        }
    }
    guest_check_equal(interrupts, 2, "nmi: to itself, twice");
}

static void check_nmi(void)
{
    guest_set_handler(2, on_ipi);
    guest_ioapic_route(COM1_IRQ, 0, 4u << 8); /* delivery mode NMI */
    interrupts = 0;
    x86_outb(COM1_IER, IER_THR);
    for (unsigned i = 0; i < 1000 && !interrupts; i++) {
        guest_delay_us(100);
    }
    guest_check_equal(interrupts, 1, "nmi: by the IOAPIC, interrupts off");
    x86_outb(COM1_IER, 0);
    x86_inb(COM1_IIR);
    guest_ioapic_route(COM1_IRQ, VECTOR, IOAPIC_MASKED);
    check_two_nmis();
}

static void check_x2apic(void)
{
    uint64_t value;
    if (!guest_x2apic_available()) {
        guest_skip("x2apic", "not offered");
        return;
    }
    uint32_t id = guest_lapic_read(LAPIC_ID) >> 24;
    if (guest_in_vm()) {
        guest_check_equal(guest_rdmsr(0x802, &value), GUEST_GP, "x2apic: registers need the mode");
    }
    guest_x2apic_enable();
    guest_check_equal(guest_lapic_read(LAPIC_ID), id, "x2apic: id");
    check_lapic("x2apic: self-IPI", "x2apic: priority");

    interrupts = 0;
    x86_wrmsr(0x83f, VECTOR_LOW); /* SELF IPI */
    guest_check(guest_wait(&interrupts, 1000000), "x2apic: SELF IPI register");
    interrupts = 0;
    x86_wrmsr(0x830, (uint64_t)id << 32 | VECTOR_HIGH); /* ICR in one write */
    guest_check(guest_wait(&interrupts, 1000000), "x2apic: ICR with a destination");
    if (guest_in_vm()) {
        guest_check_equal(guest_wrmsr(0x802, 1), GUEST_GP, "x2apic: id is read-only");
        guest_check_equal(guest_wrmsr(0x80b, 1), GUEST_GP, "x2apic: EOI takes 0 only");
        guest_check_equal(guest_rdmsr(0x80e, &value), GUEST_GP, "x2apic: no register there");
    }
    guest_set_handler(VECTOR, on_com1);
    eoi = guest_eoi;
    guest_ioapic_route(COM1_IRQ, VECTOR, 0);
    guest_ioapic_write(0x11 + 2 * COM1_IRQ, id << 24);
    guest_check(raise_com1(), "x2apic: IOAPIC delivers");
}

void guest_main(void)
{
    x86_outb(COM1_MCR, x86_inb(COM1_MCR) | MCR_OUT2); /* connects the UART to its line */
    x86_inb(COM1_IIR);
    check_pic();
    check_ioapic();
    check_lapic("lapic: self-IPI", "lapic: higher vector first");
    check_nmi();
    check_x2apic();
    guest_check_summary();
}
