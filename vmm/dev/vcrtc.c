/* The index and data ports of a VGA's CRT controller. There is no display: old systems that keep
 * the cursor's place in it find it there again, and do not hang on a port that answers all ones.
 * Spec: IBM VGA technical reference, CRT controller registers. */
#include <vmm/vdev.h>
#include "core/bus.h"

#define PORT      0x3d4
#define REGISTERS 0x19

struct vcrtc {
    uint8_t index;
    uint8_t value[REGISTERS];
};

static void vcrtc_access(struct vdev *dev, struct vdev_access *a)
{
    struct vcrtc *c = vdev_state(dev);
    uint8_t nothing = 0xff;
    uint8_t *data = c->index < REGISTERS ? &c->value[c->index] : &nothing;
    uint8_t *port = a->offset == 0 ? &c->index : data;

    if (a->write) {
        *port = (uint8_t)a->value;
    } else {
        a->value = *port;
    }
}

static void vcrtc_reset(struct vdev *dev)
{
    struct vcrtc *c = vdev_state(dev);

    *c = (struct vcrtc){0};
}

static int vcrtc_create(struct vdev *dev)
{
    return vdev_claim_bytes(dev, PORT, 2, vcrtc_access);
}

static int vcrtc_transfer(struct vdev *dev, struct vdev_stream *s)
{
    return s->transfer(s, vdev_state(dev), sizeof(struct vcrtc));
}

const struct vdev_class vcrtc_class = {
    .name = "vcrtc",
    .state_size = sizeof(struct vcrtc),
    .version = 1,
    .create = vcrtc_create,
    .reset = vcrtc_reset,
    .save = vcrtc_transfer,
    .load = vcrtc_transfer,
};
