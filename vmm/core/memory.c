/* The guest-physical map. See memory.h. */
#include "core/memory.h"

#include "core/dirty.h"
#include "core/reclaim.h"
#include "core/vm.h"
#include "dev/platform.h"

#define BLOCK_MAX VMM_GIB(1) /* no page is larger */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- regions ---------------------------------------------------------------------------------- */

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

static unsigned region_prot(const struct vmm_region *r)
{
    return VMM_MAP_READ | VMM_MAP_EXEC | (r->kind == VMM_REGION_RAM ? VMM_MAP_WRITE : 0);
}

/* The node that the page at gpa comes from: RAM's shares lie one behind the other. */
static int node_of(const struct vm *vm, gpa_t gpa)
{
    const struct vm_config *c = &vm->config;
    uint64_t share;

    if (vmm_likely(c->ram_node_count == 0)) {
        return c->node;
    }
    /* Above 4 GiB RAM goes on where it ended below. */
    share = (gpa.v < VMM_GIB(4) ? gpa.v : gpa.v - VMM_GIB(4) + PLATFORM_LOW_RAM_END) /
            (c->mem_bytes / c->ram_node_count);
    return c->ram_node[min_u64(share, c->ram_node_count - 1)];
}

/* Map a block of the host, a power of two and aligned to its size. Each of the pages it is mapped
 * as is an allocation of its own from then on. On failure the block has been given back. */
static int map_block(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned prot)
{
    int error = vmm_nested_map(vm, gpa, hpa, size, prot);
    unsigned level;

    if (error != 0) {
        vmm_quiesce(vm); /* a guest may have reached its first pages */
        vm->ops->pages_free(vm->host, hpa, size / VMM_PAGE_SIZE);
        return error;
    }
    vmm_nested_find(vm, gpa, &level);
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
    uint64_t largest = BLOCK_MAX, offset = 0;

    while (offset < r->size) {
        uint64_t gpa = r->base.v + offset;
        uint64_t size = min_u64(largest, gpa == 0 ? BLOCK_MAX : gpa & -gpa);
        hpa_t hpa;
        int error;

        while (size > r->size - offset ||
               (size > VMM_PAGE_SIZE &&
                node_of(vm, VMM_GPA(gpa)) != node_of(vm, VMM_GPA(gpa + size - 1)))) {
            size /= 2;
        }
        if (vm->ops->pages_alloc(vm->host, size / VMM_PAGE_SIZE, size, node_of(vm, VMM_GPA(gpa)),
                                 &hpa) != 0) {
            if (size == VMM_PAGE_SIZE) {
                return -VMM_ENOMEM;
            }
            largest = size / 2;
            continue;
        }
        error = map_block(vm, VMM_GPA(gpa), hpa, size, region_prot(r));
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

void vmm_memory_free_page(struct vm *vm, hpa_t hpa, unsigned level)
{
    uint64_t pages = UINT64_C(1) << 9 * level;

    __builtin_memset(vm->ops->hpa_to_va(vm->host, hpa), 0, pages * VMM_PAGE_SIZE);
    vm->ops->pages_free(vm->host, hpa, pages);
    __atomic_sub_fetch(&vm->nested.page_count, pages, __ATOMIC_RELAXED);
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

static int check_range(const struct vm *vm, gpa_t base, uint64_t size)
{
    uint64_t limit = UINT64_C(1) << nested_shift(vm->nested.levels);

    if (size == 0 || (base.v | size) % VMM_PAGE_SIZE != 0 || base.v > limit ||
        size > limit - base.v) {
        return -VMM_EINVAL;
    }
    return overlaps(vm, base, size) ? -VMM_EEXIST : 0;
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
    if (error != 0) {
        vmm_nested_visit(vm, base, size, vmm_memory_hide_page, NULL);
        vmm_quiesce(vm);
        region_release(vm, &r);
        vmm_memory_free_table(vm, t);
        return error;
    }
    insert(t, &r);
    vmm_memory_publish(vm, t);
    return 0;
}

/* First no vCPU may find the region, so that none adds a page to it; then none may have it in its
 * TLB; then its pages go. The tables stay: another region may come to the same place. */
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
    return 0;
}

bool vmm_memory_hide_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    uint64_t value = nested_load(entry);

    (void)vm;
    (void)gpa;
    (void)arg;
    while (nested_is_page(value, level) &&
           !nested_change(entry, &value, (value & NESTED_ADDRESS) | NESTED_LEAVING)) {
    }
    return true;
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

/* --- a page at a time ------------------------------------------------------------------------- */

/* A page for an entry that is empty, zeroed. Another vCPU may be faster. */
static int first_touch(struct vm *vm, const struct vmm_region *r, uint64_t *entry, gpa_t gpa,
                       bool write)
{
    unsigned prot = region_prot(r);
    uint64_t empty = 0;
    hpa_t hpa;

    if (vm->ops->pages_alloc(vm->host, 1, VMM_PAGE_SIZE, node_of(vm, gpa), &hpa) != 0) {
        return -VMM_ENOMEM;
    }
    __builtin_memset(vm->ops->hpa_to_va(vm->host, hpa), 0, VMM_PAGE_SIZE);
    if (vmm_unlikely(vmm_dirty_bits(r) != NULL && !write)) {
        prot &= ~(unsigned)VMM_MAP_WRITE;
    }
    if (vmm_unlikely(!nested_change(entry, &empty, vmm_nested_page(&vm->nested, hpa, 0, prot)))) {
        vm->ops->pages_free(vm->host, hpa, 1);
        return 0;
    }
    __atomic_add_fetch(&vm->nested.page_count, 1, __ATOMIC_RELAXED);
    if (vmm_unlikely(vmm_dirty_bits(r) != NULL && write)) {
        vmm_dirty_mark(r, gpa);
    }
    return 0;
}

/* Make the page at gpa present, and writable for a write to RAM. *entry is its entry then. */
static int touch(struct vm *vm, const struct vmm_region *r, gpa_t gpa, bool write, uint64_t **entry,
                 unsigned *level)
{
    for (;;) {
        uint64_t value;
        int error;

        *entry = vmm_nested_find(vm, gpa, level);
        value = nested_load(*entry);
        if (vmm_likely(nested_is_page(value, *level))) {
            if (!write || r->kind == VMM_REGION_ROM || (value & vm->nested.format->write) != 0) {
                return 0;
            }
            error = vmm_dirty_unprotect(vm, r, gpa, *entry, *level);
        } else if (value == 0) {
            *entry = vmm_nested_make(vm, gpa, 0, level);
            if (*entry == NULL) {
                return -VMM_ENOMEM;
            }
            error = *level == 0 ? first_touch(vm, r, *entry, gpa, write) : 0;
        } else {
            error = vmm_memory_bring_back(vm, r, *entry, value);
        }
        if (error != 0) {
            return error;
        }
    }
}

/* Host address of gpa and how many bytes from there are contiguous; NULL: not RAM, or *error. */
static uint8_t *span(struct vm *vm, gpa_t gpa, bool write, uint64_t *contiguous, int *error)
{
    const struct vmm_region *r = vmm_memory_find(vm, gpa);
    uint64_t *entry, offset, page;
    unsigned level;

    if (r == NULL) {
        *error = -VMM_EFAULT;
        return NULL;
    }
    *error = touch(vm, r, gpa, write, &entry, &level);
    if (*error != 0) {
        return NULL;
    }
    if (vmm_unlikely(write && vmm_dirty_bits(r) != NULL)) {
        vmm_dirty_mark(r, gpa);
        level = 0;
    }
    page = UINT64_C(1) << nested_shift(level);
    offset = gpa.v & (page - 1);
    *contiguous = page - offset;
    return (uint8_t *)vm->ops->hpa_to_va(vm->host,
                                         VMM_HPA(nested_load(entry) & NESTED_ADDRESS & -page)) +
           offset;
}

const void *vmm_memory_ptr(struct vm *vm, gpa_t gpa, uint64_t len)
{
    uint64_t contiguous;
    int error;
    const uint8_t *p = span(vm, gpa, false, &contiguous, &error);

    return p != NULL && len <= contiguous ? p : NULL;
}

void *vmm_memory_ptr_write(struct vm *vm, gpa_t gpa, uint64_t len)
{
    uint64_t contiguous;
    int error;
    uint8_t *p = span(vm, gpa, true, &contiguous, &error);

    return p != NULL && len <= contiguous ? p : NULL;
}

const void *vmm_memory_backed(struct vm *vm, gpa_t gpa, uint64_t *contiguous, int *error)
{
    unsigned level;
    const uint64_t *entry = vmm_nested_find(vm, gpa, &level);

    *error = 0;
    if (nested_load(entry) == 0 || vmm_memory_find(vm, gpa) == NULL) {
        uint64_t page = UINT64_C(1) << nested_shift(level);

        *contiguous = page - (gpa.v & (page - 1));
        return NULL;
    }
    return span(vm, gpa, false, contiguous, error);
}

/* --- copies ----------------------------------------------------------------------------------- */

/* Is every byte of [gpa, gpa+len) in a region? */
static bool covered(struct vm *vm, gpa_t gpa, uint64_t len)
{
    if (gpa.v + len < gpa.v) {
        return false;
    }
    while (len > 0) {
        const struct vmm_region *r = vmm_memory_find(vm, gpa);
        uint64_t part;

        if (r == NULL) {
            return false;
        }
        part = min_u64(len, r->base.v + r->size - gpa.v);
        gpa.v += part;
        len -= part;
    }
    return true;
}

int vmm_memory_read(struct vm *vm, gpa_t gpa, void *out, uint64_t len)
{
    uint8_t *bytes = out;

    if (!covered(vm, gpa, len)) {
        return -VMM_EFAULT;
    }
    while (len > 0) {
        uint64_t part = 0;
        int error;
        const void *p = vmm_memory_backed(vm, gpa, &part, &error);

        if (error != 0) {
            return error;
        }
        part = min_u64(part, len);
        if (p != NULL) {
            __builtin_memcpy(bytes, p, part);
        } else {
            __builtin_memset(bytes, 0, part);
        }
        bytes += part;
        gpa.v += part;
        len -= part;
    }
    return 0;
}

/* data NULL: zeros, which pages that nobody touched hold already. */
static int fill(struct vm *vm, gpa_t gpa, const uint8_t *data, uint64_t len)
{
    if (!covered(vm, gpa, len)) {
        return -VMM_EFAULT;
    }
    while (len > 0) {
        uint64_t part = 0;
        int error = 0;
        uint8_t *p = NULL;

        if (data != NULL || vmm_memory_backed(vm, gpa, &part, &error) != NULL) {
            p = span(vm, gpa, true, &part, &error);
        }
        if (error != 0) {
            return error;
        }
        part = min_u64(part, len);
        if (data != NULL) {
            __builtin_memcpy(p, data, part);
            data += part;
        } else if (p != NULL) {
            __builtin_memset(p, 0, part);
        }
        gpa.v += part;
        len -= part;
    }
    return 0;
}

int vmm_memory_write(struct vm *vm, gpa_t gpa, const void *data, uint64_t len)
{
    return fill(vm, gpa, data, len);
}

int vmm_memory_zero(struct vm *vm, gpa_t gpa, uint64_t len)
{
    return fill(vm, gpa, NULL, len);
}

/* --- faults ----------------------------------------------------------------------------------- */

static bool leaf_table_holds(const struct vcpu *v, gpa_t gpa)
{
    return v->leaf != NULL && gpa.v - v->leaf_base < VMM_MIB(2);
}

/* First touches mostly go upward: the table of the last one serves 512. */
int vmm_memory_fault(struct vcpu *v, gpa_t gpa, bool write)
{
    const struct vmm_region *r = vmm_memory_find(v->vm, gpa);
    uint64_t *entry;
    unsigned level;
    int error;

    if (r == NULL) {
        return -VMM_ENOENT;
    }
    if (write && r->kind == VMM_REGION_ROM) {
        return -VMM_EPERM;
    }
    if (vmm_likely(leaf_table_holds(v, gpa))) {
        entry = &v->leaf[gpa.v / VMM_PAGE_SIZE % NESTED_ENTRIES];
        if (vmm_likely(nested_load(entry) == 0)) {
            return first_touch(v->vm, r, entry, gpa, write);
        }
    }
    error = touch(v->vm, r, gpa, write, &entry, &level);
    if (error == 0 && level == 0) {
        v->leaf = entry - gpa.v / VMM_PAGE_SIZE % NESTED_ENTRIES;
        v->leaf_base = gpa.v & -VMM_MIB(2);
    }
    return error;
}
