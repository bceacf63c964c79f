# Traps, interrupts, time, CPUs, power.
kernel-y += entry.asm trap.c panic.c symbols.c cpu.c memory.c acpi.c acpi_tables.c acpi_numa.c
kernel-y += lapic.c lapic_timer.c ioapic.c pic.c time.c
kernel-y += irq.c irq_dispatch.c irq_msi.c irq_thread.c watchdog.c
kernel-y += smp_entry.asm smp.c smp_call.c idle.c power.c

# Start, log, console, C library, shell.
kernel-y += main.c cpu_list.c report.c version.c rom.c
kernel-y += format.c log.c log_keep.c ring.c console.c console_streams.c console_screen.c module.c
kernel-y += newlib.c newlib_malloc.c
kernel-y += line_edit.c shell.c shell_words.c shell_pipe.c shell_table.c shell_cmds_info.c shell_cmds_cpu.c shell_cmds_node.c
kernel-y += shell_cmds_mem.c shell_cmds_time.c shell_cmds_repeat.c shell_cmds_devices.c

# gdb on the second serial port.
kernel-y += gdb.c gdb_packet.c

# Native applications.
kernel-y += native.asm native.c native_load.c native_heap.c native_input.c native_exports.c native_cmd.c

# Virtual machines.
kernel-y += vmm_host.c vms.c vm_image.c vm_cmd.c vm_cmd_inspect.c vm_cmd_image.c vm_cmd_memory.c squeeze.c

# The normal image's payload; the test image has tests/kernel/ktest_main.c in its place.
node-y += node.c

# The version is in one object only, so that a commit rebuilds no more than that.
version      := $(or $(shell git describe --always --dirty 2>/dev/null),unversioned)
version-text := \#define NK_VERSION "$(version)"
ifneq ($(version-text),$(file <$(gen)/version.h))
$(shell mkdir -p $(gen))
$(file >$(gen)/version.h,$(version-text))
endif
cflags-kernel/version.c := -include $(gen)/version.h
