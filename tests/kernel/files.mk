# The test image is the kernel with these in place of $(node-y).
ktest-y += ktest.c ktest_main.c
ktest-y += memory_functions_test.c mutex_test.c bootinfo_test.c coreboot_test.c
ktest-y += trap_test.c acpi_test.c irq_test.c time_test.c smp_test.c
ktest-y += irq_fault_test.c pci_test.c block_test.c net_test.c vanish.c watchdog_test.c
ktest-y += format_test.c log_test.c console_test.c keyboard_test.c shell_test.c
ktest-y += buddy_test.c slab_test.c numa_test.c fault.c fault_test.c fault_node_test.c paging_test.c
ktest-y += thread_test.c wait_test.c wait_any_test.c sync_test.c work_test.c stress_test.c timer_test.c deadline_test.c partition_test.c lock_test.c fp_test.c mm_bench.c sched_bench.c
ktest-y += newlib_test.c newlib_fp_test.c newlib_fp_math.c
ktest-y += vmm_host_test.c squeeze_test.c vm_memory_test.c
fp-y    += tests/kernel/newlib_fp_math.c
