/* Per-CPU data. GS points at this CPU's struct nk_cpu whenever the kernel runs.
 *
 * Threading: a field belongs to its CPU unless its comment says otherwise. A thread that may
 * migrate reads `this CPU` only with preemption or interrupts off. */
#pragma once

#include "base/types.h"
#include "config.h"

struct nk_thread;
struct sched_rq;
struct slab_cpu;
struct timer_queue;
struct nk_trap_frame;

/* Free pages at hand, linked through their first words; mm/buddy.c. */
struct nk_page_cache {
    void *head;
    uint32_t count;
    uint64_t alloc_count, free_count;
};

struct nk_cpu {
    struct nk_cpu *self;
    struct nk_thread *current; /* the running thread, idle included */
    uint32_t preempt_count;    /* see below; interrupt handlers run with it raised */
    uint32_t irq_depth;        /* >0: in an interrupt handler */
    uint32_t id;               /* 0 is the boot CPU, then in MADT order */
    uint32_t apic_id;
    uint32_t node; /* NUMA node */
    struct sched_rq *rq;
    struct slab_cpu *slab; /* magazines, one per object cache */
    struct nk_page_cache pages;
    struct timer_queue *timers;
    struct nk_thread *fpu_owner;             /* whose extended state the registers hold */
    uint64_t xcr0;                           /* what XCR0 holds now */
    void *tss;                               /* struct x86_tss */
    const struct nk_trap_frame *panic_frame; /* where a panic's NMI found this CPU */
    uint32_t online;                         /* read by all */
    uint32_t debug_lock_depth;
    void *call_queue;      /* cross-CPU calls, kernel/smp_call.c */
    void *vmm;             /* per-CPU state of kernel/vmm_host.c */
    uint64_t irq_count[4]; /* timer, reschedule, call, device */
    /* For kernel/watchdog.c: interrupts that are due. */
    uint64_t timer_deadline; /* TSC; 0: none is set */
    bool kicked;             /* written by all: a reschedule interrupt was sent, and has not come */
} NK_ALIGNED(64);

extern struct nk_cpu nk_cpu_table[CONFIG_NR_CPUS];
extern unsigned nk_cpu_count; /* CPUs online; does not change after boot */

/* this_cpu->field compiles to one GS-relative access. Needs -fno-delete-null-pointer-checks:
 * without it GCC 12 takes a function that only stores through it for one without effects. */
#define this_cpu ((__seg_gs struct nk_cpu *)0)

static inline struct nk_cpu *nk_this_cpu(void)
{
    return this_cpu->self;
}

/* In preempt_count, above the depth: no reschedule is due. So the count is 0 exactly when the CPU
 * may be preempted and should be, and leaving a critical section tests both at once. */
#define NK_PREEMPT_QUIET (UINT32_C(1) << 31)

static inline uint32_t nk_preempt_depth(void)
{
    return this_cpu->preempt_count & ~NK_PREEMPT_QUIET;
}

/* Ask this CPU to reschedule as soon as it may; interrupts off. */
static inline void nk_resched_request(void)
{
    this_cpu->preempt_count &= ~NK_PREEMPT_QUIET;
    __asm__ volatile("" : : : "memory");
}

static inline void nk_resched_clear(void)
{
    this_cpu->preempt_count |= NK_PREEMPT_QUIET;
    __asm__ volatile("" : : : "memory");
}

static inline void nk_preempt_disable(void)
{
    this_cpu->preempt_count++;
    __asm__ volatile("" : : : "memory");
}

/* Out of line part, called when the count is 0: reschedules unless interrupts are off. In sched/.
 */
void nk_preempt_resched(void);

static inline void nk_preempt_enable(void)
{
    __asm__ volatile("" : : : "memory");
    if (nk_unlikely(--this_cpu->preempt_count == 0)) {
        nk_preempt_resched();
    }
}
