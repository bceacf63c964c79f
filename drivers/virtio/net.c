/* virtio-net: one queue for each direction, every frame in a buffer of its own. Spec: section 5.1.
 */

#include "drivers/virtio/drivers.h"

#include <string.h>

#include "base/errno.h"
#include "drivers/net.h"
#include "drivers/virtio/virtio.h"
#include "mm/slab.h"

#define FEATURE_MAC    (UINT64_C(1) << 5)
#define FEATURE_STATUS (UINT64_C(1) << 16)

#define CONFIG_MAC     0
#define CONFIG_STATUS  6
#define STATUS_LINK_UP 1

#define QUEUE_RECEIVE 0
#define QUEUE_SEND    1
#define BUFFERS       64 /* for each direction */
#define BUFFER_BYTES  2048
#define HEADER_BYTES  12 /* with VIRTIO_VERSION_1; all zero: no offload */

struct virtio_net {
    struct nk_net_device net;
    struct virtio_device virtio;
    struct virtio_queue receive, send;
    char *receive_buffers, *send_buffers;
    char *free_send[BUFFERS]; /* a stack */
    unsigned free_send_count;
};

static struct virtio_net *of(struct nk_net_device *d)
{
    return NK_CONTAINER_OF(d, struct virtio_net, net);
}

static void take_back_sent(struct virtio_net *n)
{
    char *buffer;
    uint32_t length;
    while ((buffer = virtio_queue_get(&n->send, &length)) != NULL) {
        n->free_send[n->free_send_count++] = buffer;
    }
}

static int send(struct nk_net_device *d, const void *frame, size_t length)
{
    struct virtio_net *n = of(d);
    take_back_sent(n);
    if (n->free_send_count == 0) {
        return -EBUSY;
    }
    char *buffer = n->free_send[n->free_send_count - 1];
    struct virtio_segment s = {buffer, (uint32_t)(HEADER_BYTES + length)};
    memset(buffer, 0, HEADER_BYTES);
    memcpy(buffer + HEADER_BYTES, frame, length);
    int err = virtio_queue_add(&n->send, &s, 1, 0, buffer);
    if (err == 0) {
        n->free_send_count--;
        virtio_queue_kick(&n->send);
    }
    return err;
}

static void offer(struct virtio_net *n, char *buffer)
{
    struct virtio_segment s = {buffer, BUFFER_BYTES};
    if (virtio_queue_add(&n->receive, &s, 0, 1, buffer) != 0) {
        return; /* a queue of fewer descriptors than buffers: this one stays unused */
    }
}

static void reap(struct nk_net_device *d)
{
    struct virtio_net *n = of(d);
    char *buffer;
    uint32_t length;
    bool any = false;
    while ((buffer = virtio_queue_get(&n->receive, &length)) != NULL) {
        if (length > HEADER_BYTES && length <= BUFFER_BYTES) {
            net_received(d, buffer + HEADER_BYTES, length - HEADER_BYTES);
        }
        offer(n, buffer);
        any = true;
    }
    if (any) {
        virtio_queue_kick(&n->receive);
    }
    take_back_sent(n);
}

static bool link_up(struct nk_net_device *d)
{
    const struct virtio_device *v = &of(d)->virtio;
    if (!(v->features & FEATURE_STATUS)) {
        return true;
    }
    uint32_t status = virtio_config_read(v, CONFIG_STATUS, 2);
    return status != UINT16_MAX && (status & STATUS_LINK_UP) != 0;
}

static int set_up(struct virtio_net *n)
{
    int err = virtio_negotiate(&n->virtio, FEATURE_MAC | FEATURE_STATUS);
    if (err == 0) {
        err = virtio_queue_open(&n->virtio, &n->receive, QUEUE_RECEIVE, BUFFERS);
    }
    if (err == 0) {
        err = virtio_queue_open(&n->virtio, &n->send, QUEUE_SEND, BUFFERS);
    }
    if (err != 0) {
        return err;
    }
    for (unsigned i = 0; i < BUFFERS; i++) {
        n->free_send[i] = n->send_buffers + i * BUFFER_BYTES;
        offer(n, n->receive_buffers + i * BUFFER_BYTES);
    }
    n->free_send_count = BUFFERS;
    virtio_start(&n->virtio);
    virtio_queue_kick(&n->receive);
    return 0;
}

static int reset(struct nk_net_device *d)
{
    int err = set_up(of(d));
    if (err != 0) {
        virtio_fail(&of(d)->virtio);
    }
    return err;
}

static const struct nk_net_ops ops = {send, reap, link_up, reset};

static bool interrupt(void *arg)
{
    struct virtio_net *n = arg;
    if (!virtio_interrupted(&n->virtio)) {
        return false;
    }
    net_service(&n->net);
    return true;
}

static void read_mac(struct virtio_net *n)
{
    for (unsigned i = 0; i < NK_NET_MAC_BYTES; i++) {
        n->net.mac[i] = (uint8_t)virtio_config_read(&n->virtio, CONFIG_MAC + i, 1);
    }
}

static int bring_up(struct virtio_net *n, struct pci_function *f)
{
    n->receive_buffers = kmalloc(BUFFERS * BUFFER_BYTES);
    n->send_buffers = kmalloc(BUFFERS * BUFFER_BYTES);
    if (n->receive_buffers == NULL || n->send_buffers == NULL) {
        return -ENOMEM;
    }
    net_init(&n->net, "virtio-net", &ops);
    int err = virtio_open(&n->virtio, f);
    if (err != 0) {
        return err;
    }
    err = virtio_attach(&n->virtio, "virtio-net", interrupt, n);
    if (err != 0) {
        return err;
    }
    err = set_up(n);
    if (err == 0) {
        read_mac(n);
        n->net.irq = f->irq[0];
        err = net_register(&n->net);
    }
    if (err != 0) {
        virtio_detach(&n->virtio, interrupt, n);
        virtio_fail(&n->virtio);
    }
    return err;
}

int virtio_net_probe(struct pci_function *f)
{
    struct virtio_net *n = kzalloc(sizeof(*n));
    if (n == NULL) {
        return -ENOMEM;
    }
    int err = bring_up(n, f);
    if (err != 0) {
        virtio_queue_free(&n->receive);
        virtio_queue_free(&n->send);
        kfree(n->receive_buffers);
        kfree(n->send_buffers);
        kfree(n);
    }
    return err;
}
