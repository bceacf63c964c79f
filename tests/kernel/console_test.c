/* Tests of kernel/ring.c and kernel/console.c. */
#include "kernel/console.h"

#include <errno.h>
#include <string.h>

#include "base/x86.h"
#include "kernel/format.h"
#include "kernel/ring.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define KEY_WAIT_NS UINT64_C(60000000000)

KTEST(ring_put_and_get)
{
    char bytes[8], out[16] = "";
    struct nk_ring r = {.bytes = bytes, .size = sizeof(bytes)};
    for (unsigned round = 0; round < 20; round++) { /* every position of the wrap */
        EXPECT_EQ(nk_ring_put(&r, "abcde", 5), 5);
        EXPECT_EQ(nk_ring_space(&r), 3);
        EXPECT_EQ(nk_ring_put(&r, "fghij", 5), 3);
        EXPECT_EQ(nk_ring_get(&r, out, 3), 3);
        EXPECT(memcmp(out, "abc", 3) == 0);
        EXPECT_EQ(nk_ring_get(&r, out, sizeof(out)), 5);
        EXPECT(memcmp(out, "defgh", 5) == 0);
        EXPECT_EQ(nk_ring_get(&r, out, 1), 0);
    }
}

KTEST(ring_oldest_gives_way)
{
    char bytes[8], out[8];
    struct nk_ring r = {.bytes = bytes, .size = sizeof(bytes)};
    EXPECT_EQ(nk_ring_put_over(&r, "abcdef", 6), 0);
    EXPECT_EQ(nk_ring_put_over(&r, "ghij", 4), 2);
    EXPECT_EQ(nk_ring_get(&r, out, 8), 8);
    EXPECT(memcmp(out, "cdefghij", 8) == 0);
    EXPECT_EQ(nk_ring_put_over(&r, "0123456789", 10), 2);
    EXPECT_EQ(nk_ring_get(&r, out, 8), 8);
    EXPECT(memcmp(out, "23456789", 8) == 0);
}

KTEST(ring_remembers)
{
    char bytes[8], more[16], out[16];
    struct nk_ring r = {.bytes = bytes, .size = sizeof(bytes)};
    uint64_t at = 0;
    EXPECT_EQ(nk_ring_put(&r, "abcdef", 6), 6);
    EXPECT_EQ(nk_ring_get(&r, out, 4), 4);
    EXPECT_EQ(nk_ring_look(&r, &at, out, 16), 6); /* taken out or not */
    EXPECT(memcmp(out, "abcdef", 6) == 0);
    EXPECT_EQ(nk_ring_look(&r, &at, out, 16), 0);
    EXPECT_EQ(nk_ring_put(&r, "ghijk", 5), 5);
    at = 0;
    EXPECT_EQ(nk_ring_look(&r, &at, out, 2), 2);
    EXPECT(memcmp(out, "de", 2) == 0);
    EXPECT(nk_ring_move(&r, more, sizeof(more)) == bytes);
    EXPECT_EQ(nk_ring_space(&r), 9);
    EXPECT_EQ(nk_ring_put(&r, "lmn", 3), 3);
    EXPECT_EQ(nk_ring_look(&r, &at, out, 16), 9);
    EXPECT(memcmp(out, "fghijklmn", 9) == 0);
    EXPECT_EQ(nk_ring_get(&r, out, 16), 10);
    EXPECT(memcmp(out, "efghijklmn", 10) == 0);
}

struct typed {
    struct nk_semaphore some;
    char bytes[8192];
    size_t count;
};

static void take_input(void *arg, const char *s, size_t len)
{
    struct typed *t = arg;
    for (size_t i = 0; i < len && t->count < sizeof(t->bytes); i++) {
        t->bytes[t->count++] = s[i];
    }
    nk_semaphore_up(&t->some);
}

static uint64_t seconds_from_now(unsigned seconds)
{
    return x86_rdtsc() + nk_ns_to_tsc(seconds * UINT64_C(1000000000));
}

static bool wait_for_count(struct typed *t, size_t count)
{
    uint64_t deadline = seconds_from_now(5);
    while (t->count < count) {
        if (!nk_semaphore_down_until(&t->some, deadline)) {
            return false;
        }
    }
    return true;
}

static bool wait_for_front(const char *name)
{
    for (unsigned i = 0; i < 500; i++) {
        if (strcmp(console_front_name(), name) == 0) {
            return true;
        }
        nk_thread_sleep_ns(10000000);
    }
    return false;
}

static struct typed guest_typed;

static void take_break(void *arg)
{
    take_input(arg, "<break>", 7);
}

static const struct nk_console_receiver receiver = {take_input, take_break, &guest_typed};

static struct nk_console *make_guest(void)
{
    struct nk_console *c;
    nk_semaphore_init(&guest_typed.some, 0);
    guest_typed.count = 0;
    return console_create(&c, "guest", &receiver) == 0 ? c : NULL;
}

KTEST(console_streams)
{
    struct nk_console *c = make_guest(), *second;
    ASSERT(c);
    EXPECT_EQ(console_create(&second, "guest", &receiver), -EEXIST);
    EXPECT_EQ(console_create(&second, "shell", &receiver), -EEXIST);
    EXPECT_STREQ(console_name(0), "shell");
    EXPECT_STREQ(console_name(1), "guest");
    EXPECT(console_name(2) == NULL);
    EXPECT_EQ(console_bring_front("nobody"), -ENOENT);
    EXPECT_EQ(console_bring_front("guest"), 0);
    EXPECT_STREQ(console_front_name(), "guest");
    console_destroy(c);
    EXPECT_STREQ(console_front_name(), "shell");
    EXPECT(console_name(1) == NULL);
}

KTEST(console_input_goes_to_the_front)
{
    struct nk_console *c = make_guest();
    ASSERT(c);
    EXPECT_EQ(console_bring_front("guest"), 0);
    console_inject("hello", 5);
    EXPECT(wait_for_count(&guest_typed, 5));
    EXPECT(memcmp(guest_typed.bytes, "hello", 5) == 0);
    console_destroy(c);
}

/* A paste of 4 KiB arrives whole and in order. */
KTEST(console_paste)
{
    static char paste[4096];
    struct nk_console *c = make_guest();
    ASSERT(c);
    for (size_t i = 0; i < sizeof(paste); i++) {
        paste[i] = (char)('a' + i % 26);
    }
    EXPECT_EQ(console_bring_front("guest"), 0);
    console_inject(paste, sizeof(paste));
    EXPECT(wait_for_count(&guest_typed, sizeof(paste)));
    EXPECT(memcmp(guest_typed.bytes, paste, sizeof(paste)) == 0);
    console_destroy(c);
}

KTEST(console_escape)
{
    struct nk_console *c = make_guest();
    ASSERT(c);
    EXPECT_EQ(console_bring_front("guest"), 0);
    console_inject("a\x1d", 2);
    EXPECT(wait_for_front("shell"));
    EXPECT_EQ(guest_typed.count, 1);
    /* The second within a second is meant for the guest. */
    console_inject("\x1d", 1);
    EXPECT(wait_for_front("guest"));
    EXPECT(wait_for_count(&guest_typed, 2));
    EXPECT_EQ(guest_typed.bytes[1], NK_CONSOLE_ESCAPE);
    /* Later it is only the way back. */
    console_inject("\x1d", 1);
    EXPECT(wait_for_front("shell"));
    nk_thread_sleep_ns(1100000000);
    console_inject("\x1d", 1);
    EXPECT(wait_for_front("guest"));
    console_inject("b", 1);
    EXPECT(wait_for_count(&guest_typed, 3));
    EXPECT_EQ(guest_typed.bytes[2], 'b');
    console_destroy(c);
}

/* What goes with Ctrl-] within a second: a break, the next guest's console. */
KTEST(console_escape_commands)
{
    struct nk_console *c = make_guest(), *other;
    ASSERT(c);
    EXPECT_EQ(console_bring_front("guest"), 0);
    console_inject("\x1d\x02", 2);
    EXPECT(wait_for_count(&guest_typed, 7));
    EXPECT(memcmp(guest_typed.bytes, "<break>", 7) == 0);
    EXPECT_STREQ(console_front_name(), "guest");
    ASSERT_EQ(console_create(&other, "other", &receiver), 0);
    console_inject("\x1d\x0e", 2);
    EXPECT(wait_for_front("other"));
    console_inject("\x1d\x0e", 2); /* the shell is not among them */
    EXPECT(wait_for_front("guest"));
    EXPECT_EQ(console_send_break("other"), 0);
    EXPECT(wait_for_count(&guest_typed, 14));
    EXPECT_EQ(console_send_break("shell"), -ENOENT);
    EXPECT_EQ(console_send_break("nobody"), -ENOENT);
    console_destroy(other);
    console_destroy(c);
}

/* A guest whose console was never in front, or came anew, is reached, too. */
KTEST(console_escape_to_a_new_guest)
{
    struct nk_console *c = make_guest();
    ASSERT(c);
    console_inject("\x1d", 1);
    EXPECT(wait_for_front("guest"));
    console_destroy(c);
    c = make_guest();
    ASSERT(c);
    EXPECT_STREQ(console_front_name(), "shell");
    console_inject("\x1d", 1);
    EXPECT(wait_for_front("guest"));
    console_destroy(c);
    console_inject("\x1dx", 2); /* nowhere to go; done when the shell has what follows */
    int key = 0;
    while (console_getc_until(&key, x86_rdtsc() + nk_ns_to_tsc(KEY_WAIT_NS)) && key != 'x') {
    }
    EXPECT_EQ(key, 'x');
    EXPECT_STREQ(console_front_name(), "shell");
}

static void put_line(struct nk_console *c, unsigned number)
{
    char line[64];
    nk_snprintf(line, sizeof(line), "line %06u of a guest that nobody looks at now\n", number);
    EXPECT_EQ(console_stream_write(c, line, strlen(line)), strlen(line));
}

/* A writer in the background is never held up, and what it writes is kept. */
KTEST(console_background_output)
{
    const unsigned line_bytes = sizeof("line 000000 of a guest that nobody looks at now\n") - 1;
    const unsigned count = 4 * NK_CONSOLE_RING_BYTES / line_bytes;
    struct nk_console *c = make_guest();
    char line[64], want[64];
    struct nk_console_history h;
    ASSERT(c);
    for (unsigned i = 0; i < count; i++) {
        put_line(c, i);
    }
    ASSERT_EQ(console_history_begin("guest", UINT64_MAX, &h), 0);
    for (unsigned i = 0; i < count; i++) {
        size_t length =
            nk_snprintf(want, sizeof(want), "line %06u of a guest that nobody looks at now\n", i);
        ASSERT_EQ(console_history("guest", &h, line, length), length);
        ASSERT(memcmp(line, want, length) == 0);
    }
    EXPECT_EQ(console_history("guest", &h, line, sizeof(line)), 0);
    ASSERT_EQ(console_history_begin("guest", 5, &h), 0);
    put_line(c, count); /* of what came later nothing is shown */
    EXPECT_EQ(console_history("guest", &h, line, sizeof(line)), 5);
    EXPECT_EQ(console_history("guest", &h, line, sizeof(line)), 0);
    EXPECT_EQ(console_history_begin("nobody", 5, &h), -ENOENT);
    ASSERT_EQ(console_history_begin("guest", 5, &h), 0);
    /* Far beyond any limit it still is not held up; then the oldest gives way. */
    for (unsigned i = 0; i < 2 * NK_CONSOLE_RING_MOST / line_bytes; i++) {
        put_line(c, i);
    }
    EXPECT_EQ(console_history("guest", &h, line, sizeof(line)), 0); /* it was written over */
    ASSERT_EQ(console_history_begin("guest", UINT64_MAX, &h), 0);
    EXPECT_EQ(console_history("guest", &h, line, sizeof(line)), sizeof(line));
    EXPECT_EQ(h.at, (count + 1) * line_bytes + 2 * NK_CONSOLE_RING_MOST / line_bytes * line_bytes -
                        NK_CONSOLE_RING_MOST + sizeof(line));
    console_destroy(c);
}
