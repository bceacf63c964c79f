/* The commands behind shell_command_table; each is documented by its row there. */
#pragma once

/* kernel/shell_cmds_info.c: what the node is and does. */
int cmd_ps(int argc, char **argv);
int cmd_modules(int argc, char **argv);
int cmd_uptime(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* kernel/shell_cmds_mem.c: memory, and who holds it. */
int cmd_mem(int argc, char **argv);
const char *mem_candidate(unsigned position, unsigned i);

/* kernel/shell_cmds_cpu.c: CPUs, and the work on them. */
int cmd_cpu(int argc, char **argv);
int cmd_work(int argc, char **argv);
const char *work_candidate(unsigned position, unsigned i);
const char *cpu_candidate(unsigned position, unsigned i);

/* kernel/shell_cmds_time.c: what is due on CPUs, and the date. */
int cmd_timers(int argc, char **argv);
int cmd_date(int argc, char **argv);
const char *timers_candidate(unsigned position, unsigned i);
const char *date_candidate(unsigned position, unsigned i);

/* kernel/rom.c: the flash image's kernels. */
int cmd_rom(int argc, char **argv);
const char *rom_candidate(unsigned position, unsigned i);

/* kernel/shell_cmds_node.c: the shell itself, the log, the console, power. */
int cmd_help(int argc, char **argv);
int cmd_echo(int argc, char **argv);
int cmd_clear(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_loglevel(int argc, char **argv);
int cmd_console(int argc, char **argv);
int cmd_reboot(int argc, char **argv);
int cmd_poweroff(int argc, char **argv);
const char *help_candidate(unsigned position, unsigned i);
const char *loglevel_candidate(unsigned position, unsigned i);
const char *log_candidate(unsigned position, unsigned i);
const char *console_candidate(unsigned position, unsigned i);

/* kernel/shell_cmds_repeat.c */
int cmd_repeat(int argc, char **argv);
int cmd_sleep(int argc, char **argv);

/* kernel/native_cmd.c: applications. */
int cmd_run(int argc, char **argv);
const char *run_candidate(unsigned position, unsigned i);

/* kernel/shell_cmds_devices.c: interrupt lines and devices. */
int cmd_irq(int argc, char **argv);
int cmd_pci(int argc, char **argv);
int cmd_block(int argc, char **argv);
int cmd_net(int argc, char **argv);

/* kernel/vm_cmd.c: virtual machines. */
int cmd_vm(int argc, char **argv);
const char *vm_candidate(unsigned position, unsigned i);
