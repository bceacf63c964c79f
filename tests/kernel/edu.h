/* QEMU's "edu" device: raises and drops its interrupt on request. */
#pragma once

#include "drivers/pci/pci.h"

#define EDU_ID        0x000 /* reads 0x010000ed */
#define EDU_INVERT    0x004 /* reads as the inverse of what was written */
#define EDU_IRQ       0x024 /* bits raised and not acknowledged */
#define EDU_IRQ_RAISE 0x060
#define EDU_IRQ_ACK   0x064

struct edu {
    struct pci_function *f;
    volatile uint8_t *registers;
    volatile unsigned count, cpu;
    bool acknowledges, claims; /* what the handler does */
};

bool edu_open(struct edu *e); /* false: the machine has none */
uint32_t edu_read(const struct edu *e, unsigned reg);
void edu_write(const struct edu *e, unsigned reg, uint32_t value);
bool edu_interrupt(void *arg); /* an nk_irq_handler; arg: struct edu */

/* True when the count reached `count` within some seconds. */
bool edu_comes(const struct edu *e, unsigned count);
