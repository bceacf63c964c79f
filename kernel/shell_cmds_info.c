#include "kernel/shell_cmds.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/format.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/time.h"
#include "kernel/version.h"
#include "mm/bootmem.h"
#include "mm/buddy.h"
#include "mm/slab.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "sched/timer.h"

static unsigned long long millis(uint64_t ticks)
{
    return nk_tsc_to_ns(ticks) / 1000000;
}

int cmd_ps(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    shell_printf(
        "   ID NAME                    STATE    CPU     POLICY FP    TIME ms   SWITCHES\n");
    struct nk_thread_info t;
    for (uint64_t id = 0; nk_thread_next_info(id, &t); id = t.id) {
        char policy[12] = "edf";
        if (t.priority <= NK_PRIORITY_MAX) {
            nk_snprintf(policy, sizeof(policy), "rr %u", t.priority);
        }
        shell_printf("%5llu %-23s %-8s %3u%-4s %-6s %-2s %10llu %10llu\n", (unsigned long long)t.id,
                     t.name, nk_thread_state_name(t.state), t.cpu, t.pinned ? " pin" : "", policy,
                     t.fp ? "fp" : "", millis(t.cpu_ticks), (unsigned long long)t.switches);
    }
    return 0;
}

static void print_node(unsigned node)
{
    struct buddy_stats s;
    buddy_get_stats(node, &s);
    shell_printf("node %u: %llu KiB, %llu KiB free, %llu blocks taken, %llu given back\n", node,
                 (unsigned long long)(s.total_pages * NK_PAGE_SIZE >> 10),
                 (unsigned long long)(s.free_pages * NK_PAGE_SIZE >> 10),
                 (unsigned long long)s.alloc_count, (unsigned long long)s.free_count);
    for (unsigned order = 0; order <= BUDDY_ORDER_MAX; order++) {
        if (s.free_blocks[order]) {
            shell_printf("  %7llu free blocks of %llu KiB\n",
                         (unsigned long long)s.free_blocks[order],
                         (unsigned long long)(NK_PAGE_SIZE << order >> 10));
        }
    }
}

static void print_caches(void)
{
    shell_printf("CACHE                    SIZE       USED      TOTAL   PAGES\n");
    struct slab_stats s;
    for (unsigned i = 0; slab_get_stats(i, &s); i++) {
        shell_printf("%-22s %6zu %10llu %10llu %7llu\n", s.name, s.object_size,
                     (unsigned long long)s.objects_used, (unsigned long long)s.objects_total,
                     (unsigned long long)s.pages);
    }
}

int cmd_mem(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "caches") == 0) {
        print_caches();
        return 0;
    }
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    shell_printf("RAM: %llu KiB\n", (unsigned long long)(bootmem_ram_bytes() >> 10));
    for (unsigned node = 0; node < buddy_node_count(); node++) {
        print_node(node);
    }
    return 0;
}

int cmd_modules(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    struct nk_module m;
    for (unsigned i = 0; nk_module_get(i, &m); i++) {
        shell_printf("%10llu bytes  %s%s%s\n", (unsigned long long)m.size, m.name,
                     *m.args ? " " : "", m.args);
    }
    return 0;
}

int cmd_uptime(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    uint64_t ms = nk_now_ns() / 1000000;
    shell_printf("%llu days %02llu:%02llu:%02llu.%03llu\n", (unsigned long long)(ms / 86400000),
                 (unsigned long long)(ms / 3600000 % 24), (unsigned long long)(ms / 60000 % 60),
                 (unsigned long long)(ms / 1000 % 60), (unsigned long long)(ms % 1000));
    return 0;
}

int cmd_date(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    time_t seconds = (time_t)(nk_wall_clock_ns() / 1000000000);
    struct tm t;
    gmtime_r(&seconds, &t);
    shell_printf("%04d-%02d-%02d %02d:%02d:%02d UTC\n", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                 t.tm_hour, t.tm_min, t.tm_sec);
    return 0;
}

int cmd_version(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    shell_printf("Orthocone %s\n", nk_version);
    return 0;
}
