/* Every test, bench and panic of the test image, in the order of running; one row each, grouped by
 * area. The includer defines the row kinds it wants:
 *   TEST(name)         KTEST(name) in some tests/kernel file of that area
 *   BENCH(name)        KBENCH(name)
 *   PANICS(name, text) KPANIC(name): must end in a panic whose report contains `text`;
 *                      the runner (tests/lib/kernel.py) boots a machine for each */
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
TEST(ring_put_and_get)
TEST(ring_oldest_gives_way)
TEST(log_keeps_records)
TEST(log_cuts_long_lines)
TEST(log_ring_wraps)
TEST(log_from_interrupts)
TEST(log_levels)
TEST(console_streams)
TEST(console_input_goes_to_the_front)
TEST(console_paste)
TEST(console_escape)
TEST(console_background_output)
TEST(shell_words)
TEST(shell_commands_run)
TEST(shell_suggestions)
TEST(line_edit_keys)
TEST(line_edit_lines)
TEST(line_edit_history)
TEST(line_edit_completion)
TEST(module_names)
TEST(newlib_malloc)
TEST(newlib_state_per_thread)
TEST(newlib_integers)
TEST(newlib_time)
TEST(newlib_fp_print)
TEST(newlib_fp_threads)

/* vmm */
TEST(vmm_host_table)
TEST(vmm_host_memory)
TEST(vmm_host_threads_and_locks)
TEST(vmm_host_timers)
TEST(vmm_host_cpus)
TEST(vmm_host_files_and_streams)

#undef TEST
#undef BENCH
#undef PANICS
