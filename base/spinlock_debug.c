/* Debug builds: every CPU remembers the spin locks it holds, and a lock of an outer rank taken
 * inside an inner one, or one taken twice, is a panic on the spot instead of a rare deadlock. One
 * that was held too long is reported when it is released, with the place where it was taken.
 *
 * An interrupt may come while a lock is held that it never takes, so only locks taken at the same
 * interrupt depth are compared. Locks of equal rank may nest. */

#include "base/platform.h"
#include "base/spinlock.h"

#define HELD_MAX 16

struct held_lock {
    const void *lock;
    enum nk_lock_rank rank;
    uint32_t irq_depth;
    uint64_t since; /* TSC */
    const void *where;
};

#define MS_PER_S      1000
#define HELD_REPORTED 16 /* then the log has enough of it */

unsigned nk_spinlock_held_ms = 100; /* longer than any emulator's host keeps a CPU waiting */
struct nk_spinlock_held nk_spinlock_held_last;

static struct held_lock held_table[CONFIG_NR_CPUS][HELD_MAX];

void nk_spinlock_debug_taken(const void *lock, enum nk_lock_rank rank)
{
    uint64_t flags = nk_irq_save();
    struct held_lock *held = held_table[this_cpu->id];
    uint32_t depth = this_cpu->debug_lock_depth;
    nk_assert(depth < HELD_MAX);
    if (depth > 0 && held[depth - 1].irq_depth == this_cpu->irq_depth &&
        held[depth - 1].rank > rank) {
        nk_panic("lock order: %p of rank %u taken inside %p of rank %u", lock, rank,
                 held[depth - 1].lock, held[depth - 1].rank);
    }
    held[depth] = (struct held_lock){lock, rank, this_cpu->irq_depth, x86_rdtsc(),
                                     __builtin_return_address(0)};
    this_cpu->debug_lock_depth = depth + 1;
    nk_irq_restore(flags);
}

/* Called with the lock off the table. The log has a lock itself, of the last rank. */
static NK_NOINLINE void report_held(const struct held_lock *held, uint64_t ticks)
{
    nk_spinlock_held_last.where = held->where;
    uint64_t count = __atomic_add_fetch(&nk_spinlock_held_last.count, 1, __ATOMIC_RELAXED);
    if (held->rank != NK_RANK_LOG && count <= HELD_REPORTED) {
        nk_warn("lock %p, taken at %p, was held for %lu ms", held->lock, held->where,
                ticks * MS_PER_S / nk_tsc_hz);
    }
}

/* Locks are mostly, but not always, released in the opposite order. */
void nk_spinlock_debug_released(const void *lock)
{
    uint64_t flags = nk_irq_save();
    struct held_lock *held = held_table[this_cpu->id];
    uint32_t depth = this_cpu->debug_lock_depth;
    uint32_t at = depth;
    while (at > 0 && held[at - 1].lock != lock) {
        at--;
    }
    if (at == 0) {
        nk_panic("lock %p is released by a CPU that does not hold it", lock);
    }
    const struct held_lock released = held[at - 1];
    for (; at < depth; at++) {
        held[at - 1] = held[at];
    }
    this_cpu->debug_lock_depth = depth - 1;
    uint64_t ticks = x86_rdtsc() - released.since;
    if (nk_unlikely(ticks * MS_PER_S > nk_spinlock_held_ms * nk_tsc_hz && nk_tsc_hz != 0)) {
        report_held(&released, ticks);
    }
    nk_irq_restore(flags);
}
