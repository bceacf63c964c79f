/* Called by drivers/devices.c for a function of their kind: 0, or an error and nothing is left. */
#pragma once

#include "drivers/pci/pci.h"

int virtio_blk_probe(struct pci_function *f) NK_MUST_CHECK;
int virtio_net_probe(struct pci_function *f) NK_MUST_CHECK;
int virtio_console_probe(struct pci_function *f) NK_MUST_CHECK;
