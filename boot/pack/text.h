/* What our loaders print: a small printf. */
#pragma once

#include <stdarg.h>

/* Give the text to `put`, character by character. printf's %s %c %u %x %lu %lx %%. */
void text_print(void (*put)(char c), const char *format, va_list args);
