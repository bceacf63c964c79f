/* Inside the console: its state, which console.c (bytes out and in) and console_streams.c (whose
 * they are) share. */
#pragma once

#include "base/list.h"
#include "base/spinlock.h"
#include "kernel/console.h"
#include "kernel/ring.h"
#include "sched/sync.h"

#define CONSOLE_NAME_MAX 32

struct nk_console {
    char name[CONSOLE_NAME_MAX];
    struct nk_list link;
    struct nk_ring out;
    uint64_t lost; /* bytes of output that gave way since it was last in front */
    struct nk_console_receiver to;
};

struct console_state {
    struct nk_spinlock lock; /* streams, front, every ring; taken inside the UART's lock */
    struct nk_list streams;  /* in order of creation, the shell first; changed under `switching` */
    struct nk_console *front;
    struct nk_ring notice; /* goes out ahead of the front stream: which one that now is */
    struct nk_ring rx;     /* from the line, not yet given to a stream */
    struct nk_ring typed;  /* for console_getc() */
    uint64_t rx_lost;
    bool live;       /* rings and interrupts carry the output; before, it is polled */
    bool sync;       /* a panic has the line for itself */
    bool editing;    /* the shell shows a line that is being edited */
    bool edit_wiped; /* that line was written over and is to be shown again */

    struct nk_mutex switching; /* held while a stream's input() runs, and by who removes streams */
    struct nk_semaphore rx_some, typed_some;
    struct nk_console *last_guest; /* where Ctrl-] leads from the shell; under `switching` */
    uint64_t escape_ns;            /* when Ctrl-] last left a guest; under `switching` */
};

extern struct console_state console;
extern struct nk_console console_shell; /* the shell's stream */

/* console.c: whether the shell shows a line, and whether that line was written over. */
void console_set_editing(bool editing, bool wiped);

/* console_streams.c: what was typed goes to the stream in front, or switches. Thread context. */
void console_dispatch(const char *s, size_t len);
