/* The test runner inside the kernel: selection, checks, KTAP. */
#include "tests/kernel/ktest.h"

#include <stdarg.h>
#include <string.h>

#include "base/platform.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/kernel.h"
#include "sched/timer.h"

#define TEST_SECONDS_MAX                                                                           \
    120 /* a test that takes longer hangs: panic, with everybody's backtrace                       \
         */

struct test_row {
    const char *name;
    void (*fn)(void);
};

/* clang-format off */
static const struct test_row test_table[] = {
#define TEST(name) {#name, ktest_##name},
#include "tests/kernel/tests.list.h"
    {NULL, NULL},
};
static const struct test_row bench_table[] = {
#define BENCH(name) {#name, kbench_##name},
#include "tests/kernel/tests.list.h"
    {NULL, NULL},
};
static const struct test_row panic_table[] = {
#define PANICS(name, text) {#name, kpanic_##name},
#include "tests/kernel/tests.list.h"
    {NULL, NULL},
};
/* clang-format on */

static struct {
    const char *name;
    uint32_t failure_count; /* raised from any thread of the test */
    const char *skip_reason;
    struct nk_timer watchdog;
} running;

static void print(const char *fmt, va_list ap)
{
    char line[512];
    size_t len = nk_vsnprintf(line, sizeof(line), fmt, ap);
    console_write(line, len < sizeof(line) ? len : sizeof(line) - 1);
}

static void NK_PRINTF(1, 2) printk(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(fmt, ap);
    va_end(ap);
}

void ktest_note(const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    nk_vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printk("# %s\n", text);
}

static void count_failure(void)
{
    __atomic_fetch_add(&running.failure_count, 1, __ATOMIC_RELAXED);
}

bool ktest_check(bool ok, const char *file, int line, const char *what)
{
    if (!ok) {
        count_failure();
        printk("# %s:%d: failed: %s\n", file, line, what);
    }
    return ok;
}

bool ktest_check_values(bool ok, int64_t a, int64_t b, const char *file, int line, const char *what)
{
    if (!ok) {
        count_failure();
        printk("# %s:%d: failed: %s: left %lld (0x%llx), right %lld (0x%llx)\n", file, line, what,
               (long long)a, (unsigned long long)a, (long long)b, (unsigned long long)b);
    }
    return ok;
}

bool ktest_check_string(const char *a, const char *b, const char *file, int line, const char *what)
{
    bool ok = a && b && strcmp(a, b) == 0;
    if (!ok) {
        count_failure();
        printk("# %s:%d: failed: %s: left \"%s\", right \"%s\"\n", file, line, what,
               a ? a : "(null)", b ? b : "(null)");
    }
    return ok;
}

void ktest_skip(const char *reason)
{
    running.skip_reason = reason;
}

/* `pattern` up to its end or a comma; '*' stands for any run of characters. */
static bool glob_matches(const char *pattern, const char *name)
{
    for (; *pattern && *pattern != ','; pattern++, name++) {
        if (*pattern == '*') {
            for (const char *rest = name;; rest++) {
                if (glob_matches(pattern + 1, rest)) {
                    return true;
                }
                if (!*rest) {
                    return false;
                }
            }
        }
        if (*pattern != *name) {
            return false;
        }
    }
    return !*name;
}

static bool selected(const char *patterns, const char *name)
{
    for (const char *p = patterns; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (glob_matches(p, name)) {
            return true;
        }
    }
    return false;
}

static void watchdog_fired(struct nk_timer *t)
{
    (void)t;
    nk_panic("test %s: no result within %d s", running.name, TEST_SECONDS_MAX);
}

static void watchdog_start(const char *name)
{
    running.name = name;
    nk_timer_cancel(&running.watchdog);
    nk_timer_init(&running.watchdog, watchdog_fired);
    nk_timer_arm(&running.watchdog, x86_rdtsc() + TEST_SECONDS_MAX * nk_tsc_hz);
}

void ktest_goes_on(void)
{
    watchdog_start(running.name);
}

static void run_test(const struct test_row *row, unsigned number)
{
    running.failure_count = 0;
    running.skip_reason = NULL;
    watchdog_start(row->name);
    row->fn();
    nk_timer_cancel(&running.watchdog);
    bool failed = __atomic_load_n(&running.failure_count, __ATOMIC_RELAXED) != 0;
    printk("%sok %u %s%s%s\n", failed ? "not " : "", number, row->name,
           running.skip_reason ? " # SKIP " : "", running.skip_reason ? running.skip_reason : "");
}

unsigned ktest_run(const char *patterns)
{
    unsigned plan = 0, number = 0, failures = 0;
    for (const struct test_row *row = test_table; row->name; row++) {
        plan += selected(patterns, row->name);
    }
    printk("KTAP version 1\n1..%u\n", plan);
    for (const struct test_row *row = test_table; row->name; row++) {
        if (selected(patterns, row->name)) {
            run_test(row, ++number);
            failures += running.failure_count != 0;
        }
    }
    printk("# %u run, %u failed\n", number, failures);
    return plan == 0 ? 1 : failures;
}

unsigned ktest_run_benches(const char *patterns)
{
    unsigned count = 0;
    for (const struct test_row *row = bench_table; row->name; row++) {
        if (selected(patterns, row->name)) {
            row->fn();
            count++;
        }
    }
    printk("# %u benches\n", count);
    return count == 0;
}

static unsigned run_panic(const char *name)
{
    for (const struct test_row *row = panic_table; row->name; row++) {
        if (strcmp(row->name, name) == 0) {
            printk("# panicking in %s\n", name);
            row->fn();
            printk("# %s returned instead of panicking\n", name);
            return 1;
        }
    }
    printk("# no panic named %s\n", name);
    return 1;
}

unsigned ktest_run_selected(void)
{
    char patterns[BOOTINFO_TEXT_MAX];
    if (nk_option("ktest-panic", patterns, sizeof(patterns))) {
        return run_panic(patterns);
    }
    if (nk_option("bench", patterns, sizeof(patterns))) {
        return ktest_run_benches(*patterns ? patterns : "*");
    }
    return ktest_run(nk_option("ktest", patterns, sizeof(patterns)) && *patterns ? patterns : "*");
}

void ktest_bench_value(const char *label, uint64_t value)
{
    printk("bench: %s %llu\n", label, (unsigned long long)value);
}

void ktest_bench_samples(const char *label, uint64_t *samples, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t value = samples[i];
        unsigned j = i;
        for (; j > 0 && samples[j - 1] > value; j--) {
            samples[j] = samples[j - 1];
        }
        samples[j] = value;
    }
    ktest_bench_value(label, samples[count / 2]);
}

uint64_t ktest_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}
