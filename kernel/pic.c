/* The two 8259s: masked for good when there is an IOAPIC, else the machine's interrupt controller.
 * Spec: Intel 8259A data sheet. */

#include "base/x86.h"
#include "kernel/irq_impl.h"

#define PIC1_COMMAND 0x20
#define PIC1_DATA    0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA    0xa1
#define ELCR         0x4d0 /* and the next: a bit for each level line; PIIX data sheet */

#define ICW1_INIT_ICW4  0x11
#define ICW3_CASCADE    0x04 /* the second 8259 sits on line 2 of the first */
#define ICW3_SLAVE_ID   0x02
#define ICW4_8086       0x01
#define OCW2_EOI        0x20
#define OCW3_READ_ISR   0x0b
#define CASCADE_LINE    2
#define LINES_PER_CHIP  8
#define SPURIOUS_ON_PIC 7 /* the line an 8259 reports when the request went away */

static uint16_t mask = 0xffff & ~(1u << CASCADE_LINE);

static void write_mask(void)
{
    x86_outb(PIC1_DATA, (uint8_t)mask);
    x86_outb(PIC2_DATA, (uint8_t)(mask >> LINES_PER_CHIP));
}

/* Moved away from the exceptions' vectors even when masked: a spurious one may still come. */
void pic_init(void)
{
    x86_outb(PIC1_COMMAND, ICW1_INIT_ICW4);
    x86_outb(PIC2_COMMAND, ICW1_INIT_ICW4);
    x86_outb(PIC1_DATA, NK_VECTOR_8259);
    x86_outb(PIC2_DATA, NK_VECTOR_8259 + LINES_PER_CHIP);
    x86_outb(PIC1_DATA, ICW3_CASCADE);
    x86_outb(PIC2_DATA, ICW3_SLAVE_ID);
    x86_outb(PIC1_DATA, ICW4_8086);
    x86_outb(PIC2_DATA, ICW4_8086);
    write_mask();
}

static void pic_update(const struct irq_line *line)
{
    uint16_t bit = (uint16_t)(1u << line->gsi);
    mask = line->masked || line->vector == 0 ? mask | bit : mask & (uint16_t)~bit;
    write_mask();
}

bool pic_is_level(unsigned irq)
{
    return (x86_inb((uint16_t)(ELCR + irq / LINES_PER_CHIP)) >> irq % LINES_PER_CHIP & 1) != 0;
}

bool pic_acknowledge(unsigned irq)
{
    bool second = irq >= LINES_PER_CHIP;
    uint16_t command = second ? PIC2_COMMAND : PIC1_COMMAND;
    bool real = true;
    if (irq % LINES_PER_CHIP == SPURIOUS_ON_PIC) {
        x86_outb(command, OCW3_READ_ISR);
        real = (x86_inb(command) & 1u << SPURIOUS_ON_PIC) != 0;
    }
    if (real) {
        x86_outb(command, OCW2_EOI);
    }
    if (second) {
        x86_outb(PIC1_COMMAND, OCW2_EOI); /* the cascade was in service either way */
    }
    return real;
}

static bool pic_reaches(unsigned cpu)
{
    return cpu == 0;
}

const struct irq_chip pic_chip = {"8259", pic_update, pic_reaches};
