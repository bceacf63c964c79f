/* Dispatch of port and device-memory accesses: a sorted array of claimed ranges, binary search,
 * and a last-hit cache. Ranges change only while no vCPU runs. */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>
#include <vmm/vdev.h>

struct vdev {
    const struct vdev_class *class;
    struct vm *vm;
    struct vdev *next;
    struct vmm_lock lock; /* protects: the device's state */
    void *state;
};

struct vmm_bus_range {
    uint64_t base, length;
    struct vdev *dev;
    vdev_access_fn fn;
};

struct vmm_bus {
    struct vmm_bus_range *range; /* sorted by base */
    unsigned count, room;
    unsigned last; /* index of the last hit: a hint, races are harmless */
};

/* Do the access if anything claims all of it. Unclaimed: reads give all ones, writes vanish;
 * returns false then. Accesses wider than a range's rest are split by bytes. */
bool vmm_bus_access(struct vmm_bus *bus, uint64_t address, struct vdev_access *a);

/* Make a device of a class; on failure nothing is left. Context: control. */
int vdev_create(struct vm *vm, const struct vdev_class *cls, struct vdev **out) VMM_MUST_CHECK;
void vdev_destroy(struct vdev *dev); /* its claims go with it */
void vmm_devices_reset(struct vm *vm);
void vmm_devices_destroy(struct vm *vm);
