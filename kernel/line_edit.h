/* Line editing on a terminal that understands a few ANSI sequences (VT100 and later).
 *
 * Keys: arrows, Home, End, Delete, Backspace, Ctrl-A E B F P N D H, Ctrl-K (to the end), Ctrl-U (to
 * the start), Ctrl-W (a word), Ctrl-L (show the line again), Ctrl-C (drop the line), Tab.
 * Threading: none of its own; one thread uses an editor. */
#pragma once

#include "base/types.h"

#define LINE_EDIT_BYTES   256 /* of one line, terminator included */
#define LINE_EDIT_HISTORY 32

struct line_edit {
    const char *prompt;
    void (*write)(void *arg, const char *s, size_t len);
    void (*complete)(struct line_edit *e); /* Tab; may call line_edit_insert(); may be NULL */
    void *arg;

    char text[LINE_EDIT_BYTES]; /* terminated */
    size_t length, cursor;

    int sequence;       /* how far into an escape sequence: 0 not in one, 1 ESC, 2 CSI, 3 SS3 */
    unsigned parameter; /* number in a CSI sequence */
    bool after_return;  /* swallow the line feed of a CR LF pair */

    char history[LINE_EDIT_HISTORY][LINE_EDIT_BYTES]; /* a ring */
    unsigned history_count;                           /* lines ever added */
    unsigned history_at; /* the line shown; history_count: the one being written */
    char draft[LINE_EDIT_BYTES];
};

/* An empty line behind a fresh prompt. */
void line_edit_begin(struct line_edit *e);

/* One byte from the terminal. True: a line is complete in e->text; line_edit_begin() comes next. */
bool line_edit_feed(struct line_edit *e, int c);

/* Put text at the cursor, as if typed; what does not fit is dropped. */
void line_edit_insert(struct line_edit *e, const char *s, size_t len);
void line_edit_redraw(struct line_edit *e);
