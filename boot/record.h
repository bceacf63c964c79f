/* Inside boot/: what the parsers of loader records share.
 * A record is data from outside: every length in it is checked before it is believed. */
#pragma once

#include "boot/bootinfo.h"

#define MULTIBOOT1_LOADER_MAGIC 0x2badb002u
#define MULTIBOOT2_LOADER_MAGIC 0x36d76289u
#define PVH_MAGIC               0x336ec578u

/* What the boot page tables map: a record that reaches beyond cannot be read. */
#define RECORD_LIMIT NK_GIB(4)

/* `size` bytes at a physical address, or NULL when they are not all below RECORD_LIMIT. */
const void *record_at(uint64_t physical, uint64_t size);

/* At most max characters of text; a longer one than the field is cut, with a line naming `what`. */
void record_copy_text(char out[BOOTINFO_TEXT_MAX], const char *text, size_t max, const char *what);

void record_add_range(struct bootinfo *info, uint64_t base, uint64_t length, uint32_t kind);
void record_add_module(struct bootinfo *info, uint64_t start, uint64_t end, const char *line,
                       size_t max);

/* Errors: -EINVAL malformed; a line in the log says what. */
int multiboot1_parse(struct bootinfo *info, uint32_t record) NK_MUST_CHECK;
int multiboot2_parse(struct bootinfo *info, uint32_t record) NK_MUST_CHECK;
int pvh_parse(struct bootinfo *info, uint32_t record) NK_MUST_CHECK;

/* Add the files in modules that are containers. */
void record_unfold(struct bootinfo *info);

/* Finds its record itself; *found says whether there is one. Errors: -EINVAL malformed. */
int coreboot_parse(struct bootinfo *info, bool *found) NK_MUST_CHECK;
