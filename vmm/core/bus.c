#include "core/bus.h"

#include "core/irq.h"
#include "core/vm.h"

const struct vmm_bus_range vmm_no_range = {.length = 0};

/* --- ranges ----------------------------------------------------------------------------------- */

static struct vmm_bus *bus_of(struct vm *vm, enum vdev_space space)
{
    return space == VDEV_PIO ? &vm->pio : &vm->mmio;
}

static struct vmm_bus_table *table_of(const struct vmm_bus *bus)
{
    return __atomic_load_n(&bus->table, __ATOMIC_ACQUIRE);
}

/* The index of the first range that ends above the address, t->count if none does. */
static unsigned search(const struct vmm_bus_table *t, uint64_t address)
{
    unsigned low = 0, high = t->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct vmm_bus_range *r = &t->range[middle];

        if (address - r->base < r->length || address < r->base) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

bool vmm_bus_overlaps(const struct vmm_bus *bus, uint64_t base, uint64_t size)
{
    const struct vmm_bus_table *t = table_of(bus);
    unsigned at = t != NULL ? search(t, base) : 0;

    return t != NULL && at < t->count && t->range[at].base <= base + (size - 1);
}

static size_t table_size(unsigned room)
{
    return sizeof(struct vmm_bus_table) + room * sizeof(struct vmm_bus_range);
}

static void free_table(struct vm *vm, struct vmm_bus_table *t)
{
    if (t != NULL) {
        vmm_vm_free(vm, t, table_size(t->room));
    }
}

static void release_table(struct vm *vm, struct vmm_retired *r)
{
    free_table(vm, VMM_CONTAINER_OF(r, struct vmm_bus_table, retired));
}

/* Put t in the old table's place. While no vCPU has been made yet nobody can be in it. */
static void publish(struct vm *vm, struct vmm_bus *bus, struct vmm_bus_table *t)
{
    struct vmm_bus_table *old = bus->table;

    __atomic_store_n(&bus->table, t, __ATOMIC_SEQ_CST);
    vm->ops->unlock(vm->host, &bus->lock);
    if (old != NULL) {
        vmm_retire(vm, &old->retired, release_table);
    } else {
        vmm_forget_soon(vm);
    }
}

static struct vmm_bus_table *new_table(struct vm *vm, unsigned room)
{
    struct vmm_bus_table *t = vmm_vm_alloc(vm, table_size(room));

    if (t != NULL) {
        t->room = room;
    }
    return t;
}

/* Bus lock held. */
static int check_claim(struct vm *vm, const struct vmm_bus *bus, const struct vmm_bus_range *claim)
{
    const struct vmm_bus_table *t = bus->table;
    unsigned at = t != NULL ? search(t, claim->base) : 0;

    if (claim->length == 0 || claim->length - 1 > UINT64_MAX - claim->base) {
        return -VMM_EINVAL;
    }
    if (t != NULL && at < t->count && t->range[at].base <= claim->base + (claim->length - 1)) {
        if (!claim->quiet) {
            vmm_vm_log(vm, VMM_LOG_ERROR, "%s claims %llx, which is %s's", claim->dev->class->name,
                       (unsigned long long)claim->base, t->range[at].dev->class->name);
        }
        return -VMM_EEXIST;
    }
    return 0;
}

static int bus_claim(struct vm *vm, struct vmm_bus *bus, const struct vmm_bus_range *claim)
{
    struct vmm_bus_table *t;
    unsigned old_count, at;
    int error;

    vm->ops->lock(vm->host, &bus->lock);
    error = check_claim(vm, bus, claim);
    old_count = bus->table != NULL ? bus->table->count : 0;
    t = error == 0 ? new_table(vm, old_count + 1) : NULL;
    if (t == NULL) {
        vm->ops->unlock(vm->host, &bus->lock);
        return error != 0 ? error : -VMM_ENOMEM;
    }
    at = old_count != 0 ? search(bus->table, claim->base) : 0;
    for (unsigned i = 0; i < old_count; i++) {
        t->range[i + (i >= at)] = bus->table->range[i];
    }
    t->range[at] = *claim;
    t->count = old_count + 1;
    publish(vm, bus, t);
    return 0;
}

int vdev_unclaim(struct vdev *dev, enum vdev_space space, uint64_t base)
{
    struct vm *vm = dev->vm;
    struct vmm_bus *bus = bus_of(vm, space);
    struct vmm_bus_table *t;

    vm->ops->lock(vm->host, &bus->lock);
    t = new_table(vm, bus->table->count);
    if (t == NULL) {
        vm->ops->unlock(vm->host, &bus->lock);
        return -VMM_ENOMEM;
    }
    for (unsigned i = 0; i < bus->table->count; i++) {
        const struct vmm_bus_range *r = &bus->table->range[i];

        if (r->dev != dev || r->base != base) {
            t->range[t->count++] = *r;
        }
    }
    publish(vm, bus, t);
    return 0;
}

/* The device goes: no vCPU runs. */
static void release(struct vmm_bus *bus, const struct vdev *dev)
{
    struct vmm_bus_table *t = bus->table;
    unsigned kept = 0;

    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        if (t->range[i].dev != dev) {
            t->range[kept++] = t->range[i];
        }
    }
    if (t != NULL) {
        t->count = kept;
    }
}

void vmm_bus_release(struct vdev *dev)
{
    release(&dev->vm->pio, dev);
    release(&dev->vm->mmio, dev);
}

void vmm_bus_destroy(struct vm *vm, struct vmm_bus *bus)
{
    free_table(vm, bus->table);
    *bus = (struct vmm_bus){0};
}

static int claim_range(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                       vdev_access_fn fn, struct vmm_bus_range how)
{
    how.base = base;
    how.length = length;
    how.dev = dev;
    how.fn = fn;
    return bus_claim(dev->vm, bus_of(dev->vm, space), &how);
}

int vdev_claim(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
               vdev_access_fn fn)
{
    return claim_range(dev, space, base, length, fn, (struct vmm_bus_range){.width = 8});
}

int vdev_claim_lockless(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                        vdev_access_fn fn)
{
    return claim_range(dev, space, base, length, fn,
                       (struct vmm_bus_range){.width = 8, .lockless = true});
}

int vdev_claim_quietly(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
                       vdev_access_fn fn)
{
    return claim_range(dev, space, base, length, fn,
                       (struct vmm_bus_range){.width = 8, .quiet = true});
}

int vdev_claim_bytes(struct vdev *dev, uint64_t base, uint64_t length, vdev_access_fn fn)
{
    return claim_range(dev, VDEV_PIO, base, length, fn, (struct vmm_bus_range){.width = 1});
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
    const struct vmm_bus_table *t = table_of(bus);
    unsigned at;

    if (t == NULL) {
        return NULL;
    }
    at = search(t, address);
    return at == t->count || address < t->range[at].base ? NULL : &t->range[at];
}

/* Nothing at the address; but the access may reach into the range above it. */
static bool bus_access_nothing(struct vmm_bus *bus, uint64_t address, struct vdev_access *a)
{
    const struct vmm_bus_table *t = table_of(bus);
    unsigned at = t != NULL ? search(t, address) : 0;

    if (t != NULL && at < t->count && t->range[at].base - address < a->size) {
        return bus_access_bytes(bus, address, a);
    }
    if (!a->write) {
        a->value = mask_table[a->size];
    }
    return false;
}

static inline bool access_at(const struct vmm_port *port, const struct vmm_bus_range *r,
                             uint64_t address, struct vdev_access *a)
{
    a->offset = address - r->base;
    if (vmm_unlikely(a->size > r->width || r->length - a->offset < a->size)) {
        return bus_access_bytes(port->bus, address, a);
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

/* After a miss; out of line, so that a hit saves no registers for it. */
static __attribute__((noinline)) bool access_missed(struct vmm_port *port, uint64_t address,
                                                    struct vdev_access *a)
{
    const struct vmm_bus_range *r = bus_find(port->bus, address);

    if (r == NULL) {
        return bus_access_nothing(port->bus, address, a);
    }
    port->last = r;
    return access_at(port, r, address, a);
}

bool vmm_port_access(struct vmm_port *port, uint64_t address, struct vdev_access *a)
{
    const struct vmm_bus_range *r = port->last;

    if (vmm_unlikely(address - r->base >= r->length)) {
        return access_missed(port, address, a);
    }
    return access_at(port, r, address, a);
}
