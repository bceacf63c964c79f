/* Ticket spin locks. Fair; held with preemption off; the irqsave form also with interrupts off.
 *
 * Lock order (outer first): vm control > vcpu > device > thread > timer queue >
 * slab > page table > buddy > interrupt lines > PCI configuration > log.
 * Debug builds (CONFIG_DEBUG) check ranks, and report locks that were held too long; MCS locks
 * (base/mcs.h) take part in both. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"
#include "base/x86.h"

enum nk_lock_rank {
    NK_RANK_CONTROL,
    NK_RANK_VCPU,
    NK_RANK_DEVICE,
    NK_RANK_THREAD,
    NK_RANK_TIMER,
    NK_RANK_SLAB,
    NK_RANK_PAGETABLE,
    NK_RANK_BUDDY,
    NK_RANK_IRQ,
    NK_RANK_PCI,
    NK_RANK_LOG,
};

struct nk_spinlock {
    uint16_t next;  /* ticket the next taker gets */
    uint16_t owner; /* ticket being served */
    uint8_t rank;   /* enum nk_lock_rank */
};

#define NK_SPINLOCK_INIT(r)                                                                        \
    {                                                                                              \
        0, 0, (r)                                                                                  \
    }

#if defined(CONFIG_DEBUG)
void nk_spinlock_debug_taken(const void *lock, enum nk_lock_rank rank);
void nk_spinlock_debug_released(const void *lock);

/* What a lock may be held for, and which was held longer. */
extern unsigned nk_spinlock_held_ms;
extern struct nk_spinlock_held {
    uint64_t count;    /* atomic */
    const void *where; /* the last of them was taken */
} nk_spinlock_held_last;
#else
static inline void nk_spinlock_debug_taken(const void *lock, enum nk_lock_rank rank)
{
    (void)lock, (void)rank;
}
static inline void nk_spinlock_debug_released(const void *lock)
{
    (void)lock;
}
#endif

/* Compared and, below, incremented in memory, which C's atomics do not compile to: one instruction
 * each. x86 loads acquire and stores release by themselves (APM vol. 2, 7.2). */
static inline bool nk_spinlock_is_served(const struct nk_spinlock *lock, uint16_t ticket)
{
    bool served;
    __asm__ volatile("cmpw %2, %1" : "=@cce"(served) : "m"(lock->owner), "r"(ticket) : "memory");
    return served;
}

static inline void nk_spinlock_acquire(struct nk_spinlock *lock)
{
    uint16_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_ACQUIRE);
    while (nk_unlikely(!nk_spinlock_is_served(lock, ticket))) {
        x86_pause();
    }
    nk_spinlock_debug_taken(lock, (enum nk_lock_rank)lock->rank);
}

static inline void nk_spinlock_release(struct nk_spinlock *lock)
{
    nk_spinlock_debug_released(lock);
    __asm__ volatile("incw %0" : "+m"(lock->owner) : : "memory");
}

static inline void nk_spin_lock(struct nk_spinlock *lock)
{
    nk_preempt_disable();
    nk_spinlock_acquire(lock);
}

static inline void nk_spin_unlock(struct nk_spinlock *lock)
{
    nk_spinlock_release(lock);
    nk_preempt_enable();
}

/* Preemption cannot happen with interrupts off, so the count is not touched. */
static inline uint64_t nk_spin_lock_irqsave(struct nk_spinlock *lock)
{
    uint64_t flags = nk_irq_save();
    nk_spinlock_acquire(lock);
    return flags;
}

/* Reschedules when that became due under the lock: what woke a thread there could not. */
static inline void nk_spin_unlock_irqrestore(struct nk_spinlock *lock, uint64_t flags)
{
    nk_spinlock_release(lock);
    if (flags & X86_RFLAGS_IF) {
        x86_sti();
        if (nk_unlikely(this_cpu->preempt_count == 0)) {
            nk_preempt_resched();
        }
    }
}
