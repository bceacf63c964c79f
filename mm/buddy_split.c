/* An allocated block as several, and back: guests give parts of large pages up. */
#include "base/platform.h"
#include "mm/buddy_impl.h"

static struct buddy_frame *used(pa_t block, unsigned order)
{
    nk_assert(block.v >> NK_PAGE_SHIFT < frame_count);
    struct buddy_frame *f = &frame_table[block.v >> NK_PAGE_SHIFT];
    nk_assert(f->state == (FRAME_USED | order));
    return f;
}

/* The records belong to whoever holds the block; only the free buddies of its parts' owners look at
 * them, and find no free one. */
void buddy_split(pa_t block, unsigned order, unsigned part_order)
{
    struct buddy_frame *f = used(block, order);
    for (uint64_t i = UINT64_C(1) << order; i > 0;) {
        i -= UINT64_C(1) << part_order;
        f[i].node = f->node;
        f[i].cache = 0;
        f[i].tag = f->tag;
        f[i].state = (uint8_t)(FRAME_USED | part_order);
    }
}

void buddy_join(pa_t block, unsigned order, unsigned part_order)
{
    struct buddy_frame *f = used(block, part_order);
    for (uint64_t i = UINT64_C(1) << part_order; i < UINT64_C(1) << order;
         i += UINT64_C(1) << part_order) {
        nk_assert(f[i].state == (FRAME_USED | part_order) && f[i].tag == f->tag);
        f[i].state = FRAME_BODY;
        f[i].tag = 0;
    }
    f->state = (uint8_t)(FRAME_USED | order);
}
