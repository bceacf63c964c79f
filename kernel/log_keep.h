/* The log's text at a fixed place in memory, where the next boot finds it if a warm reset left the
 * memory alone. Panic reports are in it, too.
 * Threading: log_keep_text() under the log's lock or as the only CPU that runs; the rest from
 * threads. */
#pragma once

#include "base/types.h"

/* Below 1 MiB, where loaders put neither kernels nor modules, and above 0x90000: firmware that
 * follows the PMM specification clears what is below before it boots. */
#define LOG_KEEP_PA    UINT64_C(0x90000)
#define LOG_KEEP_BYTES NK_KIB(32)

/* Set aside what the previous boot left, and keep this one's text from here on. Needs kmalloc and
 * a calibrated clock. */
void log_keep_start(void);

void log_keep_text(const char *s, size_t len); /* does nothing before log_keep_start() */

/* The end of the previous boot's log, terminated; NULL: none, or it did not survive whole. */
const char *log_keep_previous(void);
