/* Virtio devices on PCI: the modern interface (no legacy registers), split rings.
 * Threading: each queue and the device's registers belong to its driver, which has a lock.
 * Spec: OASIS Virtual I/O Device 1.1, sections 2.6 "Split Virtqueues", 4.1 "Virtio Over PCI Bus".
 */
#pragma once

#include "drivers/pci/pci.h"
#include "kernel/irq.h"

#define VIRTIO_VENDOR    0x1af4
#define VIRTIO_VERSION_1 (UINT64_C(1) << 32)

struct virtio_device {
    struct pci_function *f;
    volatile uint8_t *common, *isr, *config, *notify;
    uint32_t config_length, notify_length, notify_multiplier;
    uint64_t features; /* negotiated */
};

struct virtio_segment {
    const void *data; /* contiguous, of the direct map or the image */
    uint32_t length;
};

struct virtio_queue {
    uint16_t size; /* 0: not open */
    uint16_t free_head, free_count, used_seen;
    volatile struct virtio_descriptor *descriptor;
    volatile struct virtio_avail *avail;
    volatile struct virtio_used *used;
    volatile uint16_t *notify;
    uint16_t index;
    void **token;    /* by first descriptor; NULL: not in flight */
    uint16_t *chain; /* our own copy of the links: the device can write the ring's */
};

/* Map the registers and switch the function on. Errors: -ENOTSUP not a modern device, -ENOMEM. */
int virtio_open(struct virtio_device *v, struct pci_function *f) NK_MUST_CHECK;

/* Reset the device, and take of `wanted` what it offers. Queues follow, then virtio_start().
 * Errors: -EIO it does not become ready, -ENOTSUP it refuses. */
int virtio_negotiate(struct virtio_device *v, uint64_t wanted) NK_MUST_CHECK;

/* Make or make anew queue `index` with at most `size_max` descriptors; interrupts, if any, by the
 * function's first line. Errors: -ENODEV no such queue, -ENOMEM. */
int virtio_queue_open(struct virtio_device *v, struct virtio_queue *q, unsigned index,
                      unsigned size_max) NK_MUST_CHECK;
void virtio_queue_free(struct virtio_queue *q); /* its memory; the device was reset */
void virtio_start(struct virtio_device *v);
void virtio_fail(struct virtio_device *v); /* the driver gives up: the device is reset */

/* Interrupts for all queues, by one line. */
int virtio_attach(struct virtio_device *v, const char *name, nk_irq_handler fn,
                  void *arg) NK_MUST_CHECK;
void virtio_detach(struct virtio_device *v, nk_irq_handler fn, void *arg);
/* In the handler: whether it was this device. Acknowledges. */
bool virtio_interrupted(const struct virtio_device *v);

/* `out` segments the device reads, then `in` ones it writes. Errors: -EBUSY no room. */
int virtio_queue_add(struct virtio_queue *q, const struct virtio_segment *s, unsigned out,
                     unsigned in, void *token) NK_MUST_CHECK;
void virtio_queue_kick(struct virtio_queue *q);
/* The token of what the device has done next, with the bytes it wrote; NULL: nothing. */
void *virtio_queue_get(struct virtio_queue *q, uint32_t *length);

uint32_t virtio_config_read(const struct virtio_device *v, unsigned offset, unsigned bytes);
