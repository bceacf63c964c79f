/* See nested.h. Spec: AMD APM vol. 2 sections 5.3 and 15.25; Intel SDM vol. 3 section 29.3, "The
 * Extended Page Table Mechanism". The two agree on the tree, the address and the large-page bit. */
#include "core/vm.h"

#define ENTRY_LARGE   (UINT64_C(1) << 7)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define TABLE_ENTRIES 512

static unsigned level_shift(unsigned level)
{
    return 12 + 9 * level;
}

static uint64_t *table_at(struct vm *vm, hpa_t hpa)
{
    return vm->ops->hpa_to_va(vm->host, hpa);
}

static uint64_t *entry_in(uint64_t *table, gpa_t gpa, unsigned level)
{
    return &table[gpa.v >> level_shift(level) & (TABLE_ENTRIES - 1)];
}

static int table_alloc(struct vm *vm, hpa_t *out)
{
    struct vmm_nested *n = &vm->nested;

    if (vm->ops->pages_alloc(vm->host, 1, VMM_PAGE_SIZE, vm->config.node, out) != 0) {
        return -VMM_ENOMEM;
    }
    __builtin_memset(table_at(vm, *out), 0, VMM_PAGE_SIZE);
    n->table_count++;
    return 0;
}

int vmm_nested_create(struct vm *vm, const struct vmm_nested_format *format, unsigned levels,
                      bool page_1g)
{
    struct vmm_nested *n = &vm->nested;

    *n = (struct vmm_nested){.format = format, .levels = levels, .page_1g = page_1g};
    return table_alloc(vm, &n->root);
}

static void table_free(struct vm *vm, hpa_t hpa, unsigned level)
{
    uint64_t *table = table_at(vm, hpa);

    if (level > 0) {
        for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
            if (table[i] != 0 && (table[i] & ENTRY_LARGE) == 0) {
                table_free(vm, VMM_HPA(table[i] & ENTRY_ADDRESS), level - 1);
            }
        }
    }
    vm->ops->pages_free(vm->host, hpa, 1);
}

void vmm_nested_destroy(struct vm *vm)
{
    table_free(vm, vm->nested.root, vm->nested.levels - 1);
}

/* The entry for gpa at `level`, tables on the way made when `make` is set. NULL: out of memory, not
 * there, or a larger page is in the way (then *larger is its level). */
static uint64_t *walk(struct vm *vm, gpa_t gpa, unsigned level, bool make, unsigned *larger)
{
    struct vmm_nested *n = &vm->nested;
    uint64_t *table;

    *larger = 0;
    if (level == 0 && n->leaf != NULL && gpa.v - n->leaf_base < VMM_MIB(2)) {
        return entry_in(n->leaf, gpa, 0);
    }
    table = table_at(vm, n->root);
    for (unsigned at = n->levels - 1; at > level; at--) {
        uint64_t *entry = entry_in(table, gpa, at);

        if (*entry == 0) {
            hpa_t next;

            if (!make || table_alloc(vm, &next) != 0) {
                return NULL;
            }
            *entry = next.v | n->format->table;
        } else if ((*entry & ENTRY_LARGE) != 0) {
            *larger = at;
            return NULL;
        }
        table = table_at(vm, VMM_HPA(*entry & ENTRY_ADDRESS));
    }
    if (level == 0) {
        n->leaf_base = gpa.v & -VMM_MIB(2);
        n->leaf = table;
    }
    return entry_in(table, gpa, level);
}

/* The largest page that both addresses and the rest of the range allow. */
static unsigned page_level(bool page_1g, uint64_t gpa, uint64_t hpa, uint64_t size)
{
    unsigned level = size < VMM_MIB(2) ? 0 : page_1g ? 2 : 1;

    while (level > 0) {
        uint64_t page = UINT64_C(1) << level_shift(level);

        if (((gpa | hpa) & (page - 1)) == 0 && size >= page) {
            break;
        }
        level--;
    }
    return level;
}

static int map_page(struct vm *vm, gpa_t gpa, hpa_t hpa, unsigned level, uint64_t bits)
{
    unsigned larger;
    uint64_t *entry = walk(vm, gpa, level, true, &larger);

    if (entry == NULL) {
        return larger != 0 ? -VMM_EEXIST : -VMM_ENOMEM;
    }
    if (*entry != 0) {
        return -VMM_EEXIST; /* a page, or a table of smaller ones */
    }
    *entry = hpa.v | bits | (level > 0 ? ENTRY_LARGE : 0);
    return 0;
}

int vmm_nested_map(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned prot)
{
    const struct vmm_nested *n = &vm->nested;
    const struct vmm_nested_format *f = n->format;
    uint64_t bits = f->page | ((prot & VMM_MAP_WRITE) != 0 ? f->write : 0) |
                    ((prot & VMM_MAP_EXEC) != 0 ? f->exec : f->no_exec);
    uint64_t done = 0;

    while (done < size) {
        unsigned level = page_level(n->page_1g, gpa.v + done, hpa.v + done, size - done);
        int error = map_page(vm, VMM_GPA(gpa.v + done), VMM_HPA(hpa.v + done), level, bits);

        if (error != 0) {
            vmm_nested_unmap(vm, gpa, done);
            return error;
        }
        done += UINT64_C(1) << level_shift(level);
    }
    return 0;
}

/* What was mapped as one range is unmapped as one: a page is never cut. */
void vmm_nested_unmap(struct vm *vm, gpa_t gpa, uint64_t size)
{
    struct vmm_nested *n = &vm->nested;
    uint64_t done = 0;

    while (done < size) {
        gpa_t at = VMM_GPA(gpa.v + done);
        unsigned level;
        uint64_t *entry = walk(vm, at, 0, false, &level);

        if (entry == NULL && level != 0) {
            unsigned ignored;

            entry = walk(vm, at, level, false, &ignored);
        }
        if (entry != NULL) {
            *entry = 0;
        }
        done += UINT64_C(1) << level_shift(level);
    }
    /* Every vCPU forgets its translations before it enters the guest again. */
    __atomic_add_fetch(&n->flush_generation, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vmm_vcpu_request(vm->vcpu[i], VMM_REQ_INTR);
    }
}

uint64_t vmm_nested_bytes(struct vm *vm)
{
    const struct vmm_nested *n = &vm->nested;

    return n->table_count * VMM_PAGE_SIZE;
}
