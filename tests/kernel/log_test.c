/* Tests of kernel/log.c. */
#include "kernel/log.h"

#include <errno.h>
#include <string.h>

#include "base/percpu.h"
#include "kernel/format.h"
#include "kernel/smp.h"
#include "tests/kernel/ktest.h"

/* Where the log ends now. */
static uint64_t log_end(void)
{
    struct nk_log_record r;
    uint64_t cursor = 0;
    while (nk_log_read(&cursor, &r)) {
    }
    return cursor;
}

KTEST(log_keeps_records)
{
    struct nk_log_record r;
    uint64_t cursor = log_end();
    uint64_t before = x86_rdtsc();
    nk_debug("first %d", 1);
    nk_debug("second line\n");
    ASSERT(nk_log_read(&cursor, &r));
    EXPECT_STREQ(r.text, "first 1");
    EXPECT_EQ(r.level, NK_LOG_DEBUG);
    EXPECT_LT(r.cpu, nk_cpu_count);
    EXPECT_GE(r.tsc, before);
    ASSERT(nk_log_read(&cursor, &r));
    EXPECT_STREQ(r.text, "second line");
    EXPECT(!nk_log_read(&cursor, &r));
}

KTEST(log_cuts_long_lines)
{
    char text[NK_LOG_TEXT_MAX * 2];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    struct nk_log_record r;
    uint64_t cursor = log_end();
    nk_debug("%s", text);
    ASSERT(nk_log_read(&cursor, &r));
    EXPECT_EQ(strlen(r.text), NK_LOG_TEXT_MAX - 1);
}

KTEST(log_ring_wraps)
{
    struct nk_log_record r;
    uint64_t stale = log_end();
    unsigned count = NK_KIB(CONFIG_LOG_RING_KIB) / 32;
    for (unsigned i = 0; i < count; i++) {
        nk_debug("wrapping record %u of the ring", i);
    }
    /* The oldest are gone, a stale cursor goes on with what is left, and nothing is torn. */
    char expected[64];
    unsigned seen = 0, next = 0;
    while (nk_log_read(&stale, &r)) {
        if (seen == 0) {
            while (next < count &&
                   (nk_snprintf(expected, sizeof(expected), "wrapping record %u of the ring", next),
                    strcmp(expected, r.text) != 0)) {
                next++;
            }
            EXPECT_GT(next, 0);
        }
        nk_snprintf(expected, sizeof(expected), "wrapping record %u of the ring", next + seen);
        ASSERT_STREQ(r.text, expected);
        seen++;
    }
    EXPECT_EQ(next + seen, count);
    EXPECT_GT(seen, count / 4);
}

#define LINES_PER_CPU 50

static void log_lines(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < LINES_PER_CPU; i++) {
        nk_debug("cpu line %u", i);
    }
}

/* Interrupt handlers of all CPUs at once: no record lost, none torn, each CPU's in order. */
KTEST(log_from_interrupts)
{
    static unsigned next[CONFIG_NR_CPUS];
    memset(next, 0, sizeof(next));
    struct nk_log_record r;
    uint64_t cursor = log_end();
    nk_preempt_disable(); /* "others" and "this one" are to be the same all along */
    nk_cpu_call_others(log_lines, NULL);
    log_lines(NULL);
    nk_preempt_enable();
    while (nk_log_read(&cursor, &r)) {
        char expected[32];
        if (strncmp(r.text, "cpu line", 8) == 0) {
            nk_snprintf(expected, sizeof(expected), "cpu line %u", next[r.cpu]++);
            ASSERT_STREQ(r.text, expected);
        }
    }
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        EXPECT_EQ(next[cpu], LINES_PER_CPU);
    }
}

KTEST(log_levels)
{
    enum nk_log_level level = NK_LOG_ERROR;
    EXPECT_EQ(nk_log_level_parse("debug", &level), 0);
    EXPECT_EQ(level, NK_LOG_DEBUG);
    EXPECT_EQ(nk_log_level_parse("1", &level), 0);
    EXPECT_EQ(level, NK_LOG_WARN);
    EXPECT_EQ(nk_log_level_parse("4", &level), -EINVAL);
    EXPECT_EQ(nk_log_level_parse("loud", &level), -EINVAL);
    EXPECT_EQ(level, NK_LOG_WARN);
    EXPECT_STREQ(nk_log_level_name(NK_LOG_INFO), "info");

    struct nk_log_record r = {.level = NK_LOG_WARN, .text = "odd"};
    char line[64];
    nk_log_format(&r, line, sizeof(line));
    EXPECT(strstr(line, "] warning: odd") != NULL);
}
