/* Places in a manifest's text: cJSON keeps none. Inner to the manifest reader. */
#pragma once

#include <vmm/types.h>

struct cJSON;

struct manifest_place {
    unsigned line, column; /* from 1 */
};

struct manifest_place manifest_place_of(const char *text, size_t offset);

/* What must hold before the text goes to cJSON, which recurses per level and lets strings run over
 * line ends. NULL: fine; else why not, and *offset says where. */
const char *manifest_check_text(const char *text, size_t length, size_t *offset);

/* Where an item's key (in an object) or value (in an array) begins, in text that cJSON has parsed
 * into the tree `root`. The root itself: 0. */
size_t manifest_offset_of(const char *text, size_t length, const struct cJSON *root,
                          const struct cJSON *item);
