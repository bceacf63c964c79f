/* The guest-physical map. See memory.h.
 *
 * An eager region gets blocks that are powers of two, naturally aligned in guest and host alike, so
 * that each can be mapped with the largest page its size allows. A lazy one gets a 4 KiB block per
 * page on first touch. */
#include "core/memory.h"

#include "core/vm.h"

#define BLOCK_MAX VMM_GIB(1) /* no page is larger */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static unsigned region_prot(const struct vmm_region *r)
{
    return VMM_MAP_READ | VMM_MAP_EXEC | (r->kind == VMM_REGION_RAM ? VMM_MAP_WRITE : 0);
}

static struct vmm_region *region_find(struct vmm_memory *m, gpa_t gpa)
{
    for (unsigned i = 0; i < m->region_count; i++) {
        if (gpa.v - m->region[i].base.v < m->region[i].size) {
            return &m->region[i];
        }
    }
    return NULL;
}

static uint64_t block_end(const struct vmm_block *b)
{
    return b->gpa.v + b->size;
}

/* The index of the first block that ends above gpa: the one that holds it, or the place of one that
 * would. */
static unsigned block_index(const struct vmm_region *r, gpa_t gpa)
{
    unsigned low = 0;
    unsigned high = r->block_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (block_end(&r->block[middle]) <= gpa.v) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The same for a lazy region, its lock held: first touches mostly go upward, so the place after the
 * last answer is tried first. */
static unsigned block_index_lazy(struct vmm_region *r, gpa_t gpa)
{
    unsigned next = r->block_hint + 1;

    if (next > r->block_count || block_end(&r->block[next - 1]) > gpa.v ||
        (next < r->block_count && block_end(&r->block[next]) <= gpa.v)) {
        next = block_index(r, gpa);
    }
    r->block_hint = next;
    return next;
}

static int block_make_room(struct vm *vm, struct vmm_region *r)
{
    unsigned room = r->block_room == 0 ? 16 : r->block_room * 2;
    struct vmm_block *block;

    if (r->block_count < r->block_room) {
        return 0;
    }
    block = vmm_vm_alloc(vm, room * sizeof(*block));
    if (block == NULL) {
        return -VMM_ENOMEM;
    }
    if (r->block != NULL) {
        __builtin_memcpy(block, r->block, r->block_count * sizeof(*block));
        vmm_vm_free(vm, r->block, r->block_room * sizeof(*block));
    }
    r->block = block;
    r->block_room = room;
    return 0;
}

/* Take a block from the host, map it and insert it at its place. */
static int block_add(struct vm *vm, struct vmm_region *r, unsigned at, gpa_t gpa, uint64_t size,
                     bool zero)
{
    struct vmm_block block = {.gpa = gpa, .size = size};
    int error = block_make_room(vm, r);

    if (error != 0) {
        return error;
    }
    error = vm->ops->pages_alloc(vm->host, size / VMM_PAGE_SIZE, size, vm->config.node, &block.hpa);
    if (error != 0) {
        return error;
    }
    if (zero) {
        __builtin_memset(vm->ops->hpa_to_va(vm->host, block.hpa), 0, size);
    }
    error = vm->vmm->backend->map(vm, gpa, block.hpa, size, region_prot(r));
    if (error != 0) {
        vm->ops->pages_free(vm->host, block.hpa, size / VMM_PAGE_SIZE);
        return error;
    }
    if (at < r->block_count) {
        __builtin_memmove(&r->block[at + 1], &r->block[at], (r->block_count - at) * sizeof(block));
    }
    r->block[at] = block;
    r->block_count++;
    return 0;
}

/* What the guest left in its pages is not for their next owner. */
static void region_release(struct vm *vm, struct vmm_region *r)
{
    for (unsigned i = 0; i < r->block_count; i++) {
        struct vmm_block *b = &r->block[i];

        vm->vmm->backend->unmap(vm, b->gpa, b->size);
        __builtin_memset(vm->ops->hpa_to_va(vm->host, b->hpa), 0, b->size);
        vm->ops->pages_free(vm->host, b->hpa, b->size / VMM_PAGE_SIZE);
    }
    vmm_vm_free(vm, r->block, r->block_room * sizeof(*r->block));
    r->block = NULL;
    r->block_count = r->block_room = r->block_hint = 0;
}

/* Back all of a region: at each address the largest block that alignment, the rest and the host's
 * memory allow. A size that the host refused once is not tried again. */
static int region_back(struct vm *vm, struct vmm_region *r)
{
    uint64_t largest = BLOCK_MAX;
    uint64_t offset = 0;

    while (offset < r->size) {
        uint64_t gpa = r->base.v + offset;
        uint64_t size = min_u64(largest, gpa == 0 ? BLOCK_MAX : gpa & -gpa);
        int error;

        while (size > r->size - offset) {
            size /= 2;
        }
        error = block_add(vm, r, r->block_count, VMM_GPA(gpa), size, false);
        if (error == -VMM_ENOMEM && size > VMM_PAGE_SIZE) {
            largest = size / 2;
            continue;
        }
        if (error != 0) {
            return error;
        }
        offset += size;
    }
    return 0;
}

int vmm_memory_add(struct vm *vm, gpa_t base, uint64_t size, enum vmm_region_kind kind)
{
    struct vmm_memory *m = &vm->memory;
    struct vmm_region *r = &m->region[m->region_count];
    int error;

    if (size == 0 || (base.v | size) % VMM_PAGE_SIZE != 0 || base.v + size < base.v) {
        return -VMM_EINVAL;
    }
    for (unsigned i = 0; i < m->region_count; i++) {
        if (base.v < m->region[i].base.v + m->region[i].size &&
            m->region[i].base.v < base.v + size) {
            return -VMM_EEXIST;
        }
    }
    if (m->region_count == VMM_REGIONS_MAX) {
        return -VMM_ENOSPC;
    }
    *r = (struct vmm_region){.base = base, .size = size, .kind = kind};
    if (!vm->config.lazy_memory) {
        error = region_back(vm, r);
        if (error != 0) {
            region_release(vm, r);
            return error;
        }
    }
    m->region_count++;
    return 0;
}

void vmm_memory_destroy(struct vm *vm)
{
    for (unsigned i = 0; i < vm->memory.region_count; i++) {
        region_release(vm, &vm->memory.region[i]);
    }
    vm->memory.region_count = 0;
}

/* The block of region r that holds gpa, backed now if the region is lazy. Errors: -VMM_ENOMEM. */
static int block_get(struct vm *vm, struct vmm_region *r, gpa_t gpa, struct vmm_block *out)
{
    int error = 0;
    unsigned i;

    if (!vm->config.lazy_memory) {
        *out = r->block[block_index(r, gpa)];
        return 0;
    }
    vm->ops->lock(vm->host, &vm->memory.lock);
    i = block_index_lazy(r, gpa);
    if (i == r->block_count || gpa.v < r->block[i].gpa.v) {
        error = block_add(vm, r, i, VMM_GPA(gpa.v & -VMM_PAGE_SIZE), VMM_PAGE_SIZE, true);
    }
    if (error == 0) {
        *out = r->block[i];
    }
    vm->ops->unlock(vm->host, &vm->memory.lock);
    return error;
}

/* Host address of gpa and how many bytes from there are contiguous; NULL: not RAM. */
static uint8_t *span(struct vm *vm, gpa_t gpa, uint64_t *contiguous)
{
    struct vmm_region *r = region_find(&vm->memory, gpa);
    struct vmm_block b;
    uint64_t offset;

    if (r == NULL || block_get(vm, r, gpa, &b) != 0) {
        return NULL;
    }
    offset = gpa.v - b.gpa.v;
    *contiguous = b.size - offset;
    return (uint8_t *)vm->ops->hpa_to_va(vm->host, b.hpa) + offset;
}

void *vmm_memory_ptr(struct vm *vm, gpa_t gpa, uint64_t len)
{
    uint64_t contiguous;
    uint8_t *p = span(vm, gpa, &contiguous);

    return p != NULL && len <= contiguous ? p : NULL;
}

void *vmm_memory_backed(struct vm *vm, gpa_t gpa, uint64_t *contiguous)
{
    struct vmm_region *r = region_find(&vm->memory, gpa);
    unsigned i = block_index(r, gpa);
    uint64_t end = r->base.v + r->size;

    if (i == r->block_count || gpa.v < r->block[i].gpa.v) {
        *contiguous = (i == r->block_count ? end : r->block[i].gpa.v) - gpa.v;
        return NULL;
    }
    *contiguous = block_end(&r->block[i]) - gpa.v;
    return (uint8_t *)vm->ops->hpa_to_va(vm->host, r->block[i].hpa) + (gpa.v - r->block[i].gpa.v);
}

/* Is every byte of [gpa, gpa+len) in a region? */
static bool covered(struct vm *vm, gpa_t gpa, uint64_t len)
{
    if (gpa.v + len < gpa.v) {
        return false;
    }
    while (len > 0) {
        struct vmm_region *r = region_find(&vm->memory, gpa);
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

enum copy { COPY_OUT, COPY_IN, COPY_ZERO };

static int copy(struct vm *vm, gpa_t gpa, uint8_t *bytes, uint64_t len, enum copy how)
{
    if (!covered(vm, gpa, len)) {
        return -VMM_EFAULT;
    }
    while (len > 0) {
        uint64_t part = 0;
        uint8_t *p = span(vm, gpa, &part);

        if (p == NULL) {
            return -VMM_ENOMEM;
        }
        part = min_u64(part, len);
        switch (how) {
        case COPY_OUT:
            __builtin_memcpy(bytes, p, part);
            bytes += part;
            break;
        case COPY_IN:
            __builtin_memcpy(p, bytes, part);
            bytes += part;
            break;
        case COPY_ZERO:
            __builtin_memset(p, 0, part);
            break;
        }
        gpa.v += part;
        len -= part;
    }
    return 0;
}

int vmm_memory_read(struct vm *vm, gpa_t gpa, void *out, uint64_t len)
{
    return copy(vm, gpa, out, len, COPY_OUT);
}

int vmm_memory_write(struct vm *vm, gpa_t gpa, const void *data, uint64_t len)
{
    return copy(vm, gpa, (uint8_t *)data, len, COPY_IN);
}

int vmm_memory_zero(struct vm *vm, gpa_t gpa, uint64_t len)
{
    return copy(vm, gpa, NULL, len, COPY_ZERO);
}

int vmm_memory_fault(struct vm *vm, gpa_t gpa, bool write)
{
    struct vmm_region *r = region_find(&vm->memory, gpa);
    struct vmm_block b;

    if (r == NULL) {
        return -VMM_ENOENT;
    }
    if (write && r->kind == VMM_REGION_ROM) {
        return -VMM_EPERM;
    }
    return block_get(vm, r, gpa, &b);
}
