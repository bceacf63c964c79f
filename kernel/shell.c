#include "kernel/shell.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/platform.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/line_edit.h"
#include "kernel/shell_pipe.h"
#include "sched/thread.h"

void shell_write(const char *s, size_t len)
{
    shell_pipe_write(s, len);
}

void shell_printf(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    size_t len = nk_vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    shell_write(text, len < sizeof(text) ? len : sizeof(text) - 1);
}

const struct shell_command *shell_command(unsigned i)
{
    return i < shell_command_count ? &shell_command_table[i]
                                   : nk_payload_command(i - shell_command_count);
}

const struct shell_command *shell_find(const char *name)
{
    const struct shell_command *c;
    for (unsigned i = 0; (c = shell_command(i)) != NULL && strcmp(c->name, name) != 0; i++) {
    }
    return c;
}

static const char *command_name(unsigned i)
{
    const struct shell_command *c = shell_command(i);
    return c ? c->name : NULL;
}

void shell_unknown(const char *what, const char *word, const char *(*candidate)(unsigned i))
{
    const char *near = shell_suggest(word, candidate);
    if (near) {
        shell_printf("unknown %s \"%s\"; did you mean \"%s\"?\n", what, word, near);
    } else {
        shell_printf("unknown %s \"%s\"\n", what, word);
    }
}

int shell_usage(const char *name)
{
    const struct shell_command *command = shell_find(name);
    shell_printf("usage: %s%s%s\n", name, command && *command->args ? " " : "",
                 command ? command->args : "");
    return -EINVAL;
}

int shell_usage_of(const char *name, const char *action)
{
    const struct shell_command *command = shell_find(name);
    char start[64];
    size_t length = nk_snprintf(start, sizeof(start), "%s %s", name, action);
    const char *line = command && command->details ? command->details : "";
    while (*line) {
        size_t end = strcspn(line, "\n");
        if (strncmp(line, start, length) == 0 && (line[length] == ' ' || line[length] == '\n')) {
            shell_printf("usage: %.*s\n", (int)end, line);
            return -EINVAL;
        }
        line += end + (line[end] == '\n');
    }
    return shell_usage(name);
}

/* Cut the line into words in place. Returns how many, or a negative error. */
static int split(char *line, char **argv)
{
    int argc = 0;
    char *from = line, *to = line;
    for (;;) {
        from += strspn(from, " \t");
        if (!*from) {
            return argc;
        }
        if (argc == SHELL_ARGS_MAX) {
            return -E2BIG;
        }
        argv[argc++] = to;
        bool quoted = false;
        for (; *from && (quoted || (*from != ' ' && *from != '\t')); from++) {
            if (*from == '"') {
                quoted = !quoted;
            } else {
                *to++ = *from;
            }
        }
        if (quoted) {
            return -EINVAL;
        }
        from += *from != '\0';
        *to++ = '\0';
    }
}

int shell_execute_within(char *line)
{
    char *argv[SHELL_ARGS_MAX + 1] = {NULL};
    int argc = split(line, argv);
    if (argc < 0) {
        shell_printf(argc == -E2BIG ? "more than %d words\n" : "a quote is not closed\n",
                     SHELL_ARGS_MAX);
        return argc;
    }
    if (argc == 0) {
        return 0;
    }
    const struct shell_command *command = shell_find(argv[0]);
    if (!command) {
        shell_unknown("command", argv[0], command_name);
        return -ENOENT;
    }
    argv[argc] = NULL;
    return command->run(argc, argv);
}

int shell_execute(char *line)
{
    int err = shell_pipe_begin(line);
    if (err == 0) {
        err = shell_execute_within(line);
        shell_pipe_end();
    }
    return err;
}

static void terminal_write(void *arg, const char *s, size_t len)
{
    (void)arg;
    console_edit_write(s, len);
}

static struct line_edit editor = {
    .prompt = "orthocone> ",
    .write = terminal_write,
    .complete = shell_complete,
};

static void shell_thread(void *arg)
{
    (void)arg;
    shell_printf("\nType \"help\" for the commands.\n");
    for (;;) {
        console_edit(true);
        line_edit_begin(&editor);
        while (!line_edit_feed(&editor, console_getc())) {
        }
        console_edit(false);
        shell_execute(editor.text);
    }
}

void shell_start(void)
{
    struct nk_thread *thread;
    /* The manifest's parser computes with doubles. */
    const struct nk_thread_attr attr = {.name = "shell", .cpu = NK_CPU_ANY, .fp = true};
    int err = nk_thread_start(&thread, &attr, shell_thread, NULL);
    if (err < 0) {
        nk_error("shell: cannot start its thread: error %d", err);
        return;
    }
    nk_thread_detach(thread);
}
