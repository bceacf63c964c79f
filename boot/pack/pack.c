#include "boot/pack/pack.h"

#include "boot/pack/crc32c.h"
#include "boot/pack/lz4.h"

static bool same(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i]) {
            return false;
        }
    }
    return true;
}

static uint32_t directory_crc(const struct pack_header *h)
{
    const uint8_t *end = (const uint8_t *)(h + 1) + h->count * sizeof(struct pack_entry);
    uint32_t zero = 0;
    uint32_t crc = crc32c(0, h, offsetof(struct pack_header, crc));
    crc = crc32c(crc, &zero, sizeof(zero));
    return crc32c(crc, h + 1, (size_t)(end - (const uint8_t *)(h + 1)));
}

/* Printable, not empty, one word: it goes to a terminal and into a command line. */
static bool name_valid(const char *name)
{
    size_t length = 0;
    while (length < PACK_NAME_MAX && name[length] != '\0') {
        if (name[length] <= ' ' || name[length] > '~') {
            return false;
        }
        length++;
    }
    return length > 0 && length < PACK_NAME_MAX;
}

static bool kind_valid(const struct pack_entry *e)
{
    if (e->kind == PACK_KERNEL) {
        return e->slot <= 1;
    }
    return (e->kind == PACK_MODULE || e->kind == PACK_CMDLINE) && e->slot == PACK_SLOT_NONE;
}

static bool overlap(const struct pack_entry *a, const struct pack_entry *b)
{
    return a->offset < b->offset + b->stored && b->offset < a->offset + a->stored;
}

static const char *entry_error(const struct pack *p, uint32_t i)
{
    const struct pack_entry *e = &p->entry[i];
    if (!name_valid(e->name)) {
        return "a part's name is malformed";
    }
    if (!kind_valid(e) || e->zero != 0 || e->reserved[0] != 0 || e->reserved[1] != 0) {
        return "a part is of an unknown kind";
    }
    if (e->method > PACK_LZ4 || (e->method == PACK_STORED && e->stored != e->unpacked)) {
        return "a part is packed in an unknown way";
    }
    if (e->stored == 0 || e->unpacked == 0 || e->unpacked > PACK_PART_MAX) {
        return "a part has a bad size";
    }
    if (e->offset % PACK_PAGE != 0 || e->offset < PACK_PAGE || e->offset > p->size ||
        e->stored > p->size - e->offset) {
        return "a part lies outside";
    }
    for (uint32_t k = 0; k < i; k++) {
        const struct pack_entry *other = &p->entry[k];
        if (overlap(e, other)) {
            return "two parts overlap";
        }
        if (e->kind == other->kind && e->slot == other->slot &&
            (e->kind != PACK_MODULE || same(e->name, other->name, PACK_NAME_MAX))) {
            return "a part is there twice";
        }
    }
    return NULL;
}

const char *pack_open(struct pack *p, const void *base, size_t size, size_t at)
{
    if (at % PACK_PAGE != 0 || size < PACK_PAGE || at > size - PACK_PAGE || size > UINT32_MAX) {
        return "it lies outside";
    }
    const struct pack_header *h = (const void *)((const uint8_t *)base + at);
    *p = (struct pack){base, size, h, (const struct pack_entry *)(h + 1)};
    if (!same(h->magic, PACK_MAGIC, sizeof(h->magic))) {
        return "no directory is there";
    }
    if (h->count > PACK_ENTRIES_MAX) {
        return "it has too many parts";
    }
    if (directory_crc(h) != h->crc) {
        return "its checksum is wrong";
    }
    if (h->version != PACK_VERSION) {
        return "it is of another version";
    }
    if (h->size != size || h->active > 1 || h->zero != 0) {
        return "its header is malformed";
    }
    for (uint32_t i = 0; i < h->count; i++) {
        const char *error = entry_error(p, i);
        if (error != NULL) {
            return error;
        }
    }
    return NULL;
}

const struct pack_entry *pack_kernel(const struct pack *p, unsigned slot)
{
    for (uint32_t i = 0; i < p->header->count; i++) {
        if (p->entry[i].kind == PACK_KERNEL && p->entry[i].slot == slot) {
            return &p->entry[i];
        }
    }
    return NULL;
}

const char *pack_check(const struct pack *p, const struct pack_entry *e)
{
    return crc32c(0, p->base + e->offset, e->stored) == e->crc ? NULL : "its checksum is wrong";
}

/* Words first: each step of a REP counts, and flash is slow. */
static void copy(uint8_t *to, const uint8_t *from, size_t size)
{
    size_t words = size / 8, rest = size % 8;
    __asm__ volatile("rep movsq\n\tmovq %3, %2\n\trep movsb"
                     : "+D"(to), "+S"(from), "+c"(words)
                     : "r"(rest)
                     : "memory");
}

const char *pack_read(const struct pack *p, const struct pack_entry *e, void *out)
{
    if (e->method == PACK_STORED) { /* the copy is checked: it is what will be used */
        copy(out, p->base + e->offset, e->stored);
        return crc32c(0, out, e->stored) == e->crc ? NULL : "its checksum is wrong";
    }
    const char *error = pack_check(p, e);
    if (error != NULL) {
        return error;
    }
    ptrdiff_t size = lz4_unpack(p->base + e->offset, e->stored, out, e->unpacked);
    return size == (ptrdiff_t)e->unpacked ? NULL : "it does not unpack";
}
