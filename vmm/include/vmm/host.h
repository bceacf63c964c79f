/* What the library needs from the kernel it is embedded in: one const table of hooks.
 *
 * The table is validated once, in vmm_create(), and never changes. Every hook takes the host's own
 * pointer first. Unless a hook's comment says otherwise it is called from thread context, with no
 * library lock that a sleeping hook could deadlock on, and may be called on several CPUs at once.
 * docs/porting.md is the checklist; tests/host/posix_host.c is a second, complete binding. */
#pragma once

#include <stdarg.h>
#include <vmm/types.h>

struct vmm_thread;     /* the host's thread; the library only passes the pointer round */
struct vmm_host_timer; /* the host's one-shot timer */

enum vmm_log_level { VMM_LOG_ERROR, VMM_LOG_WARN, VMM_LOG_INFO, VMM_LOG_DEBUG };

/* Storage for a host lock; the host decides what is in it. Zeroed memory is an unlocked lock. */
struct vmm_lock {
    uint64_t opaque[2];
};

/* Boot files and other read-only data that a manifest names. */
struct vmm_host_files {
    /* The whole file in memory, valid until close. Errors: -VMM_ENOENT. */
    int (*open)(void *host, const char *name, const void **data, uint64_t *size);
    void (*close)(void *host, const char *name, const void *data);
};

/* Character streams: consoles of guests. */
struct vmm_char_receiver { /* what the user types, in thread context */
    void (*input)(void *arg, const char *bytes, size_t count);
    void (*send_break)(void *arg); /* a break on the line */
    void *arg;
};
struct vmm_host_chars {
    /* Errors: -VMM_EEXIST one of this name is open, -VMM_ENOMEM. */
    int (*open)(void *host, const char *name, const struct vmm_char_receiver *receiver,
                void **stream);
    /* Never blocks. Returns how many bytes it took; the others are offered again later. */
    size_t (*write)(void *host, void *stream, const char *bytes, size_t count);
    void (*close)(void *host, void *stream);
};

/* Where pages go that are taken from a running guest: compressed memory, another node's, a file.
 * Called in exit context, with a library lock held: must not sleep. */
struct vmm_host_store {
    /* Keep a copy of a 4 KiB page; *slot (below 2^40) names it. Errors: -VMM_ENOSPC full,
     * -VMM_E2BIG this page is better left where it is. */
    int (*put)(void *host, const void *page, uint64_t *slot);
    int (*get)(void *host, uint64_t slot, void *page); /* errors: -VMM_EIO lost */
    void (*drop)(void *host, uint64_t slot);
};

struct vmm_host_ops {
    uint32_t abi_size; /* sizeof(struct vmm_host_ops) of the host's build */
    uint32_t flags;    /* 0 */

    /* --- print ------------------------------------------------------------------------------ */
    /* One line without newline. Any context. */
    void (*print)(void *host, enum vmm_log_level level, const char *line);
    /* vsnprintf: integers and strings only. Any context. */
    int (*format)(void *host, char *out, size_t size, const char *fmt, va_list ap);
    /* A broken invariant of the library: does not return. */
    void (*panic)(void *host, const char *why) VMM_NORETURN;

    /* --- pages ------------------------------------------------------------------------------ */
    /* `count` contiguous 4 KiB pages, aligned to `align` bytes (power of two), not zeroed, on NUMA
     * node `node` (-1: any). Guests get them as they are: they hold nothing that a guest must not
     * see. The library scrubs what it gives back. Of guest RAM the largest blocks are asked for
     * first, by a first touch 2 MiB; what is refused is asked for in smaller ones. Errors:
     * -VMM_ENOMEM. Any thread context, exit context included. */
    int (*pages_alloc)(void *host, uint64_t count, uint64_t align, int node, hpa_t *out);
    void (*pages_free)(void *host, hpa_t base, uint64_t count);
    /* `count` pages that pages_alloc gave at once are `parts` allocations of equal size from now on
     * (count and parts: powers of two), each freed by itself; and the other way round. No errors.
     * Any thread context. */
    void (*pages_split)(void *host, hpa_t base, uint64_t count, uint64_t parts);
    void (*pages_join)(void *host, hpa_t base, uint64_t count, uint64_t parts);
    /* Bytes of RAM a VM could get now. */
    uint64_t (*pages_available)(void *host);

    /* --- small memory ----------------------------------------------------------------------- */
    /* Zeroed, aligned to 16; NULL: none. */
    void *(*alloc)(void *host, size_t size);
    void (*free)(void *host, void *p);

    void *(*hpa_to_va)(void *host, hpa_t hpa); /* where a page is mapped, always. Any context */

    /* --- threads ---------------------------------------------------------------------------- */
    /* NEW thread pinned to `cpu` (-1: none), with extended (FPU) state of its own. */
    int (*thread_create)(void *host, const char *name, int cpu, void (*fn)(void *arg), void *arg,
                         struct vmm_thread **out);
    int (*thread_run)(void *host, struct vmm_thread *t);  /* deferred start */
    int (*thread_join)(void *host, struct vmm_thread *t); /* waits for its end and releases it */
    /* Token wait: park returns at once if a wake came since the last park. Wake: any context. */
    void (*thread_park)(void *host);
    void (*thread_wake)(void *host, struct vmm_thread *t);
    void (*thread_yield)(void *host);
    struct vmm_thread *(*thread_current)(void *host);
    /* The current thread's extended state is a guest's from now on and runs with this XCR0. The
     * host keeps the full state across switches. xcr0_supported: what the CPU can have. */
    void (*thread_set_xcr0)(void *host, uint64_t xcr0);
    uint64_t xcr0_supported; /* 0: no XSAVE */
    /* Cycles that the current thread has had a CPU to itself: less than have passed where others
     * ran in its place. */
    uint64_t (*thread_cycles)(void *host);

    /* --- locks ------------------------------------------------------------------------------ */
    /* Short critical sections among threads; never taken from interrupt context. */
    void (*lock)(void *host, struct vmm_lock *lock);
    void (*unlock)(void *host, struct vmm_lock *lock);

    /* --- CPU -------------------------------------------------------------------------------- */
    unsigned (*cpu_count)(void *host);
    unsigned (*cpu_current)(void *host);
    /* Make the CPU leave guest mode if it is in it (an empty interrupt). Any context. */
    void (*cpu_kick)(void *host, unsigned cpu);
    /* Run fn(arg) on the CPU, in interrupt context or not, and wait. */
    int (*cpu_call)(void *host, unsigned cpu, void (*fn)(void *arg), void *arg);

    /* --- time ------------------------------------------------------------------------------- */
    uint64_t (*cycles)(void *host); /* the TSC */
    uint64_t cycles_khz;
    uint64_t (*wall_clock_ns)(void *host); /* UTC since 1970 */
    /* One-shot timer; fn runs in interrupt context and may only call thread_wake and cpu_kick. */
    int (*timer_create)(void *host, void (*fn)(void *arg), void *arg, struct vmm_host_timer **out);
    void (*timer_arm)(void *host, struct vmm_host_timer *t, uint64_t deadline_cycles);
    void (*timer_cancel)(void *host, struct vmm_host_timer *t); /* fn does not run after it */
    void (*timer_destroy)(void *host, struct vmm_host_timer *t);

    /* --- MSRs of the host that may not exist ------------------------------------------------ */
    int (*rdmsr_safe)(void *host, uint32_t msr, uint64_t *value); /* an error: it does not */

    /* --- events ----------------------------------------------------------------------------- */
    /* A VM changed state (powered off, crashed, ...): enum vm_state, enum vm_reason. In a vCPU's
     * thread or a control call's, so no control call may be made from here: another thread does
     * what there is to do. */
    void (*vm_event)(void *host, void *vm_cookie, int state, int reason);

    /* --- optional tables, NULL when the host has none --------------------------------------- */
    const struct vmm_host_files *files;
    const struct vmm_host_chars *chars;
    const struct vmm_host_store *store;

    /* An interrupt vector whose handler does nothing, and how to send it to another CPU: for posted
     * interrupts on processors that have them. Any context. 0, NULL: none. */
    uint8_t posted_vector;
    void (*cpu_post)(void *host, unsigned cpu);

    /* The text of a host option ("svm.features"), NULL: not given. The hook itself may be NULL. */
    const char *(*option)(void *host, const char *name);
};
