/* What stands behind "|" in a command line: more, or match <text>.
 * Threading: the shell's thread, or a test's. */
#pragma once

#include "base/types.h"

/* Cuts the filter off the line (at the last "|" outside quotes) and lets it take what commands
 * print, until shell_pipe_end(). Errors, with a line printed: -EINVAL. */
int shell_pipe_begin(char *line) NK_MUST_CHECK;
void shell_pipe_end(void);

void shell_pipe_write(const char *s, size_t len); /* to the filter, or the console without one */
