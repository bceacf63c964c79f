/* The memory balloon: the host says how much RAM it would like to have back, the guest's driver
 * takes that much from its own allocator and names the pages, which go to the host. Touched again,
 * they come back as zeros; so nothing needs to be said before a page is used again.
 * Spec: VIRTIO 1.2 section 5.5. */
#include "core/reclaim.h"
#include "core/vm.h"
#include "dev/platform.h"
#include "dev/virtio.h"

#define TYPE_BALLOON 5
#define CLASS        0x00ff0001 /* unclassified; revision 1 and above is modern */

#define QUEUE_INFLATE 0
#define QUEUE_DEFLATE 1
#define QUEUES        2

#define FEATURE_DEFLATE_ON_OOM (UINT64_C(1) << 2)

#define PAGES_AT_ONCE 256 /* names of pages that are read together */

/* Names that are looked at for one notification, the device's lock being held. Drivers give one
 * buffer at a time, Linux' 256 names, Windows' 1024. */
#define PAGES_MAX 4096

struct balloon_config {
    uint32_t wanted, actual; /* pages of 4 KiB */
};

struct vballoon {
    struct virtio virtio;
    struct balloon_config config;
};

/* One buffer: page numbers of 32 bits. The pages of those beyond *room stay the guest's. */
static void take_pages(struct virtio *d, const struct virtio_buffer *b, unsigned *room)
{
    struct vm *vm = d->pci.dev->vm;
    uint32_t page[PAGES_AT_ONCE];

    for (unsigned i = 0; i < b->count; i++) {
        uint64_t left = b->piece[i].length / sizeof(page[0]);
        uint64_t gpa = b->piece[i].gpa;

        /* No driver names a page twice: more than there are is not believed. */
        left = left < vm->config.mem_bytes / VMM_PAGE_SIZE ? left : 0;
        left = left < *room ? left : *room;
        *room -= (unsigned)left;
        while (left > 0) {
            unsigned count = left < PAGES_AT_ONCE ? (unsigned)left : PAGES_AT_ONCE;

            if (vmm_memory_read(vm, VMM_GPA(gpa), page, count * sizeof(page[0])) != 0) {
                break;
            }
            vmm_memory_discard(vm, page, count);
            gpa += count * sizeof(page[0]);
            left -= count;
        }
    }
}

static void notified(struct virtio *d, unsigned queue)
{
    struct virtio_buffer b;
    unsigned room = PAGES_MAX;
    bool any = false;

    /* As many as the queue holds: a driver that fills it meanwhile notifies again. */
    for (unsigned i = 0; i < VIRTIO_QUEUE_SIZE && virtio_take(d, queue, &b); i++) {
        if (queue == QUEUE_INFLATE) {
            take_pages(d, &b, &room);
        }
        virtio_return(d, queue, &b);
        any = true;
    }
    if (any) {
        virtio_done(d, queue);
    }
}

static struct vballoon *balloon_of(struct virtio *d)
{
    return VMM_CONTAINER_OF(d, struct vballoon, virtio);
}

static void config_read(struct virtio *d, void *out)
{
    __builtin_memcpy(out, &balloon_of(d)->config, sizeof(struct balloon_config));
}

/* The driver reports how many pages it has given. */
static void config_write(struct virtio *d, unsigned at, uint8_t byte)
{
    unsigned shift = at % 4 * 8;
    uint32_t *actual = &balloon_of(d)->config.actual;

    if (at >= offsetof(struct balloon_config, actual)) {
        *actual = (*actual & ~(0xffu << shift)) | (uint32_t)byte << shift;
    }
}

static void driver_reset(struct virtio *d)
{
    balloon_of(d)->config.actual = 0;
}

static const struct virtio_type balloon_type = {
    .id = TYPE_BALLOON,
    .class = CLASS,
    .features = FEATURE_DEFLATE_ON_OOM,
    .queue_count = QUEUES,
    .config_size = sizeof(struct balloon_config),
    .notify = notified,
    .config_read = config_read,
    .config_write = config_write,
    .reset = driver_reset,
};

/* --- for the host -------------------------------------------------------------------------------
 */

int vmm_vm_balloon(struct vm *vm, uint64_t bytes)
{
    struct vdev *dev;
    struct vballoon *b;

    vmm_control_enter(vm);
    dev = vm->balloon;
    if (dev == NULL || bytes >= vm->config.mem_bytes) {
        return vmm_control_leave(vm, dev == NULL ? -VMM_ENODEV : -VMM_E2BIG);
    }
    b = vdev_state(dev);
    vm->ops->lock(vm->host, &dev->lock);
    b->config.wanted = (uint32_t)(bytes / VMM_PAGE_SIZE);
    virtio_config_changed(&b->virtio);
    vm->ops->unlock(vm->host, &dev->lock);
    return vmm_control_leave(vm, 0);
}

void vballoon_report(struct vm *vm, struct vm_memory *out)
{
    struct vdev *dev = vm->balloon;
    struct vballoon *b;

    if (dev == NULL) {
        return;
    }
    b = vdev_state(dev);
    vm->ops->lock(vm->host, &dev->lock);
    out->balloon_wanted = b->config.wanted * VMM_PAGE_SIZE;
    out->balloon_actual = b->config.actual * VMM_PAGE_SIZE;
    out->balloon_driver = virtio_is_live(&b->virtio);
    vm->ops->unlock(vm->host, &dev->lock);
}

/* --- the device ---------------------------------------------------------------------------------
 */

static void vballoon_reset(struct vdev *dev)
{
    struct vballoon *b = vdev_state(dev);

    virtio_reset(&b->virtio);
}

static int vballoon_create(struct vdev *dev)
{
    struct vballoon *b = vdev_state(dev);

    b->config.wanted = (uint32_t)(dev->vm->config.balloon_bytes / VMM_PAGE_SIZE);
    dev->vm->balloon = dev;
    return virtio_create(&b->virtio, dev, &balloon_type);
}

static void vballoon_destroy(struct vdev *dev)
{
    struct vballoon *b = vdev_state(dev);

    dev->vm->balloon = NULL;
    virtio_destroy(&b->virtio);
}

static int vballoon_transfer(struct vdev *dev, struct vdev_stream *s)
{
    struct vballoon *b = vdev_state(dev);
    int error = s->transfer(s, &b->config, sizeof(b->config));

    return error == 0 ? virtio_transfer(&b->virtio, s) : error;
}

const struct vdev_class vballoon_class = {
    .name = "vballoon",
    .state_size = sizeof(struct vballoon),
    .version = 2,
    .create = vballoon_create,
    .reset = vballoon_reset,
    .destroy = vballoon_destroy,
    .save = vballoon_transfer,
    .load = vballoon_transfer,
};
