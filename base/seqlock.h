/* Sequence locks, for data that is read often, interrupts and NMIs included, and seldom written.
 * Readers write nothing: they copy what they need, and do it again if a writer came by. The copy
 * may be torn until then, so pointers in it are followed only after the check. */
#pragma once

#include "base/spinlock.h"

struct nk_seqlock {
    uint32_t sequence; /* atomic; odd: a writer is at it */
    struct nk_spinlock writers;
};

#define NK_SEQLOCK_INIT(rank)                                                                      \
    {                                                                                              \
        0, NK_SPINLOCK_INIT(rank)                                                                  \
    }

static inline uint32_t nk_seq_read_begin(const struct nk_seqlock *s)
{
    uint32_t sequence;
    while ((sequence = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE)) & 1) {
        x86_pause();
    }
    return sequence;
}

/* The copy is good. */
static inline bool nk_seq_read_ok(const struct nk_seqlock *s, uint32_t begin)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&s->sequence, __ATOMIC_RELAXED) == begin;
}

/* Interrupts are off meanwhile: a reader in a handler of this CPU would wait for ever. */
static inline uint64_t nk_seq_write_lock(struct nk_seqlock *s)
{
    uint64_t flags = nk_spin_lock_irqsave(&s->writers);
    __atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return flags;
}

static inline void nk_seq_write_unlock(struct nk_seqlock *s, uint64_t flags)
{
    __atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELEASE);
    nk_spin_unlock_irqrestore(&s->writers, flags);
}
