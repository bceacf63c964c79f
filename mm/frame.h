/* The frame table: one record per page frame below bootmem_ram_end(), inside mm/ only.
 * Threading: state and node belong to the node's lock, or to whoever holds the block; cache, tag
 * and count to whoever holds the block. */
#pragma once

#include "base/layout.h"
#include "base/types.h"

/* In the three upper bits of buddy_frame.state; the order of the block is in the lower five.
 * Only the first frame of a block has a kind; all others are FRAME_BODY, so that an address
 * inside a block is never taken for one. */
enum frame_kind {
    FRAME_BODY = 0,
    FRAME_FREE = 1 << 5,   /* first frame of a block on a free list */
    FRAME_USED = 2 << 5,   /* first frame of an allocated block */
    FRAME_CACHED = 3 << 5, /* a page in some CPU's page cache */
};

struct buddy_frame {
    union {
        struct {
            uint8_t state;
            uint8_t node;
            uint8_t cache; /* index of the object cache that owns the page; 0: none */
            uint8_t tag;   /* whose block it is (mm/tag.h), at its first frame */
        };
        uint32_t word; /* the four at once; see frame_plain_page() */
    };
    uint32_t count; /* pages of a kmalloc() beyond the caches, at its first frame */
};

/* The record is most of what the kernel itself needs: 2 MiB per GiB of RAM. */
_Static_assert(sizeof(struct buddy_frame) == 8, "frame record");

extern struct buddy_frame *frame_table;
extern uint64_t frame_count;

/* The record of the page that holds va, an address in the direct map. */
static inline struct buddy_frame *frame_of_va(const void *va)
{
    return &frame_table[((uint64_t)va - NK_DIRECT_BASE) >> NK_PAGE_SHIFT];
}

/* `word` of an allocated single page of the node that no cache and no tag claims. */
static inline uint32_t frame_plain_page(uint32_t node)
{
    return FRAME_USED | node << 8;
}

static inline bool frame_va_valid(const void *va)
{
    return ((uint64_t)va - NK_DIRECT_BASE) >> NK_PAGE_SHIFT < frame_count;
}
