#include "load/manifest_text.h"

#include <cJSON.h>

#define DEPTH_MAX 8

struct manifest_place manifest_place_of(const char *text, size_t offset)
{
    struct manifest_place place = {1, 1};

    for (size_t i = 0; i < offset; i++) {
        place.column++;
        if (text[i] == '\n') {
            place.line++;
            place.column = 1;
        }
    }
    return place;
}

/* From the opening quote to behind the closing one; `length` if there is none on the line. */
static size_t skip_string(const char *text, size_t length, size_t at)
{
    for (at++; at < length && text[at] != '\n'; at++) {
        if (text[at] == '\\') {
            at++;
        } else if (text[at] == '"') {
            return at + 1;
        }
    }
    return length;
}

const char *manifest_check_text(const char *text, size_t length, size_t *offset)
{
    unsigned depth = 0;

    for (size_t at = 0; at < length; at++) {
        *offset = at;
        switch (text[at]) {
        case '"':
            at = skip_string(text, length, at);
            if (at == length) {
                return "string is not closed";
            }
            at--;
            break;
        case '{':
        case '[':
            if (++depth > DEPTH_MAX) {
                return "too many levels";
            }
            break;
        case '}':
        case ']':
            depth -= depth != 0;
            break;
        case '\0':
            return "a NUL character";
        }
    }
    return NULL;
}

struct cursor {
    const char *text;
    size_t length, at;
    const cJSON *wanted;
    size_t found;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->length && (unsigned char)c->text[c->at] <= ' ') {
        c->at++;
    }
}

/* Step over a key, a number, true, false or null. */
static void skip_scalar(struct cursor *c)
{
    if (c->at < c->length && c->text[c->at] == '"') {
        c->at = skip_string(c->text, c->length, c->at);
        return;
    }
    while (c->at < c->length && c->text[c->at] != ',' && c->text[c->at] != '}' &&
           c->text[c->at] != ']' && (unsigned char)c->text[c->at] > ' ') {
        c->at++;
    }
}

/* Walk the tree and the text side by side. The text is known to be well formed and not deep.
 * Returns true when the item was found. */
static bool walk(struct cursor *c, const cJSON *node)
{
    if (!cJSON_IsObject(node) && !cJSON_IsArray(node)) {
        skip_scalar(c);
        return false;
    }
    c->at++; /* the bracket */
    for (const cJSON *child = node->child; child != NULL; child = child->next) {
        skip_space(c);
        if (child == c->wanted) {
            c->found = c->at;
            return true;
        }
        if (cJSON_IsObject(node)) {
            skip_scalar(c);
            skip_space(c);
            c->at++; /* the colon */
            skip_space(c);
        }
        if (walk(c, child)) {
            return true;
        }
        skip_space(c);
        c->at += child->next != NULL; /* the comma */
    }
    skip_space(c);
    c->at++;
    return false;
}

size_t manifest_offset_of(const char *text, size_t length, const cJSON *root, const cJSON *item)
{
    struct cursor c = {.text = text, .length = length, .wanted = item};

    if (length >= 3 && __builtin_memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        c.at = 3; /* a byte order mark, which cJSON skips too */
    }
    skip_space(&c);
    return item != root && walk(&c, root) ? c.found : c.at * (item == root);
}
