#include "boot/pack/text.h"

#include <stdbool.h>
#include <stdint.h>

static void put_text(void (*put)(char c), const char *text)
{
    while (*text != '\0') {
        put(*text++);
    }
}

static void put_number(void (*put)(char c), uint64_t value, unsigned base)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    while (count > 0) {
        put(digits[--count]);
    }
}

void text_print(void (*put)(char c), const char *format, va_list args)
{
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        bool is_long = *++format == 'l';
        format += is_long;
        if (*format == 's') {
            put_text(put, va_arg(args, const char *));
        } else if (*format == 'c') {
            put((char)va_arg(args, int));
        } else if (*format == '%') {
            put('%');
        } else {
            uint64_t value = is_long ? va_arg(args, uint64_t) : va_arg(args, uint32_t);
            put_number(put, value, *format == 'x' ? 16 : 10);
        }
    }
}
