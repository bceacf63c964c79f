/* Tests of the shell: words, suggestions, line editing, module names. */
#include "kernel/shell.h"

#include <errno.h>
#include <string.h>

#include "base/percpu.h"
#include "drivers/rtc.h"
#include "kernel/format.h"
#include "kernel/irq.h"
#include "kernel/line_edit.h"
#include "kernel/module.h"
#include "kernel/time.h"
#include "tests/kernel/ktest.h"

static int run(const char *text)
{
    char line[LINE_EDIT_BYTES];
    strncpy(line, text, sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    return shell_execute(line);
}

KTEST(shell_words)
{
    EXPECT_EQ(run(""), 0);
    EXPECT_EQ(run("   \t "), 0);
    EXPECT_EQ(run("echo plain  words"), 0);
    EXPECT_EQ(run("  echo \"two words\" \"\" a\"b c\"d"), 0);
    EXPECT_EQ(run("echo \"open"), -EINVAL);
    EXPECT_EQ(run("echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"), 0);
    EXPECT_EQ(run("echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), -E2BIG);
    EXPECT_EQ(run("hlep"), -ENOENT);
    EXPECT_EQ(run("help hlep"), -ENOENT);
    EXPECT_EQ(run("help vm"), 0);
}

KTEST(shell_commands_run)
{
    static const char *const command_table[] = {
        "help",    "ps",  "timers",      "cpu features", "mem",     "mem caches",
        "cpu",     "irq", "uptime",      "date",         "modules", "console",
        "version", "pci", "pci 00:00.0", "block",        "net"};
    for (unsigned i = 0; i < NK_ARRAY_COUNT(command_table); i++) {
        EXPECT_EQ(run(command_table[i]), 0);
    }
    EXPECT_EQ(run("ps all"), -EINVAL);
    EXPECT_EQ(run("mem everything"), -EINVAL);
    EXPECT_EQ(run("log loud"), -EINVAL);
    EXPECT_EQ(run("loglevel loud"), -EINVAL);
    EXPECT_EQ(run("console nobody"), -ENOENT);
    EXPECT_EQ(run("pci 00:1f.7"), -ENOENT);
    EXPECT_EQ(run("pci nonsense"), -ENOENT);
    EXPECT_EQ(run("block read none 0"), -ENOENT);
    EXPECT_EQ(run("block write"), -EINVAL);
    EXPECT_EQ(run("irq 255 cpu 0"), -ENOENT);
    EXPECT_EQ(run("irq timer cpu 0"), -ENOENT);
    EXPECT_EQ(run("irq 4294967300 cpu 0"), -ENOENT); /* line 4 to 32 bits */
    EXPECT_EQ(run("sleep -1"), -EINVAL);
    EXPECT_EQ(run("sleep 18446744073709551617"), -EINVAL);
    EXPECT_EQ(run("date set 2026-4294967298-01 12:00"), -EINVAL);
    EXPECT_EQ(run("date tomorrow"), -EINVAL);
    EXPECT_EQ(run("date set 2026-02-29 12:00"), -EINVAL);
    EXPECT_EQ(run("date set 2026-02-28 12"), -EINVAL);
    EXPECT_EQ(run("date alarm soon"), -EINVAL);
    EXPECT_EQ(run("date alarm 86400"), -EINVAL);
    EXPECT_EQ(run("timers now"), -EINVAL);
    EXPECT_EQ(run("vm"), -EINVAL);
    EXPECT_EQ(run("vm lsit"), -EINVAL);
}

/* A line goes to another CPU, and what cannot be is refused in words. */
KTEST(shell_moves_a_line)
{
    struct nk_irq_info info;
    char line[40];
    unsigned irq = 0;
    while (irq < NK_IRQ_COUNT && !nk_irq_get_info(irq, &info)) {
        irq++;
    }
    KTEST_SKIP_UNLESS(irq < NK_IRQ_COUNT && nk_irq_set_affinity(irq, nk_cpu_count - 1) == 0,
                      "no line that can be moved");
    EXPECT_EQ(nk_irq_set_affinity(irq, 0), 0);
    nk_snprintf(line, sizeof(line), "irq %u cpu %u", irq, nk_cpu_count - 1);
    EXPECT_EQ(run(line), 0);
    ASSERT(nk_irq_get_info(irq, &info));
    EXPECT_EQ(info.cpu, nk_cpu_count - 1);
    nk_snprintf(line, sizeof(line), "irq %u cpu %u", irq, nk_cpu_count);
    EXPECT_EQ(run(line), -EINVAL);
    nk_snprintf(line, sizeof(line), "irq %u open", irq);
    EXPECT_EQ(run(line), 0);
    nk_snprintf(line, sizeof(line), "irq %u cpu 0", irq);
    EXPECT_EQ(run(line), 0);
}

/* The clock goes on from what it was set to. */
KTEST(shell_sets_the_date)
{
    uint64_t before = nk_wall_clock_ns() / 1000000000;
    struct rtc_date d = rtc_to_date(before);
    char line[64];
    EXPECT_EQ(run("date set 2030-12-31 23:59:58"), 0);
    uint64_t now = nk_wall_clock_ns() / 1000000000;
    EXPECT_GE(now, 1924991998);
    EXPECT_LT(now, 1924991998 + 100);
    nk_snprintf(line, sizeof(line), "date set %u-%u-%u %u:%u:%u", d.year, d.month, d.day, d.hours,
                d.minutes, d.seconds);
    EXPECT_EQ(run(line), 0);
    EXPECT_GE(nk_wall_clock_ns() / 1000000000, before);
}

KTEST(shell_numbers)
{
    uint64_t n;
    EXPECT(shell_number("12", 12, &n) && n == 12);
    EXPECT(shell_number("0x1F", 31, &n) && n == 31);
    EXPECT(shell_number("010", UINT64_MAX, &n) && n == 10);
    EXPECT(shell_number("18446744073709551615", UINT64_MAX, &n) && n == UINT64_MAX);
    static const char *const wrong_table[] = {"", "-1", " 1", "+1", "1 ", "1k", "0x", "13", "x"};
    for (unsigned i = 0; i < NK_ARRAY_COUNT(wrong_table); i++) {
        EXPECT(!shell_number(wrong_table[i], 12, &n));
    }
    EXPECT(!shell_number("18446744073709551616", UINT64_MAX, &n));
}

KTEST(shell_pipes)
{
    EXPECT_EQ(run("help | match reset"), 0);
    EXPECT_EQ(run("help|match \"no such text\""), 0);
    EXPECT_EQ(run("echo \"a|b\""), 0);
    EXPECT_EQ(run("help | sort"), -EINVAL);
    EXPECT_EQ(run("help |"), -EINVAL);
    EXPECT_EQ(run("hlep | match x"), -ENOENT);
    EXPECT_EQ(run("echo back to normal"), 0);
}

static const char *candidate(unsigned i)
{
    static const char *const word_table[] = {"help", "ps", "mem", "modules", "poweroff", "reboot"};
    return i < NK_ARRAY_COUNT(word_table) ? word_table[i] : NULL;
}

KTEST(shell_suggestions)
{
    EXPECT_STREQ(shell_suggest("hlep", candidate), "help");
    EXPECT_STREQ(shell_suggest("hel", candidate), "help");
    EXPECT_STREQ(shell_suggest("powerof", candidate), "poweroff");
    EXPECT_STREQ(shell_suggest("rebbot", candidate), "reboot");
    EXPECT_STREQ(shell_suggest("mme", candidate), "mem");
    EXPECT_STREQ(shell_suggest("power", candidate), "poweroff");
    EXPECT(shell_suggest("zzzzzz", candidate) == NULL);
    EXPECT(shell_suggest("x", candidate) == NULL);
    EXPECT(shell_suggest("", candidate) == NULL);
    EXPECT(shell_suggest("a word far longer than any command has", candidate) == NULL);
}

static char shown[4096];
static size_t shown_length;

static void show(void *arg, const char *s, size_t len)
{
    (void)arg;
    for (size_t i = 0; i < len && shown_length < sizeof(shown) - 1; i++) {
        shown[shown_length++] = s[i];
    }
    shown[shown_length] = '\0';
}

static struct line_edit *fresh_editor(void)
{
    static struct line_edit e;
    memset(&e, 0, sizeof(e));
    e.prompt = "> ";
    e.write = show;
    e.complete = shell_complete;
    shown_length = 0;
    line_edit_begin(&e);
    return &e;
}

/* Feeds all bytes; true when the last one completed a line. */
static bool type(struct line_edit *e, const char *s)
{
    bool done = false;
    for (; *s; s++) {
        done = line_edit_feed(e, (unsigned char)*s);
    }
    return done;
}

KTEST(line_edit_keys)
{
    static const struct {
        const char *typed, *line;
    } key_table[] = {
        {"hello", "hello"},
        {"helo\x1b[Dl", "hello"}, /* left */
        {"bc\x01"
         "a",
         "abc"},                          /* Ctrl-A */
        {"bc\x1b[Ha", "abc"},             /* Home */
        {"bc\x1b[1~a\x1b[4~d", "abcd"},   /* Home and End, the other way */
        {"ab\x02\x02x\x05y", "xaby"},     /* Ctrl-B, Ctrl-E */
        {"abc\x7f\x08", "a"},             /* Backspace, both codes */
        {"\x7f", ""},                     /* nothing to erase */
        {"abc\x1b[D\x1b[D\x1b[3~", "ac"}, /* Delete */
        {"abc\x01\x04", "bc"},            /* Ctrl-D */
        {"one two\x02\x02\x0b", "one t"}, /* Ctrl-K */
        {"one two\x02\x02\x15", "wo"},    /* Ctrl-U */
        {"one two  \x17", "one "},        /* Ctrl-W */
        {"abc\x03"
         "d",
         "d"},                          /* Ctrl-C */
        {"ab\x1b[5~\x1b[1;5Qc", "abc"}, /* keys it does not know */
        {"\x1b[C\x1b[D\x1b[Fa", "a"},   /* moves on an empty line */
        {"a\x1bOHb\x1bOF"
         "c",
         "bac"}, /* keypad's Home and End */
    };
    for (unsigned i = 0; i < NK_ARRAY_COUNT(key_table); i++) {
        struct line_edit *e = fresh_editor();
        EXPECT(!type(e, key_table[i].typed));
        EXPECT_STREQ(e->text, key_table[i].line);
        EXPECT_EQ(e->length, strlen(key_table[i].line));
    }
}

KTEST(line_edit_lines)
{
    struct line_edit *e = fresh_editor();
    EXPECT(type(e, "one\r"));
    EXPECT_STREQ(e->text, "one");
    line_edit_begin(e);
    EXPECT(!type(e, "\n")); /* the second half of CR LF */
    EXPECT(type(e, "two\n"));
    EXPECT_STREQ(e->text, "two");
    EXPECT_STREQ(shown, "> one\n> two\n");

    e = fresh_editor();
    for (unsigned i = 0; i < 2 * LINE_EDIT_BYTES; i++) {
        line_edit_feed(e, 'x');
    }
    EXPECT_EQ(e->length, LINE_EDIT_BYTES - 1);
    EXPECT_EQ(strlen(e->text), LINE_EDIT_BYTES - 1);
}

static void enter(struct line_edit *e, const char *line)
{
    type(e, line);
    type(e, "\r");
    line_edit_begin(e);
}

KTEST(line_edit_history)
{
    struct line_edit *e = fresh_editor();
    type(e, "\x1b[A"); /* nothing yet */
    EXPECT_STREQ(e->text, "");
    enter(e, "first");
    enter(e, "second");
    enter(e, "second"); /* kept once */
    enter(e, "");
    type(e, "draft\x1b[A");
    EXPECT_STREQ(e->text, "second");
    type(e, "\x1b[A\x1b[A");
    EXPECT_STREQ(e->text, "first");
    type(e, "\x1b[B\x1b[B\x1b[B");
    EXPECT_STREQ(e->text, "draft");

    e = fresh_editor();
    for (unsigned i = 0; i < LINE_EDIT_HISTORY + 5; i++) {
        char line[2] = {(char)('A' + i), '\0'};
        enter(e, line);
    }
    for (unsigned i = 0; i < 2 * LINE_EDIT_HISTORY; i++) {
        type(e, "\x10");
    }
    EXPECT_EQ(e->text[0], 'A' + 5);
}

KTEST(line_edit_completion)
{
    struct line_edit *e = fresh_editor();
    type(e, "upt\t");
    EXPECT_STREQ(e->text, "uptime ");
    e = fresh_editor();
    type(e, "lo\t");
    EXPECT_STREQ(e->text, "log");
    shown_length = 0;
    type(e, "\t");
    EXPECT(strstr(shown, "log  loglevel") != NULL);
    e = fresh_editor();
    type(e, "log d\t");
    EXPECT_STREQ(e->text, "log debug ");
    e = fresh_editor();
    type(e, "vm cr\t");
    EXPECT_STREQ(e->text, "vm create ");
    e = fresh_editor();
    type(e, "nosuch a\t");
    EXPECT_STREQ(e->text, "nosuch a");
}

KTEST(module_names)
{
    struct nk_module m;
    EXPECT(!nk_module_get(UINT32_MAX, &m));
    EXPECT(!nk_module_find("", &m));
    EXPECT(!nk_module_find("vms/nowhere.json", &m));
}
