#include "kernel/shell.h"
#include "kernel/shell_cmds.h"

/* In the order of help. */
const struct shell_command shell_command_table[] = {
    {"help", "[command]", "list the commands, or explain one", cmd_help,
     "Tab completes, arrows recall earlier lines.\n"
     "<command> | more shows long output by pages, <command> | match <text> some of its lines.\n"
     "Ctrl-] leaves a guest's console for the shell, and goes back to it from the shell.\n"
     "Right behind it: Ctrl-] for the guest itself, Ctrl-B a break, Ctrl-N the next console.\n",
     help_candidate},
    {"vm", "<action> [...]", "virtual machines: list, create, start, stop, ...", cmd_vm,
     "vm list                    all VMs and their state\n"
     "vm show <name>             configuration and state of one\n"
     "vm create <manifest>       a VM from a boot module, such as vms/linux.json\n"
     "vm start <name>            load the guest and run it\n"
     "vm pause <name>            hold the vCPUs, and its clocks\n"
     "vm resume <name>           let a paused one go on\n"
     "vm reset <name>            restart the guest, as its reset button would\n"
     "vm stop <name>             stop it, whatever the guest does\n"
     "vm destroy <name>          give all that a VM which does not run holds back\n"
     "vm kill <name>             stop and destroy\n"
     "vm restart <name>          kill it, make it again from its manifest, start it\n"
     "vm console <name>          bring its console to the front\n"
     "vm output <name> [KiB]     the end of what it wrote to its console, 8 KiB\n"
     "vm send-break <name>       a break on its serial line; Ctrl-] Ctrl-B in its console\n"
     "vm regs <name>             registers, code and backtrace of each vCPU, into the log\n"
     "vm trace <name>            the last exits of each vCPU, into the log\n"
     "vm dump <name>             all of that, and the hardware's block\n"
     "vm mem <name> <address> [bytes]    guest-physical memory\n"
     "vm stats <name> [all|<vcpu>]       exits by kind, of all vCPUs together, each, or one\n"
     "vm written <name> [off]            pages written since last asked; off: stop counting\n"
     "vm inject-nmi <name> [vcpu]        as its NMI button would\n"
     "vm balloon <name> [size]   memory it holds; have the guest give so much (64M, 1G) back\n"
     "vm swap <name> [size]      squeeze so much of its memory aside until it is touched\n"
     "vm add-memory <name> <address> <size>           RAM where nothing is\n"
     "vm remove-memory <name> <address>               take it away, by where it begins\n"
     "vm checkpoint <name> [<image>|block:<device>]   write all of it there; it goes on\n"
     "vm restore <name> [<image>|block:<device>]      read it back; made anew if it is gone\n"
     "vm images                  checkpoints in memory\n"
     "vm forget <image>          give the memory of one back\n",
     vm_candidate},
    {"run", "<application> [argument...]", "run a native application", cmd_run,
     "The application is a boot module, found by its name or as native/<name>.\n"
     "Its exit status is printed when all its threads have ended.\n",
     run_candidate},
    {"console", "[name]", "list the consoles, or bring one to the front", cmd_console, NULL,
     console_candidate},
    {"ps", "", "threads: state, CPU, policy, time used", cmd_ps, NULL, NULL},
    {"mem", "[tags|caches|check]", "memory of each node; who holds it; object caches", cmd_mem,
     "mem                        nodes: free blocks by size, what could be had in one piece\n"
     "mem tags                   who holds how much: the kernel's parts, every VM\n"
     "mem caches                 object caches: objects in use and made, pages\n"
     "mem check                  walk the page allocator's state; a fault in it is a panic\n",
     mem_candidate},
    {"cpu", "[features]", "CPUs: what they run, interrupts, idle time; what they can do", cmd_cpu,
     NULL, cpu_candidate},
    {"timers", "[check]", "each CPU's next timer; compare the clocks", cmd_timers,
     "timers check: sleep 100 ms by the HPET and show what the TSC makes of it.\n",
     timers_candidate},
    {"work", "[cpus <list>]", "queues of work for the service threads; where those run", cmd_work,
     "  Drivers and virtual machines leave to the service threads what may take long.\n"
     "  work cpus 2,3   they run on CPUs 2 and 3 from now on (services=2,3 at boot)\n",
     work_candidate},
    {"irq", "[<line> cpu <n>|open]", "interrupt lines: vector, CPU, counts, worst latency", cmd_irq,
     "irq                        the lines that somebody is attached to\n"
     "irq <line> cpu <n>         deliver the line to another CPU from now on\n"
     "irq <line> open            unmask a line that was masked because of a fault\n",
     NULL},
    {"pci", "[address]", "PCI functions; all about one, such as 00:1f.2", cmd_pci, NULL, NULL},
    {"block", "[read <device> <sector>]", "block devices; the bytes of a sector", cmd_block, NULL,
     NULL},
    {"net", "", "network devices: address, link, frames", cmd_net, NULL, NULL},
    {"log", "[level|previous] [text]", "show the log up to a level (default: info)", cmd_log,
     "Levels: error, warn, info, debug. With a text, only lines that have it.\n"
     "log previous: the log of the boot before this one, if a warm reset left it.\n",
     log_candidate},
    {"loglevel", "[level]", "show or set what reaches the console at once", cmd_loglevel,
     "Levels: error, warn, info, debug. The log itself keeps all of them.\n", loglevel_candidate},
    {"modules", "", "files that came with the kernel", cmd_modules, NULL, NULL},
    {"uptime", "", "time since boot", cmd_uptime, NULL, NULL},
    {"date", "[set <day> <time>|alarm <seconds>]", "wall-clock time, UTC", cmd_date,
     "date set 2026-11-20 15:04:05    set the node's clock and the CMOS clock\n"
     "date alarm <seconds>            a line in the log when the CMOS clock gets there\n",
     date_candidate},
    {"version", "", "what this kernel was built from", cmd_version, NULL, NULL},
    {"echo", "[word...]", "print the words", cmd_echo, NULL, NULL},
    {"repeat", "<count> <command> [then <command>...]", "run commands again and again", cmd_repeat,
     "It ends early when one of them fails, or at Ctrl-C.\n", NULL},
    {"sleep", "<milliseconds>", "wait; Ctrl-C ends it", cmd_sleep, NULL, NULL},
    {"clear", "", "clear the screen", cmd_clear, NULL, NULL},
    {"rom", "[retry]", "the flash image's kernels: which runs, which are good", cmd_rom,
     "STARTS counts starts since the kernel's node was last ready; after 3 it is left alone.\n"
     "rom retry: give a kernel that was left alone new tries.\n",
     rom_candidate},
    {"reboot", "", "reset the node; VMs are not asked", cmd_reboot, NULL, NULL},
    {"poweroff", "", "power the node off; VMs are not asked", cmd_poweroff, NULL, NULL},
};

const unsigned shell_command_count = NK_ARRAY_COUNT(shell_command_table);
