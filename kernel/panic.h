/* The end of the node: one report, then whatever panic= on the command line asks for.
 * Threading: any context, NMI included. Nothing here takes a lock, so no held lock can stop it. */
#pragma once

#include "base/types.h"

struct nk_trap_frame;

/* A fatal exception, with the registers it left. */
NK_NORETURN void panic_exception(const struct nk_trap_frame *f);

/* From the NMI path: when another CPU panics, leaves the frame for its report and halts. */
void panic_stop_if_asked(const struct nk_trap_frame *f);

/* One piece of the report; also what nk_backtrace() prints with. */
void panic_print(const char *fmt, ...) NK_PRINTF(1, 2);

/* True when the 8 bytes at va can be read without a fault: walks the live page tables. */
bool panic_readable(uint64_t va);
