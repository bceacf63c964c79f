/* Inside sched/ only: the thread.
 *
 * Threading: a thread belongs to the CPU in `cpu`: that CPU alone, with interrupts off, moves it
 * between READY, RUNNING, BLOCKED and PAUSED and touches its accounting. Others act through the
 * fields marked atomic: they wake it by its wait words and ask things of it by `attention`. */
#pragma once

#include "base/platform.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "sched/tls.h"

/* Values of a wait word (sched/wait.c). */
enum thread_wait {
    WAIT_NOTHING = 0,
    WAIT_TOKEN = 1,   /* woken, and not waited for since */
    WAIT_TIMEOUT = 2, /* the same, by the timer */
    WAIT_PARKED = 3,  /* blocked until the word changes; who changes it makes the thread ready */
    WAIT_IDLING = 4,  /* halts its CPU until the word changes; who changes it kicks the CPU */
};

/* What the thread's CPU has to look at before it runs the thread again. */
enum thread_attention {
    ATTENTION_PAUSE = 1 << 0,   /* nk_thread_pause() asks for it */
    ATTENTION_PAUSED = 1 << 1,  /* it was done */
    ATTENTION_MIGRATE = 1 << 2, /* it may have to go to another CPU */
};

/* What a switch to or from the thread has to do beyond the usual. */
enum thread_on_switch {
    SWITCH_FP = 1 << 0,
    SWITCH_DEADLINE = 1 << 1,
};

#define NK_PRIORITY_DEADLINE (NK_PRIORITY_COUNT - 1)

#define WAKES_ASK (-2) /* making the thread ready is not the plain case */

/* Something that only the CPU of a run queue can do to it, asked for by another CPU. fn runs there
 * in the reschedule interrupt; it may release the order. */
struct sched_order {
    struct sched_order *next;
    void (*fn)(struct sched_rq *rq, struct sched_order *order);
};

/* How urgent a thread is, in one number, the larger the more: its fixed priority, or the complement
 * of its deadline. */
static inline uint64_t urgency_of_deadline(uint64_t tsc)
{
    return ~tsc;
}

/* What a thread gets from those that wait for its mutexes, and what it waits for: sched/lend.c. */
struct thread_lending {
    uint64_t lent;              /* atomic; the urgency it is lent; 0: none */
    struct nk_mutex *waits_for; /* atomic; bit 0: pinned by who walks along the chain */
    struct nk_list lenders;     /* the mutexes it holds whose waiters lend; lend.c's lock */
    struct sched_order order;   /* tells its CPU; under way while `told` is not TOLD_NOTHING */
    uint32_t told;              /* atomic */
};

struct nk_thread {
    uint64_t sp;     /* while not running; sched/switch.asm */
    uint32_t on_cpu; /* atomic; 0: its registers are saved and nothing uses its stack */
    uint8_t state;   /* THREAD_STATE(); written by thread_set_state() only */
    uint8_t priority;
    uint8_t on_switch;      /* enum thread_on_switch */
    uint8_t own_priority;   /* fixed, what it has by itself; `priority` is what it runs with */
    uint8_t partition;      /* atomic; sched/partition.h */
    bool slack;             /* runs, with priority 0, in a slot that is not its partition's */
    uint32_t attention;     /* atomic; enum thread_attention */
    uint32_t cpu;           /* whose run queue it is on, or was last */
    int32_t wakes_on;       /* atomic; `pinned`, or WAKES_ASK */
    int32_t pinned;         /* atomic; a CPU or NK_CPU_ANY */
    uint64_t affinity;      /* atomic; CPUs it may run on when it is not pinned; bit n: CPU n */
    struct nk_thread *next; /* in a run queue, an inbox or the graveyard */
    uint32_t park;          /* atomic wait word of nk_thread_park() */
    uint32_t wait;          /* atomic wait word of everything in sched/ that blocks */
    uint64_t cpu_ticks;     /* while it runs, less the time when it began: below 0 */
    uint64_t switches;
    uint64_t slice_used;  /* ticks of the current slice, up to the last preemption */
    uint64_t deadline;    /* TSC; of a thread of NK_PRIORITY_DEADLINE */
    uint64_t own_urgency; /* atomic; by its own priority or deadline; 0: its slice is over */
    struct thread_lending lending;
    struct thread_deadline *edf; /* its record, sched/deadline.c; NULL: never had any */
    void *fp;                    /* extended state; NULL: the thread owns none */
    uint64_t xcr0;               /* to run with; sched/fp.c */
    uint64_t fs_base;            /* of threads with extended state; 0: whatever is there */
    uint32_t fp_cpu;             /* where the state was in the registers last */
    uint32_t *timer_word;        /* what `timer` wakes */
    struct nk_timer timer;
    nk_thread_fn fn;
    void *arg;
    void *stack_top;
    void *reent;
    void *tls[NK_TLS_KEYS_MAX];
    bool detached;             /* done.lock */
    struct nk_waitqueue done;  /* joiners; its lock also orders DONE, join and detach */
    struct nk_list registered; /* on the list of all threads, by id */
    uint64_t id, parent;       /* the id of who made it */
    char name[NK_THREAD_NAME_MAX];
};

/* In a thread a state is a bit, so that one test tells whether it is any of several. */
#define THREAD_STATE(state) (1u << (state))

/* The state machine: for each state, the set of states it may be entered from. */
#define FROM(state) THREAD_STATE(NK_THREAD_##state)
static const uint8_t thread_allowed_from_table[] = {
    [NK_THREAD_NEW] = 0,
    [NK_THREAD_READY] = FROM(NEW) | FROM(RUNNING) | FROM(BLOCKED) | FROM(PAUSED) | FROM(DONE),
    [NK_THREAD_RUNNING] = FROM(READY),
    [NK_THREAD_BLOCKED] = FROM(RUNNING),
    [NK_THREAD_PAUSED] = FROM(READY),
    [NK_THREAD_DONE] = FROM(RUNNING),
};
#undef FROM

/* The one place where a thread's state changes. */
static inline void thread_set_state(struct nk_thread *t, enum nk_thread_state state)
{
    nk_assert(t->state & thread_allowed_from_table[state]);
    __atomic_store_n(&t->state, (uint8_t)THREAD_STATE(state), __ATOMIC_RELAXED);
}

/* Neither started nor finished: NEW and DONE threads belong to who holds the handle. */
static inline bool thread_is_alive(const struct nk_thread *t)
{
    return !(__atomic_load_n(&t->state, __ATOMIC_ACQUIRE) &
             (THREAD_STATE(NK_THREAD_NEW) | THREAD_STATE(NK_THREAD_DONE)));
}

/* With what it is lent. A thread that is blocked has it before its CPU has heard of it. */
static inline uint64_t thread_urgency(const struct nk_thread *t)
{
    uint64_t own = __atomic_load_n(&t->own_urgency, __ATOMIC_RELAXED);
    uint64_t lent = __atomic_load_n(&t->lending.lent, __ATOMIC_SEQ_CST);
    return lent > own ? lent : own;
}

/* TSC ticks that a thread has run. Another CPU may be switching to or from it. */
static inline uint64_t thread_ticks(const struct nk_thread *t)
{
    uint64_t ticks = __atomic_load_n(&t->cpu_ticks, __ATOMIC_RELAXED);
    return (int64_t)ticks < 0 ? ticks + x86_rdtsc() : ticks;
}

/* Wait until nothing uses the stack of a thread that is DONE: it is about to leave its CPU. */
static inline void thread_wait_off_cpu(const struct nk_thread *t)
{
    while (__atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE)) {
        x86_pause();
    }
}

void thread_init(void);

/* A thread without a stack (it runs already) or with one; NULL: out of memory. */
struct nk_thread *thread_make(const struct nk_thread_attr *attr, nk_thread_fn fn, void *arg,
                              bool with_stack);
void thread_prepare(struct nk_thread *t); /* its next switch starts fn(arg) */
void thread_reap(void);                   /* destroys detached threads that are DONE */

void sched_switch(struct nk_thread *prev, struct nk_thread *next); /* sched/switch.asm */

/* sched/lend.c */
void lending_init(struct nk_thread *t);
void lending_wait_told(const struct nk_thread *t); /* until no CPU is about to look at it */

/* sched/fp.c */
void fp_init(void);
void fp_init_cpu(void);
int fp_alloc(struct nk_thread *t) NK_MUST_CHECK;
void fp_reset(struct nk_thread *t);
void fp_switch(struct nk_thread *prev, struct nk_thread *next);

void tls_destroy_all(struct nk_thread *t); /* sched/tls.c; the current thread ends */

/* sched/timer.c */
void timer_init(void);
struct timer_queue *timer_queue_create(void);

/* sched/wait.c. Block the current thread until the word is signalled; the value it got. */
enum thread_wait sched_wait(uint32_t *word);
enum thread_wait sched_wait_until(uint32_t *word, uint64_t tsc);
void sched_signal(struct nk_thread *t, uint32_t *word);
void sched_wait_timeout(struct nk_timer *timer); /* callback of every thread's timer */
