/* Commands that go round other commands: repeat, sleep. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "sched/thread.h"

#define LINE_MOST 256

static bool number(const char *text, unsigned long *out)
{
    char *end;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return *text != '\0' && *end == '\0' && errno == 0;
}

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
        int status = shell_execute(line);
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
    unsigned long count;
    if (argc < 3 || !number(argv[1], &count) || strcmp(argv[2], argv[0]) == 0) {
        return shell_usage("repeat");
    }
    for (unsigned long i = 0; i < count; i++) {
        int status = run_once(argc - 2, argv + 2);
        if (status < 0 || console_take_interrupt()) {
            shell_printf("repeat: %s in round %lu of %lu\n", status < 0 ? "failed" : "stopped",
                         i + 1, count);
            return status;
        }
    }
    return 0;
}

int cmd_sleep(int argc, char **argv)
{
    unsigned long ms;
    if (argc != 2 || !number(argv[1], &ms)) {
        return shell_usage("sleep");
    }
    nk_thread_sleep_ns(ms * UINT64_C(1000000));
    return 0;
}
