/* See nested.h. Spec: AMD APM vol. 2 sections 5.3 and 15.25; Intel SDM vol. 3 section 29.3, "The
 * Extended Page Table Mechanism". The two agree on the tree, the address and the large-page bit. */
#include "core/vm.h"

static uint64_t *table_at(struct vm *vm, uint64_t entry)
{
    return vm->ops->hpa_to_va(vm->host, VMM_HPA(entry & NESTED_ADDRESS));
}

static uint64_t *entry_in(uint64_t *table, gpa_t gpa, unsigned level)
{
    return &table[gpa.v >> nested_shift(level) & (NESTED_ENTRIES - 1)];
}

static int table_alloc(struct vm *vm, hpa_t *out)
{
    if (vm->ops->pages_alloc(vm->host, 1, VMM_PAGE_SIZE, vm->config.node, out) != 0) {
        return -VMM_ENOMEM;
    }
    __builtin_memset(table_at(vm, out->v), 0, VMM_PAGE_SIZE);
    __atomic_add_fetch(&vm->nested.table_count, 1, __ATOMIC_RELAXED);
    return 0;
}

void vmm_nested_free_table(struct vm *vm, hpa_t table)
{
    __atomic_sub_fetch(&vm->nested.table_count, 1, __ATOMIC_RELAXED);
    vmm_pages_free(vm, table, 1);
}

int vmm_nested_create(struct vm *vm, const struct vmm_nested_format *format, unsigned levels,
                      bool page_1g)
{
    struct vmm_nested *n = &vm->nested;

    *n = (struct vmm_nested){
        .format = format, .levels = levels, .page_1g = page_1g, .log_bit = format->write};
    return table_alloc(vm, &n->root);
}

static void free_tables(struct vm *vm, hpa_t hpa, unsigned level)
{
    const uint64_t *table = table_at(vm, hpa.v);

    for (unsigned i = 0; level > 0 && i < NESTED_ENTRIES; i++) {
        if ((table[i] & NESTED_PRESENT) != 0 && !nested_is_page(table[i], level)) {
            free_tables(vm, VMM_HPA(table[i] & NESTED_ADDRESS), level - 1);
        }
    }
    vmm_nested_free_table(vm, hpa);
}

void vmm_nested_destroy(struct vm *vm)
{
    free_tables(vm, vm->nested.root, vm->nested.levels - 1);
}

/* The entry for gpa at `lowest`, or above it the one that is no table. */
static uint64_t *look(struct vm *vm, gpa_t gpa, unsigned lowest, unsigned *level, uint64_t *value)
{
    unsigned at = vm->nested.levels - 1;
    uint64_t *entry = entry_in(table_at(vm, vm->nested.root.v), gpa, at);

    *value = nested_load(entry);
    while (at > lowest && nested_is_table(*value, at)) {
        at--;
        entry = entry_in(table_at(vm, *value), gpa, at);
        *value = nested_load(entry);
    }
    *level = at;
    return entry;
}

uint64_t *vmm_nested_look(struct vm *vm, gpa_t gpa, unsigned *level, uint64_t *value)
{
    return look(vm, gpa, 0, level, value);
}

/* A table for an empty entry, unless another CPU is faster. Errors: -VMM_ENOMEM. */
static int add_table(struct vm *vm, uint64_t *entry)
{
    uint64_t empty = 0;
    hpa_t table;

    if (table_alloc(vm, &table) != 0) {
        return -VMM_ENOMEM;
    }
    if (!nested_change(entry, &empty, table.v | vm->nested.format->table)) {
        vmm_nested_free_table(vm, table);
    }
    return 0;
}

uint64_t *vmm_nested_make(struct vm *vm, gpa_t gpa, unsigned lowest, unsigned *level)
{
    for (;;) {
        uint64_t value, *entry = vmm_nested_look(vm, gpa, level, &value);

        if (*level <= lowest || value != 0) {
            return entry;
        }
        if (add_table(vm, entry) != 0) {
            return NULL;
        }
    }
}

uint64_t vmm_nested_page(const struct vmm_nested *n, hpa_t hpa, unsigned level, unsigned prot)
{
    const struct vmm_nested_format *f = n->format;

    return hpa.v | f->page | ((prot & VMM_MAP_WRITE) != 0 ? f->write : 0) |
           ((prot & VMM_MAP_EXEC) != 0 ? f->exec : f->no_exec) | (level > 0 ? NESTED_LARGE : 0);
}

/* The largest page that both addresses and the size allow. */
static unsigned page_level(const struct vmm_nested *n, uint64_t gpa, uint64_t hpa, uint64_t size)
{
    unsigned level = size < VMM_MIB(2) ? 0 : n->page_1g ? 2 : 1;

    while (level > 0 && (((gpa | hpa) & ((UINT64_C(1) << nested_shift(level)) - 1)) != 0 ||
                         size < UINT64_C(1) << nested_shift(level))) {
        level--;
    }
    return level;
}

static int map_page(struct vm *vm, gpa_t gpa, hpa_t hpa, unsigned level, unsigned prot)
{
    uint64_t empty = 0;
    unsigned found;
    uint64_t *entry = vmm_nested_make(vm, gpa, level, &found);

    if (entry == NULL) {
        return -VMM_ENOMEM;
    }
    return found == level &&
                   nested_change(entry, &empty, vmm_nested_page(&vm->nested, hpa, level, prot))
               ? 0
               : -VMM_EEXIST;
}

static bool clear_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    (void)vm;
    (void)gpa;
    (void)level;
    (void)arg;
    __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
    return true;
}

void vmm_nested_unmap(struct vm *vm, gpa_t gpa, uint64_t size)
{
    vmm_nested_visit(vm, gpa, size, clear_page, NULL);
    vmm_forget_soon(vm);
}

int vmm_nested_map(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned prot)
{
    uint64_t done = 0;

    while (done < size) {
        unsigned level = page_level(&vm->nested, gpa.v + done, hpa.v + done, size - done);
        int error = map_page(vm, VMM_GPA(gpa.v + done), VMM_HPA(hpa.v + done), level, prot);

        if (error != 0) {
            vmm_nested_unmap(vm, gpa, done);
            return error;
        }
        done += UINT64_C(1) << nested_shift(level);
    }
    return 0;
}

/* The processor may set its bits in the large page's entry meanwhile. What it remembers of the
 * large page stays true until one of the small ones changes, and that is followed by a flush. */
int vmm_nested_split(struct vm *vm, uint64_t *entry, unsigned level)
{
    uint64_t step = UINT64_C(1) << nested_shift(level - 1);
    uint64_t value = nested_load(entry);
    uint64_t *small;
    hpa_t table;

    if (!nested_is_page(value, level)) {
        return 0;
    }
    if (table_alloc(vm, &table) != 0) {
        return -VMM_ENOMEM;
    }
    small = table_at(vm, table.v);
    do {
        for (unsigned i = 0; i < NESTED_ENTRIES; i++) {
            small[i] = (level == 1 ? value & ~NESTED_LARGE : value) + i * step;
        }
    } while (!nested_change(entry, &value, table.v | vm->nested.format->table));
    vm->ops->pages_split(vm->host, VMM_HPA(value & NESTED_ADDRESS), UINT64_C(1) << 9 * level,
                         NESTED_ENTRIES);
    return 0;
}

/* The value of the large page that the 512 entries are together; 0: they are none. */
static uint64_t joined(const struct vmm_nested_format *f, const uint64_t *small, unsigned level)
{
    uint64_t step = UINT64_C(1) << nested_shift(level - 1), used = f->accessed | f->dirty;
    uint64_t first = nested_load(&small[0]);

    if (!nested_is_page(first, level - 1) ||
        (first & NESTED_ADDRESS & (step * NESTED_ENTRIES - 1)) != 0) {
        return 0;
    }
    for (unsigned i = 1; i < NESTED_ENTRIES; i++) {
        if ((nested_load(&small[i]) | used) != ((first | used) + i * step)) {
            return 0;
        }
    }
    return first | used | NESTED_LARGE;
}

bool vmm_nested_join(struct vm *vm, gpa_t gpa, unsigned level, hpa_t *table)
{
    uint64_t value, large, *entry;
    unsigned found;

    entry = look(vm, gpa, level, &found, &value);
    if (found != level || !nested_is_table(value, level)) {
        return false;
    }
    large = joined(vm->nested.format, table_at(vm, value), level);
    if (large == 0) {
        return false;
    }
    __atomic_store_n(entry, large, __ATOMIC_SEQ_CST);
    vm->ops->pages_join(vm->host, VMM_HPA(large & NESTED_ADDRESS), UINT64_C(1) << 9 * level,
                        NESTED_ENTRIES);
    table->v = value & NESTED_ADDRESS;
    return true;
}

/* Tables taken out are a list by their first entries, which are not present to whoever still walks.
 */
static void take_out(struct vm *vm, gpa_t base, uint64_t size, unsigned level, hpa_t *list)
{
    uint64_t step = UINT64_C(1) << nested_shift(level), end = base.v + size;

    for (uint64_t at = (base.v + step - 1) & -step; at < end && end - at >= step;) {
        uint64_t value;
        unsigned found;
        uint64_t *entry = look(vm, VMM_GPA(at), level, &found, &value);

        if (found == level && nested_is_table(value, level)) {
            __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
            __atomic_store_n(table_at(vm, value), list->v, __ATOMIC_RELAXED);
            list->v = value & NESTED_ADDRESS;
        }
        at = (at | ((UINT64_C(1) << nested_shift(found)) - 1)) + 1;
    }
}

void vmm_nested_prune(struct vm *vm, gpa_t base, uint64_t size)
{
    hpa_t list = VMM_HPA(0);

    for (unsigned level = 1; level < vm->nested.levels; level++) {
        take_out(vm, base, size, level, &list);
    }
    if (list.v != 0) {
        vmm_quiesce(vm);
    }
    while (list.v != 0) {
        hpa_t table = list;

        list.v = *table_at(vm, table.v);
        vmm_nested_free_table(vm, table);
    }
}

bool vmm_nested_visit(struct vm *vm, gpa_t base, uint64_t size, vmm_nested_fn fn, void *arg)
{
    uint64_t end = base.v + size;

    while (base.v < end) {
        unsigned level;
        uint64_t value, *entry = vmm_nested_look(vm, base, &level, &value);

        if (value != 0 && !fn(vm, base, entry, level, arg)) {
            return false;
        }
        if (nested_is_table(nested_load(entry), level)) {
            continue; /* another CPU cut the page, or put a table there: fn has not seen what is in
                         it */
        }
        base.v = (base.v | ((UINT64_C(1) << nested_shift(level)) - 1)) + 1;
    }
    return true;
}

uint64_t vmm_nested_bytes(const struct vm *vm)
{
    return __atomic_load_n(&vm->nested.table_count, __ATOMIC_RELAXED) * VMM_PAGE_SIZE;
}
