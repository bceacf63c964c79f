/* Values of a manifest. Uses floating point: cJSON keeps numbers as doubles. */
#include <cJSON.h>

#include "load/manifest_reader.h"
#include "load/manifest_text.h"

/* --- messages ------------------------------------------------------------------------------------
 */

int manifest_fail(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path,
                  const char *fmt, ...)
{
    size_t offset = manifest_offset_of(r->text, r->length, r->root, item);
    struct manifest_place place = manifest_place_of(r->text, offset);
    char why[160];
    va_list ap;

    va_start(ap, fmt);
    r->vmm->ops->format(r->vmm->host, why, sizeof(why), fmt, ap);
    va_end(ap);
    for (char *c = why; *c != '\0'; c++) { /* what the manifest says is not to move the cursor */
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    }
    return vmm_fail(r->vmm, r->err, VMM_EINVAL, "%s: line %u: %s%s%s", r->file, place.line,
                    path->text, path->text[0] != '\0' ? ": " : "", why);
}

int manifest_fail_syntax(struct manifest_reader *r, size_t offset, const char *why)
{
    struct manifest_place place = manifest_place_of(r->text, offset);

    return vmm_fail(r->vmm, r->err, VMM_EINVAL, "%s: line %u, column %u: %s", r->file, place.line,
                    place.column, why);
}

static struct manifest_path join(struct manifest_reader *r, const struct manifest_path *outer,
                                 const char *name)
{
    struct manifest_path p;

    vmm_format(r->vmm, p.text, sizeof(p.text), "%s%s%s", outer->text,
               outer->text[0] != '\0' ? "." : "", name);
    return p;
}

static const char *type_name(const cJSON *item)
{
    if (cJSON_IsString(item)) {
        return "a string";
    }
    if (cJSON_IsNumber(item)) {
        return "a number";
    }
    if (cJSON_IsBool(item)) {
        return "true or false";
    }
    if (cJSON_IsObject(item)) {
        return "an object";
    }
    return cJSON_IsArray(item) ? "a list" : "null";
}

int manifest_wrong_type(struct manifest_reader *r, const cJSON *item,
                        const struct manifest_path *path, const char *wanted)
{
    return manifest_fail(r, item, path, "must be %s, not %s", wanted, type_name(item));
}

/* --- objects and their keys ----------------------------------------------------------------------
 */

static unsigned min_unsigned(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many letters must change, come or go (Levenshtein), of the first 31. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[32];
    unsigned width = min_unsigned((unsigned)__builtin_strlen(b), 31);

    for (unsigned i = 0; i <= width; i++) {
        row[i] = i;
    }
    for (unsigned n = 1; *a != '\0' && n < 32; a++, n++) {
        unsigned diagonal = row[0];

        row[0] = n;
        for (unsigned i = 1; i <= width; i++) {
            unsigned replaced = diagonal + (*a != b[i - 1]);

            diagonal = row[i];
            row[i] = min_unsigned(replaced, min_unsigned(row[i], row[i - 1]) + 1);
        }
    }
    return row[width];
}

static const struct manifest_key *find_key(const struct manifest_schema *s, const char *name)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (__builtin_strcmp(s->key[i].name, name) == 0) {
            return &s->key[i];
        }
    }
    return NULL;
}

static const struct manifest_key *nearest_key(const struct manifest_schema *s, const char *name)
{
    const struct manifest_key *best = &s->key[0];

    for (unsigned i = 1; i < s->count; i++) {
        if (distance(name, s->key[i].name) < distance(name, best->name)) {
            best = &s->key[i];
        }
    }
    return best;
}

static bool is_repeated(const cJSON *object, const cJSON *member)
{
    for (const cJSON *c = object->child; c != member; c = c->next) {
        if (__builtin_strcmp(c->string, member->string) == 0) {
            return true;
        }
    }
    return false;
}

bool manifest_has(const cJSON *object, const char *name)
{
    for (const cJSON *c = object->child; c != NULL; c = c->next) {
        if (__builtin_strcmp(c->string, name) == 0) {
            return true;
        }
    }
    return false;
}

int manifest_take_object(struct manifest_reader *r, const cJSON *object,
                         const struct manifest_path *path, const struct manifest_schema *s)
{
    if (!cJSON_IsObject(object)) {
        return manifest_wrong_type(r, object, path, "an object");
    }
    for (const cJSON *c = object->child; c != NULL; c = c->next) {
        if (find_key(s, c->string) == NULL) {
            return manifest_fail(r, c, path, "unknown key \"%.40s\", the nearest is \"%s\"",
                                 c->string, nearest_key(s, c->string)->name);
        }
        if (is_repeated(object, c)) {
            return manifest_fail(r, c, path, "key \"%s\" is there twice", c->string);
        }
    }
    for (unsigned i = 0; i < s->count; i++) {
        if (s->key[i].required && !manifest_has(object, s->key[i].name)) {
            return manifest_fail(r, object, path, "key \"%s\" is missing", s->key[i].name);
        }
    }
    /* In the schema's order, so that a later key can rely on an earlier one. */
    for (unsigned i = 0; i < s->count; i++) {
        const cJSON *c = object->child;

        while (c != NULL && __builtin_strcmp(c->string, s->key[i].name) != 0) {
            c = c->next;
        }
        if (c != NULL) {
            struct manifest_path inner = join(r, path, c->string);
            int error = s->key[i].take(r, c, &inner);

            if (error != 0) {
                return error;
            }
        }
    }
    return 0;
}

/* --- values --------------------------------------------------------------------------------------
 */

int manifest_take_number(struct manifest_reader *r, const cJSON *item,
                         const struct manifest_path *path, long min, long max, long *out)
{
    if (!cJSON_IsNumber(item)) {
        return manifest_wrong_type(r, item, path, "a number");
    }
    if (!(item->valuedouble >= (double)min && item->valuedouble <= (double)max) ||
        (double)(long)item->valuedouble != item->valuedouble) {
        return manifest_fail(r, item, path, "must be a whole number from %ld to %ld", min, max);
    }
    *out = (long)item->valuedouble;
    return 0;
}

int manifest_take_string(struct manifest_reader *r, const cJSON *item,
                         const struct manifest_path *path, char *out, size_t room)
{
    size_t length;

    if (!cJSON_IsString(item)) {
        return manifest_wrong_type(r, item, path, "a string");
    }
    length = __builtin_strlen(item->valuestring);
    if (length >= room) {
        return manifest_fail(r, item, path, "%zu characters, at most %zu are possible", length,
                             room - 1);
    }
    __builtin_memcpy(out, item->valuestring, length + 1);
    return 0;
}

int manifest_take_word(struct manifest_reader *r, const cJSON *item,
                       const struct manifest_path *path, const char *const *word, unsigned count,
                       const char *all, unsigned *out)
{
    if (!cJSON_IsString(item)) {
        return manifest_wrong_type(r, item, path, "a string");
    }
    for (unsigned i = 0; i < count; i++) {
        if (word[i] != NULL && __builtin_strcmp(item->valuestring, word[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    return manifest_fail(r, item, path, "must be %s", all);
}
