/* The port by which test kernels report: what is written to it is the VM's exit code, and its end.
 * The same port, and the same meaning, as QEMU's isa-debug-exit device at iobase=0xf4,iosize=4. */
#include <vmm/vdev.h>
#include "core/bus.h"

#define PORT  0xf4
#define PORTS 4

static void vexit_access(struct vdev *dev, struct vdev_access *a)
{
    if (a->write) {
        vmm_request_exit(dev->vm, (uint32_t)a->value);
    } else {
        a->value = 0;
    }
}

static void vexit_reset(struct vdev *dev)
{
    (void)dev;
}

static int vexit_create(struct vdev *dev)
{
    return vdev_claim(dev, VDEV_PIO, PORT, PORTS, vexit_access);
}

/* It has no state: the end that it asks for is the VM's. */
static int vexit_transfer(struct vdev *dev, struct vdev_stream *s)
{
    (void)dev;
    (void)s;
    return 0;
}

const struct vdev_class vexit_class = {
    .name = "vexit",
    .version = 1,
    .create = vexit_create,
    .reset = vexit_reset,
    .save = vexit_transfer,
    .load = vexit_transfer,
};
