/* Nested page tables of either back end: long mode's four- or five-level tree, whose entries a
 * format describes. Level 0 entries map 4 KiB, level 1 2 MiB, level 2 1 GiB.
 *
 * The tree is also the only map of guest RAM: what backs an address is its entry. An entry without
 * the hardware's present bits is empty (RAM that nobody touched yet) or one of the library's own
 * kinds below.
 *
 * Threading: entries are read and changed with atomic operations, no lock: a table that goes
 * is freed when every vCPU has passed (retire.h). What needs two steps (a large page cut, a stored
 * page brought back) holds the VM's memory lock. Every leaf is one allocation of the host, of the
 * leaf's own size. */
#pragma once

#include <vmm/types.h>

struct vm;

struct vmm_nested_format {
    uint64_t table;    /* all bits of an entry that points to a table */
    uint64_t page;     /* bits of every page's entry */
    uint64_t write;    /* added when the page may be written, */
    uint64_t exec;     /* executed, */
    uint64_t no_exec;  /* or not executed */
    uint64_t accessed; /* set by the processor when it uses the entry */
    uint64_t dirty;    /* set by the processor when it writes the page */
};

/* In either format none of these bits is set unless the entry is there. */
#define NESTED_PRESENT UINT64_C(7)
#define NESTED_LEAVING (UINT64_C(1) << 3) /* page on its way out: unmapped, still in place */
#define NESTED_STORED  (UINT64_C(1) << 4) /* the host's store has it, the address is the slot */
#define NESTED_LARGE   (UINT64_C(1) << 7)
#define NESTED_ADDRESS UINT64_C(0x000ffffffffff000)

#define NESTED_ENTRIES 512

struct vmm_nested {
    const struct vmm_nested_format *format;
    hpa_t root;
    unsigned levels;
    bool page_1g;
    uint64_t log_bit;          /* what a page that is logged lacks until it is written */
    uint64_t table_count;      /* atomic */
    uint64_t page_count;       /* atomic: 4 KiB pages mapped */
    uint64_t flush_generation; /* atomic: grows when a mapping goes away */
};

/* Fills vm->nested. Context: control. Errors: -VMM_ENOMEM. */
int vmm_nested_create(struct vm *vm, const struct vmm_nested_format *format, unsigned levels,
                      bool page_1g) VMM_MUST_CHECK;
void vmm_nested_destroy(struct vm *vm); /* the tables; their pages have gone before */

static inline unsigned nested_shift(unsigned level)
{
    return 12 + 9 * level;
}

static inline uint64_t nested_load(const uint64_t *entry)
{
    return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/* Change an entry that still is *seen; else false, and *seen is what it is now. */
static inline bool nested_change(uint64_t *entry, uint64_t *seen, uint64_t wanted)
{
    return __atomic_compare_exchange_n(entry, seen, wanted, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_ACQUIRE);
}

static inline bool nested_is_page(uint64_t value, unsigned level)
{
    return (value & NESTED_PRESENT) != 0 && (level == 0 || (value & NESTED_LARGE) != 0);
}

static inline bool nested_is_table(uint64_t value, unsigned level)
{
    return (value & NESTED_PRESENT) != 0 && !nested_is_page(value, level);
}

/* Map [gpa, gpa+size) with the largest pages that gpa, hpa and size allow. For memory of a region,
 * and for pages of a back end's own outside all regions, which stay what they are until unmapped.
 * Context: control or exit. Errors, nothing mapped then: -VMM_ENOMEM, -VMM_EEXIST. */
int vmm_nested_map(struct vm *vm, gpa_t gpa, hpa_t hpa, uint64_t size,
                   unsigned prot) VMM_MUST_CHECK;
/* Unmap whole pages; vCPUs flush before they next enter the guest, which is not waited for. */
void vmm_nested_unmap(struct vm *vm, gpa_t gpa, uint64_t size);

/* The entry that decides about gpa: a page's, or one that is not present. *value is what was found
 * in it; read again it may be another, and a table's. Never NULL. */
uint64_t *vmm_nested_look(struct vm *vm, gpa_t gpa, unsigned *level, uint64_t *value);
/* The same, after making the tables down to `lowest`. NULL: no memory for one. */
uint64_t *vmm_nested_make(struct vm *vm, gpa_t gpa, unsigned lowest, unsigned *level);
/* Replace a large page by 512 smaller ones. Memory lock held. Errors: -VMM_ENOMEM. */
int vmm_nested_split(struct vm *vm, uint64_t *entry, unsigned level) VMM_MUST_CHECK;

/* Undo that for the 512 below gpa's entry at `level`, if they lie together and allow the same; the
 * table is the caller's to free when every vCPU has passed. Memory lock held. */
bool vmm_nested_join(struct vm *vm, gpa_t gpa, unsigned level, hpa_t *table);
void vmm_nested_free_table(struct vm *vm, hpa_t table);

/* Take out the tables of which every entry is in [base, base+size) and empty, and free them when
 * every vCPU has passed. Nobody adds a page there meanwhile. Context: control. */
void vmm_nested_prune(struct vm *vm, gpa_t base, uint64_t size);

/* A page's entry for hpa. prot: enum vmm_map_prot. */
uint64_t vmm_nested_page(const struct vmm_nested *n, hpa_t hpa, unsigned level, unsigned prot);

/* Visit every page and every not-present entry of the library's own in the range; fn may change the
 * entry it is given, not the tables. false: stop. */
typedef bool (*vmm_nested_fn)(struct vm *vm, gpa_t gpa, uint64_t *entry, unsigned level, void *arg);
bool vmm_nested_visit(struct vm *vm, gpa_t base, uint64_t size, vmm_nested_fn fn, void *arg);

uint64_t vmm_nested_bytes(const struct vm *vm); /* of all tables */
