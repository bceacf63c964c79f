#include "kernel/shell_cmds.h"

#include <errno.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/log.h"
#include "kernel/log_keep.h"
#include "kernel/power.h"
#include "kernel/shell.h"

#define LOG_PREVIOUS    "previous"
#define ARGUMENTS_WIDTH 26 /* of help's list */

static const char *command_name(unsigned i)
{
    return help_candidate(1, i);
}

int cmd_help(int argc, char **argv)
{
    if (argc > 2) {
        return shell_usage(argv[0]);
    }
    if (argc == 1) {
        const struct shell_command *listed;
        for (unsigned i = 0; (listed = shell_command(i)) != NULL; i++) {
            shell_printf("  %-10s%-26s", listed->name, listed->args);
            if (strlen(listed->args) >= ARGUMENTS_WIDTH) { /* the summary has a line of its own */
                shell_printf("\n%38s", "");
            }
            shell_printf("%s\n", listed->summary);
        }
        return 0;
    }
    const struct shell_command *c = shell_find(argv[1]);
    if (!c) {
        shell_unknown("command", argv[1], command_name);
        return -ENOENT;
    }
    shell_printf("%s%s%s: %s\n", c->name, *c->args ? " " : "", c->args, c->summary);
    if (c->details) {
        shell_write(c->details, strlen(c->details)); /* longer than shell_printf() takes */
    }
    return 0;
}

const char *help_candidate(unsigned position, unsigned i)
{
    const struct shell_command *c = position == 1 ? shell_command(i) : NULL;
    return c ? c->name : NULL;
}

int cmd_echo(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        shell_printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    }
    shell_printf("\n");
    return 0;
}

int cmd_clear(int argc, char **argv)
{
    (void)argv;
    (void)argc;
    shell_printf("\x1b[H\x1b[2J");
    return 0;
}

/* A level named by an argument; prints what is wrong with it. */
static int parse_level(const char *text, enum nk_log_level *level)
{
    int err = nk_log_level_parse(text, level);
    if (err < 0) {
        shell_printf("no log level \"%s\": error, warn, info or debug\n", text);
    }
    return err;
}

/* Lines of the text that contain `wanted`, in place. */
static void print_lines(const char *text, const char *wanted)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        char line[NK_LOG_TEXT_MAX + 32];
        size_t shown = length < sizeof(line) ? length : sizeof(line) - 1;
        memcpy(line, text, shown);
        line[shown] = '\0';
        if (strstr(line, wanted)) {
            shell_printf("%s\n", line);
        }
        text += length + (text[length] == '\n');
    }
}

static int show_previous_log(const char *wanted)
{
    const char *text = log_keep_previous();
    if (!text) {
        shell_printf("the previous boot left no log: a cold start, or its memory was used\n");
        return -ENOENT;
    }
    print_lines(text, wanted);
    return 0;
}

int cmd_log(int argc, char **argv)
{
    enum nk_log_level level = NK_LOG_INFO;
    if (argc > 3) {
        return shell_usage(argv[0]);
    }
    const char *wanted = argc == 3 ? argv[2] : "";
    if (argc > 1 && strcmp(argv[1], LOG_PREVIOUS) == 0) {
        return show_previous_log(wanted);
    }
    if (argc > 1) {
        int err = parse_level(argv[1], &level);
        if (err < 0) {
            return err;
        }
    }
    struct nk_log_record r;
    uint64_t cursor = 0;
    while (nk_log_read(&cursor, &r)) {
        if (r.level <= level && strstr(r.text, wanted)) {
            char line[NK_LOG_TEXT_MAX + 32];
            nk_log_format(&r, line, sizeof(line));
            shell_printf("%s\n", line);
        }
    }
    return 0;
}

int cmd_loglevel(int argc, char **argv)
{
    if (argc > 2) {
        return shell_usage(argv[0]);
    }
    if (argc == 1) {
        shell_printf("%s\n", nk_log_level_name(nk_log_get_console_level()));
        return 0;
    }
    enum nk_log_level level;
    int err = parse_level(argv[1], &level);
    if (err == 0) {
        nk_log_set_console_level(level);
    }
    return err;
}

const char *loglevel_candidate(unsigned position, unsigned i)
{
    return position == 1 && i <= NK_LOG_DEBUG ? nk_log_level_name((enum nk_log_level)i) : NULL;
}

const char *log_candidate(unsigned position, unsigned i)
{
    return position == 1 && i == NK_LOG_DEBUG + 1 ? LOG_PREVIOUS : loglevel_candidate(position, i);
}

static void list_consoles(void)
{
    const char *name;
    for (unsigned i = 0; (name = console_name(i)) != NULL; i++) {
        shell_printf("%s\n", name);
    }
    struct nk_console_stats s;
    console_get_stats(&s);
    shell_printf("line: %llu bytes received, %llu sent, %llu overruns, %llu bytes dropped\n",
                 (unsigned long long)s.received, (unsigned long long)s.sent,
                 (unsigned long long)s.overruns, (unsigned long long)s.dropped);
}

int cmd_console(int argc, char **argv)
{
    if (argc > 2) {
        return shell_usage(argv[0]);
    }
    if (argc == 1) {
        list_consoles();
        return 0;
    }
    int err = console_bring_front(argv[1]);
    if (err < 0) {
        shell_printf("no console \"%s\"; \"console\" lists all\n", argv[1]);
    }
    return err;
}

const char *console_candidate(unsigned position, unsigned i)
{
    return position == 1 ? console_name(i) : NULL;
}

int cmd_reboot(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    nk_reset();
}

int cmd_poweroff(int argc, char **argv)
{
    if (argc > 1) {
        return shell_usage(argv[0]);
    }
    nk_power_off();
}
