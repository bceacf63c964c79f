/* Text formatting for the kernel: printf's integer and string conversions, without a C library
 * state, allocation or floating point, so that it works in interrupts and panics.
 *
 * Conversions: d i u x X o c s p %; flags - 0 + space #; width and precision, * included;
 * lengths hh h l ll z t j. Threading: any context. */
#pragma once

#include <stdarg.h>
#include "base/types.h"

/* At most size-1 characters and a terminator; returns the length without truncation. */
size_t nk_vsnprintf(char *out, size_t size, const char *fmt, va_list ap);
size_t nk_snprintf(char *out, size_t size, const char *fmt, ...) NK_PRINTF(3, 4);
