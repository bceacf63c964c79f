/* Text to COM1, polled. */
#include <stdarg.h>
#include "tests/guest/lib/guest.h"

#define COM1_DATA       0x3f8
#define COM1_LINE_STATE 0x3fd
#define LSR_THR_EMPTY   (1u << 5)

static void put(char c)
{
    if (c == '\n') {
        put('\r');
    }
    while (!(x86_inb(COM1_LINE_STATE) & LSR_THR_EMPTY)) {
        x86_pause();
    }
    x86_outb(COM1_DATA, (uint8_t)c);
}

static void put_string(const char *s, int width)
{
    for (; *s; s++, width--) {
        put(*s);
    }
    while (width-- > 0) {
        put(' ');
    }
}

static void put_number(uint64_t value, unsigned base, int width, char pad, bool negative)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative) {
        digits[n++] = '-';
    }
    for (int i = width; i > n; i--) {
        put(pad);
    }
    while (n > 0) {
        put(digits[--n]);
    }
}

/* One conversion; *p stands behind the '%' and is moved past the conversion. */
static void convert(const char **p, va_list *ap)
{
    char pad = ' ';
    int width = 0;
    bool wide = false;
    if (**p == '0') {
        pad = '0';
    }
    for (; **p >= '0' && **p <= '9'; ++*p) {
        width = width * 10 + (**p - '0');
    }
    for (; **p == 'l'; ++*p) {
        wide = true;
    }
    switch (*(*p)++) {
    case 'd': {
        int64_t v = wide ? va_arg(*ap, int64_t) : va_arg(*ap, int);
        put_number(v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width, pad, v < 0);
        break;
    }
    case 'u':
        put_number(wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned), 10, width, pad, false);
        break;
    case 'x':
        put_number(wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned), 16, width, pad, false);
        break;
    case 'p':
        put_number((uint64_t)va_arg(*ap, void *), 16, width, pad, false);
        break;
    case 's':
        put_string(va_arg(*ap, const char *), width);
        break;
    case 'c':
        put((char)va_arg(*ap, int));
        break;
    case '%':
        put('%');
        break;
    }
}

void guest_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    while (*fmt) {
        if (*fmt == '%') {
            fmt++;
            convert(&fmt, &ap);
        } else {
            put(*fmt++);
        }
    }
    va_end(ap);
}
