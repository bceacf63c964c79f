/* A ring of bytes. head and tail count bytes since the start, so that full and empty differ and
 * the number of bytes ever lost can be told.
 * Threading: none of its own; the owner's lock protects it. */
#pragma once

#include <string.h>
#include "base/types.h"

struct nk_ring {
    char *bytes;
    size_t size; /* a power of two */
    uint64_t head, tail;
};

static inline size_t nk_ring_used(const struct nk_ring *r)
{
    return r->head - r->tail;
}

static inline size_t nk_ring_space(const struct nk_ring *r)
{
    return r->size - nk_ring_used(r);
}

/* As much as fits; returns how much that was. */
size_t nk_ring_put(struct nk_ring *r, const char *s, size_t len);

/* All of it; the oldest bytes give way. Returns how many bytes were lost. */
size_t nk_ring_put_over(struct nk_ring *r, const char *s, size_t len);

/* What was taken out stays in memory until it is written over: copy up to len bytes from the n-th
 * since the start on, or from the oldest there are, and move *at behind them; returns how many. */
size_t nk_ring_look(const struct nk_ring *r, uint64_t *at, char *out, size_t len);

/* Give it other memory, at least as large. Returns the old one. */
char *nk_ring_move(struct nk_ring *r, char *bytes, size_t size);

/* Up to len of the oldest bytes, taken out; returns how many. */
size_t nk_ring_get(struct nk_ring *r, char *out, size_t len);
