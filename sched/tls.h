/* Thread-local values by key. Threading: a value belongs to the current thread. */
#pragma once

#include "base/types.h"

#define NK_TLS_KEYS_MAX 8

/* A key for the lifetime of the kernel. At the end of each thread `destroy` (NULL: nothing) is
 * called with its value, if that is not NULL, in that thread. Errors: -ENOSPC. */
int nk_tls_key_create(unsigned *out, void (*destroy)(void *value)) NK_MUST_CHECK;

void nk_tls_set(unsigned key, void *value);
void *nk_tls_get(unsigned key); /* NULL until set */
