/* The kernel's shell. A command is one row of shell_command_table (kernel/shell_table.c). */
#pragma once

#include "base/types.h"

struct shell_command {
    const char *name;
    const char *args;    /* "[level]" */
    const char *summary; /* one line for help */
    int (*run)(int argc, char **argv); /* 0 or a negative error; prints its own message */
};

extern const struct shell_command shell_command_table[];
extern const unsigned shell_command_count;

void shell_start(void);              /* the shell's thread */
void shell_printf(const char *fmt, ...) NK_PRINTF(1, 2);
int shell_execute(char *line);       /* one command line; used by tests and the boot command line */
