#include "mm/buddy.h"

#include "base/errno.h"
#include "base/layout.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "mm/bootmem.h"
#include "mm/buddy_impl.h"
#include "mm/fault.h"
#include "mm/tag.h"

#define PAGE_CACHE_MAX   32 /* single pages a CPU keeps at most */
#define PAGE_CACHE_BATCH 16 /* moved between a CPU and its node at a time */

struct buddy_frame *frame_table;
uint64_t frame_count;

struct buddy_node buddy_node_table[BUDDY_NODES_MAX];
static unsigned node_count;
static uint8_t nearest_table[BUDDY_NODES_MAX][BUDDY_NODES_MAX]; /* [from]: all nodes, by distance */

static struct nk_list *link_of(uint64_t frame)
{
    return nk_pa_to_va(NK_PA(frame << NK_PAGE_SHIFT));
}

/* A frame gets its node when it first becomes the head of a block: adding a range need not visit
 * every frame. */
static void list_insert(struct buddy_node *n, uint64_t frame, unsigned order)
{
    frame_table[frame].state = (uint8_t)(FRAME_FREE | order);
    frame_table[frame].node = (uint8_t)buddy_node_index(n);
    nk_list_push_front(&n->free[order], link_of(frame));
    n->nonempty |= 1u << order;
    n->free_blocks[order]++;
}

void buddy_list_remove(struct buddy_node *n, uint64_t frame, unsigned order)
{
    struct nk_list *link = link_of(frame);
    link->prev->next = link->next;
    link->next->prev = link->prev;
    frame_table[frame].state = FRAME_BODY;
    n->free_blocks[order]--;
    if (nk_list_empty(&n->free[order])) {
        n->nonempty &= ~(1u << order);
    }
}

void buddy_node_insert(struct buddy_node *n, uint64_t frame, unsigned order)
{
    n->free_pages += UINT64_C(1) << order;
    frame_table[frame].state = FRAME_BODY; /* unless it turns out to be the head below */
    for (; order < BUDDY_ORDER_MAX; order++) {
        uint64_t buddy = frame ^ (UINT64_C(1) << order);
        if (buddy >= frame_count || frame_table[buddy].state != (FRAME_FREE | order) ||
            frame_table[buddy].node != buddy_node_index(n)) {
            break;
        }
        buddy_list_remove(n, buddy, order);
        frame &= ~(UINT64_C(1) << order);
    }
    list_insert(n, frame, order);
}

/* Take a block of the order, splitting a larger one if needed. Lock held. False: there is none. */
static bool node_take(struct buddy_node *n, unsigned order, uint64_t *out)
{
    uint32_t fitting = n->nonempty >> order;
    if (fitting == 0) {
        return false;
    }
    unsigned from = order + (unsigned)__builtin_ctz(fitting);
    uint64_t frame = buddy_frame_of_link(n->free[from].next);
    buddy_list_remove(n, frame, from);
    while (from > order) {
        from--;
        list_insert(n, frame + (UINT64_C(1) << from), from);
    }
    n->free_pages -= UINT64_C(1) << order;
    *out = frame;
    return true;
}

static void node_init(struct buddy_node *n)
{
    n->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_BUDDY);
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        nk_list_init(&n->free[order]);
    }
}

/* A page that two nodes share goes to the node of its beginning. */
static void add_by_node(uint64_t base, uint64_t end)
{
    while (base < end) {
        uint64_t until;
        unsigned node = numa_node_at(NK_PA(base), &until);
        until = until < end ? nk_align_up(until, NK_PAGE_SIZE) : end;
        buddy_add_range(NK_PA(base), until - base, (int)node);
        base = until;
    }
}

void buddy_init(void)
{
    frame_count = bootmem_ram_end() >> NK_PAGE_SHIFT;
    pa_t table = bootmem_alloc(frame_count * sizeof(struct buddy_frame), NK_PAGE_SIZE, 0);
    frame_table = nk_pa_to_va(table);
    node_count = numa_node_count();
    for (unsigned node = 0; node < BUDDY_NODES_MAX; node++) {
        node_init(&buddy_node_table[node]);
    }
    for (unsigned from = 0; from < node_count; from++) {
        for (unsigned i = 0; i < node_count; i++) {
            nearest_table[from][i] = (uint8_t)numa_nearest(from, i);
        }
    }
    pa_t base;
    uint64_t length;
    for (unsigned i = 0; bootmem_free_range(i, &base, &length); i++) {
        add_by_node(base.v, base.v + length);
    }
}

void buddy_add_range(pa_t base, uint64_t length, int node)
{
    uint64_t frame = base.v >> NK_PAGE_SHIFT;
    uint64_t count = length >> NK_PAGE_SHIFT;
    nk_assert(node >= 0 && node < (int)node_count && frame + count <= frame_count);
    struct buddy_node *n = &buddy_node_table[node];
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    n->total_pages += count;
    while (count > 0) {
        unsigned order = buddy_next_order(frame, count);
        buddy_node_insert(n, frame, order);
        frame += UINT64_C(1) << order;
        count -= UINT64_C(1) << order;
    }
    nk_spin_unlock_irqrestore(&n->lock, flags);
}

static int node_alloc(unsigned node, unsigned order, uint64_t *frame)
{
    struct buddy_node *n = &buddy_node_table[node];
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    bool found = node_take(n, order, frame);
    if (found) {
        buddy_mark_used(*frame, order);
        n->alloc_count++;
    }
    nk_spin_unlock_irqrestore(&n->lock, flags);
    return found ? 0 : -ENOMEM;
}

/* From one node, or from the nearest and then from the others. */
static int alloc_from(unsigned order, int node, uint64_t *frame)
{
    if (node != BUDDY_NODE_ANY) {
        return node_alloc((unsigned)node, order, frame);
    }
    const uint8_t *nearest = nearest_table[this_cpu->node];
    for (unsigned i = 0; i < node_count; i++) {
        if (node_alloc(nearest[i], order, frame) == 0) {
            return 0;
        }
    }
    return -ENOMEM;
}

/* Move pages from this CPU's node to its cache. Interrupts off. */
static bool cache_refill(struct nk_page_cache *cache)
{
    struct buddy_node *n = &buddy_node_table[this_cpu->node];
    nk_spinlock_acquire(&n->lock);
    uint64_t frame;
    while (cache->count < PAGE_CACHE_BATCH && node_take(n, 0, &frame)) {
        void **page = nk_pa_to_va(NK_PA(frame << NK_PAGE_SHIFT));
        frame_table[frame].state = FRAME_CACHED;
        *page = cache->head;
        cache->head = page;
        cache->count++;
    }
    nk_spinlock_release(&n->lock);
    return cache->count > 0;
}

/* Give pages back until `keep` are left. Interrupts off. */
static void cache_flush(struct nk_page_cache *cache, unsigned keep)
{
    struct buddy_node *n = &buddy_node_table[this_cpu->node];
    nk_spinlock_acquire(&n->lock);
    while (cache->count > keep) {
        void **page = cache->head;
        cache->head = *page;
        cache->count--;
        buddy_node_insert(n, nk_va_to_pa(page).v >> NK_PAGE_SHIFT, 0);
    }
    nk_spinlock_release(&n->lock);
}

void buddy_drain(void)
{
    uint64_t flags = nk_irq_save();
    cache_flush(&nk_this_cpu()->pages, 0);
    nk_irq_restore(flags);
}

NK_NOINLINE int buddy_block_alloc(unsigned order, int node, pa_t *out)
{
    if (order > BUDDY_ORDER_MAX || node < BUDDY_NODE_ANY || node >= (int)node_count) {
        return -EINVAL;
    }
    uint64_t frame;
    int err = alloc_from(order, node, &frame);
    if (err != 0) {
        buddy_drain(); /* the pages kept here may complete a block */
        err = alloc_from(order, node, &frame);
    }
    if (err == 0) {
        *out = NK_PA(frame << NK_PAGE_SHIFT);
    }
    return err;
}

/* A single page from this CPU's cache, after filling it; or from wherever there is one. */
static NK_NOINLINE int page_alloc_slow(int node, pa_t *out)
{
    uint64_t flags = nk_irq_save();
    bool filled = (node == BUDDY_NODE_ANY || (unsigned)node == this_cpu->node) &&
                  (this_cpu->pages.head != NULL || cache_refill(&nk_this_cpu()->pages));
    nk_irq_restore(flags);
    return filled ? buddy_alloc(0, node, out) : buddy_block_alloc(0, node, out);
}

int buddy_alloc(unsigned order, int node, pa_t *out)
{
    if (mm_fault_due()) {
        return -ENOMEM;
    }
    if (order != 0) {
        return buddy_block_alloc(order, node, out);
    }
    uint64_t flags = nk_irq_save();
    void **page = this_cpu->pages.head;
    if (nk_unlikely(page == NULL || (node != BUDDY_NODE_ANY && (unsigned)node != this_cpu->node))) {
        nk_irq_restore(flags);
        return page_alloc_slow(node, out);
    }
    this_cpu->pages.head = *page;
    this_cpu->pages.count--;
    this_cpu->pages.alloc_count++;
    frame_of_va(page)->state = FRAME_USED;
    nk_irq_restore(flags);
    *out = NK_PA((uint64_t)page - NK_DIRECT_BASE);
    return 0;
}

/* The record of a block that is given back; panics when it is no allocated block of that order. */
static struct buddy_frame *check_used(pa_t block, unsigned order, const void *caller)
{
    uint64_t frame = block.v >> NK_PAGE_SHIFT;
    if (block.v % NK_PAGE_SIZE != 0 || frame >= frame_count) {
        nk_panic("buddy_free: %#lx is not a block, caller %p", (unsigned long)block.v, caller);
    }
    struct buddy_frame *f = &frame_table[frame];
    if (f->state != (FRAME_USED | order) || f->cache != 0) {
        nk_panic("buddy_free: %#lx order %u: frame state %#x cache %u, caller %p",
                 (unsigned long)block.v, order, f->state, f->cache, caller);
    }
    return f;
}

void buddy_node_free(pa_t block, unsigned order, const void *caller)
{
    struct buddy_node *n = &buddy_node_table[check_used(block, order, caller)->node];
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    struct buddy_frame *f = check_used(block, order, caller); /* two CPUs may free it at once */
    if (f->tag != MM_TAG_NONE) {
        mm_tag_add_pages(f->tag, -(INT64_C(1) << order));
        f->tag = MM_TAG_NONE;
    }
    buddy_node_insert(n, block.v >> NK_PAGE_SHIFT, order);
    n->free_count++;
    nk_spin_unlock_irqrestore(&n->lock, flags);
}

void buddy_free(pa_t block, unsigned order)
{
    void **page = nk_pa_to_va(block);
    if (order != 0 || nk_unlikely(!frame_va_valid(page) || block.v % NK_PAGE_SIZE != 0)) {
        buddy_node_free(block, order, __builtin_return_address(0));
        return;
    }
    uint64_t flags = nk_irq_save();
    struct nk_page_cache *cache = &nk_this_cpu()->pages;
    struct buddy_frame *f = frame_of_va(page);
    if (nk_unlikely(f->word != frame_plain_page(this_cpu->node))) {
        nk_irq_restore(flags);
        buddy_node_free(block, order, __builtin_return_address(0));
        return;
    }
    f->state = FRAME_CACHED;
    *page = cache->head;
    cache->head = page;
    cache->free_count++;
    if (nk_unlikely(++cache->count > PAGE_CACHE_MAX)) {
        cache_flush(cache, PAGE_CACHE_MAX - PAGE_CACHE_BATCH);
    }
    nk_irq_restore(flags);
}

unsigned buddy_node_of(pa_t block)
{
    nk_assert(block.v >> NK_PAGE_SHIFT < frame_count);
    return frame_table[block.v >> NK_PAGE_SHIFT].node;
}

uint64_t buddy_table_bytes(void)
{
    return frame_count * sizeof(struct buddy_frame);
}

unsigned buddy_node_count(void)
{
    return node_count;
}

void buddy_get_stats(unsigned node, struct buddy_stats *out)
{
    nk_assert(node < node_count);
    struct buddy_node *n = &buddy_node_table[node];
    uint64_t flags = nk_spin_lock_irqsave(&n->lock);
    *out = (struct buddy_stats){
        .total_pages = n->total_pages,
        .free_pages = n->free_pages,
        .alloc_count = n->alloc_count,
        .free_count = n->free_count,
    };
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        out->free_blocks[order] = n->free_blocks[order];
    }
    nk_spin_unlock_irqrestore(&n->lock, flags);
    for (unsigned i = 0; i < nk_cpu_count; i++) {
        const struct nk_cpu *cpu = &nk_cpu_table[i];
        if (cpu->node == node) {
            out->free_pages += cpu->pages.count;
            out->alloc_count += cpu->pages.alloc_count;
            out->free_count += cpu->pages.free_count;
        }
    }
}

static void check_block(struct buddy_node *n, const struct nk_list *link, unsigned order)
{
    uint64_t frame = buddy_frame_of_link(link);
    const struct buddy_frame *f = &frame_table[frame];
    nk_assert(frame + (UINT64_C(1) << order) <= frame_count);
    nk_assert(frame % (UINT64_C(1) << order) == 0);
    nk_assert(f->state == (FRAME_FREE | order) && f->node == buddy_node_index(n));
    nk_assert(link->next->prev == link && link->prev->next == link);
    for (uint64_t i = 1; i < UINT64_C(1) << order; i++) {
        nk_assert(f[i].state == FRAME_BODY);
    }
    uint64_t buddy = frame ^ (UINT64_C(1) << order);
    if (order < BUDDY_ORDER_MAX && buddy < frame_count) {
        nk_assert(frame_table[buddy].state != (FRAME_FREE | order) ||
                  frame_table[buddy].node !=
                      buddy_node_index(n)); /* else they would be one block */
    }
}

void buddy_check(void)
{
    for (unsigned node = 0; node < node_count; node++) {
        struct buddy_node *n = &buddy_node_table[node];
        uint64_t flags = nk_spin_lock_irqsave(&n->lock);
        uint64_t pages = 0;
        for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
            uint64_t blocks = 0;
            struct nk_list *link;
            nk_list_for_each(link, &n->free[order])
            {
                check_block(n, link, order);
                blocks++;
            }
            nk_assert(blocks == n->free_blocks[order]);
            nk_assert((blocks != 0) == ((n->nonempty >> order & 1) != 0));
            pages += blocks << order;
        }
        nk_assert(pages == n->free_pages);
        nk_spin_unlock_irqrestore(&n->lock, flags);
    }
}
