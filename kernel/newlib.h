/* The kernel below newlib: its system calls, memory, locks and per-thread state.
 *
 * printf with %f and the math functions use SSE registers: call them in threads with fp set. */
#pragma once

/* Locks become real mutexes; until then there is one thread and they do nothing.
 * Context: boot CPU, after sched_init_cpu(). */
void newlib_init(void);
