/* What the layers below the kernel (base, mm, sched) need from above: implemented by kernel/.
 * This is the whole upward surface; everything else calls downward only. */
#pragma once

#include "base/types.h"

/* Levels as in syslog, most urgent first. */
enum nk_log_level { NK_LOG_ERROR, NK_LOG_WARN, NK_LOG_INFO, NK_LOG_DEBUG };

/* Append one line (no newline needed) to the log ring and, by level, to the console.
 * Context: any, interrupts and panics included. Integer formats only (no %f). */
void nk_log(enum nk_log_level level, const char *fmt, ...) NK_PRINTF(2, 3);

#define nk_error(...) nk_log(NK_LOG_ERROR, __VA_ARGS__)
#define nk_warn(...)  nk_log(NK_LOG_WARN, __VA_ARGS__)
#define nk_info(...)  nk_log(NK_LOG_INFO, __VA_ARGS__)
#define nk_debug(...) nk_log(NK_LOG_DEBUG, __VA_ARGS__)

/* Stop the node with a message, the registers and a symbolised backtrace of every CPU. */
NK_NORETURN void nk_panic(const char *fmt, ...) NK_PRINTF(1, 2);

/* For our own invariants only; never for what a guest, a manifest or a device controls.
 * Stays on in release builds. */
#define nk_assert(cond)                                                                            \
    do {                                                                                           \
        if (nk_unlikely(!(cond))) {                                                                \
            nk_panic("assertion failed: %s, %s:%d", #cond, __FILE__, __LINE__);                    \
        }                                                                                          \
    } while (0)

/* Make the CPU look at its run queue soon (reschedule IPI). Context: any. cpu != current. */
void nk_platform_kick_cpu(unsigned cpu);

/* Program this CPU's one-shot timer for an absolute TSC value; 0 disarms it. A deadline in the
 * past fires at once. Context: interrupts off. The interrupt ends in nk_timer_interrupt(). */
void nk_platform_timer_set(uint64_t deadline_tsc);

/* TSC ticks per second, set before sched_init(). */
extern uint64_t nk_tsc_hz;

/* Release the current thread's newlib state (nk_thread_reent_slot): the thread ends. May block. */
void nk_platform_reent_free(void *reent);

/* Wait for an interrupt, atomically with enabling interrupts (sti; hlt). Called by the
 * idle thread with interrupts off; returns with interrupts on. */
void nk_platform_idle(void);

/* Where a CPU can watch memory, a write to *word by another CPU ends the wait, too; returns at once
 * if the word is not 0. Context: as above. */
extern bool nk_platform_watches; /* it can; constant after boot */
void nk_platform_idle_watch(const uint32_t *word);
