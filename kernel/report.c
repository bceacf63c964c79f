#include "kernel/report.h"

#include <string.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/acpi.h"
#include "kernel/cpu.h"
#include "kernel/kernel.h"
#include "kernel/log.h"
#include "kernel/module.h"
#include "kernel/time.h"
#include "mm/bootmem.h"
#include "mm/buddy.h"
#include "sched/sched.h"

static void report_boot(void)
{
    nk_info("boot: %s by %s, %u memory ranges", nk_bootinfo.road,
            nk_bootinfo.loader[0] ? nk_bootinfo.loader : "an unnamed loader",
            nk_bootinfo.range_count);
    nk_info("boot: command line \"%s\"", nk_bootinfo.cmdline);
    nk_debug("boot: the TSC was at %llu when the kernel was entered",
             (unsigned long long)nk_log_start_tsc());
}

static void report_cpus(void)
{
    nk_info("cpu: %u of %u online, %s, TSC %llu.%03llu MHz by %s", nk_cpu_count, acpi.cpu_count,
            nk_cpu_features.brand, (unsigned long long)(nk_tsc_hz / 1000000),
            (unsigned long long)(nk_tsc_hz / 1000 % 1000), nk_time_source());
    for (unsigned cpu = nk_cpu_count; cpu < CONFIG_NR_CPUS; cpu++) {
        if (sched_isolated() >> cpu & 1) {
            nk_warn("isolate: there is no CPU %u", cpu);
        }
    }
}

static void report_memory(void)
{
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        struct buddy_stats stats;
        buddy_get_stats(node, &stats);
        nk_info("memory: node %u: %llu MiB, %llu MiB free", node,
                (unsigned long long)(stats.total_pages * NK_PAGE_SIZE >> 20),
                (unsigned long long)(stats.free_pages * NK_PAGE_SIZE >> 20));
    }
}

static void report_modules(void)
{
    struct nk_module m;
    for (unsigned i = 0; nk_module_get(i, &m); i++) {
        nk_info("module: %s, %llu KiB", m.name, (unsigned long long)((m.size + 1023) >> 10));
    }
}

void report_node(void)
{
    report_boot();
    report_cpus();
    report_memory();
    report_modules();
}
