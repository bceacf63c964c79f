#include "kernel/line_edit.h"

#include <string.h>

#include "kernel/format.h"

#define CTRL(letter)  ((letter)&0x1f)
#define KEY_ESCAPE    0x1b
#define KEY_BACKSPACE 0x7f

enum { SEQUENCE_NONE, SEQUENCE_ESCAPE, SEQUENCE_CSI, SEQUENCE_SS3 };

static void put(struct line_edit *e, const char *s)
{
    e->write(e->arg, s, strlen(s));
}

void line_edit_redraw(struct line_edit *e)
{
    put(e, "\r\x1b[K");
    put(e, e->prompt);
    e->write(e->arg, e->text, e->length);
    if (e->cursor < e->length) {
        char back[16];
        nk_snprintf(back, sizeof(back), "\x1b[%zuD", e->length - e->cursor);
        put(e, back);
    }
}

void line_edit_begin(struct line_edit *e)
{
    e->length = e->cursor = 0;
    e->text[0] = '\0';
    e->history_at = e->history_count;
    put(e, e->prompt);
}

void line_edit_insert(struct line_edit *e, const char *s, size_t len)
{
    size_t space = sizeof(e->text) - 1 - e->length;
    len = len < space ? len : space;
    memmove(e->text + e->cursor + len, e->text + e->cursor, e->length - e->cursor + 1);
    memcpy(e->text + e->cursor, s, len);
    e->length += len;
    e->cursor += len;
    if (e->cursor == e->length) {
        e->write(e->arg, s, len);
    } else {
        line_edit_redraw(e);
    }
}

/* Remove [from, to) and leave the cursor at from. */
static void erase(struct line_edit *e, size_t from, size_t to)
{
    if (from == to) {
        return;
    }
    memmove(e->text + from, e->text + to, e->length - to + 1);
    e->length -= to - from;
    e->cursor = from;
    line_edit_redraw(e);
}

static void erase_word(struct line_edit *e)
{
    size_t from = e->cursor;
    while (from && e->text[from - 1] == ' ') {
        from--;
    }
    while (from && e->text[from - 1] != ' ') {
        from--;
    }
    erase(e, from, e->cursor);
}

static void move_to(struct line_edit *e, size_t cursor)
{
    if (cursor <= e->length && cursor != e->cursor) {
        e->cursor = cursor;
        line_edit_redraw(e);
    }
}

static void set_text(struct line_edit *e, const char *s)
{
    e->length = e->cursor = nk_snprintf(e->text, sizeof(e->text), "%s", s);
    line_edit_redraw(e);
}

static void history_add(struct line_edit *e)
{
    const char *last = e->history[(e->history_count - 1) % LINE_EDIT_HISTORY];
    if (e->length && (e->history_count == 0 || strcmp(last, e->text) != 0)) {
        memcpy(e->history[e->history_count++ % LINE_EDIT_HISTORY], e->text, e->length + 1);
    }
}

/* step -1: older, 1: newer; the newest is the line that was being written. */
static void history_move(struct line_edit *e, int step)
{
    unsigned kept = e->history_count < LINE_EDIT_HISTORY ? e->history_count : LINE_EDIT_HISTORY;
    unsigned oldest = e->history_count - kept;
    if ((step < 0 && e->history_at == oldest) || (step > 0 && e->history_at == e->history_count)) {
        return;
    }
    if (e->history_at == e->history_count) {
        memcpy(e->draft, e->text, e->length + 1);
    }
    e->history_at += (unsigned)step;
    set_text(e, e->history_at == e->history_count ? e->draft
                                                  : e->history[e->history_at % LINE_EDIT_HISTORY]);
}

static void feed_final(struct line_edit *e, int c)
{
    switch (c) {
    case 'A':
        history_move(e, -1);
        break;
    case 'B':
        history_move(e, 1);
        break;
    case 'C':
        move_to(e, e->cursor + 1);
        break;
    case 'D':
        move_to(e, e->cursor - 1);
        break;
    case 'H':
        move_to(e, 0);
        break;
    case 'F':
        move_to(e, e->length);
        break;
    case '~': /* 1 and 7: Home, 4 and 8: End, 3: Delete */
        if (e->parameter == 1 || e->parameter == 7) {
            move_to(e, 0);
        } else if (e->parameter == 4 || e->parameter == 8) {
            move_to(e, e->length);
        } else if (e->parameter == 3 && e->cursor < e->length) {
            erase(e, e->cursor, e->cursor + 1);
        }
        break;
    default:
        break;
    }
}

static void feed_sequence(struct line_edit *e, int c)
{
    if (e->sequence == SEQUENCE_ESCAPE) {
        e->sequence = c == '[' ? SEQUENCE_CSI : c == 'O' ? SEQUENCE_SS3 : SEQUENCE_NONE;
        e->parameter = 0;
    } else if (e->sequence == SEQUENCE_CSI && c >= '0' && c <= '9') {
        e->parameter = (e->parameter * 10 + (unsigned)(c - '0')) & 0xffff;
    } else if (e->sequence == SEQUENCE_SS3 || c >= 0x40) {
        e->sequence = SEQUENCE_NONE;
        feed_final(e, c);
    }
}

static void feed_control(struct line_edit *e, int c)
{
    switch (c) {
    case KEY_ESCAPE:
        e->sequence = SEQUENCE_ESCAPE;
        break;
    case KEY_BACKSPACE:
    case CTRL('h'):
        erase(e, e->cursor - (e->cursor != 0), e->cursor);
        break;
    case CTRL('d'):
        erase(e, e->cursor, e->cursor + (e->cursor < e->length));
        break;
    case CTRL('a'):
        move_to(e, 0);
        break;
    case CTRL('e'):
        move_to(e, e->length);
        break;
    case CTRL('b'):
        move_to(e, e->cursor - 1);
        break;
    case CTRL('f'):
        move_to(e, e->cursor + 1);
        break;
    case CTRL('p'):
        history_move(e, -1);
        break;
    case CTRL('n'):
        history_move(e, 1);
        break;
    case CTRL('k'):
        erase(e, e->cursor, e->length);
        break;
    case CTRL('u'):
        erase(e, 0, e->cursor);
        break;
    case CTRL('w'):
        erase_word(e);
        break;
    case CTRL('l'):
        line_edit_redraw(e);
        break;
    case CTRL('c'):
        put(e, "^C\n");
        line_edit_begin(e);
        break;
    case '\t':
        if (e->complete) {
            e->complete(e);
        }
        break;
    default:
        break;
    }
}

bool line_edit_feed(struct line_edit *e, int c)
{
    bool pair = e->after_return && c == '\n';
    e->after_return = c == '\r';
    if (pair) {
        return false;
    }
    if (e->sequence) {
        feed_sequence(e, c);
    } else if (c == '\r' || c == '\n') {
        put(e, "\n");
        history_add(e);
        return true;
    } else if (c < ' ' || c == KEY_BACKSPACE) {
        feed_control(e, c);
    } else {
        char byte = (char)c;
        line_edit_insert(e, &byte, 1);
    }
    return false;
}
