/* The kernel's log: a ring of records kept for later reading, and by level the console.
 * nk_log() itself is declared in base/platform.h.
 *
 * Threading: any context. A record logged while this CPU already holds the ring (an NMI or a fault
 * inside nk_log) goes to the console only. */
#pragma once

#include "base/platform.h"

#define NK_LOG_TEXT_MAX 240 /* bytes of one record, terminator included; longer ones are cut */

struct nk_log_record {
    uint64_t tsc;
    enum nk_log_level level;
    unsigned cpu;
    char text[NK_LOG_TEXT_MAX];
};

/* The oldest record at or after *cursor, which then points behind it; start with 0.
 * False: no newer record. */
bool nk_log_read(uint64_t *cursor, struct nk_log_record *out);

/* "[    1.234567] text" without a newline; returns the length. */
size_t nk_log_format(const struct nk_log_record *r, char *out, size_t size);

/* Give the text of all records but debug ones, line by line, to `put`. */
void nk_log_replay(void (*put)(const char *s, size_t len));

/* Records up to this level go to the console too; all go to the ring. */
void nk_log_set_console_level(enum nk_log_level level);
enum nk_log_level nk_log_get_console_level(void);

const char *nk_log_level_name(enum nk_log_level level);
/* A name or a digit. Errors: -EINVAL. */
int nk_log_level_parse(const char *s, enum nk_log_level *out) NK_MUST_CHECK;

/* The zero of the timestamps; the boot CPU's first act. */
void nk_log_start(void);
uint64_t nk_log_start_tsc(void);
