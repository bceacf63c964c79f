/* Who holds memory. A tag is a subject ("stacks") or one owner of many things ("vm linux"). Pages
 * get their tag after they were allocated and lose it when they are freed; small objects are
 * counted by whoever hands them out. What has no tag shows as the difference.
 * Threading: any context; counts are exact when nobody is allocating. */
#pragma once

#include "base/types.h"

enum {
    MM_TAG_NONE,
    MM_TAG_TABLES,
    MM_TAG_STACKS,
    MM_TAG_LARGE, /* kmalloc() beyond the object caches */
    MM_TAG_NATIVE,
    MM_TAG_VMM, /* the library, for no VM in particular */
    MM_TAG_FIXED_COUNT,
    MM_TAGS_MAX = 256, /* what a frame's record can name */
};

struct mm_tag_info {
    char name[40];
    uint64_t page_bytes;   /* in blocks of the page allocator */
    uint64_t object_bytes; /* in object caches, and what else its owner counts */
};

/* A tag for an owner. All taken: MM_TAG_VMM, which is shared and never checked. */
uint8_t mm_tag_create(const char *name);

/* The owner is gone. Errors: -EBUSY it still holds what *left says; the tag stays, for `mem`. */
int mm_tag_destroy(uint8_t tag, struct mm_tag_info *left) NK_MUST_CHECK;

/* The tag's name and counts; false: no such tag. */
bool mm_tag_get(uint8_t tag, struct mm_tag_info *out);

/* Mark pages of buddy_alloc() or buddy_alloc_pages() as the tag's, until they are freed. */
void mm_tag_pages(pa_t base, size_t count, uint8_t tag);

void mm_tag_page(pa_t page, uint8_t tag); /* one */

void mm_tag_add_pages(uint8_t tag, int64_t pages);
void mm_tag_add_objects(uint8_t tag, int64_t bytes);
