/* Ticket spin locks. Fair; held with preemption off; the irqsave form also with interrupts off.
 *
 * Lock order (outer first): vm control > vcpu > device > thread > run queue > timer queue >
 * slab > page table > buddy > interrupt lines > log. Debug builds (CONFIG_DEBUG) check ranks. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"
#include "base/x86.h"

enum nk_lock_rank {
    NK_RANK_CONTROL,
    NK_RANK_VCPU,
    NK_RANK_DEVICE,
    NK_RANK_THREAD,
    NK_RANK_RUNQUEUE,
    NK_RANK_TIMER,
    NK_RANK_SLAB,
    NK_RANK_PAGETABLE,
    NK_RANK_BUDDY,
    NK_RANK_IRQ,
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
void nk_spinlock_debug_taken(struct nk_spinlock *lock);
void nk_spinlock_debug_released(struct nk_spinlock *lock);
#else
static inline void nk_spinlock_debug_taken(struct nk_spinlock *lock)
{
    (void)lock;
}
static inline void nk_spinlock_debug_released(struct nk_spinlock *lock)
{
    (void)lock;
}
#endif

static inline void nk_spinlock_acquire(struct nk_spinlock *lock)
{
    uint16_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);
    while (nk_unlikely(__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE) != ticket)) {
        x86_pause();
    }
    nk_spinlock_debug_taken(lock);
}

static inline void nk_spinlock_release(struct nk_spinlock *lock)
{
    nk_spinlock_debug_released(lock);
    __atomic_store_n(&lock->owner, (uint16_t)(lock->owner + 1), __ATOMIC_RELEASE);
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
        if (nk_unlikely(this_cpu->need_resched)) {
            nk_preempt_resched();
        }
    }
}
