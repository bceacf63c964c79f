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
#define ROUNDS     10 /* in which what was under way on the CPU may end */
#define REPORT     "CPU 1 has taken no interrupt"

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

static uint64_t end_of_log(void)
{
    struct nk_log_record r;
    uint64_t cursor = 0;
    while (nk_log_read(&cursor, &r)) {
    }
    return cursor;
}

/* Lines with the text since the log ended at `cursor`. Other CPUs may be reported, too: the host
 * may hold up any of them. */
static unsigned lines_since(uint64_t cursor, const char *text)
{
    struct nk_log_record r;
    unsigned count = 0;
    while (nk_log_read(&cursor, &r)) {
        count += strstr(r.text, text) != NULL;
    }
    return count;
}

static volatile unsigned called;

static void count_call(void *arg)
{
    (void)arg;
    called++;
}

/* CPU 1 gets stuck, is reported, and goes on; whether it has answered the watchdog's NMI. */
static bool stuck_once(void)
{
    uint64_t log_end = end_of_log();
    struct nk_thread *t = start_on_cpu_1(true);
    called = 0;
    if (!EXPECT(t != NULL) || !EXPECT_EQ(nk_cpu_call(1, count_call, NULL, false), 0)) {
        return false;
    }
    watchdog_set_limit(LIMIT);
    for (unsigned ms = 0; ms < 20000 && lines_since(log_end, REPORT) == 0; ms += 10) {
        nk_thread_sleep_ns(10 * MS);
    }
    nk_thread_sleep_ns(3 * LIMIT); /* once is enough */
    EXPECT_EQ(lines_since(log_end, REPORT), 1);
    EXPECT_EQ(called, 0);
    end(t);
    for (unsigned ms = 0; ms < 20000 && lines_since(log_end, "CPU 1 goes on") == 0; ms += 10) {
        nk_thread_sleep_ns(10 * MS);
    }
    watchdog_set_limit(LIMIT_USED);
    EXPECT_EQ(lines_since(log_end, "CPU 1 goes on"), 1);
    EXPECT_EQ(called, 1);
    if (lines_since(log_end, "takes no NMI") != 0) {
        return false;
    }
    EXPECT_GE(lines_since(log_end, "stuck_here+0x"), 1);
    EXPECT_GE(lines_since(log_end, "thread_begin+0x"), 1);
    return true;
}

/* A CPU that the host does not run for LIMIT / 2 cannot answer in time: then it is asked again. */
KTEST(watchdog_finds_stuck_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs 2 CPUs");
    bool answered = false;
    for (unsigned i = 0; i < ROUNDS && !answered; i++) {
        answered = stuck_once();
    }
    EXPECT(answered);
}

static uint64_t interrupts_of_cpu_1(void)
{
    uint64_t sum = 0;
    for (unsigned kind = 0; kind < NK_ARRAY_COUNT(nk_cpu_table[1].irq_count); kind++) {
        sum += nk_cpu_table[1].irq_count[kind];
    }
    return sum;
}

/* A CPU that computes, and has nothing else to do, is not even interrupted; the watchdog would do
 * that in every round. */
KTEST(watchdog_leaves_others_alone)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "needs 2 CPUs");
    uint64_t log_end = end_of_log();
    struct nk_thread *t = start_on_cpu_1(false);
    ASSERT(t != NULL);
    watchdog_set_limit(LIMIT);
    bool undisturbed = false;
    for (unsigned round = 0; round < ROUNDS && !undisturbed; round++) {
        uint64_t before = interrupts_of_cpu_1();
        nk_thread_sleep_ns(3 * LIMIT);
        undisturbed = interrupts_of_cpu_1() == before;
    }
    EXPECT(undisturbed);
    EXPECT_EQ(lines_since(log_end, REPORT), 0);
    end(t);
    watchdog_set_limit(LIMIT_USED);
}
