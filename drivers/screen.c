#include "drivers/screen.h"

#include <string.h>

#include "base/spinlock.h"
#include "sched/sync.h"
#include "sched/thread.h"

#define FRAME_NS   20000000u
#define POLL_NS    100000000u
#define TAB        8
#define PARAMS_MAX 2

enum parse_state { PARSE_TEXT, PARSE_ESCAPE, PARSE_SEQUENCE };

static struct {
    struct nk_spinlock lock; /* all but `shown` and `device` */
    const struct screen_device *device;
    char cell[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX];
    char shown[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX]; /* the drawing thread's own */
    unsigned row, column;
    enum parse_state state;
    unsigned param[PARAMS_MAX], param_count;
    bool dirty; /* atomic; something was written since the thread last looked */
    bool asked; /* atomic; and it was told so */
    bool poll;
    struct nk_semaphore changed;
} screen = {.lock = NK_SPINLOCK_INIT(NK_RANK_LOG)};

/* --- the terminal; lock held ------------------------------------------------------------------ */

static void clear_row(unsigned row, unsigned from)
{
    memset(&screen.cell[row][from], ' ', SCREEN_COLUMNS_MAX - from);
}

static void new_line(void)
{
    screen.column = 0;
    if (++screen.row < screen.device->rows) {
        return;
    }
    screen.row--;
    memmove(screen.cell[0], screen.cell[1], screen.row * sizeof(screen.cell[0]));
    clear_row(screen.row, 0);
}

static unsigned at_most(unsigned value, unsigned max)
{
    return value < max ? value : max;
}

/* The end of "ESC [ parameters": what the kernel's line editing and simple programs use. */
static void finish_sequence(char final)
{
    unsigned n = screen.param[0] ? screen.param[0] : 1;
    unsigned last_row = screen.device->rows - 1, last_column = screen.device->columns - 1;
    switch (final) {
    case 'A':
        screen.row -= at_most(n, screen.row);
        break;
    case 'B':
        screen.row = at_most(screen.row + n, last_row);
        break;
    case 'C':
        screen.column = at_most(screen.column + n, last_column);
        break;
    case 'D':
        screen.column -= at_most(n, screen.column);
        break;
    case 'G':
        screen.column = at_most(n - 1, last_column);
        break;
    case 'H':
        screen.row = at_most(n - 1, last_row);
        screen.column = at_most(screen.param[1] ? screen.param[1] - 1 : 0, last_column);
        break;
    case 'K':
        clear_row(screen.row, screen.param[0] == 0 ? at_most(screen.column, last_column) : 0);
        break;
    case 'J':
        for (unsigned row = screen.param[0] == 2 ? 0 : screen.row + 1; row <= last_row; row++) {
            clear_row(row, 0);
        }
        break;
    default: /* colours and the like */
        break;
    }
}

static void sequence_char(char c)
{
    if (c >= '0' && c <= '9') {
        unsigned *p = &screen.param[at_most(screen.param_count, PARAMS_MAX - 1)];
        *p = at_most(*p * 10 + (unsigned)(c - '0'), 999);
    } else if (c == ';') {
        screen.param_count++;
    } else if (c >= '@' && c <= '~') {
        finish_sequence(c);
        screen.state = PARSE_TEXT;
    }
}

static void text_char(char c)
{
    switch (c) {
    case '\r':
        screen.column = 0;
        break;
    case '\n':
        new_line();
        break;
    case '\b':
        screen.column -= screen.column != 0;
        break;
    case '\t':
        screen.column = at_most((screen.column / TAB + 1) * TAB, screen.device->columns - 1);
        break;
    case '\x1b':
        screen.state = PARSE_ESCAPE;
        break;
    default:
        if (c < ' ' || c > '~') {
            break;
        }
        if (screen.column >= screen.device->columns) { /* only now: a full line may end here */
            new_line();
        }
        screen.cell[screen.row][screen.column++] = c;
    }
}

static void put(const char *s, size_t len)
{
    for (; len--; s++) {
        if (screen.state == PARSE_TEXT) {
            text_char(*s);
        } else if (screen.state == PARSE_ESCAPE) {
            screen.state = *s == '[' ? PARSE_SEQUENCE : PARSE_TEXT;
            memset(screen.param, 0, sizeof(screen.param));
            screen.param_count = 0;
        } else {
            sequence_char(*s);
        }
    }
}

/* --- drawing ---------------------------------------------------------------------------------- */

/* One row, copied under the lock and drawn without it. */
static void draw_row(unsigned row, const char *cells)
{
    for (unsigned column = 0; column < screen.device->columns; column++) {
        if (cells[column] != screen.shown[row][column]) {
            screen.shown[row][column] = cells[column];
            screen.device->draw(row, column, cells[column]);
        }
    }
}

static void draw_changes(void)
{
    char cells[SCREEN_COLUMNS_MAX];
    for (unsigned row = 0; row < screen.device->rows; row++) {
        uint64_t flags = nk_spin_lock_irqsave(&screen.lock);
        memcpy(cells, screen.cell[row], sizeof(cells));
        nk_spin_unlock_irqrestore(&screen.lock, flags);
        draw_row(row, cells);
    }
    screen.device->move_cursor(screen.row, at_most(screen.column, screen.device->columns - 1));
}

static void screen_thread(void *arg)
{
    (void)arg;
    for (;;) {
        if (__atomic_load_n(&screen.poll, __ATOMIC_RELAXED)) {
            nk_thread_sleep_ns(POLL_NS);
        } else {
            nk_semaphore_down(&screen.changed);
        }
        __atomic_store_n(&screen.dirty, false, __ATOMIC_SEQ_CST);
        __atomic_store_n(&screen.asked, false, __ATOMIC_SEQ_CST);
        draw_changes();
        nk_thread_sleep_ns(FRAME_NS);
    }
}

void screen_write(const char *s, size_t len)
{
    if (!__atomic_load_n(&screen.device, __ATOMIC_ACQUIRE) || len == 0) {
        return;
    }
    uint64_t flags = nk_spin_lock_irqsave(&screen.lock);
    put(s, len);
    nk_spin_unlock_irqrestore(&screen.lock, flags);
    __atomic_store_n(&screen.dirty, true, __ATOMIC_SEQ_CST);
}

void screen_draw(void)
{
    if (__atomic_load_n(&screen.dirty, __ATOMIC_SEQ_CST) &&
        !__atomic_exchange_n(&screen.asked, true, __ATOMIC_SEQ_CST)) {
        nk_semaphore_up(&screen.changed);
    }
}

void screen_poll(void)
{
    __atomic_store_n(&screen.poll, true, __ATOMIC_RELAXED);
    screen_draw();
}

void screen_write_sync(const char *s, size_t len)
{
    if (!screen.device) {
        return;
    }
    put(s, len);
    for (unsigned row = 0; row < screen.device->rows; row++) {
        draw_row(row, screen.cell[row]);
    }
}

int screen_start(const struct screen_device *device)
{
    memset(screen.cell, ' ', sizeof(screen.cell));
    nk_semaphore_init(&screen.changed, 0);
    struct nk_thread *thread;
    const struct nk_thread_attr attr = {.name = "screen", .cpu = NK_CPU_ANY, .priority = 8};
    int err = nk_thread_create(&thread, &attr, screen_thread, NULL);
    if (err < 0) {
        return err;
    }
    __atomic_store_n(&screen.device, device, __ATOMIC_RELEASE);
    return nk_thread_run(thread);
}
