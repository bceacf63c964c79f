/* The page allocator: power-of-two blocks from 4 KiB (order 0) to 1 GiB (order 18), aligned to
 * their size, one allocator per NUMA node, state in a table with one record per page frame.
 * In front of it each CPU keeps a few single pages of its node.
 * Threading: any context with interrupts in any state except NMI; takes the node's lock. */
#pragma once

#include "base/types.h"
#include "mm/numa.h"

#define BUDDY_ORDER_MAX 18 /* 1 GiB */
#define BUDDY_NODES_MAX NUMA_NODES_MAX
#define BUDDY_NODE_ANY  (-1)

/* Make the frame table (from the boot allocator) and add all free boot memory. */
void buddy_init(void);

/* Give [base, base+length) to the node's allocator: whole ranges in O(log n) steps.
 * Units: bytes, page aligned. The range lies below bootmem_ram_end() and is not owned yet. */
void buddy_add_range(pa_t base, uint64_t length, int node);

/* One block of 2^order pages, not zeroed. node: a node number, or BUDDY_NODE_ANY for "nearest,
 * then others". Errors: -ENOMEM no block, -EINVAL order or node out of range. */
int buddy_alloc(unsigned order, int node, pa_t *out) NK_MUST_CHECK;

/* Give a block back. Double free, wrong order and foreign addresses are found in the frame table
 * and panic with the caller: they are bugs of ours. */
void buddy_free(pa_t block, unsigned order);

/* `count` contiguous pages aligned to `align` bytes: of a block whose unused tail is given back at
 * once, or of neighbouring free blocks, so that a request may be as large as what lies free in a
 * row. Free with buddy_free_pages and the same count. Errors: as buddy_alloc(). */
int buddy_alloc_pages(size_t count, uint64_t align, int node, pa_t *out) NK_MUST_CHECK;
void buddy_free_pages(pa_t base, size_t count);

/* An allocated block becomes blocks of a smaller order, each freed by itself, with its tag; and all
 * of them, still allocated and of one node and tag, become one block again. */
void buddy_split(pa_t block, unsigned order, unsigned part_order);
void buddy_join(pa_t block, unsigned order, unsigned part_order);

struct buddy_stats {
    uint64_t total_pages, free_pages;          /* free: those kept by CPUs included */
    uint64_t free_blocks[BUDDY_ORDER_MAX + 1]; /* those kept by CPUs not included */
    uint64_t alloc_count, free_count;
};

/* Give the pages that this CPU keeps at hand back to the allocator. */
void buddy_drain(void);

/* Pages of the longest run of free memory: what buddy_alloc_pages() could give at once. */
uint64_t buddy_largest_run(unsigned node);

uint64_t buddy_table_bytes(void); /* of the frame table */

unsigned buddy_node_count(void);
unsigned buddy_node_of(pa_t block); /* of the beginning of an allocated block */
void buddy_get_stats(unsigned node, struct buddy_stats *out);

/* Walk the whole state and panic on a broken invariant (tests, debug shell command). */
void buddy_check(void);

static inline unsigned buddy_order_of(uint64_t bytes)
{
    uint64_t pages = (bytes + NK_PAGE_SIZE - 1) >> NK_PAGE_SHIFT;
    return pages <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(pages - 1);
}
