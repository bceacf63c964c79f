/* The devices of a VM: life, reset, and their way into and out of a checkpoint. */
#include "core/bus.h"
#include "core/irq.h"
#include "core/vm.h"

#define NAME_BYTES 16 /* of a class, in a saved stream */

void *vdev_state(struct vdev *dev)
{
    return dev->state;
}

struct vm *vdev_vm(struct vdev *dev)
{
    return dev->vm;
}

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

    vmm_bus_release(dev);
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
    vmm_bus_destroy(vm, &vm->pio);
    vmm_bus_destroy(vm, &vm->mmio);
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
            if (error != 0) { /* it may hold what cannot be */
                dev->class->reset(dev);
            }
            vm->ops->unlock(vm->host, &dev->lock);
        }
    }
    return error;
}
