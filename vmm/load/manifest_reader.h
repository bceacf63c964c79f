/* What reads a manifest's values and words its mistakes. Inner to the manifest reader. */
#pragma once

#include "core/vm.h"

struct cJSON;

#define MANIFEST_PATH_MAX 64

struct manifest_reader {
    struct vmm *vmm;
    const char *file, *text;
    size_t length;
    const struct cJSON *root;
    struct vm_config *config;
    struct vmm_error *err;
};

/* A member's place for messages: "machine-config.mem_size_mib". */
struct manifest_path {
    char text[MANIFEST_PATH_MAX];
};

struct manifest_key {
    const char *name;
    bool required;
    int (*take)(struct manifest_reader *r, const struct cJSON *item,
                const struct manifest_path *path);
};

/* Members of one object. */
struct manifest_schema {
    const struct manifest_key *key;
    unsigned count;
};

/* "vms/a.json: line 3: <path>: why". All of these return 0 or an error with its line in r->err. */
int manifest_fail(struct manifest_reader *r, const struct cJSON *item,
                  const struct manifest_path *path, const char *fmt, ...) VMM_PRINTF(4, 5);
/* The same for a place in the text. */
int manifest_fail_syntax(struct manifest_reader *r, size_t offset, const char *why);
int manifest_wrong_type(struct manifest_reader *r, const struct cJSON *item,
                        const struct manifest_path *path, const char *wanted);
bool manifest_has(const struct cJSON *object, const char *name);
/* Each member by its key, in the schema's order, so that a later key can rely on an earlier one. */
int manifest_take_object(struct manifest_reader *r, const struct cJSON *object,
                         const struct manifest_path *path, const struct manifest_schema *s);
int manifest_take_number(struct manifest_reader *r, const struct cJSON *item,
                         const struct manifest_path *path, long min, long max, long *out);
int manifest_take_string(struct manifest_reader *r, const struct cJSON *item,
                         const struct manifest_path *path, char *out, size_t room);
/* One of the words: *out is its index. NULL is no word. `all` names them. */
int manifest_take_word(struct manifest_reader *r, const struct cJSON *item,
                       const struct manifest_path *path, const char *const *word, unsigned count,
                       const char *all, unsigned *out);
