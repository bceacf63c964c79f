/* Guest memory page by page: what backs an address, from its first touch on. See memory.h. */
#include "core/memory.h"

#include "core/dirty.h"
#include "core/reclaim.h"
#include "core/vm.h"
#include "dev/platform.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

unsigned vmm_memory_prot(const struct vmm_region *r)
{
    return VMM_MAP_READ | VMM_MAP_EXEC | (r->kind == VMM_REGION_RAM ? VMM_MAP_WRITE : 0);
}

/* RAM's shares lie one behind the other. */
int vmm_memory_node(const struct vm *vm, gpa_t gpa)
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

void vmm_pages_free(struct vm *vm, hpa_t base, uint64_t count)
{
    __builtin_memset(vm->ops->hpa_to_va(vm->host, base), 0, count * VMM_PAGE_SIZE);
    vm->ops->pages_free(vm->host, base, count);
}

void vmm_memory_free_page(struct vm *vm, hpa_t hpa, unsigned level)
{
    uint64_t pages = UINT64_C(1) << 9 * level;

    vmm_pages_free(vm, hpa, pages);
    __atomic_sub_fetch(&vm->nested.page_count, pages, __ATOMIC_RELAXED);
}

/* --- a page at a time ------------------------------------------------------------------------- */

/* A page for an entry that is empty, zeroed. Inlined, because what is quick knows the level.
 * Several vCPUs may do so at a time: one is the first, the others' work was in vain. */
static inline __attribute__((always_inline)) int first_touch(struct vm *vm,
                                                             const struct vmm_region *r,
                                                             uint64_t *entry, unsigned level,
                                                             gpa_t gpa, bool write)
{
    const uint64_t pages = UINT64_C(1) << 9 * level;
    const bool logged = vmm_dirty_bits(r) != NULL;
    unsigned prot = vmm_memory_prot(r);
    uint64_t empty = 0;
    hpa_t hpa;

    if (vm->ops->pages_alloc(vm->host, pages, pages * VMM_PAGE_SIZE, vmm_memory_node(vm, gpa),
                             &hpa) != 0) {
        return -VMM_ENOMEM;
    }
    __builtin_memset(vm->ops->hpa_to_va(vm->host, hpa), 0, pages * VMM_PAGE_SIZE);
    if (vmm_unlikely(logged && !write)) {
        prot &= ~(unsigned)VMM_MAP_WRITE;
    }
    if (vmm_unlikely(
            !nested_change(entry, &empty, vmm_nested_page(&vm->nested, hpa, level, prot)))) {
        vm->ops->pages_free(vm->host, hpa, pages);
        return 0;
    }
    __atomic_add_fetch(&vm->nested.page_count, pages, __ATOMIC_RELAXED);
    if (vmm_unlikely(logged && write)) {
        vmm_dirty_mark(r, gpa);
    }
    return 0;
}

unsigned vmm_memory_largest(const struct vm *vm)
{
    static const uint8_t level_table[] = {
        [VM_HUGE_PAGES_ANY] = 2, [VM_HUGE_PAGES_2M] = 1, [VM_HUGE_PAGES_NONE] = 0};

    return level_table[vm->config.huge_pages];
}

/* What is logged is backed by pages of the size that is logged. */
static unsigned level_for(const struct vm *vm, const struct vmm_region *r, gpa_t gpa)
{
    gpa_t first = VMM_GPA(gpa.v & -VMM_MIB(2)), last = VMM_GPA(gpa.v | (VMM_MIB(2) - 1));

    return vmm_memory_largest(vm) > 0 && first.v >= r->base.v && last.v - r->base.v < r->size &&
           vmm_dirty_bits(r) == NULL && vmm_memory_node(vm, first) == vmm_memory_node(vm, last);
}

/* The host is asked for a large page once: then a table is in its place. */
static int back(struct vm *vm, const struct vmm_region *r, gpa_t gpa, bool write)
{
    for (unsigned lowest = level_for(vm, r, gpa);; lowest--) {
        unsigned level;
        uint64_t *entry = vmm_nested_make(vm, gpa, lowest, &level);
        int error;

        if (entry == NULL) {
            return -VMM_ENOMEM;
        }
        error = level <= lowest && nested_load(entry) == 0
                    ? first_touch(vm, r, entry, level, gpa, write)
                    : 0;
        if (error == 0 || level == 0) {
            return error;
        }
    }
}

/* What backs an address, as it was found: the entry may be another a moment later, but the page
 * stays where it is until the thread passes. */
struct leaf {
    uint64_t *entry, value;
    unsigned level;
};

/* Make the page at gpa present, and writable for a write to RAM. */
static int touch(struct vm *vm, const struct vmm_region *r, gpa_t gpa, bool write, struct leaf *l)
{
    for (;;) {
        int error;

        l->entry = vmm_nested_look(vm, gpa, &l->level, &l->value);
        if (vmm_likely(nested_is_page(l->value, l->level))) {
            if (!write || r->kind == VMM_REGION_ROM || (l->value & vm->nested.format->write) != 0) {
                return 0;
            }
            error = vmm_dirty_unprotect(vm, r, gpa, l->entry, l->level);
        } else if (l->value == 0) {
            error = back(vm, r, gpa, write);
        } else {
            error = vmm_memory_bring_back(vm, r, gpa, l->entry, l->value);
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
    uint64_t offset, page;
    struct leaf l;

    if (r == NULL) {
        *error = -VMM_EFAULT;
        return NULL;
    }
    *error = touch(vm, r, gpa, write, &l);
    if (*error != 0) {
        return NULL;
    }
    if (vmm_unlikely(write && vmm_dirty_bits(r) != NULL)) {
        vmm_dirty_mark(r, gpa);
        l.level = 0;
    }
    page = UINT64_C(1) << nested_shift(l.level);
    offset = gpa.v & (page - 1);
    *contiguous = page - offset;
    return (uint8_t *)vm->ops->hpa_to_va(vm->host, VMM_HPA(l.value & NESTED_ADDRESS & -page)) +
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
    uint64_t value;
    unsigned level;

    vmm_nested_look(vm, gpa, &level, &value);
    *error = 0;
    if (value == 0 || vmm_memory_find(vm, gpa) == NULL) {
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
    struct leaf l;
    int error;

    if (r == NULL) {
        return -VMM_ENOENT;
    }
    if (write && r->kind == VMM_REGION_ROM) {
        return -VMM_EPERM;
    }
    if (vmm_likely(leaf_table_holds(v, gpa))) {
        uint64_t *entry = &v->leaf[gpa.v / VMM_PAGE_SIZE % NESTED_ENTRIES];

        if (vmm_likely(nested_load(entry) == 0)) {
            return first_touch(v->vm, r, entry, 0, gpa, write);
        }
    }
    error = touch(v->vm, r, gpa, write, &l);
    if (error == 0 && l.level == 0) {
        v->leaf = l.entry - gpa.v / VMM_PAGE_SIZE % NESTED_ENTRIES;
        v->leaf_base = gpa.v & -VMM_MIB(2);
    }
    return error;
}
