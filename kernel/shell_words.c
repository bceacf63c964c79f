/* What the shell does with words: numbers, and completion and suggestions for half-written and
 * wrong ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/line_edit.h"
#include "kernel/shell.h"

#define WORD_MAX 31 /* longer words get no suggestion */

bool shell_number(const char *text, uint64_t limit, uint64_t *out)
{
    char *end;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    errno = 0;
    *out = strtoull(text, &end, hex ? 16 : 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && *out <= limit;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Insertions, deletions, replacements and swaps of neighbours that lead from a to b ("optimal
 * string alignment"), with three rows of the usual table. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned a_length = (unsigned)strlen(a), b_length = (unsigned)strlen(b);
    for (unsigned j = 0; j <= b_length; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= a_length; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *second = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= b_length; j++) {
            unsigned replace = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min3(above[j] + 1, row[j - 1] + 1, replace);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                second[j - 2] + 1 < row[j]) {
                row[j] = second[j - 2] + 1;
            }
        }
    }
    return rows[a_length % 3][b_length];
}

const char *shell_suggest(const char *word, const char *(*candidate)(unsigned i))
{
    const char *best = NULL, *name;
    size_t length = strlen(word);
    /* One edit in a short word, two in a longer one: more would suggest what nobody meant. */
    unsigned best_distance = length <= 4 ? 2 : 3;
    for (unsigned i = 0; length <= WORD_MAX && (name = candidate(i)) != NULL; i++) {
        if (length > 1 && strncmp(name, word, length) == 0) {
            return name; /* the word is its beginning */
        }
        unsigned distance = strlen(name) <= WORD_MAX ? edit_distance(word, name) : best_distance;
        if (distance < best_distance && distance < length) {
            best = name;
            best_distance = distance;
        }
    }
    return best;
}

struct completion {
    const struct shell_command *command; /* NULL: the word is the command itself */
    unsigned position;
    const char *word; /* what there is of it */
    size_t length;
};

static const char *candidate_at(const struct completion *c, unsigned i)
{
    if (c->position == 0) {
        const struct shell_command *command = shell_command(i);
        return command ? command->name : NULL;
    }
    return c->command && c->command->candidate ? c->command->candidate(c->position, i) : NULL;
}

/* The next candidate from *i on that begins with the word. */
static const char *next_match(const struct completion *c, unsigned *i)
{
    const char *name;
    while ((name = candidate_at(c, (*i)++)) != NULL) {
        if (strncmp(name, c->word, c->length) == 0) {
            return name;
        }
    }
    return NULL;
}

static void list_matches(struct line_edit *e, const struct completion *c)
{
    const char *name;
    unsigned i = 0;
    e->write(e->arg, "\n", 1);
    while ((name = next_match(c, &i)) != NULL) {
        e->write(e->arg, name, strlen(name));
        e->write(e->arg, "  ", 2);
    }
    e->write(e->arg, "\n", 1);
    line_edit_redraw(e);
}

/* Which word the cursor ends, and of what command. */
static struct completion find_word(const struct line_edit *e)
{
    struct completion c = {.word = e->text};
    const char *end = e->text + e->cursor;
    for (const char *p = e->text; p < end; p++) {
        if (*p != ' ') {
            continue;
        }
        if (c.position == 0 && p > c.word) {
            char name[WORD_MAX + 1] = "";
            size_t length = (size_t)(p - c.word);
            memcpy(name, c.word, length <= WORD_MAX ? length : 0);
            c.command = shell_find(name);
        }
        c.position += p > c.word;
        c.word = p + 1;
    }
    c.length = (size_t)(end - c.word);
    return c;
}

void shell_complete(struct line_edit *e)
{
    struct completion c = find_word(e);
    unsigned i = 0, count = 0;
    size_t common = 0;
    const char *first = NULL, *name;
    while ((name = next_match(&c, &i)) != NULL) {
        if (count++ == 0) {
            first = name;
            common = strlen(name);
        }
        size_t same = 0;
        while (same < common && name[same] == first[same]) {
            same++;
        }
        common = same;
    }
    if (count == 0) {
        return;
    }
    if (common > c.length) {
        line_edit_insert(e, first + c.length, common - c.length);
    } else if (count > 1) {
        list_matches(e, &c);
    }
    if (count == 1) {
        line_edit_insert(e, " ", 1);
    }
}
