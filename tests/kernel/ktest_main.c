/* The test image's payload, in place of kernel/node.c: run the tests, then end QEMU; or give them
 * to the shell. */
#include <string.h>

#include "base/platform.h"
#include "kernel/kernel.h"
#include "kernel/power.h"
#include "kernel/shell.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define EXIT_PASS 0x10 /* QEMU's status: 33 */
#define EXIT_FAIL 0x20 /* QEMU's status: 65 */

const char nk_payload_panic[] = "exit";

static int cmd_test(int argc, char **argv)
{
    return argc > 2 ? shell_usage(argv[0]) : -(int)ktest_run(argc == 2 ? argv[1] : "*");
}

static int cmd_bench(int argc, char **argv)
{
    return argc > 2 ? shell_usage(argv[0]) : -(int)ktest_run_benches(argc == 2 ? argv[1] : "*");
}

static int cmd_panic(int argc, char **argv)
{
    nk_panic("%s", argc > 1 ? argv[1] : "asked for");
}

const struct shell_command *nk_payload_command(unsigned i)
{
    static const struct shell_command command_table[] = {
        {"test", "[pattern]", "run the kernel's own tests", cmd_test,
         "A pattern is a name with * for anything, or several with commas between.\n", NULL},
        {"bench", "[pattern]", "measure the kernel's primitives, in TSC ticks", cmd_bench, NULL,
         NULL},
        {"panic", "[reason]", "stop the node as a bug would", cmd_panic, NULL, NULL},
    };
    return i < NK_ARRAY_COUNT(command_table) ? &command_table[i] : NULL;
}

void nk_node_start(void)
{
    char what[16];
    if (nk_option("ktest", what, sizeof(what)) && strcmp(what, "shell") == 0) {
        shell_start();
        for (;;) {
            nk_thread_park();
        }
    }
    nk_debug_exit(ktest_run_selected() == 0 ? EXIT_PASS : EXIT_FAIL);
}
