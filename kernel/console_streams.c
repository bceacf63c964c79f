/* The streams of the shell and of guests: which is in front, and what Ctrl-] does. */
#include <errno.h>
#include <string.h>

#include "drivers/uart16550.h"
#include "kernel/console_impl.h"
#include "kernel/format.h"
#include "kernel/kernel.h"
#include "mm/slab.h"
#include "sched/timer.h"

#define ESCAPE_NS UINT64_C(1000000000) /* how long what follows Ctrl-] belongs to it */
#define KEY_BREAK 0x02                 /* Ctrl-B */
#define KEY_NEXT  0x0e                 /* Ctrl-N */

/* --- front ------------------------------------------------------------------------------------ */

/* Lock `switching` held. What an old guest still had to send waits in its ring; the kernel's own
 * text goes out first, so that no line of the log is cut in two. */
static void switch_to(struct nk_console *to)
{
    if (console.front == to) {
        return;
    }
    if (console.front == &console_shell) {
        uart_transmit_flush(nk_ring_used(&console.notice) + nk_ring_used(&console_shell.out));
    }
    char text[160];
    size_t len =
        nk_snprintf(text, sizeof(text), "\r\n[console: %s; Ctrl-] %s]\r\n", to->name,
                    to == &console_shell ? "goes back to the guest" : "leaves to the shell");
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
    if (to == &console_shell) {
        console_set_editing(console.editing, true);
        nk_semaphore_up(&console.typed_some);
    } else {
        console.last_guest = to;
    }
}

static void escape_typed(void)
{
    if (console.front != &console_shell) {
        console.escape_ns = nk_now_ns();
        switch_to(&console_shell);
    } else if (console.last_guest) {
        switch_to(console.last_guest);
    } else if (console_shell.link.next != &console.streams) {
        switch_to(nk_list_entry(console_shell.link.next, struct nk_console, link));
    }
}

/* The guest's stream behind this one, in the order of creation. */
static struct nk_console *next_guest(struct nk_console *c)
{
    struct nk_list *next = c->link.next;
    while (next == &console.streams || next == &console_shell.link) {
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

void console_dispatch(const char *s, size_t len)
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
        switch_to(&console_shell);
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

int console_history_begin(const char *name, uint64_t back, struct nk_console_history *h)
{
    nk_mutex_lock(&console.switching);
    const struct nk_console *c = find(name);
    if (c) {
        h->end = __atomic_load_n(&c->out.head, __ATOMIC_RELAXED);
        h->at = h->end > back ? h->end - back : 0;
    }
    nk_mutex_unlock(&console.switching);
    return c ? 0 : -ENOENT;
}

size_t console_history(const char *name, struct nk_console_history *h, char *out, size_t max)
{
    size_t count = 0;
    nk_mutex_lock(&console.switching);
    const struct nk_console *c = find(name);
    if (c) {
        uint64_t flags = nk_spin_lock_irqsave(&console.lock);
        count = nk_ring_look(&c->out, &h->at, out, max);
        nk_spin_unlock_irqrestore(&console.lock, flags);
    }
    nk_mutex_unlock(&console.switching);
    uint64_t newer = h->at > h->end ? h->at - h->end : 0;
    h->at -= newer;
    return count > newer ? count - newer : 0;
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
