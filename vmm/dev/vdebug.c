/* Ports for those who write kernels and firmware: text to ports 0xe9 and 0x402 becomes lines of the
 * host's log, port 0x80 keeps the last POST code, 0xed is the other port for short delays. */
#include <vmm/vdev.h>
#include "core/bus.h"
#include "core/vm.h"

#define PORT_TEXT  0xe9
#define PORT_TEXT2 0x402
#define PORT_POST  0x80
#define PORT_DELAY 0xed
#define PRESENT    0xe9 /* what a text port reads as, for those who look whether it is there */
#define LINE_MAX   120

struct vdebug {
    char line[LINE_MAX + 1];
    uint8_t length;
    uint8_t post, delay;
};

static void flush(struct vdev *dev)
{
    struct vdebug *d = vdev_state(dev);

    d->line[d->length] = '\0';
    if (d->length != 0) {
        vmm_vm_log(dev->vm, VMM_LOG_INFO, "%s", d->line);
    }
    d->length = 0;
    __builtin_memset(d->line, 0, sizeof(d->line)); /* it is saved as a whole */
}

static bool printable(char c)
{
    return c >= ' ' && c < 0x7f;
}

static void text_access(struct vdev *dev, struct vdev_access *a)
{
    struct vdebug *d = vdev_state(dev);
    char c = (char)a->value;

    if (!a->write) {
        a->value = PRESENT;
    } else if (c == '\n') {
        flush(dev);
    } else if (printable(c)) {
        d->line[d->length++] = c;
        if (d->length == LINE_MAX) {
            flush(dev);
        }
    }
}

static void byte_access(uint8_t *byte, struct vdev_access *a)
{
    if (a->write) {
        *byte = (uint8_t)a->value;
    } else {
        a->value = *byte;
    }
}

static void post_access(struct vdev *dev, struct vdev_access *a)
{
    struct vdebug *d = vdev_state(dev);

    byte_access(&d->post, a);
}

static void delay_access(struct vdev *dev, struct vdev_access *a)
{
    struct vdebug *d = vdev_state(dev);

    byte_access(&d->delay, a);
}

static void vdebug_reset(struct vdev *dev)
{
    struct vdebug *d = vdev_state(dev);

    flush(dev);
    d->post = 0;
    d->delay = 0;
}

static int vdebug_create(struct vdev *dev)
{
    int error = vdev_claim_bytes(dev, PORT_TEXT, 1, text_access);

    if (error == 0) {
        error = vdev_claim_bytes(dev, PORT_TEXT2, 1, text_access);
    }
    if (error == 0) {
        error = vdev_claim_bytes(dev, PORT_POST, 1, post_access);
    }
    if (error == 0) {
        error = vdev_claim_bytes(dev, PORT_DELAY, 1, delay_access);
    }
    return error;
}

static int vdebug_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), sizeof(struct vdebug));
}

static int vdebug_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vdebug *d = vdev_state(dev);
    int error = in->transfer(in, d, sizeof(*d));

    if (error == 0 && d->length >= LINE_MAX) {
        error = -VMM_EINVAL;
    }
    for (unsigned i = 0; error == 0 && i < d->length; i++) {
        error = printable(d->line[i]) ? 0 : -VMM_EINVAL; /* it goes to somebody's terminal */
    }
    if (error != 0) {
        d->length = 0;
    }
    return error;
}

const struct vdev_class vdebug_class = {
    .name = "vdebug",
    .state_size = sizeof(struct vdebug),
    .version = 1,
    .create = vdebug_create,
    .reset = vdebug_reset,
    .save = vdebug_save,
    .load = vdebug_load,
};
