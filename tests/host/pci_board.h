/* A PCI function of the host's own with MSI and MSI-X, made from the library's public headers. It
 * does nothing; the tests raise its vectors. */
#pragma once

#include <vmm/vpci.h>
#include "fixture.h"

#define BOARD_MSIX 5 /* vectors */
#define BOARD_MSI  8

struct pci_board {
    struct vpci_function pci;
};

extern const struct vdev_class pci_board_class;

struct vpci_function *pci_board_add(struct fixture *f);
