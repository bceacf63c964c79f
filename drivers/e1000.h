#pragma once

#include "drivers/pci/pci.h"

/* Called by drivers/devices.c: 0, or an error and nothing is left. */
int e1000_probe(struct pci_function *f) NK_MUST_CHECK;
