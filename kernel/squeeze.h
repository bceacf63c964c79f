/* Pages made smaller, for keeping them in memory. By 32-bit words, since what kernels and programs
 * leave in pages is mostly zeros, small numbers and pointers that share their upper bits.
 * Spec: the idea is Wilson and Kaplan's, "The Case for Compressed Caching in Virtual Memory
 * Systems", USENIX 1999.
 * Threading: pure functions. */
#pragma once

#include "base/types.h"

/* Write the squeezed form of a page. Returns its bytes; 0: more than `room`. */
size_t squeeze_page(const void *page, void *out, size_t room);
/* The page again. False: `size` bytes of in are no squeezed page. */
bool expand_page(const void *in, size_t size, void *page) NK_MUST_CHECK;
