#include "kernel/shell_pipe.h"

#include <errno.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/shell.h"

#define PAGE_LINES  23 /* of 24, one is for the prompt */
#define COLUMNS     80
#define LINE_BYTES  512
#define CTRL_C      3
#define MORE_PROMPT "--more-- (space: page, Enter: line, q: quit)"
#define MORE_WIPE   "\r\x1b[K"

static struct {
    enum { PIPE_NONE, PIPE_MORE, PIPE_MATCH } kind;
    unsigned lines_left, column; /* more */
    bool quit;
    const char *text; /* match */
    char line[LINE_BYTES];
    size_t length;
} shell_pipe;

static char *find_bar(char *line)
{
    char *bar = NULL;
    bool quoted = false;
    for (char *p = line; *p; p++) {
        quoted ^= *p == '"';
        if (*p == '|' && !quoted) {
            bar = p;
        }
    }
    return bar;
}

static void strip_end(char *s)
{
    for (size_t n = strlen(s); n && (s[n - 1] == ' ' || s[n - 1] == '\t'); n--) {
        s[n - 1] = '\0';
    }
}

int shell_pipe_begin(char *line)
{
    char *bar = find_bar(line);
    if (!bar) {
        return 0;
    }
    *bar++ = '\0';
    bar += strspn(bar, " \t");
    strip_end(bar);
    if (strcmp(bar, "more") == 0) {
        shell_pipe.kind = PIPE_MORE;
        shell_pipe.lines_left = PAGE_LINES;
        shell_pipe.column = 0;
        shell_pipe.quit = false;
        return 0;
    }
    if (strncmp(bar, "match ", 6) == 0) {
        bar += 6;
        bar += strspn(bar, " \t");
        size_t length = strlen(bar);
        if (length > 1 && bar[0] == '"' && bar[length - 1] == '"') {
            bar[length - 1] = '\0';
            bar++;
        }
        shell_pipe.kind = PIPE_MATCH;
        shell_pipe.text = bar;
        shell_pipe.length = 0;
        return 0;
    }
    shell_printf("behind \"|\" comes \"more\" or \"match <text>\"\n");
    return -EINVAL;
}

static void ask(void)
{
    console_write(MORE_PROMPT, strlen(MORE_PROMPT));
    for (;;) {
        int c = console_getc();
        if (c == ' ') {
            shell_pipe.lines_left = PAGE_LINES;
        } else if (c == '\r' || c == '\n') {
            shell_pipe.lines_left = 1;
        } else if (c == 'q' || c == CTRL_C) {
            shell_pipe.quit = true;
        } else {
            continue;
        }
        console_write(MORE_WIPE, strlen(MORE_WIPE));
        return;
    }
}

/* Asks in front of the first byte that would begin another line than fits. */
static void page(const char *s, size_t len)
{
    size_t from = 0;
    for (size_t i = 0; i < len && !shell_pipe.quit; i++) {
        if (shell_pipe.lines_left == 0) {
            console_write(s + from, i - from);
            from = i;
            ask();
        }
        shell_pipe.column++;
        if (s[i] == '\n' || shell_pipe.column == COLUMNS) {
            shell_pipe.column = 0;
            shell_pipe.lines_left--;
        }
    }
    if (!shell_pipe.quit) {
        console_write(s + from, len - from);
    }
}

static void flush_match(void)
{
    shell_pipe.line[shell_pipe.length] = '\0';
    if (strstr(shell_pipe.line, shell_pipe.text)) {
        console_write(shell_pipe.line, shell_pipe.length);
        console_write("\n", 1);
    }
    shell_pipe.length = 0;
}

static void match(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\n' || shell_pipe.length == LINE_BYTES - 1) {
            flush_match();
        }
        if (s[i] != '\n') {
            shell_pipe.line[shell_pipe.length++] = s[i];
        }
    }
}

void shell_pipe_write(const char *s, size_t len)
{
    switch (shell_pipe.kind) {
    case PIPE_MORE:
        page(s, len);
        break;
    case PIPE_MATCH:
        match(s, len);
        break;
    default:
        console_write(s, len);
    }
}

void shell_pipe_end(void)
{
    if (shell_pipe.kind == PIPE_MATCH && shell_pipe.length) {
        flush_match();
    }
    shell_pipe.kind = PIPE_NONE;
}
