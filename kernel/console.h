/* The node's console: one serial line, with screen and keyboard beside it, shared by the shell and
 * the consoles of guests. One of them is in front; the others' output waits in their rings.
 *
 * Ctrl-] is the way out of a guest's console to the shell; in the shell it goes back to the guest
 * console used last. Within a second after it, another Ctrl-] gives one to the guest, Ctrl-B a
 * break, and Ctrl-N goes on to the next guest's console. Threading: any thread; console_write from
 * any context. */
#pragma once

#include "base/types.h"

#define NK_CONSOLE_ESCAPE 0x1d /* Ctrl-] */

/* What a stream keeps of its output, shown or not: its scroll-back. It grows while more than that
 * waits to be shown. */
#define NK_CONSOLE_RING_BYTES NK_KIB(64)
#define NK_CONSOLE_RING_MOST  NK_MIB(4)

struct nk_console; /* one character stream: the shell's or a guest's */

void console_init_early(void);   /* polled serial output from the first line on */
void console_init(void);         /* interrupts, threads */
void console_start_screen(void); /* by console_init() */

void console_write(const char *s, size_t len); /* the kernel's own text */
/* Polled and without locks, what still waited in front of it first; for panics, when this is the
 * only CPU that runs. Everything written later is polled too. */
void console_write_sync(const char *s, size_t len);
/* Returns when the line has taken all that the front stream had: before power-off and reset. */
void console_flush(void);

/* Streams of guests. What is typed while it is in front comes by `input`, a break by `send_break`
 * (thread context). Errors: -EEXIST the name is taken, -ENOMEM. */
struct nk_console_receiver {
    void (*input)(void *arg, const char *s, size_t len);
    void (*send_break)(void *arg);
    void *arg;
};
int console_create(struct nk_console **out, const char *name,
                   const struct nk_console_receiver *receiver) NK_MUST_CHECK;
void console_destroy(struct nk_console *c);
/* Never blocks. Output that is not shown yet waits. When there is no more room for it: of the
 * stream in front only a part is taken, and the writer tries again later; of one in the background,
 * which may never be looked at, the oldest is lost, and counted. Returns what was taken. */
size_t console_stream_write(struct nk_console *c, const char *s, size_t len);
size_t console_ring_bytes(const struct nk_console *c);
int console_bring_front(const char *name) NK_MUST_CHECK; /* -ENOENT; "shell" is the shell */

/* Name of the stream in front; of the i-th stream (0 is the shell), NULL past the last. The text
 * is valid as long as the stream. */
const char *console_front_name(void);
const char *console_name(unsigned i);

/* Scroll-back: the last `back` bytes that the stream has; then a part of them after the other, 0:
 * no more. What the stream gets meanwhile is not shown, or a guest that never stops writing would
 * keep its reader for ever. Errors: -ENOENT. */
struct nk_console_history {
    uint64_t at, end; /* bytes since the stream was made */
};
int console_history_begin(const char *name, uint64_t back,
                          struct nk_console_history *h) NK_MUST_CHECK;
size_t console_history(const char *name, struct nk_console_history *h, char *out, size_t max);

/* A break on the line of a guest's stream. Errors: -ENOENT. */
int console_send_break(const char *name) NK_MUST_CHECK;

struct nk_console_stats {
    uint64_t received, sent; /* bytes on the line */
    uint64_t overruns;       /* times the hardware lost input */
    uint64_t dropped;        /* bytes of input that nobody read in time */
};
void console_get_stats(struct nk_console_stats *out);

/* The shell's input: blocks for the next byte. A form feed (Ctrl-L) comes by itself when the line
 * being edited must be shown again: the shell got the front, or somebody wrote over the line. */
int console_getc(void);
bool console_getc_until(int *c, uint64_t tsc); /* no form feeds; false: the deadline passed */
/* Has Ctrl-C been typed for the shell? What was typed up to it is forgotten then. */
bool console_take_interrupt(void);

/* While the shell edits a line, it shows that line by console_edit_write(), and what anybody else
 * gives to console_write() first wipes the line and then asks for it again. */
void console_edit(bool on);
void console_edit_write(const char *s, size_t len);

/* Take bytes as if they had come from the line (tests). Thread context. */
void console_inject(const char *s, size_t len);
