/* See virtio.h. What the driver puts into memory is copied and checked before it is used; a queue
 * that makes no sense sets DEVICE_NEEDS_RESET (section 2.1.2) and is not looked at again. */
#include "dev/virtio.h"

#include "core/bus.h"
#include "core/vm.h"

#define VENDOR         0x1af4
#define DEVICE_BASE    0x1040
#define FEATURE_MODERN (UINT64_C(1) << 32) /* VIRTIO_F_VERSION_1 */

/* The one memory range, a page for each structure. */
#define AREA_COMMON 0x0000
#define AREA_ISR    0x1000
#define AREA_DEVICE 0x2000
#define AREA_NOTIFY 0x3000
#define AREA_SIZE   0x4000

#define STATUS_DRIVER_OK   0x04
#define STATUS_FEATURES_OK 0x08
#define STATUS_NEEDS_RESET 0x40

#define ISR_QUEUE  1
#define ISR_CONFIG 2

#define NO_VECTOR 0xffff

#define DESC_NEXT    1
#define DESC_WRITE   2
#define NO_INTERRUPT 1 /* flags of the driver's ring */

/* Capabilities: section 4.1.4. */
#define CAP_VENDOR 9
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR    3
#define CAP_DEVICE 4
#define CAP_WINDOW 5 /* VIRTIO_PCI_CAP_PCI_CFG: the range by way of configuration space */
#define CAP_SIZE   16

#define WINDOW_BAR    4
#define WINDOW_OFFSET 8
#define WINDOW_LENGTH 12
#define WINDOW_DATA   16

static const struct {
    uint8_t type, size;
    uint32_t offset, length;
} capability_table[] = {
    {CAP_COMMON, CAP_SIZE, AREA_COMMON, 0x38},  {CAP_NOTIFY, CAP_SIZE + 4, AREA_NOTIFY, 0x1000},
    {CAP_ISR, CAP_SIZE, AREA_ISR, 1},           {CAP_DEVICE, CAP_SIZE, AREA_DEVICE, 0x1000},
    {CAP_WINDOW, CAP_SIZE + 4, AREA_COMMON, 0},
};

static struct vm *vm_of(const struct virtio *d)
{
    return d->pci.dev->vm;
}

/* With messages on, the interrupt status tells of the configuration only, and the pin is off:
 * section 4.1.4.5.1. */
static void raise(struct virtio *d, uint8_t isr, uint16_t vector)
{
    d->isr |= vpci_messages_on(&d->pci) ? isr & ISR_CONFIG : isr;
    vpci_interrupt(&d->pci, d->isr != 0);
    vpci_message(&d->pci, vector); /* NO_VECTOR: there is none */
}

static void broken(struct virtio *d)
{
    d->status |= STATUS_NEEDS_RESET;
    raise(d, ISR_CONFIG, d->vector);
}

bool virtio_is_live(const struct virtio *d)
{
    return (d->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

void virtio_config_changed(struct virtio *d)
{
    d->config_generation++;
    if (virtio_is_live(d)) {
        raise(d, ISR_CONFIG, d->vector);
    }
}

/* --- queues: section 2.7 ------------------------------------------------------------------------
 */

struct descriptor {
    uint64_t gpa;
    uint32_t length;
    uint16_t flags, next;
};

static bool read16(struct virtio *d, uint64_t gpa, uint16_t *out)
{
    return vmm_memory_read(vm_of(d), VMM_GPA(gpa), out, sizeof(*out)) == 0;
}

static bool follow(struct virtio *d, const struct virtio_queue *q, struct virtio_buffer *b)
{
    struct descriptor desc = {.flags = DESC_NEXT, .next = b->head};

    for (b->count = 0; (desc.flags & DESC_NEXT) != 0; b->count++) {
        if (desc.next >= q->size || b->count == VMM_ARRAY_COUNT(b->piece) ||
            vmm_memory_read(vm_of(d), VMM_GPA(q->desc + desc.next * sizeof(desc)), &desc,
                            sizeof(desc)) != 0) {
            return false;
        }
        b->piece[b->count].gpa = desc.gpa;
        b->piece[b->count].length = (desc.flags & DESC_WRITE) == 0 ? desc.length : 0;
    }
    return true;
}

bool virtio_take(struct virtio *d, unsigned queue, struct virtio_buffer *out)
{
    struct virtio_queue *q = &d->queue[queue];
    uint16_t offered;

    if (!virtio_is_live(d) || q->ready == 0) {
        return false;
    }
    if (!read16(d, q->driver + 2, &offered)) {
        broken(d);
        return false;
    }
    if (offered == q->taken) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the ring's entry was written before the index */
    if ((uint16_t)(offered - q->taken) > q->size ||
        !read16(d, q->driver + 4 + 2u * (q->taken % q->size), &out->head) || !follow(d, q, out)) {
        broken(d);
        return false;
    }
    q->taken++;
    return true;
}

void virtio_return(struct virtio *d, unsigned queue, const struct virtio_buffer *b)
{
    struct virtio_queue *q = &d->queue[queue];
    const uint32_t element[2] = {b->head, 0};

    if (vmm_memory_write(vm_of(d), VMM_GPA(q->device + 4 + 8u * (q->used % q->size)), element,
                         sizeof(element)) != 0) {
        broken(d);
        return;
    }
    q->used++;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (vmm_memory_write(vm_of(d), VMM_GPA(q->device + 2), &q->used, sizeof(q->used)) != 0) {
        broken(d);
    }
}

void virtio_done(struct virtio *d, unsigned queue)
{
    uint16_t flags = 0;

    if (read16(d, d->queue[queue].driver, &flags) && (flags & NO_INTERRUPT) == 0) {
        raise(d, ISR_QUEUE, d->queue[queue].vector);
    }
}

/* --- the common configuration structure: section 4.1.4.3 ---------------------------------------
 */

static void reset_driver_state(struct virtio *d)
{
    d->driver_features = 0;
    d->feature_select = d->driver_select = 0;
    d->queue_select = 0;
    d->status = d->isr = 0;
    d->vector = NO_VECTOR;
    __builtin_memset(d->queue, 0, sizeof(d->queue));
    for (unsigned i = 0; i < d->type->queue_count; i++) {
        d->queue[i].size = VIRTIO_QUEUE_SIZE;
        d->queue[i].vector = NO_VECTOR;
    }
    vpci_interrupt(&d->pci, false);
    if (d->type->reset != NULL) {
        d->type->reset(d);
    }
}

static uint64_t features(const struct virtio *d)
{
    return d->type->features | FEATURE_MODERN;
}

static void write_status(struct virtio *d, uint8_t value)
{
    bool was_live = virtio_is_live(d);

    if (value == 0) {
        reset_driver_state(d);
        return;
    }
    /* Features that were not offered, or a driver of the old kind: FEATURES_OK does not stay. */
    if ((d->driver_features & ~features(d)) != 0 || (d->driver_features & FEATURE_MODERN) == 0) {
        value &= (uint8_t)~STATUS_FEATURES_OK;
    }
    d->status = value | (d->status & STATUS_NEEDS_RESET);
    for (unsigned i = 0; !was_live && virtio_is_live(d) && i < d->type->queue_count; i++) {
        d->type->notify(d, i);
    }
}

static uint32_t half(uint64_t value, uint32_t select)
{
    return select > 1 ? 0 : (uint32_t)(value >> (32 * select));
}

static void write_features(struct virtio *d, uint32_t value)
{
    if (d->driver_select > 1 || (d->status & STATUS_FEATURES_OK) != 0) {
        return;
    }
    d->driver_features &= ~(UINT64_C(0xffffffff) << (32 * d->driver_select));
    d->driver_features |= (uint64_t)value << (32 * d->driver_select);
}

static void write_size(struct virtio_queue *q, uint16_t value)
{
    if (value != 0 && value <= VIRTIO_QUEUE_SIZE && (value & (value - 1)) == 0 && q->ready == 0) {
        q->size = value;
    }
}

static void set_half(uint64_t *field, unsigned at, uint32_t value)
{
    unsigned shift = at % 8 * 8;

    *field = (*field & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift;
}

/* Registers of the queue that is selected. */
static void queue_write(struct virtio_queue *q, unsigned at, uint32_t value)
{
    switch (at) {
    case 0x18:
        write_size(q, (uint16_t)value);
        break;
    case 0x1c:
        q->ready = value == 1 ? 1 : q->ready; /* only a reset takes it back */
        break;
    case 0x20:
    case 0x24:
        set_half(&q->desc, at, value);
        break;
    case 0x28:
    case 0x2c:
        set_half(&q->driver, at, value);
        break;
    case 0x30:
    case 0x34:
        set_half(&q->device, at, value);
        break;
    default:
        break;
    }
}

static uint32_t queue_read(const struct virtio *d, unsigned at)
{
    const struct virtio_queue *q = &d->queue[d->queue_select];

    switch (at) {
    case 0x18:
        return q->size;
    case 0x1a:
        return q->vector;
    case 0x1c:
        return q->ready;
    case 0x1e:
        return d->queue_select; /* its place in the notification area */
    case 0x20:
    case 0x24:
        return (uint32_t)(q->desc >> (at % 8 * 8));
    case 0x28:
    case 0x2c:
        return (uint32_t)(q->driver >> (at % 8 * 8));
    case 0x30:
    case 0x34:
        return (uint32_t)(q->device >> (at % 8 * 8));
    default:
        return 0;
    }
}

static bool queue_exists(const struct virtio *d)
{
    return d->queue_select < d->type->queue_count;
}

static uint32_t common_read(struct virtio *d, unsigned at)
{
    switch (at) {
    case 0x00:
        return d->feature_select;
    case 0x04:
        return half(features(d), d->feature_select);
    case 0x08:
        return d->driver_select;
    case 0x0c:
        return half(d->driver_features, d->driver_select);
    case 0x10:
        return d->vector;
    case 0x12:
        return d->type->queue_count;
    case 0x14:
        return d->status;
    case 0x15:
        return d->config_generation;
    case 0x16:
        return d->queue_select;
    default:
        return queue_exists(d) ? queue_read(d, at) : 0;
    }
}

/* A vector that there is not reads back as none: section 4.1.5.1.2. */
static uint16_t possible_vector(const struct virtio *d, uint32_t value)
{
    return value < d->pci.msix_vectors ? (uint16_t)value : NO_VECTOR;
}

static void common_write(struct virtio *d, unsigned at, uint32_t value)
{
    switch (at) {
    case 0x00:
        d->feature_select = value;
        break;
    case 0x08:
        d->driver_select = value;
        break;
    case 0x0c:
        write_features(d, value);
        break;
    case 0x10:
        d->vector = possible_vector(d, value & 0xffff);
        break;
    case 0x14:
        write_status(d, (uint8_t)value);
        break;
    case 0x16:
        d->queue_select = (uint16_t)value;
        break;
    case 0x1a:
        if (queue_exists(d)) {
            d->queue[d->queue_select].vector = possible_vector(d, value & 0xffff);
        }
        break;
    default:
        if (queue_exists(d) && d->queue[d->queue_select].ready == 0) {
            queue_write(&d->queue[d->queue_select], at, value);
        }
    }
}

/* --- the other structures -----------------------------------------------------------------------
 */

static void device_access(struct virtio *d, unsigned at, struct vdev_access *a)
{
    uint8_t config[64] = {0};
    uint64_t value = 0;

    d->type->config_read(d, config);
    for (unsigned i = 0; i < a->size && at + i < d->type->config_size; i++) {
        if (a->write) {
            d->type->config_write(d, at + i, (uint8_t)(a->value >> (8 * i)));
        }
        value |= (uint64_t)config[at + i] << (8 * i);
    }
    a->value = value;
}

/* Reading the interrupt status takes the interrupt back: section 4.1.4.5. */
static void isr_access(struct virtio *d, struct vdev_access *a)
{
    if (!a->write) {
        a->value = d->isr;
        d->isr = 0;
        vpci_interrupt(&d->pci, false);
    }
}

static void notify(struct virtio *d, uint64_t queue)
{
    if (queue < d->type->queue_count && virtio_is_live(d)) {
        d->type->notify(d, (unsigned)queue);
    }
}

/* A driver uses each field's own width, but for 64-bit ones, which are two halves. */
static void area_access(struct vdev *dev, struct vdev_access *a)
{
    struct virtio *d = vdev_state(dev);
    unsigned at = (unsigned)a->offset % VMM_PAGE_SIZE;

    switch (a->offset - at) {
    case AREA_COMMON:
        if (a->size > 4) {
            a->value = a->write ? a->value : 0;
        } else if (a->write) {
            common_write(d, at, (uint32_t)a->value);
        } else {
            a->value = common_read(d, at);
        }
        break;
    case AREA_ISR:
        isr_access(d, a);
        break;
    case AREA_DEVICE:
        device_access(d, at, a);
        break;
    default:
        if (a->write) {
            notify(d, a->value & 0xffff);
        } else {
            a->value = 0;
        }
    }
}

/* --- configuration space ------------------------------------------------------------------------
 */

/* The window: an access to its data is one to the range, at the offset and of the length that the
 * driver has written beside it (section 4.1.4.9). */
static void window_access(struct vpci_function *f, unsigned at, unsigned size, bool write)
{
    unsigned window = VMM_CONTAINER_OF(f, struct virtio, pci)->window_at;
    uint32_t offset = vpci_get(f->config, window + WINDOW_OFFSET, 4);
    uint32_t length = vpci_get(f->config, window + WINDOW_LENGTH, 4);
    struct vdev_access a = {.offset = offset, .size = (uint8_t)length, .write = write};
    struct vdev *dev = f->dev;

    if (at != window + WINDOW_DATA || f->config[window + WINDOW_BAR] != 0 || size < length ||
        (length != 1 && length != 2 && length != 4) || offset % length != 0 ||
        offset >= AREA_SIZE) {
        return;
    }
    a.value = write ? vpci_get(f->config, at, length) : 0;
    dev->vm->ops->lock(dev->vm->host, &dev->lock);
    area_access(dev, &a);
    dev->vm->ops->unlock(dev->vm->host, &dev->lock);
    if (!write) {
        vpci_put(f->config, at, (uint32_t)a.value, length);
    }
}

static void fill_capabilities(struct virtio *d)
{
    struct vpci_function *f = &d->pci;
    unsigned at = 0;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(capability_table); i++) {
        at = vpci_add_capability(f, CAP_VENDOR, capability_table[i].size);
        f->config[at + 2] = capability_table[i].size;
        f->config[at + 3] = capability_table[i].type;
        vpci_put(f->config, at + 8, capability_table[i].offset, 4);
        vpci_put(f->config, at + 12, capability_table[i].length, 4);
        /* Behind a notification capability: the distance of two queues, 0: they share a place. */
    }
    d->window_at = (uint8_t)at; /* the last one */
    f->writable[at + WINDOW_BAR] = 0xff;
    __builtin_memset(&f->writable[at + WINDOW_OFFSET], 0xff, WINDOW_DATA + 4 - WINDOW_OFFSET);
}

/* --- life ---------------------------------------------------------------------------------------
 */

int virtio_create(struct virtio *d, struct vdev *dev, const struct virtio_type *t)
{
    d->type = t;
    d->pci.dev = dev;
    d->pci.vendor = d->pci.subsystem_vendor = VENDOR;
    d->pci.device = DEVICE_BASE + t->id;
    d->pci.subsystem = t->id;
    d->pci.class = t->class;
    d->pci.bar[0].size = AREA_SIZE;
    d->pci.bar[0].fn = area_access;
    d->pci.msix_vectors = (uint8_t)(t->queue_count + 1); /* one for the configuration */
    d->pci.msix_bar = 1;
    d->pci.config_access = window_access;
    fill_capabilities(d);
    return vpci_add(&d->pci);
}

void virtio_destroy(struct virtio *d)
{
    vpci_remove(&d->pci);
}

void virtio_reset(struct virtio *d)
{
    d->config_generation = 0;
    reset_driver_state(d);
}

/* The function's configuration space goes with the PCI device. */
int virtio_transfer(struct virtio *d, struct vdev_stream *s)
{
    struct {
        void *field;
        size_t size;
    } const part[] = {
        {&d->driver_features, sizeof(d->driver_features)},
        {&d->feature_select, sizeof(d->feature_select)},
        {&d->driver_select, sizeof(d->driver_select)},
        {&d->queue_select, sizeof(d->queue_select)},
        {&d->status, sizeof(d->status)},
        {&d->isr, sizeof(d->isr)},
        {&d->vector, sizeof(d->vector)},
        {&d->config_generation, sizeof(d->config_generation)},
        {d->queue, sizeof(d->queue)},
    };
    int error = 0;

    for (unsigned i = 0; error == 0 && i < VMM_ARRAY_COUNT(part); i++) {
        error = s->transfer(s, part[i].field, part[i].size);
    }
    for (unsigned i = 0; error == 0 && i < VIRTIO_QUEUES_MAX; i++) {
        uint16_t size = d->queue[i].size;

        if (size > VIRTIO_QUEUE_SIZE || (size & (size - 1)) != 0 ||
            (size == 0) != (i >= d->type->queue_count)) {
            error = -VMM_EINVAL;
        }
        d->queue[i].vector = possible_vector(d, d->queue[i].vector);
    }
    d->vector = possible_vector(d, d->vector);
    return error;
}
