/* Inside boot/rom: PCI's configuration space, and the chipset behind it. A place is bus << 8 |
 * device << 3 | function. */
#pragma once

#include "base/types.h"

uint32_t pci_read(uint32_t place, unsigned offset, unsigned bytes);
void pci_write(uint32_t place, unsigned offset, unsigned bytes, uint32_t value);

/* Number the buses, place the BARs, open the bridges, route the interrupts. */
void pci_start(void);

/* ---- chipset.c */

#define CHIPSET_PM_BASE 0x600 /* ports of the power management block; 0 if it is unknown */

void chipset_start(void);
bool chipset_has_pm(void);

/* Start a timer that resets the machine unless the kernel stops it: by bit 11 of the 16-bit
 * register 8 ports above the returned one. 0: this chipset has none that works. */
uint16_t chipset_watch(void);

/* The ISA line that INTA (0) to INTD (3) of a device on bus 0 is wired to; 0xff: unknown. */
unsigned chipset_irq(unsigned device, unsigned pin);
