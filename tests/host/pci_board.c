#include "pci_board.h"

static int board_create(struct vdev *dev)
{
    struct pci_board *b = vdev_state(dev);

    b->pci.dev = dev;
    b->pci.vendor = 0x1234;
    b->pci.device = 0x11e8;
    b->pci.class = 0x00ff0000;
    b->pci.msix_vectors = BOARD_MSIX;
    b->pci.msi_vectors = BOARD_MSI;
    return vpci_add(&b->pci);
}

static void board_destroy(struct vdev *dev)
{
    vpci_remove(&((struct pci_board *)vdev_state(dev))->pci);
}

static void board_reset(struct vdev *dev)
{
    (void)dev;
}

static int board_transfer(struct vdev *dev, struct vdev_stream *s)
{
    (void)dev;
    (void)s;
    return 0;
}

const struct vdev_class pci_board_class = {
    .name = "board",
    .state_size = sizeof(struct pci_board),
    .version = 1,
    .create = board_create,
    .reset = board_reset,
    .destroy = board_destroy,
    .save = board_transfer,
    .load = board_transfer,
};

struct vpci_function *pci_board_add(struct fixture *f)
{
    struct vdev *dev;

    f->vm->state = VM_CREATED;
    assert_int_equal(vmm_vm_add_device(f->vm, &pci_board_class, &dev), 0);
    f->vm->state = VM_RUNNING;
    return &((struct pci_board *)vdev_state(dev))->pci;
}
