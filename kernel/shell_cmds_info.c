#include "kernel/shell_cmds.h"

#include <errno.h>
#include <string.h>

#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/format.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/time.h"
#include "kernel/version.h"
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

int cmd_version(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    shell_printf("Orthocone %s\n", nk_version);
    return 0;
}
