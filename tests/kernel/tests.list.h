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
TEST(base_memcpy)
TEST(base_memset)
TEST(base_memmove)
TEST(base_memcmp)
TEST(base_strings)
BENCH(base_memory)

/* boot */
TEST(bootinfo_multiboot2)
TEST(bootinfo_options)
TEST(bootinfo_multiboot2_malformed)
TEST(bootinfo_ranges)
TEST(bootinfo_multiboot1)
TEST(bootinfo_multiboot1_malformed)
TEST(bootinfo_long_text)

/* mm */

/* sched */

/* traps, interrupts, time, CPUs */
TEST(trap_handlers)
TEST(trap_error_code)
TEST(trap_msr_fixup)
TEST(trap_symbols)
TEST(irq_line)
TEST(irq_shared_line)
TEST(irq_affinity)
TEST(irq_bad_lines)
TEST(timer_not_early)
TEST(time_sources_agree)
TEST(time_monotonic)
TEST(time_wall_clock)
TEST(smp_cpu_records)
TEST(smp_call)
TEST(smp_call_others)
TEST(smp_call_order)
TEST(smp_calls_cross)
TEST(smp_shootdown)
BENCH(irq_service)
BENCH(self_ipi)
BENCH(smp_call)
PANICS(message, "twelve is not 13")
PANICS(invalid_opcode, "#UD invalid opcode")
PANICS(symbolised, "kpanic_symbolised+0x")
PANICS(null_pointer, "write to 0x0000000000000008, memory that is not mapped (a null pointer)")
PANICS(write_to_text, "memory whose rights forbid it")
PANICS(execute_data, "execution of 0xffffffff")
PANICS(stack_overflow, "stack overflow of thread \"glutton\"")
PANICS(other_cpu, "CPU 0, thread \"")
PANICS(locks_held, "*** end of panic report")

/* log, console, newlib, shell, modules */
TEST(format_integers)
TEST(format_strings)
TEST(format_truncates)
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
