#include "kernel/format.h"

#include <string.h>

struct output {
    char *at;
    size_t size, length; /* length counts what did not fit too */
};

struct conversion {
    bool left, zero, plus, space, alternate;
    int width, precision; /* precision -1: not given */
};

static void put(struct output *o, char c)
{
    if (o->length + 1 < o->size) {
        o->at[o->length] = c;
    }
    o->length++;
}

static void put_repeated(struct output *o, char c, int count)
{
    while (count-- > 0) {
        put(o, c);
    }
}

static void put_text(struct output *o, const struct conversion *c, const char *s, size_t len)
{
    int pad = c->width - (int)len;
    put_repeated(o, ' ', c->left ? 0 : pad);
    for (size_t i = 0; i < len; i++) {
        put(o, s[i]);
    }
    put_repeated(o, ' ', c->left ? pad : 0);
}

/* sign: the character in front, or 0. prefix: "0x", "0" or "". */
static void put_number(struct output *o, const struct conversion *c, uint64_t value, unsigned base,
                       bool upper, char sign, const char *prefix)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[24];
    int count = 0;
    for (; value; value /= base) {
        text[count++] = digits[value % base];
    }
    int zeros = (c->precision < 0 ? 1 : c->precision) - count;
    zeros = zeros < 0 ? 0 : zeros;
    int used = count + zeros + (sign != 0) + (int)strlen(prefix);
    int pad = c->width - used;
    if (c->zero && !c->left && c->precision < 0 && pad > 0) {
        zeros += pad;
        pad = 0;
    }
    put_repeated(o, ' ', c->left ? 0 : pad);
    if (sign) {
        put(o, sign);
    }
    for (; *prefix; prefix++) {
        put(o, *prefix);
    }
    put_repeated(o, '0', zeros);
    while (count > 0) {
        put(o, text[--count]);
    }
    put_repeated(o, ' ', c->left ? pad : 0);
}

static const char *parse_flags(const char *p, struct conversion *c)
{
    for (;; p++) {
        switch (*p) {
        case '-':
            c->left = true;
            break;
        case '0':
            c->zero = true;
            break;
        case '+':
            c->plus = true;
            break;
        case ' ':
            c->space = true;
            break;
        case '#':
            c->alternate = true;
            break;
        default:
            return p;
        }
    }
}

static const char *parse_int(const char *p, int *out)
{
    for (*out = 0; *p >= '0' && *p <= '9'; p++) {
        *out = *out * 10 + (*p - '0');
    }
    return p;
}

/* Bytes of the integer that the length modifier announces. */
static const char *parse_length(const char *p, unsigned *bytes)
{
    *bytes = sizeof(int);
    if (*p == 'h') {
        *bytes = p[1] == 'h' ? sizeof(char) : sizeof(short);
        return p + (p[1] == 'h' ? 2 : 1);
    }
    if (*p == 'l') {
        *bytes = sizeof(long);
        return p + (p[1] == 'l' ? 2 : 1);
    }
    if (*p == 'z' || *p == 't' || *p == 'j') {
        *bytes = sizeof(long);
        p++;
    }
    return p;
}

static uint64_t truncate_to(uint64_t v, unsigned bytes, bool is_signed)
{
    unsigned shift = 64 - 8 * bytes;
    return is_signed ? (uint64_t)((int64_t)(v << shift) >> shift) : v << shift >> shift;
}

static void put_signed(struct output *o, const struct conversion *c, int64_t v)
{
    char sign = v < 0 ? '-' : c->plus ? '+' : c->space ? ' ' : 0;
    put_number(o, c, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, false, sign, "");
}

static void put_unsigned(struct output *o, const struct conversion *c, char kind, uint64_t v)
{
    const char *prefix = "";
    if (c->alternate && v) {
        prefix = kind == 'x' ? "0x" : kind == 'X' ? "0X" : kind == 'o' ? "0" : "";
    }
    put_number(o, c, v, kind == 'u' ? 10 : kind == 'o' ? 8 : 16, kind == 'X', 0, prefix);
}

static void put_string(struct output *o, const struct conversion *c, const char *s)
{
    s = s ? s : "(null)";
    put_text(o, c, s, c->precision < 0 ? strlen(s) : strnlen(s, (size_t)c->precision));
}

size_t nk_vsnprintf(char *out, size_t size, const char *fmt, va_list ap)
{
    struct output o = {out, size, 0};
    for (const char *p = fmt; *p; p++) {
        if (*p != '%') {
            put(&o, *p);
            continue;
        }
        struct conversion c = {.precision = -1};
        p = parse_flags(p + 1, &c);
        if (*p == '*') {
            c.width = va_arg(ap, int);
            c.left |= c.width < 0;
            c.width = c.width < 0 ? -c.width : c.width;
            p++;
        } else {
            p = parse_int(p, &c.width);
        }
        if (*p == '.' && p[1] == '*') {
            c.precision = va_arg(ap, int);
            p += 2;
        } else if (*p == '.') {
            p = parse_int(p + 1, &c.precision);
        }
        unsigned bytes;
        p = parse_length(p, &bytes);
        if (*p == 's') {
            put_string(&o, &c, va_arg(ap, const char *));
        } else if (*p == 'c') {
            char text = (char)va_arg(ap, int);
            put_text(&o, &c, &text, 1);
        } else if (*p == 'p') {
            c.alternate = true;
            put_unsigned(&o, &c, 'x', va_arg(ap, uint64_t));
        } else if (*p == '%') {
            put(&o, '%');
        } else if (!*p) {
            break;
        } else {
            bool is_signed = *p == 'd' || *p == 'i';
            uint64_t v =
                bytes == sizeof(long) ? va_arg(ap, uint64_t) : (uint64_t)(int64_t)va_arg(ap, int);
            v = truncate_to(v, bytes, is_signed);
            if (is_signed) {
                put_signed(&o, &c, (int64_t)v);
            } else {
                put_unsigned(&o, &c, *p, v);
            }
        }
    }
    if (size) {
        out[o.length < size ? o.length : size - 1] = '\0';
    }
    return o.length;
}

size_t nk_snprintf(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t length = nk_vsnprintf(out, size, fmt, ap);
    va_end(ap);
    return length;
}
