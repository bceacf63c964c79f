/* Memory of applications: each has a window of the address space, its heap at the bottom and its
 * stacks, with unmapped space below each, at the top. */
#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "kernel/native_impl.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "mm/tag.h"

#define WINDOW_BYTES (UINT64_C(1) << 40)
#define STACKS_BYTES (NATIVE_THREADS_MAX * STACK_STRIDE)
#define STACK_STRIDE (2 * NATIVE_STACK_MAX)
#define ORDER_SMALL  4 /* 64 KiB, until the heap is large enough for large pages */
#define ORDER_LARGE  9 /* 2 MiB */

struct native_block {
    pa_t pa;
    uint64_t va;
    unsigned order;
};

static uint64_t windows_used; /* atomic; a bit per window */

void native_heap_destroy(struct native_heap *heap)
{
    for (unsigned i = 0; i < heap->block_count; i++) {
        const struct native_block *b = &heap->blocks[i];
        paging_unmap(b->va, NK_PAGE_SIZE << b->order);
        buddy_free(b->pa, b->order);
    }
    kfree(heap->blocks);
    unsigned window = (unsigned)((heap->base - NK_NATIVE_BASE) / WINDOW_BYTES);
    __atomic_and_fetch(&windows_used, ~(UINT64_C(1) << window), __ATOMIC_RELEASE);
}

/* The largest block up to `order` that there is and that the position is aligned for. */
static int alloc_block(struct native_block *b, uint64_t va, unsigned order)
{
    int err;
    do {
        err = buddy_alloc(order, BUDDY_NODE_ANY, &b->pa);
    } while (err == -ENOMEM && order-- > 0);
    b->va = va;
    b->order = order;
    return err;
}

static int add_block(struct native_heap *heap)
{
    if (heap->block_count == heap->block_room) {
        unsigned room = heap->block_room ? 2 * heap->block_room : 16;
        struct native_block *blocks = krealloc(heap->blocks, room * sizeof(*blocks));
        if (!blocks) {
            return -ENOMEM;
        }
        heap->blocks = blocks;
        heap->block_room = room;
    }
    uint64_t large = NK_PAGE_SIZE << ORDER_LARGE;
    bool aligned = heap->mapped % large == 0 && heap->mapped != heap->base;
    struct native_block *b = &heap->blocks[heap->block_count];
    int err = alloc_block(b, heap->mapped, aligned ? ORDER_LARGE : ORDER_SMALL);
    if (err < 0) {
        return err;
    }
    mm_tag_pages(b->pa, (size_t)1 << b->order, MM_TAG_NATIVE);
    memset(nk_pa_to_va(b->pa), 0, NK_PAGE_SIZE << b->order);
    err = paging_map(b->va, b->pa, NK_PAGE_SIZE << b->order, PAGING_WRITE);
    if (err < 0) {
        buddy_free(b->pa, b->order);
        return err;
    }
    heap->mapped += NK_PAGE_SIZE << b->order;
    heap->block_count++;
    return 0;
}

/* The first block is there before the program is: newlib makes its standard streams without a look
 * at what malloc() says. */
int native_heap_init(struct native_heap *heap)
{
    uint64_t used = __atomic_load_n(&windows_used, __ATOMIC_RELAXED);
    unsigned window;
    do {
        if (~used == 0) {
            return -EAGAIN;
        }
        window = (unsigned)__builtin_ctzll(~used);
    } while (!__atomic_compare_exchange_n(&windows_used, &used, used | UINT64_C(1) << window, false,
                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    memset(heap, 0, sizeof(*heap));
    nk_mutex_init(&heap->lock);
    heap->base = NK_NATIVE_BASE + window * WINDOW_BYTES;
    heap->end = heap->mapped = heap->base;
    int err = add_block(heap);
    if (err < 0) {
        native_heap_destroy(heap);
    }
    return err;
}

void *native_heap_grow(struct native_heap *heap, ptrdiff_t increment)
{
    nk_mutex_lock(&heap->lock);
    uint64_t old = heap->end, size = old - heap->base;
    uint64_t room = WINDOW_BYTES - STACKS_BYTES - size;
    bool possible = increment < 0 ? size >= -(uint64_t)increment : room >= (uint64_t)increment;
    while (possible && heap->mapped < old + (uint64_t)increment) {
        possible = add_block(heap) == 0;
    }
    if (possible) {
        heap->end += (uint64_t)increment;
    }
    nk_mutex_unlock(&heap->lock);
    return possible ? (void *)old : NULL;
}

static int take_slot(struct native_heap *heap)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(heap->stack_used); i++) {
        if (~heap->stack_used[i]) {
            unsigned bit = (unsigned)__builtin_ctzll(~heap->stack_used[i]);
            heap->stack_used[i] |= UINT64_C(1) << bit;
            return (int)(64 * i + bit);
        }
    }
    return -EAGAIN;
}

static void release_slot(struct native_heap *heap, unsigned slot)
{
    nk_mutex_lock(&heap->lock);
    heap->stack_used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    nk_mutex_unlock(&heap->lock);
}

int native_stack_alloc(struct native_heap *heap, size_t size, struct native_stack *out)
{
    size = nk_align_up(size, NK_PAGE_SIZE);
    if (size == 0 || size > NATIVE_STACK_MAX) {
        return -EINVAL;
    }
    nk_mutex_lock(&heap->lock);
    int slot = take_slot(heap);
    nk_mutex_unlock(&heap->lock);
    if (slot < 0) {
        return slot;
    }
    *out = (struct native_stack){.size = size, .slot = (unsigned)slot};
    out->top = heap->base + WINDOW_BYTES - (uint64_t)slot * STACK_STRIDE;
    int err = buddy_alloc_pages(size / NK_PAGE_SIZE, NK_PAGE_SIZE, BUDDY_NODE_ANY, &out->pa);
    if (err == 0) {
        mm_tag_pages(out->pa, size / NK_PAGE_SIZE, MM_TAG_NATIVE);
        err = paging_map(out->top - size, out->pa, size, PAGING_WRITE);
        if (err < 0) {
            buddy_free_pages(out->pa, size / NK_PAGE_SIZE);
        }
    }
    if (err < 0) {
        release_slot(heap, out->slot);
    }
    return err;
}

void native_stack_free(struct native_heap *heap, const struct native_stack *stack)
{
    paging_unmap(stack->top - stack->size, stack->size);
    buddy_free_pages(stack->pa, stack->size / NK_PAGE_SIZE);
    release_slot(heap, stack->slot);
}
