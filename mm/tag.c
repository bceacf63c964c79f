#include "mm/tag.h"

#include "base/errno.h"
#include "base/layout.h"
#include "base/spinlock.h"
#include "mm/buddy_impl.h"

#include <string.h>

struct tag {
    char name[sizeof(((struct mm_tag_info *)0)->name)]; /* empty: not in use */
    int64_t pages;
    int64_t object_bytes;
};

static struct tag tag_table[MM_TAGS_MAX] = {
    [MM_TAG_TABLES] = {.name = "page tables"},
    [MM_TAG_STACKS] = {.name = "thread stacks"},
    [MM_TAG_LARGE] = {.name = "objects above 64 KiB"},
    [MM_TAG_NATIVE] = {.name = "native applications"},
    [MM_TAG_VMM] = {.name = "vmm"},
};
static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_SLAB); /* names */

uint8_t mm_tag_create(const char *name)
{
    uint8_t found = MM_TAG_VMM;
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    for (unsigned i = MM_TAG_FIXED_COUNT; i < MM_TAGS_MAX; i++) {
        if (tag_table[i].name[0] == '\0') {
            strncpy(tag_table[i].name, name, sizeof(tag_table[i].name) - 1);
            found = (uint8_t)i;
            break;
        }
    }
    nk_spin_unlock_irqrestore(&lock, flags);
    return found;
}

bool mm_tag_get(uint8_t tag, struct mm_tag_info *out)
{
    const struct tag *t = &tag_table[tag];
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    memcpy(out->name, t->name, sizeof(out->name));
    nk_spin_unlock_irqrestore(&lock, flags);
    out->page_bytes = (uint64_t)__atomic_load_n(&t->pages, __ATOMIC_RELAXED) << NK_PAGE_SHIFT;
    out->object_bytes = (uint64_t)__atomic_load_n(&t->object_bytes, __ATOMIC_RELAXED);
    return out->name[0] != '\0';
}

int mm_tag_destroy(uint8_t tag, struct mm_tag_info *left)
{
    if (tag < MM_TAG_FIXED_COUNT) {
        return 0;
    }
    mm_tag_get(tag, left);
    if (left->page_bytes != 0 || left->object_bytes != 0) {
        return -EBUSY;
    }
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    memset(tag_table[tag].name, 0, sizeof(tag_table[tag].name));
    nk_spin_unlock_irqrestore(&lock, flags);
    return 0;
}

void mm_tag_add_pages(uint8_t tag, int64_t pages)
{
    __atomic_fetch_add(&tag_table[tag].pages, pages, __ATOMIC_RELAXED);
}

void mm_tag_add_objects(uint8_t tag, int64_t bytes)
{
    __atomic_fetch_add(&tag_table[tag].object_bytes, bytes, __ATOMIC_RELAXED);
}

void mm_tag_page(pa_t page, uint8_t tag)
{
    frame_table[page.v >> NK_PAGE_SHIFT].tag = tag;
    mm_tag_add_pages(tag, 1);
}

void mm_tag_pages(pa_t base, size_t count, uint8_t tag)
{
    mm_tag_add_pages(tag, (int64_t)count);
    for (uint64_t frame = base.v >> NK_PAGE_SHIFT; count > 0;) {
        frame_table[frame].tag = tag;
        unsigned order = buddy_next_order(frame, count);
        frame += UINT64_C(1) << order;
        count -= (size_t)1 << order;
    }
}
