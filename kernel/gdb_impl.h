/* Between kernel/gdb.c, which stops and resumes CPUs, and kernel/gdb_packet.c, which talks. */
#pragma once

#include "kernel/trap.h"
#include "sched/thread.h"

#define GDB_NO_THREAD 0xfffff /* the id shown before there are threads */

/* What a stopped CPU is to do. */
enum gdb_action { GDB_CONTINUE, GDB_STEP };
struct gdb_order {
    enum gdb_action action;
    unsigned cpu; /* of a step */
};

/* Talk to gdb until it lets the node go on. `signal`: why it stopped (UNIX numbers); `watched`: the
 * address of the data breakpoint that was hit, or 0. */
struct gdb_order gdb_talk(const struct nk_thread *stopped, int signal, uint64_t watched);

/* A byte came while the node runs. True: gdb wants it to stop; if a packet begins, gdb_talk() goes
 * on with it. */
bool gdb_wants_stop(uint8_t byte);

/* The CPU that runs the thread, with the registers it was stopped with; NULL: none does, or it did
 * not answer. */
struct nk_trap_frame *gdb_frame_of(const struct nk_thread *t, unsigned *cpu);

/* Hardware breakpoints, for all CPUs. kind: 0 execution, 1 write, 3 access. False: none is free,
 * or the length is not possible; or, to remove, there is no such breakpoint. */
bool gdb_watch(uint64_t address, unsigned kind, unsigned length);
bool gdb_unwatch(uint64_t address, unsigned kind, unsigned length);
