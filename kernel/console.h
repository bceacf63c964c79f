/* The node's console: one serial line (and later screen and keyboard), shared by the shell and the
 * consoles of guests. One of them is in front; the others' output waits in their rings.
 *
 * Ctrl-] is the way out of a guest's console to the shell; in the shell it goes back to the guest
 * console used last. Typed twice within a guest's console within a second, one Ctrl-] reaches the guest.
 * Threading: any thread; console_write from any context. */
#pragma once

#include "base/types.h"

#define NK_CONSOLE_ESCAPE 0x1d /* Ctrl-] */

struct nk_console; /* one character stream: the shell's or a guest's */

void console_init_early(void); /* polled serial output from the first line on */
void console_init(void);       /* interrupts, threads */

void console_write(const char *s, size_t len);        /* the kernel's own text */
void console_write_sync(const char *s, size_t len);   /* polled, for panics */

/* Streams of guests. `input` gets what is typed while it is in front (thread context). */
int console_create(struct nk_console **out, const char *name,
                   void (*input)(void *arg, const char *s, size_t len), void *arg) NK_MUST_CHECK;
void console_destroy(struct nk_console *c);
void console_stream_write(struct nk_console *c, const char *s, size_t len); /* never blocks */
int console_bring_front(const char *name) NK_MUST_CHECK; /* -ENOENT; "shell" is the shell */

/* The shell's input: blocks for the next byte. */
int console_getc(void);
