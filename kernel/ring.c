#include "kernel/ring.h"

size_t nk_ring_put(struct nk_ring *r, const char *s, size_t len)
{
    size_t space = nk_ring_space(r);
    len = len < space ? len : space;
    size_t at = r->head & (r->size - 1);
    size_t first = len < r->size - at ? len : r->size - at;
    memcpy(r->bytes + at, s, first);
    memcpy(r->bytes, s + first, len - first);
    r->head += len;
    return len;
}

size_t nk_ring_put_over(struct nk_ring *r, const char *s, size_t len)
{
    size_t skipped = 0, lost = 0;
    if (len > r->size) {
        skipped = len - r->size;
    }
    if (len - skipped > nk_ring_space(r)) {
        lost = len - skipped - nk_ring_space(r);
        r->tail += lost;
    }
    nk_ring_put(r, s + skipped, len - skipped);
    return skipped + lost;
}

static void copy_out(const struct nk_ring *r, uint64_t from, char *out, size_t len)
{
    size_t at = from & (r->size - 1);
    size_t first = len < r->size - at ? len : r->size - at;
    memcpy(out, r->bytes + at, first);
    memcpy(out + first, r->bytes, len - first);
}

size_t nk_ring_get(struct nk_ring *r, char *out, size_t len)
{
    size_t used = nk_ring_used(r);
    len = len < used ? len : used;
    copy_out(r, r->tail, out, len);
    r->tail += len;
    return len;
}

static uint64_t oldest(const struct nk_ring *r)
{
    return r->head > r->size ? r->head - r->size : 0;
}

size_t nk_ring_look(const struct nk_ring *r, uint64_t *at, char *out, size_t len)
{
    uint64_t from = *at > oldest(r) ? *at : oldest(r);
    size_t there = from < r->head ? r->head - from : 0;
    len = len < there ? len : there;
    copy_out(r, from, out, len);
    *at = from + len;
    return len;
}

char *nk_ring_move(struct nk_ring *r, char *bytes, size_t size)
{
    char *old = r->bytes;
    for (uint64_t at = oldest(r); at < r->head;) {
        size_t to = at & (size - 1);
        nk_ring_look(r, &at, bytes + to, size - to);
    }
    r->bytes = bytes;
    r->size = size;
    return old;
}
