/* PCI functions of devices under test, and how they go away. */
#pragma once

#include "drivers/pci/pci.h"

/* The function that this driver has, with this first interrupt line if one is named; NULL: none. */
#define ANY_LINE UINT32_MAX
struct pci_function *function_of(const char *driver, unsigned irq);

/* Out of the machine, without a word to the driver: its slot loses power, if the machine can do
 * that; else it answers no accesses any more and makes none. */
void make_vanish(struct pci_function *f);
