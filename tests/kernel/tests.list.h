/* Every test, bench and panic of the test image, in the order of running; one row each, grouped by
 * area. The includer defines the row kinds it wants:
 *   TEST(name)         KTEST(name) in some tests/kernel file of that area
 *   BENCH(name)        KBENCH(name)
 *   PANICS(name, text) KPANIC(name): must end in a panic whose report matches the regular
 *                      expression `text`; run alone by tests/kernel/runner.py */
/* clang-format off */
#ifndef TEST
#define TEST(name)
#endif
#ifndef BENCH
#define BENCH(name)
#endif
#ifndef PANICS
#define PANICS(name, text)
#endif

/* base */

/* mm */

/* sched */

/* traps, interrupts, time, CPUs */

/* log, console, newlib, shell, modules */
TEST(format_integers)
TEST(format_strings)
TEST(format_truncates)
TEST(format_parse)

/* vmm */

#undef TEST
#undef BENCH
#undef PANICS
