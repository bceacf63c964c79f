/* Kernel stacks. Each lies at the upper end of its slot in the stack area; the lower part of the
 * slot is never mapped, so that running over the end faults. Freed stacks stay mapped in a pool. */
#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "mm/buddy.h"
#include "mm/fault.h"
#include "mm/paging.h"
#include "mm/tag.h"

#define STACK_SIZE NK_KIB(CONFIG_THREAD_STACK_KIB)
#define STACKS_MAX 16384
#define POOL_MAX   64 /* stacks kept per node; more are unmapped and their memory given back */

/* At the upper end of the stack, above what its user sees. */
struct stack_note {
    struct stack_note *next; /* in the pool */
    pa_t pa;                 /* of the lowest page */
    uint32_t node, slot;
} NK_ALIGNED(16); /* the stack below begins aligned */

struct stack_pool {
    struct stack_note *head;
    unsigned count;
};

static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_SLAB); /* pools and slots */
static struct stack_pool pool_table[BUDDY_NODES_MAX];
static uint64_t slot_map[STACKS_MAX / 64]; /* bit set: in use */

/* The next power of two that leaves at least a page for the guard. */
static uint64_t slot_size(void)
{
    return UINT64_C(1) << (64 - __builtin_clzll(STACK_SIZE + NK_PAGE_SIZE - 1));
}

static uint64_t slot_end(uint32_t slot)
{
    return NK_STACKS_BASE + (slot + 1) * slot_size();
}

static bool slot_take(uint32_t *out)
{
    for (uint32_t i = 0; i < NK_ARRAY_COUNT(slot_map); i++) {
        if (slot_map[i] != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~slot_map[i]);
            slot_map[i] |= UINT64_C(1) << bit;
            *out = i * 64 + bit;
            return true;
        }
    }
    return false;
}

static void slot_release(uint32_t slot)
{
    nk_spin_lock(&lock);
    slot_map[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    nk_spin_unlock(&lock);
}

static NK_NOINLINE struct stack_note *stack_make(int node)
{
    uint32_t slot;
    nk_spin_lock(&lock);
    bool found = slot_take(&slot);
    nk_spin_unlock(&lock);
    if (!found) {
        return NULL;
    }
    pa_t pa;
    if (buddy_alloc_pages(STACK_SIZE / NK_PAGE_SIZE, NK_PAGE_SIZE, node, &pa) != 0) {
        slot_release(slot);
        return NULL;
    }
    if (paging_map(slot_end(slot) - STACK_SIZE, pa, STACK_SIZE, PAGING_WRITE) != 0) {
        buddy_free_pages(pa, STACK_SIZE / NK_PAGE_SIZE);
        slot_release(slot);
        return NULL;
    }
    mm_tag_pages(pa, STACK_SIZE / NK_PAGE_SIZE, MM_TAG_STACKS);
    struct stack_note *note = (struct stack_note *)slot_end(slot) - 1;
    *note = (struct stack_note){
        .pa = pa,
        .node = buddy_node_of(pa),
        .slot = slot,
    };
    return note;
}

/* Context: interrupts on, no lock held: other CPUs flush their TLBs before the memory is reused. */
static NK_NOINLINE void stack_unmake(struct stack_note *note)
{
    struct stack_note copy = *note;
    paging_unmap(slot_end(copy.slot) - STACK_SIZE, STACK_SIZE);
    buddy_free_pages(copy.pa, STACK_SIZE / NK_PAGE_SIZE);
    slot_release(copy.slot);
}

void *paging_stack_alloc(int node)
{
    if (mm_fault_due()) {
        return NULL;
    }
    struct stack_pool *pool = &pool_table[node == BUDDY_NODE_ANY ? this_cpu->node : (uint32_t)node];
    nk_spin_lock(&lock);
    struct stack_note *note = pool->head;
    if (nk_likely(note != NULL)) {
        pool->head = note->next;
        pool->count--;
    }
    nk_spin_unlock(&lock);
    return note != NULL ? note : stack_make(node);
}

void paging_stack_free(void *top)
{
    struct stack_note *note = top;
    struct stack_pool *pool = &pool_table[note->node];
    nk_spin_lock(&lock);
    bool keep = pool->count < POOL_MAX;
    if (nk_likely(keep)) {
        note->next = pool->head;
        pool->head = note;
        pool->count++;
    }
    nk_spin_unlock(&lock);
    if (!keep) {
        stack_unmake(note);
    }
}

bool paging_is_stack_guard(uint64_t va)
{
    uint64_t offset = va - NK_STACKS_BASE;
    return offset < STACKS_MAX * slot_size() && offset % slot_size() < slot_size() - STACK_SIZE;
}
