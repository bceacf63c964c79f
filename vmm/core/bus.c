#include "core/bus.h"

#include "core/irq.h"
#include "core/vm.h"

#define BUS_ROOM_STEP 16
#define NAME_BYTES    16 /* of a class, in a saved stream */

void *vdev_state(struct vdev *dev)
{
    return dev->state;
}

struct vm *vdev_vm(struct vdev *dev)
{
    return dev->vm;
}

/* --- ranges ----------------------------------------------------------------------------------- */

/* The index of the first range that ends above the address, bus->count if none does. */
static unsigned bus_search(const struct vmm_bus *bus, uint64_t address)
{
    unsigned low = 0, high = bus->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct vmm_bus_range *r = &bus->range[middle];

        if (address - r->base < r->length || address < r->base) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int bus_grow(struct vm *vm, struct vmm_bus *bus)
{
    unsigned room = bus->room + BUS_ROOM_STEP;
    struct vmm_bus_range *range = vmm_vm_alloc(vm, room * sizeof(*range));

    if (range == NULL) {
        return -VMM_ENOMEM;
    }
    for (unsigned i = 0; i < bus->count; i++) {
        range[i] = bus->range[i];
    }
    if (bus->range != NULL) {
        vmm_vm_free(vm, bus->range, bus->room * sizeof(*range));
    }
    bus->range = range;
    bus->room = room;
    return 0;
}

static int bus_claim(struct vm *vm, struct vmm_bus *bus, const struct vmm_bus_range *claim)
{
    unsigned at = bus_search(bus, claim->base);

    if (claim->length == 0 || claim->length - 1 > UINT64_MAX - claim->base) {
        return -VMM_EINVAL;
    }
    if (at < bus->count && bus->range[at].base <= claim->base + (claim->length - 1)) {
        vmm_vm_log(vm, VMM_LOG_ERROR, "%s claims %llx, which is %s's", claim->dev->class->name,
                   (unsigned long long)claim->base, bus->range[at].dev->class->name);
        return -VMM_EEXIST;
    }
    if (bus->count == bus->room && bus_grow(vm, bus) != 0) {
        return -VMM_ENOMEM;
    }
    for (unsigned i = bus->count; i > at; i--) {
        bus->range[i] = bus->range[i - 1];
    }
    bus->range[at] = *claim;
    bus->count++;
    bus->last = NULL;
    return 0;
}

static void bus_release(struct vmm_bus *bus, const struct vdev *dev)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < bus->count; i++) {
        if (bus->range[i].dev != dev) {
            bus->range[kept++] = bus->range[i];
        }
    }
    bus->count = kept;
    bus->last = NULL;
}

static void bus_destroy(struct vm *vm, struct vmm_bus *bus)
{
    if (bus->range != NULL) {
        vmm_vm_free(vm, bus->range, bus->room * sizeof(*bus->range));
    }
    *bus = (struct vmm_bus){0};
}

static struct vmm_bus *bus_of(struct vm *vm, enum vdev_space space)
{
    return space == VDEV_PIO ? &vm->pio : &vm->mmio;
}

int vdev_claim(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
               vdev_access_fn fn)
{
    struct vmm_bus_range claim = {.base = base, .length = length, .dev = dev, .fn = fn, .width = 8};

    return bus_claim(dev->vm, bus_of(dev->vm, space), &claim);
}

int vdev_claim_lockless(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                        vdev_access_fn fn)
{
    struct vmm_bus_range claim = {
        .base = base, .length = length, .dev = dev, .fn = fn, .width = 8, .lockless = true};

    return bus_claim(dev->vm, bus_of(dev->vm, space), &claim);
}

int vdev_claim_bytes(struct vdev *dev, uint64_t base, uint64_t length, vdev_access_fn fn)
{
    struct vmm_bus_range claim = {.base = base, .length = length, .dev = dev, .fn = fn, .width = 1};

    return bus_claim(dev->vm, &dev->vm->pio, &claim);
}

/* --- accesses --------------------------------------------------------------------------------- */

static const uint64_t mask_table[] = {[1] = 0xff, [2] = 0xffff, [4] = UINT32_MAX, [8] = UINT64_MAX};

static inline void range_access(const struct vmm_bus_range *r, struct vdev_access *a)
{
    struct vdev *dev = r->dev;

    if (r->lockless) {
        r->fn(dev, a);
        return;
    }
    dev->vm->ops->lock(dev->vm->host, &dev->lock);
    r->fn(dev, a);
    dev->vm->ops->unlock(dev->vm->host, &dev->lock);
}

/* An access to a range's edge, or to a range of byte registers: what is behind each byte answers
 * for it. */
static bool bus_access_bytes(struct vmm_bus *bus, uint64_t address, struct vdev_access *a)
{
    uint64_t value = 0;
    bool claimed = false;

    for (unsigned i = 0; i < a->size; i++) {
        struct vdev_access byte = *a;

        byte.size = 1;
        byte.value = a->value >> (8 * i) & 0xff;
        claimed |= vmm_bus_access(bus, address + i, &byte);
        value |= (byte.value & 0xff) << (8 * i);
    }
    a->value = value;
    return claimed;
}

/* What is at the address, after a miss of the hint. NULL: nothing. */
static const struct vmm_bus_range *bus_find(struct vmm_bus *bus, uint64_t address)
{
    unsigned at = bus_search(bus, address);

    if (at == bus->count || address < bus->range[at].base) {
        return NULL;
    }
    bus->last = &bus->range[at];
    return bus->last;
}

/* Nothing at the address; but the access may reach into the range above it. */
static bool bus_access_nothing(struct vmm_bus *bus, uint64_t address, struct vdev_access *a)
{
    unsigned at = bus_search(bus, address);

    if (at < bus->count && bus->range[at].base - address < a->size) {
        return bus_access_bytes(bus, address, a);
    }
    if (!a->write) {
        a->value = mask_table[a->size];
    }
    return false;
}

bool vmm_bus_access(struct vmm_bus *bus, uint64_t address, struct vdev_access *a)
{
    const struct vmm_bus_range *r = bus->last;

    if (vmm_unlikely(r == NULL || address - r->base >= r->length)) {
        r = bus_find(bus, address);
        if (r == NULL) {
            return bus_access_nothing(bus, address, a);
        }
    }
    a->offset = address - r->base;
    if (vmm_unlikely(a->size > r->width || r->length - a->offset < a->size)) {
        return bus_access_bytes(bus, address, a);
    }
    if (!a->write) {
        a->value = UINT64_MAX;
    }
    range_access(r, a);
    if (!a->write) {
        a->value &= mask_table[a->size];
    }
    return true;
}

/* --- devices ---------------------------------------------------------------------------------- */

int vdev_create(struct vm *vm, const struct vdev_class *cls, struct vdev **out)
{
    struct vdev *dev = vmm_vm_alloc(vm, sizeof(*dev) + cls->state_size);
    struct vdev **link = &vm->devices;
    int error;

    if (dev == NULL) {
        return -VMM_ENOMEM;
    }
    dev->class = cls;
    dev->vm = vm;
    dev->state = dev + 1;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = dev;
    error = cls->create(dev);
    if (error != 0) {
        vdev_destroy(dev);
        return error;
    }
    if (out != NULL) {
        *out = dev;
    }
    return 0;
}

void vdev_destroy(struct vdev *dev)
{
    struct vm *vm = dev->vm;
    struct vdev **link = &vm->devices;

    bus_release(&vm->pio, dev);
    bus_release(&vm->mmio, dev);
    if (dev->class->destroy != NULL) {
        dev->class->destroy(dev);
    }
    while (*link != dev) {
        link = &(*link)->next;
    }
    *link = dev->next;
    vmm_vm_free(vm, dev, sizeof(*dev) + dev->class->state_size);
}

void vmm_devices_reset(struct vm *vm)
{
    vm->irq->lines = 0; /* the chips forget their inputs; devices assert theirs again */
    for (struct vdev *dev = vm->devices; dev != NULL; dev = dev->next) {
        vm->ops->lock(vm->host, &dev->lock);
        dev->class->reset(dev);
        vm->ops->unlock(vm->host, &dev->lock);
    }
}

void vmm_devices_destroy(struct vm *vm)
{
    while (vm->devices != NULL) {
        vdev_destroy(vm->devices);
    }
    bus_destroy(vm, &vm->pio);
    bus_destroy(vm, &vm->mmio);
    vmm_irq_destroy(vm);
}

/* --- checkpoint ------------------------------------------------------------------------------- */

struct saved_header {
    char name[NAME_BYTES];
    uint32_t version;
};

static struct saved_header header_of(const struct vdev *dev)
{
    struct saved_header h = {.version = dev->class->version};

    for (unsigned i = 0; i < NAME_BYTES - 1 && dev->class->name[i] != '\0'; i++) {
        h.name[i] = dev->class->name[i];
    }
    return h;
}

static int transfer_fabric(struct vm *vm, struct vdev_stream *s)
{
    uint32_t *field[] = {&vm->irq->lines, &vm->irq->pic_output, &vm->irq->legacy_replaced};
    int error = 0;

    for (unsigned i = 0; error == 0 && i < VMM_ARRAY_COUNT(field); i++) {
        error = s->transfer(s, field[i], sizeof(*field[i]));
    }
    return error;
}

int vmm_devices_save(struct vm *vm, struct vdev_stream *out)
{
    int error = transfer_fabric(vm, out);

    for (struct vdev *dev = vm->devices; error == 0 && dev != NULL; dev = dev->next) {
        struct saved_header h = header_of(dev);

        error = out->transfer(out, &h, sizeof(h));
        if (error == 0) {
            vm->ops->lock(vm->host, &dev->lock);
            error = dev->class->save(dev, out);
            vm->ops->unlock(vm->host, &dev->lock);
        }
    }
    return error;
}

static bool header_matches(const struct saved_header *a, const struct saved_header *b)
{
    for (unsigned i = 0; i < NAME_BYTES; i++) {
        if (a->name[i] != b->name[i]) {
            return false;
        }
    }
    return a->version == b->version;
}

int vmm_devices_load(struct vm *vm, struct vdev_stream *in)
{
    int error = transfer_fabric(vm, in);

    for (struct vdev *dev = vm->devices; error == 0 && dev != NULL; dev = dev->next) {
        struct saved_header want = header_of(dev), h;

        error = in->transfer(in, &h, sizeof(h));
        if (error == 0 && !header_matches(&h, &want)) {
            error = -VMM_EINVAL;
        }
        if (error == 0) {
            vm->ops->lock(vm->host, &dev->lock);
            error = dev->class->load(dev, in);
            vm->ops->unlock(vm->host, &dev->lock);
        }
    }
    return error;
}
