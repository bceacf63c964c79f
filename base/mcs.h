/* MCS spin locks (Mellor-Crummey and Scott, 1991): each waiter spins on its own cache line, so a
 * lock wanted by many CPUs costs one transfer per handover. Fair. The node is the holder's, mostly
 * on its stack, and stays until the release. Held with preemption off. */
#pragma once

#include "base/spinlock.h"

struct nk_mcs_node {
    struct nk_mcs_node *next; /* atomic */
    uint32_t waits;           /* atomic */
};

struct nk_mcs_lock {
    struct nk_mcs_node *tail; /* atomic; NULL: free */
    uint8_t rank;             /* enum nk_lock_rank */
};

#define NK_MCS_INIT(r)                                                                             \
    {                                                                                              \
        NULL, (r)                                                                                  \
    }

static inline void nk_mcs_lock(struct nk_mcs_lock *lock, struct nk_mcs_node *node)
{
    nk_preempt_disable();
    *node = (struct nk_mcs_node){.waits = 1};
    struct nk_mcs_node *before = __atomic_exchange_n(&lock->tail, node, __ATOMIC_ACQ_REL);
    if (before != NULL) {
        __atomic_store_n(&before->next, node, __ATOMIC_RELEASE);
        while (__atomic_load_n(&node->waits, __ATOMIC_ACQUIRE)) {
            x86_pause();
        }
    }
    nk_spinlock_debug_taken(lock, (enum nk_lock_rank)lock->rank);
}

static inline void nk_mcs_unlock(struct nk_mcs_lock *lock, struct nk_mcs_node *node)
{
    nk_spinlock_debug_released(lock);
    struct nk_mcs_node *next = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE), *last = node;
    if (next == NULL && !__atomic_compare_exchange_n(&lock->tail, &last, NULL, false,
                                                     __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        /* Somebody has put its node behind this one, and is about to say so. */
        while ((next = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE)) == NULL) {
            x86_pause();
        }
    }
    if (next != NULL) {
        __atomic_store_n(&next->waits, 0, __ATOMIC_RELEASE);
    }
    nk_preempt_enable();
}
