/* Threads: one state machine, enforced by thread_set_state() of sched/thread_impl.h.
 *
 *   NEW -> READY <-> RUNNING -> BLOCKED | PAUSED -> READY ... -> DONE
 *
 * Threading: functions may be called from any thread unless their comment says otherwise.
 * A thread blocks only with preemption and interrupts on. */
#pragma once

#include "base/list.h"
#include "base/percpu.h"
#include "base/types.h"

#define NK_THREAD_NAME_MAX  24
#define NK_CPU_ANY          (-1)
#define NK_PRIORITY_COUNT   32
#define NK_PRIORITY_DEFAULT 16 /* larger runs first; 0 is the idle thread's own */
#define NK_PRIORITY_MAX     30 /* above are threads with deadlines, sched/deadline.h */

enum nk_thread_state {
    NK_THREAD_NEW,
    NK_THREAD_READY,
    NK_THREAD_RUNNING,
    NK_THREAD_BLOCKED,
    NK_THREAD_PAUSED,
    NK_THREAD_DONE,
};

typedef void (*nk_thread_fn)(void *arg);

struct nk_thread; /* sched/thread_impl.h for the scheduler and the switch */

struct nk_thread_attr {
    const char *name;
    int cpu;           /* pinned to this CPU, or NK_CPU_ANY */
    unsigned priority; /* 1..NK_PRIORITY_MAX; 0: the default */
    bool fp;           /* owns FPU/SSE/AVX state */
};

/* A NEW thread that remembers fn and arg; attr may be NULL. The creator holds the one reference.
 * Errors: -ENOMEM, -EINVAL cpu not there or priority out of range. */
int nk_thread_create(struct nk_thread **out, const struct nk_thread_attr *attr, nk_thread_fn fn,
                     void *arg) NK_MUST_CHECK;

/* Deferred start of a NEW thread, or again of a DONE one. Errors: -EBUSY it is alive. */
int nk_thread_run(struct nk_thread *t) NK_MUST_CHECK;

/* create and run. */
int nk_thread_start(struct nk_thread **out, const struct nk_thread_attr *attr, nk_thread_fn fn,
                    void *arg) NK_MUST_CHECK;

/* Wait until it is DONE. Errors: -EDEADLK of itself, -EINVAL it is NEW or detached. */
int nk_thread_join(struct nk_thread *t) NK_MUST_CHECK;

/* Wait until all threads that the current one has made and started, and not detached, are DONE.
 * Nobody else destroys or detaches them meanwhile. */
void nk_thread_join_children(void);

/* Start fn(arg) in a thread like the current one: its name, priority, pin, affinity, partition, and
 * extended state if it owns one, fresh. Errors: -ENOMEM. */
int nk_thread_clone(struct nk_thread **out, nk_thread_fn fn, void *arg) NK_MUST_CHECK;

/* Release a NEW or DONE thread. Errors: -EBUSY alive. */
int nk_thread_destroy(struct nk_thread *t) NK_MUST_CHECK;

/* Let it be destroyed by itself when DONE; the handle is dead afterwards. */
void nk_thread_detach(struct nk_thread *t);

void nk_thread_yield(void);
NK_NORETURN void nk_thread_exit(void);

/* Sleep to an absolute TSC value / for a duration. */
void nk_thread_sleep_until(uint64_t tsc);
void nk_thread_sleep_ns(uint64_t ns);

/* A token wait: nk_thread_park() returns at once when a wake came since the last park, and else
 * blocks until nk_thread_wake(). Wake: any context, interrupts included; never lost, not counted.
 * park_until also returns at the deadline (TSC); false then. */
void nk_thread_park(void);
/* As nk_thread_park(), for a thread that is mostly woken before its CPU has anything else to do,
 * such as a vCPU's: until there is something, the CPU halts on this thread's stack, and two
 * switches are saved. */
void nk_thread_park_idling(void);
bool nk_thread_park_until(uint64_t tsc);
void nk_thread_wake(struct nk_thread *t);

/* Stop it at the next point where it could be preempted; resume lets it go on. Errors: -EINVAL. */
int nk_thread_pause(struct nk_thread *t) NK_MUST_CHECK;
int nk_thread_resume(struct nk_thread *t) NK_MUST_CHECK;

/* Pin to a CPU (NK_CPU_ANY unpins); moves it there if it is elsewhere. Errors: -EINVAL;
 * -EBUSY it has deadlines. */
int nk_thread_pin(struct nk_thread *t, int cpu) NK_MUST_CHECK;

/* The CPUs it may run on, bit n for CPU n; moves it if it is elsewhere, and ends a pin. Without a
 * mask of its own (NK_AFFINITY_ANY) it may run on all but isolated CPUs and those with a partition
 * table. Errors: -EINVAL no CPU that is there; -EBUSY it has deadlines. */
#define NK_AFFINITY_ANY UINT64_MAX
int nk_thread_set_affinity(struct nk_thread *t, uint64_t cpus) NK_MUST_CHECK;

/* The current thread owns extended state from now on, and runs with this XCR0 (guest's value);
 * the full state is kept across switches. Context: the thread itself. */
void nk_thread_fp_enable(void);
void nk_thread_fp_set_xcr0(uint64_t xcr0);
/* FS holds this base whenever the current thread, which owns extended state, runs: a program's
 * thread-local storage. The kernel itself does not use FS. */
void nk_thread_set_fs_base(uint64_t base);
uint64_t nk_fp_xcr0_supported(void); /* all that XCR0 may hold; 0: no XSAVE */

static inline struct nk_thread *nk_thread_current(void)
{
    return this_cpu->current;
}

const char *nk_thread_name(const struct nk_thread *t);
enum nk_thread_state nk_thread_get_state(const struct nk_thread *t);
const char *nk_thread_state_name(enum nk_thread_state s);

struct nk_thread_info {
    uint64_t id;
    char name[NK_THREAD_NAME_MAX];
    enum nk_thread_state state;
    unsigned cpu, priority;
    bool pinned, fp;
    uint64_t cpu_ticks; /* TSC ticks on a CPU */
    uint64_t switches;
};

/* Of the current thread, up to now. */
uint64_t nk_thread_cpu_ticks(void);

/* The first thread with id greater than after; false when there is none. */
bool nk_thread_next_info(uint64_t after, struct nk_thread_info *out);

/* For a debugger while every CPU stands still; these take no lock. The thread behind `after` by id
 * (NULL: the first), NULL past the last; and the registers of one that is off its CPU, as the
 * switch saved them (false: it is on a CPU, or has none). */
struct nk_thread_context {
    uint64_t r15, r14, r13, r12, rbx, rbp, rip; /* as on its stack */
    uint64_t rsp;
};
const struct nk_thread *nk_thread_walk(const struct nk_thread *after);
uint64_t nk_thread_id(const struct nk_thread *t);
bool nk_thread_saved_context(const struct nk_thread *t, struct nk_thread_context *out);

/* newlib's per-thread state, made on first use (kernel/newlib.c). */
void **nk_thread_reent_slot(void);
