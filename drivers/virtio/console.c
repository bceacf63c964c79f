/* virtio-console with its one port. Spec: section 5.3. */

#include "drivers/virtio/drivers.h"

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "drivers/char.h"
#include "drivers/virtio/virtio.h"
#include "mm/slab.h"

#define QUEUE_RECEIVE 0
#define QUEUE_SEND    1
#define BUFFERS       16 /* for each direction */
#define BUFFER_BYTES  256

struct virtio_console {
    struct nk_char_device character;
    struct virtio_device virtio;
    struct nk_spinlock lock; /* all below */
    struct virtio_queue receive, send;
    char receive_buffer[BUFFERS][BUFFER_BYTES];
    char send_buffer[BUFFERS][BUFFER_BYTES];
    char *free_send[BUFFERS]; /* a stack */
    unsigned free_send_count;
};

static struct virtio_console *of(struct nk_char_device *d)
{
    return NK_CONTAINER_OF(d, struct virtio_console, character);
}

static void take_back_sent(struct virtio_console *c)
{
    char *buffer;
    uint32_t length;
    while ((buffer = virtio_queue_get(&c->send, &length)) != NULL) {
        c->free_send[c->free_send_count++] = buffer;
    }
}

static size_t console_write(struct nk_char_device *d, const char *s, size_t length)
{
    struct virtio_console *c = of(d);
    size_t taken = 0;
    uint64_t flags = nk_spin_lock_irqsave(&c->lock);
    take_back_sent(c);
    while (taken < length && c->free_send_count > 0) {
        size_t now = length - taken < BUFFER_BYTES ? length - taken : BUFFER_BYTES;
        char *buffer = c->free_send[c->free_send_count - 1];
        struct virtio_segment segment = {buffer, (uint32_t)now};
        memcpy(buffer, s + taken, now);
        if (virtio_queue_add(&c->send, &segment, 1, 0, buffer) != 0) {
            break;
        }
        c->free_send_count--;
        taken += now;
    }
    if (taken > 0) {
        virtio_queue_kick(&c->send);
    }
    nk_spin_unlock_irqrestore(&c->lock, flags);
    return taken;
}

/* What came before there was a receiver waits in the device. */
static void set_receiver(struct nk_char_device *d,
                         void (*fn)(void *arg, const char *s, size_t length), void *arg)
{
    struct virtio_console *c = of(d);
    uint64_t flags = nk_spin_lock_irqsave(&c->lock);
    d->receive = fn;
    d->receive_arg = arg;
    nk_spin_unlock_irqrestore(&c->lock, flags);
}

static const struct nk_char_ops ops = {console_write, set_receiver};

static void offer(struct virtio_console *c, char *buffer)
{
    struct virtio_segment segment = {buffer, BUFFER_BYTES};
    int err = virtio_queue_add(&c->receive, &segment, 0, 1, buffer);
    nk_assert(err == 0); /* never more buffers than descriptors: set_up() has seen to it */
}

static bool interrupt(void *arg)
{
    struct virtio_console *c = arg;
    if (!virtio_interrupted(&c->virtio)) {
        return false;
    }
    nk_spinlock_acquire(&c->lock);
    char *buffer;
    uint32_t length;
    while (c->receive.size != 0 && (buffer = virtio_queue_get(&c->receive, &length)) != NULL) {
        if (c->character.receive != NULL && length <= BUFFER_BYTES) {
            c->character.receive(c->character.receive_arg, buffer, length);
        }
        offer(c, buffer);
        virtio_queue_kick(&c->receive);
    }
    nk_spinlock_release(&c->lock);
    return true;
}

static int set_up(struct virtio_console *c)
{
    int err = virtio_negotiate(&c->virtio, 0);
    if (err == 0) {
        err = virtio_queue_open(&c->virtio, &c->receive, QUEUE_RECEIVE, BUFFERS);
    }
    if (err == 0) {
        err = virtio_queue_open(&c->virtio, &c->send, QUEUE_SEND, BUFFERS);
    }
    if (err != 0) {
        return err;
    }
    if (c->receive.size < BUFFERS || c->send.size < BUFFERS) {
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < BUFFERS; i++) {
        c->free_send[i] = c->send_buffer[i];
        offer(c, c->receive_buffer[i]);
    }
    c->free_send_count = BUFFERS;
    virtio_start(&c->virtio);
    virtio_queue_kick(&c->receive);
    return 0;
}

static int bring_up(struct virtio_console *c, struct pci_function *f)
{
    int err = virtio_open(&c->virtio, f);
    if (err == 0) {
        err = virtio_attach(&c->virtio, "virtio-console", interrupt, c);
    }
    if (err != 0) {
        return err;
    }
    err = set_up(c);
    if (err == 0) {
        err = char_register(&c->character);
    }
    if (err != 0) {
        virtio_detach(&c->virtio, interrupt, c);
        virtio_fail(&c->virtio);
    }
    return err;
}

int virtio_console_probe(struct pci_function *f)
{
    struct virtio_console *c = kzalloc(sizeof(*c));
    if (c == NULL) {
        return -ENOMEM;
    }
    c->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_DEVICE);
    c->character.driver = "virtio-console";
    c->character.ops = &ops;
    int err = bring_up(c, f);
    if (err != 0) {
        virtio_queue_free(&c->receive);
        virtio_queue_free(&c->send);
        kfree(c);
    }
    return err;
}
