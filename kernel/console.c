#include "kernel/console.h"

#include <errno.h>
#include <string.h>

#include "base/list.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "drivers/keyboard.h"
#include "drivers/screen.h"
#include "drivers/uart16550.h"
#include "kernel/format.h"
#include "kernel/kernel.h"
#include "kernel/log.h"
#include "kernel/ring.h"
#include "mm/slab.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define NAME_MAX_BYTES  32
#define RX_RING_BYTES   NK_KIB(16) /* more than a large paste, between interrupt and thread */
#define GETC_BYTES      NK_KIB(8)
#define FRAMEBUFFER_RGB 1                    /* boot/bootinfo.h */
#define ESCAPE_NS       UINT64_C(1000000000) /* how long what follows Ctrl-] belongs to it */
#define KEY_BREAK       0x02                 /* Ctrl-B */
#define KEY_INTERRUPT   0x03                 /* Ctrl-C */
#define KEY_NEXT        0x0e                 /* Ctrl-N */

struct nk_console {
    char name[NAME_MAX_BYTES];
    struct nk_list link;
    struct nk_ring out;
    uint64_t lost; /* bytes of output that gave way since it was last in front */
    struct nk_console_receiver to;
};

static char shell_out[NK_CONSOLE_RING_BYTES], rx_bytes[RX_RING_BYTES], getc_bytes[GETC_BYTES];
static char notice_bytes[512];

static void shell_input(void *arg, const char *s, size_t len);

static struct nk_console shell_stream = {
    .name = "shell",
    .out = {.bytes = shell_out, .size = sizeof(shell_out)},
    .to.input = shell_input,
};

static struct {
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
} console = {
    .lock = NK_SPINLOCK_INIT(NK_RANK_LOG),
    .front = &shell_stream,
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
    while (console.front == &shell_stream && nk_ring_space(&shell_stream.out) < needed) {
        nk_spin_unlock_irqrestore(&console.lock, flags);
        uart_transmit_flush(needed);
        flags = nk_spin_lock_irqsave(&console.lock);
    }
    if (over && console.editing && !console.edit_wiped) {
        console.edit_wiped = true;
        stream_put(&shell_stream, wipe, sizeof(wipe) - 1);
    }
    stream_put(&shell_stream, s, len);
    bool kick = console.front == &shell_stream;
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

static void set_editing(bool editing, bool wiped)
{
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    console.editing = editing;
    console.edit_wiped = editing && wiped;
    nk_spin_unlock_irqrestore(&console.lock, flags);
}

void console_edit(bool on)
{
    set_editing(on, false);
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
        while ((count = nk_ring_get(&shell_stream.out, bytes, sizeof(bytes))) != 0) {
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
    if (console.edit_wiped && console.front == &shell_stream) {
        nk_semaphore_up(&console.typed_some);
    }
}

int console_getc(void)
{
    for (;;) {
        char c;
        if (console.edit_wiped) {
            set_editing(true, false);
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

/* --- front ------------------------------------------------------------------------------------ */

/* Lock `switching` held. What an old guest still had to send waits in its ring; the kernel's own
 * text goes out first, so that no line of the log is cut in two. */
static void switch_to(struct nk_console *to)
{
    if (console.front == to) {
        return;
    }
    if (console.front == &shell_stream) {
        uart_transmit_flush(nk_ring_used(&console.notice) + nk_ring_used(&shell_stream.out));
    }
    char text[160];
    size_t len =
        nk_snprintf(text, sizeof(text), "\r\n[console: %s; Ctrl-] %s]\r\n", to->name,
                    to == &shell_stream ? "goes back to the guest" : "leaves to the shell");
    uint64_t flags = nk_spin_lock_irqsave(&console.lock);
    if (to->lost) {
        len += nk_snprintf(text + len, sizeof(text) - len, "[%llu bytes of output were lost]\r\n",
                           (unsigned long long)to->lost);
        to->lost = 0;
    }
    nk_ring_put(&console.notice, text, len);
    console.front = to;
    nk_spin_unlock_irqrestore(&console.lock, flags);
    uart_transmit_kick();
    if (to == &shell_stream) {
        set_editing(console.editing, true);
        nk_semaphore_up(&console.typed_some);
    } else {
        console.last_guest = to;
    }
}

static void escape_typed(void)
{
    if (console.front != &shell_stream) {
        console.escape_ns = nk_now_ns();
        switch_to(&shell_stream);
    } else if (console.last_guest) {
        switch_to(console.last_guest);
    } else if (shell_stream.link.next != &console.streams) {
        switch_to(nk_list_entry(shell_stream.link.next, struct nk_console, link));
    }
}

/* The guest's stream behind this one, in the order of creation. */
static struct nk_console *next_guest(struct nk_console *c)
{
    struct nk_list *next = c->link.next;
    while (next == &console.streams || next == &shell_stream.link) {
        next = next->next;
    }
    return nk_list_entry(next, struct nk_console, link);
}

/* What is typed right behind the Ctrl-] that left a guest. False: it is the shell's. */
static bool after_escape(char key)
{
    struct nk_console *guest = console.last_guest;
    bool in_time = console.escape_ns != 0 && nk_now_ns() - console.escape_ns < ESCAPE_NS;
    console.escape_ns = 0;
    if (!in_time || !guest) {
        return false;
    }
    switch (key) {
    case NK_CONSOLE_ESCAPE:
        switch_to(guest);
        guest->to.input(guest->to.arg, &key, 1);
        return true;
    case KEY_BREAK:
        switch_to(guest);
        guest->to.send_break(guest->to.arg);
        return true;
    case KEY_NEXT:
        switch_to(next_guest(guest));
        return true;
    default:
        return false;
    }
}

static void dispatch(const char *s, size_t len)
{
    nk_mutex_lock(&console.switching);
    while (len) {
        size_t run = 1;
        if (console.escape_ns != 0 && after_escape(*s)) {
            /* done */
        } else if (*s == NK_CONSOLE_ESCAPE) {
            escape_typed();
        } else {
            const char *escape = memchr(s, NK_CONSOLE_ESCAPE, len);
            run = escape ? (size_t)(escape - s) : len;
            console.front->to.input(console.front->to.arg, s, run);
        }
        s += run;
        len -= run;
    }
    nk_mutex_unlock(&console.switching);
}

static void console_thread(void *arg)
{
    (void)arg;
    for (;;) {
        char bytes[256];
        size_t count = ring_take(&console.rx, bytes, sizeof(bytes));
        if (count) {
            dispatch(bytes, count);
        } else {
            nk_semaphore_down(&console.rx_some);
        }
    }
}

/* --- streams ---------------------------------------------------------------------------------- */

/* Lock `switching` held, so that the list stands still. */
static struct nk_console *find(const char *name)
{
    struct nk_list *pos;
    nk_list_for_each(pos, &console.streams)
    {
        struct nk_console *c = nk_list_entry(pos, struct nk_console, link);
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

int console_create(struct nk_console **out, const char *name,
                   const struct nk_console_receiver *receiver)
{
    struct nk_console *c = kzalloc(sizeof(*c));
    char *bytes = kmalloc(NK_CONSOLE_RING_BYTES);
    if (!c || !bytes) {
        kfree(c);
        kfree(bytes);
        return -ENOMEM;
    }
    nk_snprintf(c->name, sizeof(c->name), "%s", name);
    c->out = (struct nk_ring){.bytes = bytes, .size = NK_CONSOLE_RING_BYTES};
    c->to = *receiver;
    nk_mutex_lock(&console.switching);
    bool taken = find(c->name) != NULL;
    if (!taken) {
        nk_list_push_back(&console.streams, &c->link);
    }
    nk_mutex_unlock(&console.switching);
    if (taken) {
        kfree(bytes);
        kfree(c);
        return -EEXIST;
    }
    *out = c;
    return 0;
}

void console_destroy(struct nk_console *c)
{
    nk_mutex_lock(&console.switching);
    if (console.front == c) {
        uart_transmit_flush(NK_CONSOLE_RING_BYTES); /* its last words */
        switch_to(&shell_stream);
    }
    if (console.last_guest == c) {
        console.last_guest = NULL;
    }
    nk_list_remove(&c->link);
    nk_mutex_unlock(&console.switching);
    kfree(c->out.bytes);
    kfree(c);
}

size_t console_ring_bytes(const struct nk_console *c)
{
    return c->out.size;
}

int console_bring_front(const char *name)
{
    nk_mutex_lock(&console.switching);
    struct nk_console *c = find(name);
    if (c) {
        switch_to(c);
    }
    nk_mutex_unlock(&console.switching);
    return c ? 0 : -ENOENT;
}

const char *console_front_name(void)
{
    return console.front->name;
}

const char *console_name(unsigned i)
{
    const char *name = NULL;
    nk_mutex_lock(&console.switching);
    struct nk_list *pos;
    nk_list_for_each(pos, &console.streams)
    {
        if (i-- == 0) {
            name = nk_list_entry(pos, struct nk_console, link)->name;
            break;
        }
    }
    nk_mutex_unlock(&console.switching);
    return name;
}

int console_history_begin(const char *name, uint64_t back, uint64_t *at)
{
    nk_mutex_lock(&console.switching);
    const struct nk_console *c = find(name);
    if (c) {
        uint64_t head = __atomic_load_n(&c->out.head, __ATOMIC_RELAXED);
        *at = head > back ? head - back : 0;
    }
    nk_mutex_unlock(&console.switching);
    return c ? 0 : -ENOENT;
}

size_t console_history(const char *name, uint64_t *at, char *out, size_t max)
{
    size_t count = 0;
    nk_mutex_lock(&console.switching);
    const struct nk_console *c = find(name);
    if (c) {
        uint64_t flags = nk_spin_lock_irqsave(&console.lock);
        count = nk_ring_look(&c->out, at, out, max);
        nk_spin_unlock_irqrestore(&console.lock, flags);
    }
    nk_mutex_unlock(&console.switching);
    return count;
}

int console_send_break(const char *name)
{
    nk_mutex_lock(&console.switching);
    const struct nk_console *c = find(name);
    bool guest = c && c->to.send_break;
    if (guest) {
        c->to.send_break(c->to.arg);
    }
    nk_mutex_unlock(&console.switching);
    return guest ? 0 : -ENOENT;
}

void console_get_stats(struct nk_console_stats *out)
{
    struct uart_stats line;
    uart_get_stats(&line);
    *out = (struct nk_console_stats){line.received, line.sent, line.overruns, console.rx_lost};
}

/* --- start ------------------------------------------------------------------------------------ */

void console_init_early(void)
{
    uart_init_early();
}

static const struct uart_client uart_client = {rx_put, pull_output, screen_draw, line_drained};

void console_init(void)
{
    nk_list_init(&console.streams);
    nk_list_push_back(&console.streams, &shell_stream.link);
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
