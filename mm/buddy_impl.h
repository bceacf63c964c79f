/* Inside mm/ only: a node's allocator, as buddy.c (blocks) and buddy_runs.c (runs of any length)
 * share it. */
#pragma once

#include "base/list.h"
#include "base/spinlock.h"
#include "mm/buddy.h"
#include "mm/frame.h"

struct buddy_node {
    struct nk_spinlock lock;                  /* all below, and state of the node's frames */
    uint32_t nonempty;                        /* bit n: free[n] has a block */
    struct nk_list free[BUDDY_ORDER_MAX + 1]; /* linked through the free blocks' first bytes */
    uint64_t free_blocks[BUDDY_ORDER_MAX + 1];
    uint64_t total_pages, free_pages;
    uint64_t alloc_count, free_count;
};

extern struct buddy_node buddy_node_table[BUDDY_NODES_MAX];

static inline unsigned buddy_node_index(const struct buddy_node *n)
{
    return (unsigned)(n - buddy_node_table);
}

static inline uint64_t buddy_frame_of_link(const struct nk_list *link)
{
    return nk_va_to_pa(link).v >> NK_PAGE_SHIFT;
}

static inline void buddy_mark_used(uint64_t frame, unsigned order)
{
    frame_table[frame].state = (uint8_t)(FRAME_USED | order);
}

/* The order of the first block when [frame, frame+count) is cut into the largest ones. */
static inline unsigned buddy_next_order(uint64_t frame, uint64_t count)
{
    unsigned order = 63 - (unsigned)__builtin_clzll(count);
    if (frame != 0 && (unsigned)__builtin_ctzll(frame) < order) {
        order = (unsigned)__builtin_ctzll(frame);
    }
    return order < BUDDY_ORDER_MAX ? order : BUDDY_ORDER_MAX;
}

/* Take a block off its free list. Lock held. */
void buddy_list_remove(struct buddy_node *n, uint64_t frame, unsigned order);

/* Insert a block and join it with its free buddies. Lock held. */
void buddy_node_insert(struct buddy_node *n, uint64_t frame, unsigned order);

/* As buddy_alloc(), past the CPU's page cache. */
int buddy_block_alloc(unsigned order, int node, pa_t *out);

/* Free a block past the CPU's page cache; panics with the caller when it is none. */
void buddy_node_free(pa_t block, unsigned order, const void *caller);
