/* See dirty.h.
 *
 * Nothing written is missed: fetch() takes the bits, then makes those pages log again, then waits
 * for every vCPU to pass. A write before that is in memory when the caller looks; a write after it
 * faults. A fault first makes the page writable, then sets the bit: were it the other way round,
 * fetch() could take the bit in between and leave a writable page behind. */
#include "core/dirty.h"

#include "core/vm.h"

void vmm_dirty_mark(const struct vmm_region *r, gpa_t gpa)
{
    uint64_t *bits = vmm_dirty_bits(r);
    uint64_t page = (gpa.v - r->base.v) / VMM_PAGE_SIZE;

    if (bits != NULL) {
        __atomic_or_fetch(&bits[page / 64], UINT64_C(1) << page % 64, __ATOMIC_SEQ_CST);
    }
}

void vmm_dirty_mark_gpa(struct vm *vm, gpa_t gpa)
{
    const struct vmm_region *r = vmm_memory_find(vm, gpa);

    if (r != NULL) {
        vmm_dirty_mark(r, gpa);
    }
}

/* --- single entries --------------------------------------------------------------------------- */

static bool set_bits(uint64_t *entry, unsigned level, uint64_t bits)
{
    uint64_t value = nested_load(entry);

    while (nested_is_page(value, level)) {
        if (nested_change(entry, &value, value | bits)) {
            return true;
        }
    }
    return false;
}

static void clear_bits(uint64_t *entry, unsigned level, uint64_t bits)
{
    uint64_t value = nested_load(entry);

    while (nested_is_page(value, level) && (value & bits) != 0 &&
           !nested_change(entry, &value, value & ~bits)) {
    }
}

static int split(struct vm *vm, uint64_t *entry, unsigned level)
{
    int error;

    vm->ops->lock(vm->host, &vm->memory.lock);
    error = vmm_nested_split(vm, entry, level);
    vm->ops->unlock(vm->host, &vm->memory.lock);
    return error;
}

/* No memory to cut a large page: all of it counts as written then. */
static void mark_page(const struct vmm_region *r, gpa_t gpa, unsigned level)
{
    uint64_t size = UINT64_C(1) << nested_shift(level);

    gpa.v &= -size;
    for (uint64_t at = 0; at < size; at += VMM_PAGE_SIZE) {
        vmm_dirty_mark(r, VMM_GPA(gpa.v + at));
    }
}

int vmm_dirty_unprotect(struct vm *vm, const struct vmm_region *r, gpa_t gpa, uint64_t *entry,
                        unsigned level)
{
    bool logged = vmm_dirty_bits(r) != NULL;

    if (logged && level > 0 && split(vm, entry, level) == 0) {
        return 0; /* the caller looks again */
    }
    if (set_bits(entry, level, vm->nested.format->write) && logged) {
        mark_page(r, gpa, level);
    }
    return 0;
}

/* --- all of RAM ------------------------------------------------------------------------------- */

static bool log_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    (void)gpa;
    (void)arg;
    clear_bits(entry, level, vm->nested.log_bit);
    return true;
}

static bool unlog_page(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg)
{
    (void)gpa;
    (void)arg;
    set_bits(entry, level, vm->nested.format->write);
    return true;
}

/* Hardware that logs says no more than "this entry's page": large ones have to go first. */
static int split_all(struct vm *vm, const struct vmm_region *r)
{
    for (uint64_t at = 0; at < r->size;) {
        unsigned level;
        uint64_t value, *entry = vmm_nested_look(vm, VMM_GPA(r->base.v + at), &level, &value);

        if (level > 0 && nested_is_page(value, level)) {
            if (split(vm, entry, level) != 0) {
                return -VMM_ENOMEM;
            }
            continue;
        }
        at = ((r->base.v + at) | ((UINT64_C(1) << nested_shift(level)) - 1)) + 1 - r->base.v;
    }
    return 0;
}

static void for_each_ram(struct vm *vm, void (*fn)(struct vm *vm, struct vmm_region *r))
{
    struct vmm_region_table *t = vm->memory.table;

    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        if (t->region[i].kind == VMM_REGION_RAM) {
            fn(vm, &t->region[i]);
        }
    }
}

static void protect(struct vm *vm, struct vmm_region *r)
{
    vmm_nested_visit(vm, r->base, r->size, log_page, NULL);
}

static uint64_t log_bytes(const struct vmm_region *r)
{
    return vmm_dirty_words(r) * sizeof(uint64_t);
}

void vmm_dirty_free(struct vm *vm, const struct vmm_region *r)
{
    vmm_vm_free(vm, r->dirty, log_bytes(r));
}

int vmm_dirty_region_added(struct vm *vm, struct vmm_region *r)
{
    if (!vm->memory.logging || r->kind != VMM_REGION_RAM) {
        return 0;
    }
    r->dirty = vmm_vm_alloc(vm, log_bytes(r));
    if (r->dirty == NULL) {
        return -VMM_ENOMEM;
    }
    for (uint64_t page = 0; page < r->size / VMM_PAGE_SIZE; page++) { /* all of it is news */
        r->dirty[page / 64] |= UINT64_C(1) << page % 64;
    }
    return 0;
}

static bool hardware_logs(const struct vm *vm)
{
    return vm->nested.log_bit != vm->nested.format->write;
}

int vmm_dirty_region_backed(struct vm *vm, const struct vmm_region *r)
{
    return r->dirty != NULL && hardware_logs(vm) ? split_all(vm, r) : 0;
}

/* Let the hardware log, if there is such and memory to cut all large pages. */
static void choose_log(struct vm *vm)
{
    const struct vmm_backend *b = vm->vmm->backend;
    struct vmm_region_table *t = vm->memory.table;
    int error = 0;

    vm->nested.log_bit = vm->nested.format->write;
    if (b->log_writes == NULL || !b->log_writes(vm, true)) {
        return;
    }
    for (unsigned i = 0; error == 0 && i < t->count; i++) {
        error = t->region[i].dirty != NULL ? split_all(vm, &t->region[i]) : 0;
    }
    if (error == 0) {
        vm->nested.log_bit = vm->nested.format->dirty;
    } else {
        b->log_writes(vm, false);
    }
}

/* Everybody who writes must know of the log before pages are taken to be clean. */
int vmm_dirty_start(struct vm *vm)
{
    struct vmm_region_table *t = vm->memory.table;

    if (vm->memory.logging) {
        return -VMM_EBUSY;
    }
    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        struct vmm_region *r = &t->region[i];
        uint64_t *bits;

        if (r->kind != VMM_REGION_RAM) {
            continue;
        }
        bits = vmm_vm_alloc(vm, log_bytes(r));
        if (bits == NULL) {
            vmm_dirty_stop(vm); /* of those that have a log */
            return -VMM_ENOMEM;
        }
        __atomic_store_n(&r->dirty, bits, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&vm->memory.logging, true, __ATOMIC_SEQ_CST);
    vmm_quiesce(vm); /* from here on first touches make no large pages */
    choose_log(vm);
    vmm_quiesce(vm);
    for_each_ram(vm, protect);
    vmm_quiesce(vm);
    return 0;
}

int vmm_dirty_fetch(struct vm *vm, const struct vmm_region *r, uint64_t *bits)
{
    uint64_t *log = vmm_dirty_bits(r);

    if (log == NULL) {
        return -VMM_EINVAL;
    }
    if (hardware_logs(vm)) {
        vmm_quiesce(vm); /* each vCPU empties its buffer as it leaves the guest */
    }
    for (uint64_t word = 0; word < vmm_dirty_words(r); word++) {
        bits[word] = __atomic_exchange_n(&log[word], 0, __ATOMIC_SEQ_CST);
        for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
            uint64_t page = word * 64 + (unsigned)__builtin_ctzll(left);

            vmm_nested_visit(vm, VMM_GPA(r->base.v + page * VMM_PAGE_SIZE), VMM_PAGE_SIZE, log_page,
                             NULL);
        }
    }
    vmm_quiesce(vm);
    return 0;
}

/* Tables that are out of use, but vCPUs may be walking them. */
#define JOIN_BATCH 32

static void free_joined(struct vm *vm, const hpa_t *table, unsigned count)
{
    if (count != 0) {
        vmm_quiesce(vm);
    }
    for (unsigned i = 0; i < count; i++) {
        vmm_nested_free_table(vm, table[i]);
    }
}

static void join_level(struct vm *vm, gpa_t base, uint64_t size, unsigned level)
{
    uint64_t step = UINT64_C(1) << nested_shift(level);
    hpa_t table[JOIN_BATCH];
    unsigned count = 0;

    for (uint64_t at = (base.v + step - 1) & -step; at + step <= base.v + size; at += step) {
        vm->ops->lock(vm->host, &vm->memory.lock);
        count += vmm_nested_join(vm, VMM_GPA(at), level, &table[count]);
        vm->ops->unlock(vm->host, &vm->memory.lock);
        if (count == JOIN_BATCH) {
            free_joined(vm, table, count);
            count = 0;
        }
    }
    free_joined(vm, table, count);
}

static void join(struct vm *vm, gpa_t base, uint64_t size)
{
    for (unsigned level = 1; level <= vmm_memory_largest(vm); level++) {
        if (level == 1 || vm->nested.page_1g) {
            join_level(vm, base, size, level);
        }
    }
}

/* Small pages that lie together as a large one did become that again. */
static void restore(struct vm *vm, struct vmm_region *r)
{
    vmm_nested_visit(vm, r->base, r->size, unlog_page, NULL);
    join(vm, r->base, r->size);
}

void vmm_dirty_stop(struct vm *vm)
{
    struct vmm_region_table *t = vm->memory.table;
    uint64_t *log[VMM_REGIONS_MAX];

    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        log[i] = __atomic_exchange_n(&t->region[i].dirty, NULL, __ATOMIC_SEQ_CST);
    }
    vmm_quiesce(vm);
    if (hardware_logs(vm)) {
        vm->nested.log_bit = vm->nested.format->write;
        vm->vmm->backend->log_writes(vm, false);
    }
    for_each_ram(vm, restore);
    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        vmm_vm_free(vm, log[i], log_bytes(&t->region[i]));
    }
    __atomic_store_n(&vm->memory.logging, false, __ATOMIC_SEQ_CST);
}
