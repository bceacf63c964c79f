/* The node's console: one serial line, with screen and keyboard beside it, shared by the shell and
 * the consoles of guests. One of them is in front; the others' output waits in their rings.
 *
 * Ctrl-] is the way out of a guest's console to the shell; in the shell it goes back to the guest
 * console used last. Typed twice within a guest's console within a second, one Ctrl-] reaches the
 * guest. Threading: any thread; console_write from any context. */
#pragma once

#include "base/types.h"

#define NK_CONSOLE_ESCAPE 0x1d /* Ctrl-] */

#define NK_CONSOLE_RING_BYTES NK_KIB(64) /* output kept per stream while it waits for the line */

struct nk_console; /* one character stream: the shell's or a guest's */

void console_init_early(void); /* polled serial output from the first line on */
void console_init(void);       /* interrupts, threads */

void console_write(const char *s, size_t len); /* the kernel's own text */
/* Polled and without locks, what still waited in front of it first; for panics, when this is the
 * only CPU that runs. Everything written later is polled too. */
void console_write_sync(const char *s, size_t len);
/* Returns when the line has taken all that the front stream had: before power-off and reset. */
void console_flush(void);

/* Streams of guests. `input` gets what is typed while it is in front (thread context). Output of a
 * stream in the background waits and is shown when it comes to the front; the oldest of more than
 * NK_CONSOLE_RING_BYTES is lost, and counted. Errors: -EEXIST the name is taken, -ENOMEM. */
int console_create(struct nk_console **out, const char *name,
                   void (*input)(void *arg, const char *s, size_t len), void *arg) NK_MUST_CHECK;
void console_destroy(struct nk_console *c);
void console_stream_write(struct nk_console *c, const char *s, size_t len); /* never blocks */
int console_bring_front(const char *name) NK_MUST_CHECK; /* -ENOENT; "shell" is the shell */

/* Name of the stream in front; of the i-th stream (0 is the shell), NULL past the last. The text
 * is valid as long as the stream. */
const char *console_front_name(void);
const char *console_name(unsigned i);

struct nk_console_stats {
    uint64_t received, sent; /* bytes on the line */
    uint64_t overruns;       /* times the hardware lost input */
    uint64_t dropped;        /* bytes of input that nobody read in time */
};
void console_get_stats(struct nk_console_stats *out);

/* The shell's input: blocks for the next byte. A form feed (Ctrl-L) comes by itself when the line
 * being edited must be shown again: the shell got the front, or somebody wrote over the line. */
int console_getc(void);

/* While the shell edits a line, it shows that line by console_edit_write(), and what anybody else
 * gives to console_write() first wipes the line and then asks for it again. */
void console_edit(bool on);
void console_edit_write(const char *s, size_t len);

/* Take bytes as if they had come from the line (tests). Thread context. */
void console_inject(const char *s, size_t len);
