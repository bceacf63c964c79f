/* A modern virtio device on PCI: the transport, for device models of one type each.
 * Spec: Virtual I/O Device (VIRTIO) 1.2, sections 2 and 4.1. */
#pragma once

#include <vmm/vpci.h>

#define VIRTIO_QUEUES_MAX 3
#define VIRTIO_QUEUE_SIZE 128 /* entries, at most */

struct virtio;

struct virtio_type {
    uint16_t id;       /* section 5 */
    uint32_t class;    /* PCI class and revision */
    uint64_t features; /* offered beside VIRTIO_F_VERSION_1 */
    unsigned queue_count;
    unsigned config_size;
    /* The driver has put buffers into the queue, or is ready: take them with virtio_take(). */
    void (*notify)(struct virtio *d, unsigned queue);
    void (*config_read)(struct virtio *d, void *out); /* all of it */
    void (*config_write)(struct virtio *d, unsigned at, uint8_t byte);
    void (*reset)(struct virtio *d); /* the device's part; NULL: none */
};

struct virtio_queue {
    uint64_t desc, driver, device; /* guest-physical */
    uint16_t size, ready;
    uint16_t vector;
    uint16_t taken, used; /* indices, free running */
};

/* Part of a device's state, and its first member. */
struct virtio {
    struct vpci_function pci;
    const struct virtio_type *type;
    uint64_t driver_features;
    uint32_t feature_select, driver_select;
    uint16_t queue_select;
    uint16_t vector;   /* of configuration changes */
    uint8_t window_at; /* the capability, in configuration space */
    uint8_t status, isr, config_generation;
    struct virtio_queue queue[VIRTIO_QUEUES_MAX];
};

/* A buffer of the driver's that the device may read, in pieces. */
struct virtio_buffer {
    uint16_t head;  /* its name */
    unsigned count; /* pieces */
    struct {
        uint64_t gpa;
        uint32_t length;
    } piece[16];
};

int virtio_create(struct virtio *d, struct vdev *dev, const struct virtio_type *t) VMM_MUST_CHECK;
void virtio_destroy(struct virtio *d);
void virtio_reset(struct virtio *d); /* power-on */
int virtio_transfer(struct virtio *d, struct vdev_stream *s) VMM_MUST_CHECK;

/* --- for the device, its lock held --------------------------------------------------------------
 */

bool virtio_is_live(const struct virtio *d); /* the driver works with it */
/* The next buffer. False: none, or the queue is broken (then the device needs a reset). */
bool virtio_take(struct virtio *d, unsigned queue, struct virtio_buffer *out);
/* The buffer is the driver's again; the interrupt comes with virtio_done(). */
void virtio_return(struct virtio *d, unsigned queue, const struct virtio_buffer *b);
void virtio_done(struct virtio *d, unsigned queue);
void virtio_config_changed(struct virtio *d);
