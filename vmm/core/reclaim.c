/* See reclaim.h.
 *
 * A page goes to the store in three steps. Its entry becomes "leaving": not present, the page still
 * named. When every vCPU has passed nobody can change it, and it is written out. Then the entry
 * becomes "stored", if it is still leaving: a vCPU that touched it meanwhile has made it present
 * again, and the copy is dropped. So a page is never both in use and out. */
#include "core/reclaim.h"

#include "core/dirty.h"
#include "core/vm.h"

#define BATCH 128 /* pages that wait for vCPUs together */

/* --- what the balloon gives --------------------------------------------------------------------
 */

struct discarded {
    struct vmm_retired retired;
    unsigned count, room;
    hpa_t page[];
};

static size_t discarded_size(unsigned room)
{
    return sizeof(struct discarded) + room * sizeof(hpa_t);
}

static void release_discarded(struct vm *vm, struct vmm_retired *r)
{
    struct discarded *d = VMM_CONTAINER_OF(r, struct discarded, retired);

    for (unsigned i = 0; i < d->count; i++) {
        vmm_memory_free_page(vm, d->page[i], 0);
    }
    vmm_vm_free(vm, d, discarded_size(d->room));
}

/* Memory lock held: the entry is not joined into a large page meanwhile. One that is leaving is
 * left to whoever moves it. */
static bool discard_page(struct vm *vm, gpa_t gpa, struct discarded *d)
{
    for (;;) {
        unsigned level;
        uint64_t value, *entry = vmm_nested_look(vm, gpa, &level, &value);

        if ((value & NESTED_PRESENT) == 0) {
            if ((value & NESTED_STORED) == 0 || !nested_change(entry, &value, 0)) {
                return false;
            }
            vmm_store_drop(vm, value);
            return true;
        }
        if (level > 0) {
            if (vmm_nested_split(vm, entry, level) != 0) {
                return false;
            }
        } else if (nested_change(entry, &value, 0)) {
            d->page[d->count++] = VMM_HPA(value & NESTED_ADDRESS);
            return true;
        }
    }
}

unsigned vmm_memory_discard(struct vm *vm, const uint32_t *page, unsigned count)
{
    struct discarded *d = vmm_vm_alloc(vm, discarded_size(count));
    unsigned taken = 0;

    if (d == NULL) {
        return 0;
    }
    d->room = count;
    for (unsigned i = 0; i < count; i++) {
        gpa_t gpa = VMM_GPA((uint64_t)page[i] * VMM_PAGE_SIZE);
        const struct vmm_region *r = vmm_memory_find(vm, gpa);

        if (r == NULL || r->kind != VMM_REGION_RAM) {
            continue;
        }
        vm->ops->lock(vm->host, &vm->memory.lock);
        taken += discard_page(vm, gpa, d);
        vm->ops->unlock(vm->host, &vm->memory.lock);
        vmm_dirty_mark(r, gpa);
    }
    if (d->count != 0) {
        vmm_retire(vm, &d->retired, release_discarded);
    } else {
        vmm_vm_free(vm, d, discarded_size(count));
    }
    return taken;
}

/* --- back again --------------------------------------------------------------------------------
 */

void vmm_store_drop(struct vm *vm, uint64_t value)
{
    __atomic_sub_fetch(&vm->memory.stored_count, 1, __ATOMIC_RELAXED);
    vm->ops->store->drop(vm->host, (value & NESTED_ADDRESS) / VMM_PAGE_SIZE);
}

/* While writes are logged the first one has to fault. */
static uint64_t page_again(struct vm *vm, const struct vmm_region *r, hpa_t hpa)
{
    unsigned prot = VMM_MAP_READ | VMM_MAP_EXEC;

    if (r->kind == VMM_REGION_RAM && vmm_dirty_bits(r) == NULL) {
        prot |= VMM_MAP_WRITE;
    }
    return vmm_nested_page(&vm->nested, hpa, 0, prot);
}

/* Memory lock held: only one vCPU brings it back, and its slot is not given to another page while
 * it is read. */
static int read_stored(struct vm *vm, const struct vmm_region *r, gpa_t gpa, uint64_t *entry,
                       uint64_t value)
{
    hpa_t hpa;

    if (nested_load(entry) != value) {
        return 0;
    }
    if (vm->ops->pages_alloc(vm->host, 1, VMM_PAGE_SIZE, vmm_memory_node(vm, gpa), &hpa) != 0) {
        return -VMM_ENOMEM;
    }
    if (vm->ops->store->get(vm->host, (value & NESTED_ADDRESS) / VMM_PAGE_SIZE,
                            vm->ops->hpa_to_va(vm->host, hpa)) != 0) {
        vmm_pages_free(vm, hpa, 1);
        return -VMM_EIO;
    }
    __atomic_add_fetch(&vm->nested.page_count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(entry, page_again(vm, r, hpa), __ATOMIC_SEQ_CST);
    vmm_store_drop(vm, value);
    return 0;
}

int vmm_memory_bring_back(struct vm *vm, const struct vmm_region *r, gpa_t gpa, uint64_t *entry,
                          uint64_t value)
{
    int error;

    if ((value & NESTED_LEAVING) != 0) {
        nested_change(entry, &value, page_again(vm, r, VMM_HPA(value & NESTED_ADDRESS)));
        return 0;
    }
    vm->ops->lock(vm->host, &vm->memory.lock);
    error = read_stored(vm, r, gpa, entry, value);
    vm->ops->unlock(vm->host, &vm->memory.lock);
    return error;
}

/* --- out ---------------------------------------------------------------------------------------
 */

struct leaving {
    unsigned count;
    struct {
        gpa_t gpa;
        uint64_t *entry, value;
    } page[BATCH];
};

/* Where the sweep through RAM goes on: the region that holds m->reclaim_at, or the next RAM. */
static const struct vmm_region *sweep_region(struct vm *vm)
{
    struct vmm_memory *m = &vm->memory;
    const struct vmm_region *r, *first = NULL;

    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        if (r->kind != VMM_REGION_RAM) {
            continue;
        }
        if (m->reclaim_at < r->base.v + r->size) {
            if (m->reclaim_at < r->base.v) {
                m->reclaim_at = r->base.v;
            }
            return r;
        }
        first = first != NULL ? first : r;
    }
    if (first != NULL) {
        m->reclaim_at = first->base.v;
    }
    return first;
}

/* Used since the last sweep: its mark is taken off, and it stays this time. */
static bool spare(struct vm *vm, uint64_t *entry, uint64_t *value)
{
    uint64_t accessed = vm->nested.format->accessed;

    return (*value & accessed) != 0 && nested_change(entry, value, *value & ~accessed);
}

/* Look at the page at m->reclaim_at and go on. Returns how many bytes were passed. */
static uint64_t sweep_page(struct vm *vm, bool unused_only, struct leaving *l)
{
    struct vmm_memory *m = &vm->memory;
    gpa_t gpa = VMM_GPA(m->reclaim_at);
    uint64_t *entry, value, next;
    unsigned level;

    entry = vmm_nested_look(vm, gpa, &level, &value);
    next = (gpa.v | ((UINT64_C(1) << nested_shift(level)) - 1)) + 1;
    if (!nested_is_page(value, level) || (unused_only && spare(vm, entry, &value))) {
        m->reclaim_at = next;
        return next - gpa.v;
    }
    if (level > 0) {
        int error;

        vm->ops->lock(vm->host, &m->lock);
        error = vmm_nested_split(vm, entry, level);
        vm->ops->unlock(vm->host, &m->lock);
        m->reclaim_at = error != 0 ? next : gpa.v;
        return error != 0 ? next - gpa.v : 0;
    }
    if (nested_change(entry, &value, (value & NESTED_ADDRESS) | NESTED_LEAVING)) {
        l->page[l->count].gpa = gpa;
        l->page[l->count].entry = entry;
        l->page[l->count++].value = (value & NESTED_ADDRESS) | NESTED_LEAVING;
    }
    m->reclaim_at = next;
    return next - gpa.v;
}

static bool is_zero(const uint64_t *page)
{
    for (unsigned i = 0; i < VMM_PAGE_SIZE / sizeof(*page); i++) {
        if (page[i] != 0) {
            return false;
        }
    }
    return true;
}

/* A page that nobody can change now, unless its entry changes first. One of zeros needs no store:
 * that is what an empty entry is. Errors: the store's. */
static int put_page(struct vm *vm, uint64_t *entry, uint64_t value, uint64_t *taken)
{
    hpa_t hpa = VMM_HPA(value & NESTED_ADDRESS);
    const void *page = vm->ops->hpa_to_va(vm->host, hpa);
    uint64_t stored = 0, slot = 0;

    if (!is_zero(page)) {
        int error = vm->ops->store->put(vm->host, page, &slot);

        if (error != 0) {
            return error;
        }
        stored = slot * VMM_PAGE_SIZE | NESTED_STORED;
        __atomic_add_fetch(&vm->memory.stored_count, 1, __ATOMIC_RELAXED);
    }
    if (nested_change(entry, &value, stored)) {
        vmm_memory_free_page(vm, hpa, 0);
        *taken += VMM_PAGE_SIZE;
    } else if (stored != 0) {
        vmm_store_drop(vm, stored);
    }
    return 0;
}

/* Errors: the store is full. What it does not take is present again. */
static int put_batch(struct vm *vm, struct leaving *l, uint64_t *taken)
{
    bool full = false;

    vmm_quiesce(vm);
    for (unsigned i = 0; i < l->count; i++) {
        uint64_t value = l->page[i].value;
        int error = full ? -VMM_ENOSPC : put_page(vm, l->page[i].entry, value, taken);

        if (error != 0) {
            const struct vmm_region *r = vmm_memory_find(vm, l->page[i].gpa);

            nested_change(l->page[i].entry, &value,
                          page_again(vm, r, VMM_HPA(value & NESTED_ADDRESS)));
            full |= error == -VMM_ENOSPC;
        }
    }
    l->count = 0;
    return full ? -VMM_ENOSPC : 0;
}

static uint64_t ram_size(struct vm *vm)
{
    const struct vmm_region *r;
    uint64_t size = 0;

    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        size += r->kind == VMM_REGION_RAM ? r->size : 0;
    }
    return size;
}

/* One turn through RAM. */
static int sweep(struct vm *vm, uint64_t bytes, bool unused_only, struct leaving *l,
                 uint64_t *taken)
{
    uint64_t left = ram_size(vm);
    int error = 0;

    while (error == 0 && left > 0 && *taken < bytes) {
        const struct vmm_region *r = sweep_region(vm);
        uint64_t end = r->base.v + r->size, passed;

        do {
            passed = sweep_page(vm, unused_only, l);
            left -= passed < left ? passed : left;
        } while (left > 0 && vm->memory.reclaim_at < end && l->count < BATCH &&
                 *taken + l->count * VMM_PAGE_SIZE < bytes);
        if (l->count != 0) {
            error = put_batch(vm, l, taken);
        }
    }
    return error;
}

int vmm_memory_reclaim(struct vm *vm, uint64_t bytes, uint64_t *taken)
{
    struct leaving *l;
    int error;

    *taken = 0;
    if (vm->ops->store == NULL) {
        return -VMM_ENOTSUP;
    }
    if (vmm_memory_region(vm, 0) == NULL) {
        return 0;
    }
    l = vmm_vm_alloc(vm, sizeof(*l));
    if (l == NULL) {
        return -VMM_ENOMEM;
    }
    error = sweep(vm, bytes, true, l, taken);
    if (error == 0) {
        error = sweep(vm, bytes, false, l, taken);
    }
    vmm_vm_free(vm, l, sizeof(*l));
    return error;
}
