/* virtio-blk. Spec: section 5.2. */

#include "drivers/virtio/drivers.h"

#include "base/errno.h"
#include "base/platform.h"
#include "drivers/block.h"
#include "drivers/virtio/virtio.h"
#include "mm/slab.h"

#define FEATURE_READ_ONLY (UINT64_C(1) << 5)
#define FEATURE_FLUSH     (UINT64_C(1) << 9)

#define CONFIG_CAPACITY 0 /* in sectors of 512 bytes, whatever the block size */
#define SECTOR_SIZE     512

#define TYPE_IN    0
#define TYPE_OUT   1
#define TYPE_FLUSH 4

#define STATUS_OK      0
#define STATUS_UNKNOWN 0xff /* ours: the device has not written it */

#define SLOTS           32
#define SEGMENTS        3 /* header, data, status */
#define QUEUE_SIZE      128
#define REQUEST_SECTORS 2048

struct slot { /* what the device reads and writes beside the data */
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status;
};
#define HEADER_BYTES 16
_Static_assert(offsetof(struct slot, status) == HEADER_BYTES, "virtio-blk header layout");

struct virtio_blk {
    struct nk_block_device block;
    struct virtio_device virtio;
    struct virtio_queue queue;
    struct slot slot[SLOTS];
    uint32_t free_slots; /* bits */
};

static struct virtio_blk *of(struct nk_block_device *d)
{
    return NK_CONTAINER_OF(d, struct virtio_blk, block);
}

static int start(struct nk_block_device *d, struct nk_block_request *r)
{
    static const uint32_t type_table[] = {
        [NK_BLOCK_READ] = TYPE_IN,
        [NK_BLOCK_WRITE] = TYPE_OUT,
        [NK_BLOCK_FLUSH] = TYPE_FLUSH,
    };
    struct virtio_blk *b = of(d);
    if (r->op == NK_BLOCK_FLUSH && !(b->virtio.features & FEATURE_FLUSH)) {
        block_finish(d, r, 0); /* it writes through */
        return 0;
    }
    if (b->free_slots == 0) {
        return -EBUSY;
    }
    r->slot = (unsigned)__builtin_ctz(b->free_slots);
    struct slot *s = &b->slot[r->slot];
    *s = (struct slot){type_table[r->op], 0, r->sector, STATUS_UNKNOWN};

    struct virtio_segment segment[SEGMENTS] = {{s, HEADER_BYTES}};
    unsigned count = 1;
    if (r->op != NK_BLOCK_FLUSH) {
        segment[count++] = (struct virtio_segment){r->buffer, r->count * SECTOR_SIZE};
    }
    segment[count++] = (struct virtio_segment){&s->status, 1};
    unsigned in = r->op == NK_BLOCK_READ ? 2 : 1;
    int err = virtio_queue_add(&b->queue, segment, count - in, in, r);
    if (err == 0) {
        b->free_slots &= ~(1u << r->slot);
        virtio_queue_kick(&b->queue);
    }
    return err;
}

static void reap(struct nk_block_device *d)
{
    struct virtio_blk *b = of(d);
    struct nk_block_request *r;
    uint32_t length;
    while ((r = virtio_queue_get(&b->queue, &length)) != NULL) {
        b->free_slots |= 1u << r->slot;
        block_finish(d, r, b->slot[r->slot].status == STATUS_OK ? 0 : -EIO);
    }
}

static int set_up(struct virtio_blk *b)
{
    int err = virtio_negotiate(&b->virtio, FEATURE_READ_ONLY | FEATURE_FLUSH);
    if (err == 0) {
        err = virtio_queue_open(&b->virtio, &b->queue, 0, QUEUE_SIZE);
    }
    if (err == 0) {
        b->free_slots = UINT32_MAX;
        virtio_start(&b->virtio);
    }
    return err;
}

static int reset(struct nk_block_device *d)
{
    int err = set_up(of(d));
    if (err != 0) {
        virtio_fail(&of(d)->virtio);
    }
    return err;
}

static const struct nk_block_ops ops = {start, reap, reset};

static bool interrupt(void *arg)
{
    struct virtio_blk *b = arg;
    if (!virtio_interrupted(&b->virtio)) {
        return false;
    }
    block_service(&b->block);
    return true;
}

static int bring_up(struct virtio_blk *b, struct pci_function *f)
{
    block_init(&b->block, "virtio-blk", &ops);
    int err = virtio_open(&b->virtio, f);
    if (err != 0) {
        return err;
    }
    err = virtio_attach(&b->virtio, "virtio-blk", interrupt, b);
    if (err != 0) {
        return err;
    }
    err = set_up(b);
    if (err == 0) {
        b->block.irq = f->irq[0];
        b->block.sector_size = SECTOR_SIZE;
        b->block.sector_count = virtio_config_read(&b->virtio, CONFIG_CAPACITY, 4) |
                                (uint64_t)virtio_config_read(&b->virtio, CONFIG_CAPACITY + 4, 4)
                                    << 32;
        b->block.request_sectors_max = REQUEST_SECTORS;
        b->block.read_only = (b->virtio.features & FEATURE_READ_ONLY) != 0;
        err = block_register(&b->block, "vd");
    }
    if (err != 0) {
        virtio_detach(&b->virtio, interrupt, b);
        virtio_fail(&b->virtio);
    }
    return err;
}

int virtio_blk_probe(struct pci_function *f)
{
    struct virtio_blk *b = kzalloc(sizeof(*b));
    if (b == NULL) {
        return -ENOMEM;
    }
    int err = bring_up(b, f);
    if (err != 0) {
        virtio_queue_free(&b->queue);
        kfree(b);
    }
    return err;
}
