#include "kernel/watchdog.h"

#include <stdlib.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/irq.h"
#include "kernel/kernel.h"
#include "kernel/lapic.h"
#include "kernel/symbols.h"
#include "kernel/trap.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define LIMIT_DEFAULT_S   10
#define LIMIT_MAX_S       3600
#define LOOKS_PER_LIMIT   2
#define LOOKS_UNTIL_STUCK (LOOKS_PER_LIMIT + 1) /* what is due may have come up just before one */
#define TRACE_DEPTH       16

#define KINDS 3 /* NK_IRQ_TIMER, NK_IRQ_RESCHED, NK_IRQ_CALL */

enum watch_state { WATCH_FINE, WATCH_ASKED, WATCH_ANSWERED, WATCH_REPORTED };

struct watched {
    uint64_t seen_count[KINDS]; /* interrupts served, at the last look */
    unsigned looks[KINDS];      /* at which one was due and none had been served */
    uint32_t state;             /* atomic; enum watch_state */
    bool nmi_due;               /* atomic: one was sent and has not come, however late */
    struct nk_backtrace_entry trace[TRACE_DEPTH];
    unsigned trace_depth;
};

static struct watched watched[CONFIG_NR_CPUS];
static struct nk_timer timer;
static uint64_t period; /* TSC ticks; 0: off */

static bool is_due(const struct nk_cpu *cpu, unsigned kind)
{
    uint64_t deadline;
    switch (kind) {
    case NK_IRQ_TIMER:
        deadline = __atomic_load_n(&cpu->timer_deadline, __ATOMIC_RELAXED);
        return deadline != 0 && x86_rdtsc() > deadline;
    case NK_IRQ_RESCHED:
        return __atomic_load_n(&cpu->kicked, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n(&cpu->call_queue, __ATOMIC_RELAXED) != NULL;
    }
}

static bool is_stuck(const struct nk_cpu *cpu, struct watched *w)
{
    bool stuck = false;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint64_t count = __atomic_load_n(&cpu->irq_count[kind], __ATOMIC_RELAXED);
        bool waits = is_due(cpu, kind) && (w->looks[kind] == 0 || count == w->seen_count[kind]);
        w->looks[kind] = waits ? w->looks[kind] + 1 : 0;
        w->seen_count[kind] = count;
        stuck |= w->looks[kind] >= LOOKS_UNTIL_STUCK;
    }
    return stuck;
}

static void print_trace(const struct watched *w)
{
    for (unsigned i = 0; i < w->trace_depth; i++) {
        const struct nk_backtrace_entry *e = &w->trace[i];
        uint64_t offset;
        const char *name = nk_symbol_lookup(e->looked_up, &offset);
        if (name != NULL) {
            nk_warn("  #%-2u 0x%016lx %s+0x%lx", i, e->address, name,
                    offset + (e->address - e->looked_up));
        } else {
            nk_warn("  #%-2u 0x%016lx", i, e->address);
        }
    }
}

static void report(const struct nk_cpu *cpu, struct watched *w, bool answered)
{
    const struct nk_thread *t = __atomic_load_n(&cpu->current, __ATOMIC_RELAXED);
    nk_warn("watchdog: CPU %u has taken no interrupt for %lu s, in thread \"%s\"%s", cpu->id,
            nk_tsc_to_ns(period * LOOKS_PER_LIMIT) / 1000000000,
            t != NULL ? nk_thread_name(t) : "none", answered ? "" : ", and takes no NMI");
    if (answered) {
        print_trace(w);
    }
}

/* The answer to an NMI is read at the next look: waiting for it here would hold this CPU up. */
static void look_at(const struct nk_cpu *cpu, struct watched *w)
{
    bool stuck = is_stuck(cpu, w);
    uint32_t state = __atomic_load_n(&w->state, __ATOMIC_ACQUIRE);
    if (state == WATCH_FINE && stuck) {
        __atomic_store_n(&w->nmi_due, true, __ATOMIC_RELAXED);
        __atomic_store_n(&w->state, WATCH_ASKED, __ATOMIC_RELEASE);
        lapic_send_nmi(cpu->apic_id);
    } else if (state == WATCH_ANSWERED || (state == WATCH_ASKED && stuck)) {
        report(cpu, w, state == WATCH_ANSWERED);
        __atomic_store_n(&w->state, WATCH_REPORTED, __ATOMIC_RELEASE);
    } else if (state == WATCH_REPORTED && !stuck) {
        nk_warn("watchdog: CPU %u goes on", cpu->id);
        __atomic_store_n(&w->state, WATCH_FINE, __ATOMIC_RELEASE);
    }
}

static void look(struct nk_timer *t)
{
    for (unsigned id = 0; id < nk_cpu_count; id++) {
        if (id != this_cpu->id) {
            look_at(&nk_cpu_table[id], &watched[id]);
        }
    }
    nk_timer_arm(t, x86_rdtsc() + period);
}

bool watchdog_nmi(const struct nk_trap_frame *f)
{
    struct watched *w = &watched[this_cpu->id];
    uint32_t state = __atomic_load_n(&w->state, __ATOMIC_ACQUIRE);
    if (!__atomic_exchange_n(&w->nmi_due, false, __ATOMIC_ACQ_REL)) {
        return false;
    }
    if (state != WATCH_ASKED) {
        return true; /* it comes too late for the report, but is the watchdog's */
    }
    w->trace_depth = nk_backtrace_collect(f->rip, f->rbp, w->trace, TRACE_DEPTH);
    __atomic_store_n(&w->state, WATCH_ANSWERED, __ATOMIC_RELEASE);
    return true;
}

void watchdog_set_limit(uint64_t ns)
{
    nk_timer_cancel(&timer);
    period = nk_ns_to_tsc(ns) / LOOKS_PER_LIMIT;
    if (period != 0 && nk_cpu_count > 1) {
        nk_timer_arm(&timer, x86_rdtsc() + period);
    }
}

void watchdog_init(void)
{
    char text[16], *rest;
    uint64_t seconds = LIMIT_DEFAULT_S;
    if (nk_option("watchdog", text, sizeof(text))) {
        seconds = strtoul(text, &rest, 10);
        if (rest == text || *rest != '\0' || seconds > LIMIT_MAX_S) {
            nk_warn("watchdog=%s: not a number of seconds up to %u", text, LIMIT_MAX_S);
            seconds = LIMIT_DEFAULT_S;
        }
    }
    nk_timer_init(&timer, look);
    watchdog_set_limit(seconds * 1000000000);
}
