/* The NMI watchdog. */
#include "kernel/watchdog.h"

#include <string.h>

#include "base/percpu.h"
#include "kernel/log.h"
#include "kernel/smp.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define MS         UINT64_C(1000000)
#define LIMIT      (200 * MS)
#define LIMIT_USED (10000 * MS)

static volatile bool entered, leave;

static NK_NOINLINE void stuck_here(void)
{
    entered = true;
    while (!leave) {
        x86_pause();
    }
}

static void get_stuck(void *arg)
{
    bool irqs_off = arg != NULL;
    uint64_t flags = nk_irq_save();
    if (!irqs_off) {
        nk_irq_restore(flags);
    }
    stuck_here();
    nk_irq_restore(flags);
}

static struct nk_thread *start_on_cpu_1(bool irqs_off)
{
    struct nk_thread_attr attr = {.name = "stuck", .cpu = 1};
    struct nk_thread *t;
    entered = leave = false;
    if (nk_thread_pin(nk_thread_current(), 0) != 0) { /* or this thread may be stuck behind it */
        return NULL;
    }
    if (nk_thread_start(&t, &attr, get_stuck, irqs_off ? &attr : NULL) != 0) {
        return NULL;
    }
    while (!entered) {
        nk_thread_sleep_ns(MS);
    }
    return t;
}

static void end(struct nk_thread *t)
{
    leave = true;
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}

static bool log_has(uint64_t *cursor, const char *text)
{
    struct nk_log_record r;
    while (nk_log_read(cursor, &r)) {
        if (strstr(r.text, text) != NULL) {
            return true;
        }
    }
    return false;
}

static void end_of_log(uint64_t *cursor)
{
    struct nk_log_record r;
    while (nk_log_read(cursor, &r)) {
    }
}

static volatile unsigned called;

static void count_call(void *arg)
{
    (void)arg;
    called++;
}

KTEST(watchdog_finds_stuck_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs 2 CPUs");
    uint64_t cursor = 0;
    end_of_log(&cursor);
    unsigned before = watchdog_report_count();
    struct nk_thread *t = start_on_cpu_1(true);
    ASSERT(t != NULL);
    called = 0;
    ASSERT_EQ(nk_cpu_call(1, count_call, NULL, false), 0);
    watchdog_set_limit(LIMIT);
    for (unsigned ms = 0; ms < 20000 && watchdog_report_count() == before; ms++) {
        nk_thread_sleep_ns(MS);
    }
    EXPECT_EQ(watchdog_report_count(), before + 1);
    nk_thread_sleep_ns(3 * LIMIT); /* once is enough */
    EXPECT_EQ(watchdog_report_count(), before + 1);
    EXPECT_EQ(called, 0);
    end(t);
    nk_thread_sleep_ns(2 * LIMIT);
    EXPECT_EQ(called, 1);
    EXPECT(log_has(&cursor, "CPU 1 has taken no interrupt"));
    EXPECT(log_has(&cursor, "stuck_here+0x"));
    EXPECT(log_has(&cursor, "thread_begin+0x"));
    EXPECT(log_has(&cursor, "CPU 1 goes on"));
    watchdog_set_limit(LIMIT_USED);
}

/* A CPU that computes, and has nothing else to do, is not even interrupted. */
KTEST(watchdog_leaves_others_alone)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs 2 CPUs");
    unsigned before = watchdog_report_count();
    struct nk_thread *t = start_on_cpu_1(false);
    ASSERT(t != NULL);
    watchdog_set_limit(LIMIT);
    nk_thread_sleep_ns(50 * MS); /* what was under way has ended */
    uint64_t sum[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned kind = 0; kind < NK_ARRAY_COUNT(nk_cpu_table[1].irq_count); kind++) {
            sum[i] += nk_cpu_table[1].irq_count[kind];
        }
        nk_thread_sleep_ns(i == 0 ? 5 * LIMIT : 0);
    }
    EXPECT_EQ(sum[0], sum[1]);
    EXPECT_EQ(watchdog_report_count(), before);
    end(t);
    watchdog_set_limit(LIMIT_USED);
}
