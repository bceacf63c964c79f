/* The kernel's shell. A command is one row of shell_command_table (kernel/shell_table.c).
 * Commands print by shell_printf() and shell_write(), so that "|" works.
 * Threading: commands run in the shell's thread, which owns FPU state, or in a test's. */
#pragma once

#include "base/types.h"

#define SHELL_ARGS_MAX 16 /* words of a command line, the command included */

struct shell_command {
    const char *name;
    const char *args;                  /* "[level]" */
    const char *summary;               /* one line for help */
    int (*run)(int argc, char **argv); /* 0 or a negative error; prints its own message */
    const char *details;               /* more lines for `help <command>`, or NULL */
    /* The i-th word that may stand at `position` (1: first argument), NULL past the last: for
     * completion. May be NULL. */
    const char *(*candidate)(unsigned position, unsigned i);
};

extern const struct shell_command shell_command_table[];
extern const unsigned shell_command_count;

/* Commands of the payload (kernel/node.c, or tests/kernel): the i-th, NULL past the last. */
const struct shell_command *nk_payload_command(unsigned i);

const struct shell_command *shell_command(unsigned i); /* of all; NULL past the last */

void shell_start(void);                      /* the shell's thread */
void shell_write(const char *s, size_t len); /* through the filter behind "|", if any */
void shell_printf(const char *fmt, ...) NK_PRINTF(1, 2);

/* One command line; used by tests and the boot command line. The line is cut into words in place;
 * double quotes keep spaces. Errors: -ENOENT no such command, -E2BIG too many words, -EINVAL a
 * quote is open; else what the command returns. */
int shell_execute(char *line);

/* The same for a command that another one runs: its output goes where that one's does, and "|" is a
 * word like others. */
int shell_execute_within(char *line);

const struct shell_command *shell_find(const char *name);

/* The candidate(i) nearest to the word by edit distance, swapped neighbours counting as one edit;
 * NULL when none is near enough to be meant. */
const char *shell_suggest(const char *word, const char *(*candidate)(unsigned i));

/* For a wrong word: "unknown <what> "<word>"; did you mean "<near>"?" */
void shell_unknown(const char *what, const char *word, const char *(*candidate)(unsigned i));

/* Prints "usage: <name> <args>"; returns -EINVAL. */
int shell_usage(const char *name);
/* Prints "usage: " and the line of the command's details that tells about this action of it, or as
 * above when there is none; returns -EINVAL. */
int shell_usage_of(const char *name, const char *action);

/* A number, decimal or with 0x in front. False: it is none, or larger than the limit. */
bool shell_number(const char *text, uint64_t limit, uint64_t *out);

struct line_edit;
void shell_complete(struct line_edit *e); /* Tab */
