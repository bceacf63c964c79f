/* Port 0x92, system control port A: fast reset and the A20 gate, which nothing here closes.
 * Spec: Intel 82371AB (PIIX4) data sheet, "Port 92 register". The reset control register, port
 * 0xcf9, lies among the PCI configuration ports: vpci.c. */
#include <vmm/vdev.h>
#include "core/bus.h"

#define PORT      0x92
#define BIT_RESET 0x01
#define BIT_A20   0x02

struct vreset {
    uint8_t value;
};

static void vreset_access(struct vdev *dev, struct vdev_access *a)
{
    struct vreset *r = vdev_state(dev);

    if (!a->write) {
        a->value = r->value;
        return;
    }
    if ((a->value & ~r->value & BIT_RESET) != 0) {
        vmm_request_reset(vdev_vm(dev));
    }
    r->value = a->value & (BIT_RESET | BIT_A20);
}

static void vreset_reset(struct vdev *dev)
{
    struct vreset *r = vdev_state(dev);

    r->value = BIT_A20;
}

static int vreset_create(struct vdev *dev)
{
    return vdev_claim_bytes(dev, PORT, 1, vreset_access);
}

static int vreset_transfer(struct vdev *dev, struct vdev_stream *s)
{
    return s->transfer(s, vdev_state(dev), sizeof(struct vreset));
}

const struct vdev_class vreset_class = {
    .name = "vreset",
    .state_size = sizeof(struct vreset),
    .version = 1,
    .create = vreset_create,
    .reset = vreset_reset,
    .save = vreset_transfer,
    .load = vreset_transfer,
};
