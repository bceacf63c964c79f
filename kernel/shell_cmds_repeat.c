/* Commands that go round other commands: repeat, sleep. */
#include <errno.h>
#include <string.h>

#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define LINE_MOST         256
#define INTERRUPT_LOOK_NS 100000000 /* how often Ctrl-C is looked for */

/* Words to a line again, up to the next "then"; returns how many words it took, or -E2BIG. */
static int join(char *line, int argc, char **argv)
{
    size_t at = 0;
    int i = 0;
    for (; i < argc && strcmp(argv[i], "then") != 0; i++) {
        size_t length = nk_snprintf(line + at, LINE_MOST - at, "%s\"%s\"", i ? " " : "", argv[i]);
        if (length >= LINE_MOST - at) {
            return -E2BIG;
        }
        at += length;
    }
    return i;
}

static int run_once(int argc, char **argv)
{
    while (argc > 0) {
        char line[LINE_MOST] = "";
        int words = join(line, argc, argv);
        if (words < 0) {
            return words;
        }
        int status = shell_execute_within(line);
        if (status < 0) {
            return status;
        }
        argc -= words + 1;
        argv += words + 1;
    }
    return 0;
}

/* Until a command fails, or somebody presses Ctrl-C. */
int cmd_repeat(int argc, char **argv)
{
    uint64_t count;
    if (argc < 3 || !shell_number(argv[1], UINT64_MAX, &count) || strcmp(argv[2], argv[0]) == 0) {
        return shell_usage("repeat");
    }
    for (uint64_t i = 0; i < count; i++) {
        int status = run_once(argc - 2, argv + 2);
        if (status == 0 && console_take_interrupt()) {
            status = -EINTR;
        }
        if (status < 0) {
            shell_printf("repeat: %s in round %llu of %llu\n",
                         status == -EINTR ? "stopped" : "failed", (unsigned long long)i + 1,
                         (unsigned long long)count);
            return status;
        }
    }
    return 0;
}

/* Errors: -EINTR Ctrl-C was pressed. */
int cmd_sleep(int argc, char **argv)
{
    uint64_t ms;
    if (argc != 2 || !shell_number(argv[1], UINT32_MAX, &ms)) {
        return shell_usage("sleep");
    }
    const uint64_t end = x86_rdtsc() + nk_ns_to_tsc(ms * UINT64_C(1000000));
    const uint64_t look = nk_ns_to_tsc(INTERRUPT_LOOK_NS);
    for (uint64_t now; (now = x86_rdtsc()) < end;) {
        nk_thread_sleep_until(end - now < look ? end : now + look);
        if (console_take_interrupt()) {
            return -EINTR;
        }
    }
    return 0;
}
