/* Contiguous pages in any number: more than a block, up to all that lies free in a row. */
#include "base/errno.h"
#include "base/layout.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "mm/buddy_impl.h"
#include "mm/fault.h"

/* A run of free pages: neighbouring free blocks. */
struct run {
    uint64_t from, end; /* frames */
};

/* The order of the free block of this node that begins at the frame; -1: none does. */
static int free_order(const struct buddy_node *n, uint64_t frame)
{
    const struct buddy_frame *f = &frame_table[frame];
    bool is_free = frame < frame_count && (f->state & ~31) == FRAME_FREE;
    return is_free && f->node == buddy_node_index(n) ? f->state & 31 : -1;
}

/* The free block that ends where the frame begins; *from is its first frame. */
static bool block_before(const struct buddy_node *n, uint64_t frame, uint64_t *from)
{
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX && UINT64_C(1) << order <= frame; order++) {
        *from = frame - (UINT64_C(1) << order);
        if (free_order(n, *from) == (int)order) {
            return true;
        }
    }
    return false;
}

/* The whole run that a free block is part of. Lock held. */
static struct run run_around(const struct buddy_node *n, uint64_t frame)
{
    struct run r = {frame, frame};
    int order;
    uint64_t before;
    while ((order = free_order(n, r.end)) >= 0) {
        r.end += UINT64_C(1) << order;
    }
    while (block_before(n, r.from, &before)) {
        r.from = before;
    }
    return r;
}

/* The place for `count` pages in a run; false: it is too short. */
static bool fits(struct run r, uint64_t count, uint64_t align_pages, uint64_t *from)
{
    *from = nk_align_up(r.from, align_pages);
    return *from < r.end && r.end - *from >= count;
}

/* A run of 2^n pages has an aligned block of 2^(n-1) in it, which is free as a whole: only the
 * surroundings of such blocks need a look. Lock held. */
static bool find_run(const struct buddy_node *n, uint64_t count, uint64_t align_pages,
                     uint64_t *from)
{
    unsigned order = 63 - (unsigned)__builtin_clzll(count);
    order = order == 0 ? 0 : order - 1;
    for (order = order < BUDDY_ORDER_MAX ? order : BUDDY_ORDER_MAX; order <= BUDDY_ORDER_MAX;
         order++) {
        struct nk_list *link;
        nk_list_for_each(link, &n->free[order])
        {
            if (fits(run_around(n, buddy_frame_of_link(link)), count, align_pages, from)) {
                return true;
            }
        }
    }
    return false;
}

static void insert_range(struct buddy_node *n, uint64_t frame, uint64_t end)
{
    while (frame < end) {
        unsigned order = buddy_next_order(frame, end - frame);
        buddy_node_insert(n, frame, order);
        frame += UINT64_C(1) << order;
    }
}

static void mark_range_used(struct buddy_node *n, uint64_t frame, uint64_t end)
{
    while (frame < end) {
        unsigned order = buddy_next_order(frame, end - frame);
        buddy_mark_used(frame, order);
        frame_table[frame].node = (uint8_t)buddy_node_index(n);
        frame += UINT64_C(1) << order;
    }
}

/* Take [from, from+count) out of the free blocks that it touches. Lock held. */
static void take_run(struct buddy_node *n, uint64_t from, uint64_t count)
{
    struct run whole = run_around(n, from);
    uint64_t at = whole.from;
    for (uint64_t next; at < from + count; at = next) {
        int order = free_order(n, at);
        nk_assert(order >= 0);
        next = at + (UINT64_C(1) << order);
        if (next <= from) {
            continue;
        }
        buddy_list_remove(n, at, (unsigned)order);
        n->free_pages -= UINT64_C(1) << order;
        if (at < from) {
            insert_range(n, at, from);
        }
        if (next > from + count) {
            insert_range(n, from + count, next);
        }
    }
    mark_range_used(n, from, from + count);
    n->alloc_count++;
}

static int run_alloc_on(unsigned node, uint64_t count, uint64_t align_pages, pa_t *out)
{
    struct buddy_node *n = &buddy_node_table[node];
    uint64_t from;
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    bool found = find_run(n, count, align_pages, &from);
    if (found) {
        take_run(n, from, count);
        *out = NK_PA(from << NK_PAGE_SHIFT);
    }
    nk_spin_unlock_irqrestore(&n->lock, flags);
    return found ? 0 : -ENOMEM;
}

static int run_alloc(uint64_t count, uint64_t align_pages, int node, pa_t *out)
{
    if (node >= (int)buddy_node_count() || node < BUDDY_NODE_ANY) {
        return -EINVAL;
    }
    if (node != BUDDY_NODE_ANY) {
        return run_alloc_on((unsigned)node, count, align_pages, out);
    }
    for (unsigned i = 0; i < buddy_node_count(); i++) {
        if (run_alloc_on(numa_nearest(this_cpu->node, i), count, align_pages, out) == 0) {
            return 0;
        }
    }
    return -ENOMEM;
}

/* Give the tail of a block back and cut the rest into blocks of its own. */
static void trim(uint64_t frame, uint64_t end, uint64_t count)
{
    struct buddy_node *n = &buddy_node_table[frame_table[frame].node];
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    frame_table[frame].state = FRAME_BODY;
    mark_range_used(n, frame, frame + count);
    insert_range(n, frame + count, end);
    nk_spin_unlock_irqrestore(&n->lock, flags);
}

int buddy_alloc_pages(size_t count, uint64_t align, int node, pa_t *out)
{
    if (count == 1 && align <= NK_PAGE_SIZE && (align & (align - 1)) == 0) {
        return buddy_alloc(0, node, out);
    }
    if (count == 0 || (align & (align - 1)) != 0) {
        return -EINVAL;
    }
    if (count > frame_count) {
        return -ENOMEM;
    }
    unsigned order = buddy_order_of((uint64_t)count << NK_PAGE_SHIFT);
    if (buddy_order_of(align) > order) {
        order = buddy_order_of(align);
    }
    if (mm_fault_due()) {
        return -ENOMEM;
    }
    int err = order <= BUDDY_ORDER_MAX ? buddy_block_alloc(order, node, out) : -ENOMEM;
    if (err == 0 && count != UINT64_C(1) << order) {
        uint64_t frame = out->v >> NK_PAGE_SHIFT;
        trim(frame, frame + (UINT64_C(1) << order), count);
    }
    if (err != -ENOMEM) {
        return err;
    }
    buddy_drain(); /* the pages kept here may complete a run */
    uint64_t align_pages = align > NK_PAGE_SIZE ? align >> NK_PAGE_SHIFT : 1;
    return run_alloc(count, align_pages, node, out);
}

void buddy_free_pages(pa_t base, size_t count)
{
    if (count == 1) {
        buddy_free(base, 0);
        return;
    }
    while (count > 0) {
        unsigned order = buddy_next_order(base.v >> NK_PAGE_SHIFT, count);
        buddy_node_free(base, order, __builtin_return_address(0));
        base.v += NK_PAGE_SIZE << order;
        count -= (size_t)1 << order;
    }
}

uint64_t buddy_largest_run(unsigned node)
{
    struct buddy_node *n = &buddy_node_table[node];
    uint64_t best = 0;
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    /* It is as long as the largest block at least, so half as large a block is in it. */
    unsigned top = n->nonempty == 0 ? 0 : 31 - (unsigned)__builtin_clz(n->nonempty);
    for (unsigned order = top == 0 ? 0 : top - 1; order <= top; order++) {
        struct nk_list *link;
        nk_list_for_each(link, &n->free[order])
        {
            struct run r = run_around(n, buddy_frame_of_link(link));
            best = r.end - r.from > best ? r.end - r.from : best;
        }
    }
    nk_spin_unlock_irqrestore(&n->lock, flags);
    return best;
}
