/* Debug builds: every CPU remembers the spin locks it holds, and a lock of an outer rank taken
 * inside an inner one, or one taken twice, is a panic on the spot instead of a rare deadlock.
 *
 * An interrupt may come while a lock is held that it never takes, so only locks taken at the same
 * interrupt depth are compared. Locks of equal rank may nest. */

#include "base/platform.h"
#include "base/spinlock.h"

#define HELD_MAX 16

struct held_lock {
    const struct nk_spinlock *lock;
    uint32_t irq_depth;
};

static struct held_lock held_table[CONFIG_NR_CPUS][HELD_MAX];

void nk_spinlock_debug_taken(struct nk_spinlock *lock)
{
    uint64_t flags = nk_irq_save();
    struct held_lock *held = held_table[this_cpu->id];
    uint32_t depth = this_cpu->debug_lock_depth;
    nk_assert(depth < HELD_MAX);
    if (depth > 0 && held[depth - 1].irq_depth == this_cpu->irq_depth &&
        held[depth - 1].lock->rank > lock->rank) {
        nk_panic("lock order: %p of rank %u taken inside %p of rank %u", (void *)lock, lock->rank,
                 (const void *)held[depth - 1].lock, held[depth - 1].lock->rank);
    }
    held[depth] = (struct held_lock){lock, this_cpu->irq_depth};
    this_cpu->debug_lock_depth = depth + 1;
    nk_irq_restore(flags);
}

/* Locks are mostly, but not always, released in the opposite order. */
void nk_spinlock_debug_released(struct nk_spinlock *lock)
{
    uint64_t flags = nk_irq_save();
    struct held_lock *held = held_table[this_cpu->id];
    uint32_t depth = this_cpu->debug_lock_depth;
    uint32_t at = depth;
    while (at > 0 && held[at - 1].lock != lock) {
        at--;
    }
    if (at == 0) {
        nk_panic("lock %p is released by a CPU that does not hold it", (void *)lock);
    }
    for (; at < depth; at++) {
        held[at - 1] = held[at];
    }
    this_cpu->debug_lock_depth = depth - 1;
    nk_irq_restore(flags);
}
