/* The console's bytes: what is written goes to the line and the screen, what comes from the line
 * and the keyboard goes to the stream in front (console_streams.c). */
#include "kernel/console_impl.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "drivers/keyboard.h"
#include "drivers/screen.h"
#include "drivers/uart16550.h"
#include "kernel/format.h"
#include "kernel/kernel.h"
#include "kernel/log.h"
#include "mm/slab.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define RX_RING_BYTES NK_KIB(16) /* more than a large paste, between interrupt and thread */
#define GETC_BYTES    NK_KIB(8)
#define KEY_INTERRUPT 0x03 /* Ctrl-C */

static char shell_out[NK_CONSOLE_RING_BYTES], rx_bytes[RX_RING_BYTES], getc_bytes[GETC_BYTES];
static char notice_bytes[512];

static void shell_input(void *arg, const char *s, size_t len);

struct nk_console console_shell = {
    .name = "shell",
    .out = {.bytes = shell_out, .size = sizeof(shell_out)},
    .to.input = shell_input,
};

struct console_state console = {
    .lock = NK_SPINLOCK_INIT(NK_RANK_LOG),
    .front = &console_shell,
    .notice = {.bytes = notice_bytes, .size = sizeof(notice_bytes)},
    .rx = {.bytes = rx_bytes, .size = sizeof(rx_bytes)},
    .typed = {.bytes = getc_bytes, .size = sizeof(getc_bytes)},
};

static size_t pull_output(char *out, size_t max)
{
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    size_t count = nk_ring_get(&console.notice, out, max);
    count += nk_ring_get(&console.front->out, out + count, max - count);
    nk_spin_unlock_irqrestore(&console.lock, flags);
    screen_write(out, count);
    return count;
}

/* Before the rings are live, and after a panic took the line. */
static void write_polled(const char *s, size_t len)
{
    if (console.sync) {
        screen_write_sync(s, len);
    } else {
        screen_write(s, len);
    }
    for (size_t done = 0; done < len;) {
        const char *newline = memchr(s + done, '\n', len - done);
        size_t run = newline ? (size_t)(newline - s) - done : len - done;
        uart_write_polled(s + done, run);
        done += run;
        if (newline) {
            uart_write_polled("\r\n", 2);
            done++;
        }
    }
}

/* Append to a stream; the oldest bytes give way. Lock held. */
static void stream_put(struct nk_console *c, const char *s, size_t len)
{
    c->lost += nk_ring_put_over(&c->out, s, len);
}

/* Twice the room, as long as output waits that has none. Memory is taken without the lock. */
static void make_room(struct nk_console *c, size_t len)
{
    size_t size = c->out.size;
    if (nk_ring_space(&c->out) >= len || size >= NK_CONSOLE_RING_MOST) {
        return;
    }
    char *bytes = kmalloc(2 * size);
    if (!bytes) {
        return;
    }
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    if (c->out.size == size) {
        bytes = nk_ring_move(&c->out, bytes, 2 * size);
    }
    nk_spin_unlock_irqrestore(&console.lock, flags);
    kfree(bytes);
}

size_t console_stream_write(struct nk_console *c, const char *s, size_t len)
{
    make_room(c, len);
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    bool kick = c == console.front && !console.sync;
    if (kick) {
        len = nk_ring_put(&c->out, s, len);
    } else {
        stream_put(c, s, len);
    }
    nk_spin_unlock_irqrestore(&console.lock, flags);
    if (kick) {
        uart_transmit_kick();
    }
    return len;
}

/* The kernel's own text in front of the user is never dropped: who finds the ring full drains it
 * at the line's speed. `over`: the text does not belong to the line being edited, which is wiped
 * in the same step, so that the shell's redrawing cannot come in between. */
static void shell_put(const char *s, size_t len, bool over)
{
    static const char wipe[] = "\r\x1b[K";
    size_t needed = len + sizeof(wipe);
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    while (console.front == &console_shell && nk_ring_space(&console_shell.out) < needed) {
        nk_spin_unlock_irqrestore(&console.lock, flags);
        uart_transmit_flush(needed);
        flags = nk_spin_lock_irqsave(&console.lock);
    }
    if (over && console.editing && !console.edit_wiped) {
        console.edit_wiped = true;
        stream_put(&console_shell, wipe, sizeof(wipe) - 1);
    }
    stream_put(&console_shell, s, len);
    bool kick = console.front == &console_shell;
    nk_spin_unlock_irqrestore(&console.lock, flags);
    if (kick) {
        uart_transmit_kick();
    }
}

/* The kernel's own text: each newline becomes two bytes. A line of the log goes in one piece. */
static void write_text(const char *s, size_t len, bool over)
{
    if (!console.live || console.sync) {
        write_polled(s, len);
        return;
    }
    while (len) {
        char text[320];
        size_t used = 0;
        for (; len && used < sizeof(text) - 1; s++, len--) {
            if (*s == '\n') {
                text[used++] = '\r';
            }
            text[used++] = *s;
        }
        shell_put(text, used, over);
    }
}

void console_write(const char *s, size_t len)
{
    write_text(s, len, true);
}

void console_set_editing(bool editing, bool wiped)
{
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    console.editing = editing;
    console.edit_wiped = editing && wiped;
    nk_spin_unlock_irqrestore(&console.lock, flags);
}

void console_edit(bool on)
{
    console_set_editing(on, false);
}

void console_edit_write(const char *s, size_t len)
{
    write_text(s, len, false);
}

void console_write_sync(const char *s, size_t len)
{
    if (!console.sync) {
        console.sync = true;
        char bytes[64];
        size_t count;
        /* No lock: its holder may have been stopped, and each number is written in one go. */
        while ((count = nk_ring_get(&console_shell.out, bytes, sizeof(bytes))) != 0) {
            uart_write_polled(bytes, count);
            screen_write_sync(bytes, count);
        }
        write_polled("\n", 1);
    }
    write_polled(s, len);
}

void console_flush(void)
{
    if (console.live && !console.sync) {
        uart_transmit_flush(NK_CONSOLE_RING_BYTES);
    }
}

/* --- input ------------------------------------------------------------------------------------ */

static void rx_put(const char *s, size_t len)
{
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    console.rx_lost += len - nk_ring_put(&console.rx, s, len);
    nk_spin_unlock_irqrestore(&console.lock, flags);
    nk_semaphore_up(&console.rx_some);
}

void console_inject(const char *s, size_t len)
{
    rx_put(s, len);
}

static size_t ring_take(struct nk_ring *r, char *out, size_t max)
{
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    size_t count = nk_ring_get(r, out, max);
    nk_spin_unlock_irqrestore(&console.lock, flags);
    return count;
}

static void shell_input(void *arg, const char *s, size_t len)
{
    (void)arg;
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    console.rx_lost += len - nk_ring_put(&console.typed, s, len);
    nk_spin_unlock_irqrestore(&console.lock, flags);
    nk_semaphore_up(&console.typed_some);
}

/* Interrupt context. */
static void line_drained(void)
{
    if (console.edit_wiped && console.front == &console_shell) {
        nk_semaphore_up(&console.typed_some);
    }
}

int console_getc(void)
{
    for (;;) {
        char c;
        if (console.edit_wiped) {
            console_set_editing(true, false);
            return '\f';
        }
        if (ring_take(&console.typed, &c, 1)) {
            return (unsigned char)c;
        }
        nk_semaphore_down(&console.typed_some);
    }
}

bool console_getc_until(int *c, uint64_t tsc)
{
    char byte;
    while (!ring_take(&console.typed, &byte, 1)) {
        if (!nk_semaphore_down_until(&console.typed_some, tsc)) {
            return false;
        }
    }
    *c = (unsigned char)byte;
    return true;
}

bool console_take_interrupt(void)
{
    bool found = false;
    char key;
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    for (uint64_t at = console.typed.tail; !found && at < console.typed.head;) {
        nk_ring_look(&console.typed, &at, &key, 1);
        found = key == KEY_INTERRUPT;
        console.typed.tail = found ? at : console.typed.tail;
    }
    nk_spin_unlock_irqrestore(&console.lock, flags);
    return found;
}

static void console_thread(void *arg)
{
    (void)arg;
    for (;;) {
        char bytes[256];
        size_t count = ring_take(&console.rx, bytes, sizeof(bytes));
        if (count) {
            console_dispatch(bytes, count);
        } else {
            nk_semaphore_down(&console.rx_some);
        }
    }
}

/* --- start ------------------------------------------------------------------------------------ */

void console_get_stats(struct nk_console_stats *out)
{
    struct uart_stats line;
    uart_get_stats(&line);
    *out = (struct nk_console_stats){line.received, line.sent, line.overruns, console.rx_lost};
}

void console_init_early(void)
{
    uart_init_early();
}

static const struct uart_client uart_client = {rx_put, pull_output, screen_draw, line_drained};

void console_init(void)
{
    nk_list_init(&console.streams);
    nk_list_push_back(&console.streams, &console_shell.link);
    nk_mutex_init(&console.switching);
    nk_semaphore_init(&console.rx_some, 0);
    nk_semaphore_init(&console.typed_some, 0);
    struct nk_thread *thread;
    const struct nk_thread_attr attr = {.name = "console", .cpu = NK_CPU_ANY, .priority = 24};
    int err = nk_thread_start(&thread, &attr, console_thread, NULL);
    console_start_screen();
    int no_keyboard = err == 0 ? keyboard_init(rx_put) : err;
    if (no_keyboard < 0) {
        nk_debug("console: no keyboard (error %d)", no_keyboard);
    }
    if (err == 0) {
        err = uart_init(&uart_client);
    }
    if (err < 0) {
        nk_warn("console: no serial input (error %d); output stays polled", err);
        screen_poll();
        return;
    }
    console.live = true;
}
