/* The shell's command that runs native applications. */
#include <errno.h>
#include <string.h>

#include "kernel/module.h"
#include "kernel/native.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"

#define FOLDER "native/"

static const char *application_name(unsigned i)
{
    return run_candidate(1, i);
}

int cmd_run(int argc, char **argv)
{
    if (argc < 2) {
        return shell_usage(argv[0]);
    }
    int status;
    int err = native_run(argc - 1, argv + 1, &status);
    if (err == 0) {
        shell_printf("%s: ended with %d\n", argv[1], status);
        err = status == NATIVE_INTERRUPTED ? -EINTR : 0; /* `repeat` shall end, too */
    } else if (err == -ENOENT) {
        shell_unknown("application", argv[1], application_name);
    }
    return err;
}

const char *run_candidate(unsigned position, unsigned i)
{
    struct nk_module m;
    for (unsigned n = 0; position == 1 && nk_module_get(n, &m); n++) {
        const char *folder = strstr(m.name, FOLDER);
        if (folder && i-- == 0) {
            return folder + strlen(FOLDER);
        }
    }
    return NULL;
}
