/* The regions of guest memory: which there are, what backs them, how they come and go. See
 * memory.h. */
#include "core/memory.h"

#include "core/dirty.h"
#include "core/reclaim.h"
#include "core/vm.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- the table -------------------------------------------------------------------------------- */

static struct vmm_region_table *table_of(const struct vm *vm)
{
    return __atomic_load_n(&vm->memory.table, __ATOMIC_ACQUIRE);
}

const struct vmm_region *vmm_memory_region(const struct vm *vm, unsigned i)
{
    const struct vmm_region_table *t = table_of(vm);

    return t != NULL && i < t->count ? &t->region[i] : NULL;
}

const struct vmm_region *vmm_memory_find(const struct vm *vm, gpa_t gpa)
{
    const struct vmm_region_table *t = table_of(vm);
    unsigned low = 0, high = t != NULL ? t->count : 0;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct vmm_region *r = &t->region[middle];

        if (gpa.v - r->base.v < r->size) {
            return r;
        }
        if (gpa.v < r->base.v) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

static size_t table_size(unsigned count)
{
    return sizeof(struct vmm_region_table) + count * sizeof(struct vmm_region);
}

void vmm_memory_free_table(struct vm *vm, struct vmm_region_table *t)
{
    vmm_vm_free(vm, t, table_size(VMM_REGIONS_MAX));
}

struct vmm_region_table *vmm_memory_copy_table(struct vm *vm)
{
    const struct vmm_region_table *old = table_of(vm);
    struct vmm_region_table *t = vmm_vm_alloc(vm, table_size(VMM_REGIONS_MAX));

    if (t != NULL && old != NULL) {
        t->count = old->count;
        __builtin_memcpy(t->region, old->region, old->count * sizeof(t->region[0]));
    }
    return t;
}

static void release_table(struct vm *vm, struct vmm_retired *r)
{
    vmm_memory_free_table(vm, VMM_CONTAINER_OF(r, struct vmm_region_table, retired));
}

void vmm_memory_publish(struct vm *vm, struct vmm_region_table *t)
{
    struct vmm_region_table *old = table_of(vm);

    __atomic_store_n(&vm->memory.table, t, __ATOMIC_SEQ_CST);
    if (old != NULL) {
        vmm_retire(vm, &old->retired, release_table);
    } else {
        vmm_forget_soon(vm); /* what was found to be no memory may be memory now */
    }
}

/* --- backing ---------------------------------------------------------------------------------- */

/* Map a block of the host, a power of two and aligned to its size. Each of the pages it is mapped
 * as is an allocation of its own from then on. On failure the block has been given back. */
static int map_block(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned prot)
{
    int error = vmm_nested_map(vm, gpa, hpa, size, prot);
    uint64_t value;
    unsigned level;

    if (error != 0) {
        vmm_quiesce(vm); /* a guest may have reached its first pages */
        vmm_pages_free(vm, hpa, size / VMM_PAGE_SIZE);
        return error;
    }
    vmm_nested_look(vm, gpa, &level, &value);
    if (size > UINT64_C(1) << nested_shift(level)) {
        vm->ops->pages_split(vm->host, hpa, size / VMM_PAGE_SIZE, size >> nested_shift(level));
    }
    __atomic_add_fetch(&vm->nested.page_count, size / VMM_PAGE_SIZE, __ATOMIC_RELAXED);
    return 0;
}

/* Back all of a region: at each address the largest block that alignment, the rest and the host's
 * memory allow. A size that the host refused once is not tried again. */
static int region_back(struct vm *vm, const struct vmm_region *r)
{
    uint64_t largest = UINT64_C(1) << nested_shift(vmm_memory_largest(vm)), offset = 0;

    while (offset < r->size) {
        uint64_t gpa = r->base.v + offset;
        uint64_t size = min_u64(largest, gpa == 0 ? largest : gpa & -gpa);
        hpa_t hpa;
        int error;

        while (size > r->size - offset ||
               (size > VMM_PAGE_SIZE && vmm_memory_node(vm, VMM_GPA(gpa)) !=
                                            vmm_memory_node(vm, VMM_GPA(gpa + size - 1)))) {
            size /= 2;
        }
        if (vm->ops->pages_alloc(vm->host, size / VMM_PAGE_SIZE, size,
                                 vmm_memory_node(vm, VMM_GPA(gpa)), &hpa) != 0) {
            if (size == VMM_PAGE_SIZE) {
                return -VMM_ENOMEM;
            }
            largest = size / 2;
            continue;
        }
        error = map_block(vm, VMM_GPA(gpa), hpa, size, vmm_memory_prot(r));
        if (error != 0) {
            return error;
        }
        offset += size;
    }
    return 0;
}

/* What the guest left in its pages is not for their next owner. */
static bool release_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    uint64_t value = __atomic_exchange_n(entry, 0, __ATOMIC_SEQ_CST);

    (void)gpa;
    (void)arg;
    if ((value & NESTED_STORED) != 0 && (value & NESTED_PRESENT) == 0) {
        vmm_store_drop(vm, value);
        return true;
    }
    vmm_memory_free_page(vm, VMM_HPA(value & NESTED_ADDRESS), level);
    return true;
}

/* No vCPU can reach the region any more. */
static void region_release(struct vm *vm, const struct vmm_region *r)
{
    vmm_nested_visit(vm, r->base, r->size, release_page, NULL);
    vmm_dirty_free(vm, r);
}

/* --- adding and removing ---------------------------------------------------------------------- */

static bool overlaps(const struct vm *vm, gpa_t base, uint64_t size)
{
    const struct vmm_region *r;

    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        if (base.v < r->base.v + r->size && r->base.v < base.v + size) {
            return true;
        }
    }
    return vmm_bus_overlaps(&vm->mmio, base.v, size);
}

/* A page is there: one of the back end's own, which is in no region. */
static bool is_mapped(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    (void)vm;
    (void)gpa;
    (void)entry;
    (void)level;
    (void)arg;
    return false;
}

static int check_range(struct vm *vm, gpa_t base, uint64_t size)
{
    uint64_t limit = UINT64_C(1) << nested_shift(vm->nested.levels);

    if (size == 0 || (base.v | size) % VMM_PAGE_SIZE != 0 || base.v > limit ||
        size > limit - base.v) {
        return -VMM_EINVAL;
    }
    return overlaps(vm, base, size) || !vmm_nested_visit(vm, base, size, is_mapped, NULL)
               ? -VMM_EEXIST
               : 0;
}

static void insert(struct vmm_region_table *t, const struct vmm_region *r)
{
    unsigned at = t->count++;

    for (; at > 0 && t->region[at - 1].base.v > r->base.v; at--) {
        t->region[at] = t->region[at - 1];
    }
    t->region[at] = *r;
}

/* The tables are filled before the region is there: guests may reach its pages already, handlers
 * not yet. */
int vmm_memory_add(struct vm *vm, gpa_t base, uint64_t size, enum vmm_region_kind kind)
{
    struct vmm_region r = {.base = base, .size = size, .kind = kind};
    struct vmm_region_table *t;
    int error = check_range(vm, base, size);

    if (error != 0) {
        return error;
    }
    t = vmm_memory_copy_table(vm);
    if (t == NULL) {
        return -VMM_ENOMEM;
    }
    error = t->count == VMM_REGIONS_MAX ? -VMM_ENOSPC : 0;
    if (error == 0) {
        error = vmm_dirty_region_added(vm, &r);
    }
    if (error == 0 && !vm->config.lazy_memory) {
        error = region_back(vm, &r);
    }
    if (error == 0) {
        error = vmm_dirty_region_backed(vm, &r);
    }
    if (error != 0) {
        vmm_nested_visit(vm, base, size, vmm_memory_hide_page, NULL);
        vmm_quiesce(vm);
        region_release(vm, &r);
        vmm_nested_prune(vm, base, size);
        vmm_memory_free_table(vm, t);
        return error;
    }
    insert(t, &r);
    vmm_memory_publish(vm, t);
    return 0;
}

/* First no vCPU may find the region, so that none adds a page to it; then none may have it in its
 * TLB; then its pages go, and the tables that were its alone: a large page may come to their place.
 */
int vmm_memory_remove(struct vm *vm, gpa_t base)
{
    const struct vmm_region *r = vmm_memory_find(vm, base);
    struct vmm_region_table *t;
    struct vmm_region gone;
    unsigned kept = 0;

    if (r == NULL || r->base.v != base.v) {
        return -VMM_ENOENT;
    }
    gone = *r;
    t = vmm_memory_copy_table(vm);
    if (t == NULL) {
        return -VMM_ENOMEM;
    }
    for (unsigned i = 0; i < t->count; i++) {
        if (t->region[i].base.v != base.v) {
            t->region[kept++] = t->region[i];
        }
    }
    t->count = kept;
    vmm_memory_publish(vm, t);
    vmm_quiesce(vm);
    vmm_nested_visit(vm, gone.base, gone.size, vmm_memory_hide_page, NULL);
    vmm_quiesce(vm);
    region_release(vm, &gone);
    vmm_nested_prune(vm, gone.base, gone.size);
    return 0;
}

void vmm_memory_destroy(struct vm *vm)
{
    struct vmm_region_table *t = table_of(vm);

    vmm_retired_release(vm);
    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        region_release(vm, &t->region[i]);
    }
    vmm_memory_free_table(vm, t);
    vm->memory.table = NULL;
}
