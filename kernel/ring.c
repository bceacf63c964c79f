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

size_t nk_ring_get(struct nk_ring *r, char *out, size_t len)
{
    size_t used = nk_ring_used(r);
    len = len < used ? len : used;
    size_t at = r->tail & (r->size - 1);
    size_t first = len < r->size - at ? len : r->size - at;
    memcpy(out, r->bytes + at, first);
    memcpy(out + first, r->bytes, len - first);
    r->tail += len;
    return len;
}
