/* Dispatch of port and device-memory accesses: a sorted table of claimed ranges, binary search, and
 * in each vCPU the last range that it hit.
 *
 * Threading: accesses take no lock but the device's. Ranges come and go while vCPUs run (a guest
 * moves a PCI function's base address): the table is replaced as a whole and the old one retired
 * (retire.h). A device whose range went away may still be called until every vCPU has passed. */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>
#include <vmm/vdev.h>
#include "core/retire.h"
#include "core/vcpu.h"

struct vdev {
    const struct vdev_class *class;
    struct vm *vm;
    struct vdev *next;
    struct vmm_lock lock; /* protects: the device's state */
    void *state;
    struct vpci_function *pci_function; /* NULL: it has none */
};

struct vmm_bus_range {
    uint64_t base, length;
    struct vdev *dev;
    vdev_access_fn fn;
    uint8_t width; /* fn gets accesses wider than this byte by byte */
    bool lockless; /* fn is called without the device's lock */
    bool quiet;    /* a claim that fails needs no words */
};

struct vmm_bus_table {
    struct vmm_retired retired;
    unsigned count, room;
    struct vmm_bus_range range[]; /* by base */
};

struct vmm_bus {
    struct vmm_bus_table *table; /* atomic; NULL: no range yet */
    struct vmm_lock lock;        /* protects: who replaces the table */
};

extern const struct vmm_bus_range vmm_no_range; /* holds no address */

/* Do the access if anything claims all of it. Unclaimed: reads give all ones, writes vanish;
 * returns false then. Accesses wider than a range's rest are split by bytes. */
bool vmm_port_access(struct vmm_port *port, uint64_t address, struct vdev_access *a);
static inline bool vmm_bus_access(struct vmm_bus *bus, uint64_t address, struct vdev_access *a)
{
    struct vmm_port port = {bus, &vmm_no_range};

    return vmm_port_access(&port, address, a);
}

/* Does anything claim part of [base, base+size)? Context: control. */
bool vmm_bus_overlaps(const struct vmm_bus *bus, uint64_t base, uint64_t size);

/* vdev_claim() for a device whose accesses touch only what the accessing vCPU owns. */
int vdev_claim_lockless(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                        vdev_access_fn fn) VMM_MUST_CHECK;
/* vdev_claim() at a place that a guest chose: says nothing when it is taken. */
int vdev_claim_quietly(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                       vdev_access_fn fn) VMM_MUST_CHECK;
/* vdev_claim() of ports for a device on the ISA bus with eight data lines. */
int vdev_claim_bytes(struct vdev *dev, uint64_t base, uint64_t length,
                     vdev_access_fn fn) VMM_MUST_CHECK;

/* Give a claimed range up, by its base; does not wait for vCPUs that are in an access to it.
 * Context: any thread, the device's lock may be held. Errors: -VMM_ENOMEM (it stays claimed). */
int vdev_unclaim(struct vdev *dev, enum vdev_space space, uint64_t base) VMM_MUST_CHECK;

/* All that the device has claimed; the whole bus. No vCPU runs. */
void vmm_bus_release(struct vdev *dev);
void vmm_bus_destroy(struct vm *vm, struct vmm_bus *bus);

/* --- devices (core/device.c) ------------------------------------------------------------------ */

/* Make a device of a class; on failure nothing is left. Context: control. */
int vdev_create(struct vm *vm, const struct vdev_class *cls, struct vdev **out) VMM_MUST_CHECK;
void vdev_destroy(struct vdev *dev); /* its claims go with it */
void vmm_devices_reset(struct vm *vm);
void vmm_devices_destroy(struct vm *vm); /* what vmm_platform_create() made */
/* Every device in creation order, each behind its class's name and version. vCPUs stopped.
 * Errors: the stream's, -VMM_EINVAL the stream is of other devices or versions. */
int vmm_devices_save(struct vm *vm, struct vdev_stream *out) VMM_MUST_CHECK;
int vmm_devices_load(struct vm *vm, struct vdev_stream *in) VMM_MUST_CHECK;
