/* The kernel's own tests, run inside it under QEMU.
 *
 * A test is a function KTEST(area_what) { ... } in tests/kernel/<area>.c plus the row
 * TEST(area_what) in tests.list.h. Results go to the serial line as KTAP, and the machine ends
 * through isa-debug-exit. Command line of the test image:
 *   ktest=mm_*,log_*   run the tests that match (default: all)
 *   bench=sched_*      run the benches that match instead
 *   ktest=shell        start the shell, whose commands `test` and `bench` take the same patterns
 *   ktest-panic=name   run the one function that must panic; the runner reads the report
 *
 * Threading: tests run one after the other in a thread of the boot CPU; checks may be made from
 * any thread a test starts, as long as the test joins it. Not from interrupt context. */
#pragma once

#include "base/types.h"
#include "base/x86.h"

#define KTEST(name)  void ktest_##name(void)
#define KBENCH(name) void kbench_##name(void)
#define KPANIC(name) void kpanic_##name(void)

#define TEST(name)         KTEST(name);
#define BENCH(name)        KBENCH(name);
#define PANICS(name, text) KPANIC(name);
#include "tests/kernel/tests.list.h"

/* EXPECT notes a failure and goes on; ASSERT leaves the function. Both print file, line and values.
 * Comparisons are made as 64-bit signed integers; pointers may be compared too. */
#define EXPECT(cond)       ktest_check(!!(cond), __FILE__, __LINE__, #cond)
#define EXPECT_EQ(a, b)    KTEST_COMPARE(a, ==, b)
#define EXPECT_NE(a, b)    KTEST_COMPARE(a, !=, b)
#define EXPECT_LT(a, b)    KTEST_COMPARE(a, <, b)
#define EXPECT_LE(a, b)    KTEST_COMPARE(a, <=, b)
#define EXPECT_GT(a, b)    KTEST_COMPARE(a, >, b)
#define EXPECT_GE(a, b)    KTEST_COMPARE(a, >=, b)
#define EXPECT_STREQ(a, b) ktest_check_string((a), (b), __FILE__, __LINE__, #a " is " #b)
#define ASSERT(cond)       KTEST_OR_RETURN(EXPECT(cond))
#define ASSERT_EQ(a, b)    KTEST_OR_RETURN(EXPECT_EQ(a, b))
#define ASSERT_NE(a, b)    KTEST_OR_RETURN(EXPECT_NE(a, b))
#define ASSERT_STREQ(a, b) KTEST_OR_RETURN(EXPECT_STREQ(a, b))

/* Leave the test with the result SKIP: the machine lacks what it needs. */
#define KTEST_SKIP_UNLESS(cond, reason)                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            ktest_skip(reason);                                                                    \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* Time `code` KTEST_BENCH_SAMPLES times in TSC ticks and print "bench: <label> <median>".
 * Context: a KBENCH function. */
#define KBENCH_MEASURE(label, code)                                                                \
    do {                                                                                           \
        static uint64_t samples_[KTEST_BENCH_SAMPLES];                                             \
        for (unsigned i_ = 0; i_ < KTEST_BENCH_SAMPLES; i_++) {                                    \
            uint64_t start_ = x86_rdtsc();                                                         \
            code;                                                                                  \
            samples_[i_] = x86_rdtsc() - start_;                                                   \
        }                                                                                          \
        ktest_bench_samples((label), samples_, KTEST_BENCH_SAMPLES);                               \
    } while (0)
#define KTEST_BENCH_SAMPLES 101

#define KTEST_COMPARE(a, op, b)                                                                    \
    ({                                                                                             \
        int64_t a_ = (int64_t)(a), b_ = (int64_t)(b);                                              \
        ktest_check_values(a_ op b_, a_, b_, __FILE__, __LINE__, #a " " #op " " #b);               \
    })
#define KTEST_OR_RETURN(check)                                                                     \
    do {                                                                                           \
        if (!(check)) {                                                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)

bool ktest_check(bool ok, const char *file, int line, const char *what);
bool ktest_check_values(bool ok, int64_t a, int64_t b, const char *file, int line,
                        const char *what);
bool ktest_check_string(const char *a, const char *b, const char *file, int line, const char *what);
void ktest_skip(const char *reason);

/* The time that a test may take begins anew: for one that is long on purpose. */
void ktest_goes_on(void);

/* A diagnostic line of the running test ("# ..."). */
void ktest_note(const char *fmt, ...) NK_PRINTF(1, 2);

/* Sorts the samples in place and prints the median; for benches that fill them in themselves. */
void ktest_bench_samples(const char *label, uint64_t *samples, unsigned count);
void ktest_bench_value(const char *label, uint64_t value);

/* A repeatable pseudo-random sequence (xorshift64*); *state must not be 0. */
uint64_t ktest_random(uint64_t *state);

/* Tests or benches that match; returns the number of failures, or 1 when none matches. */
unsigned ktest_run(const char *patterns);
unsigned ktest_run_benches(const char *patterns);

/* Runs what the command line selects and returns the number of failures. */
unsigned ktest_run_selected(void);
