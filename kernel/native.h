/* Native applications: C programs that came as boot modules (docs/native.md).
 * Threading: thread context. */
#pragma once

#include "base/types.h"

#define NATIVE_INTERRUPTED 130 /* status after Ctrl-C: 128 + SIGINT, as shells have it */

void native_init(void); /* faults of applications end the application, not the node */

/* Load the module, run its main() with these arguments in threads of its own, wait for its end
 * and give all it held back. *status: what it returned, or 128 + the signal's or 128 + 64 + the
 * exception's number. Errors: -ENOENT no such module; with a line printed by shell_printf():
 * -ENOEXEC not an application, -ENOMEM, -EAGAIN too many run. */
int native_run(int argc, char **argv, int *status) NK_MUST_CHECK;
