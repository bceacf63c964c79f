/* Lines on COM1. reset.asm has set it up. */

#include "boot/rom/rom.h"

#include <stdarg.h>

#include "base/x86.h"

#define COM1          0x3f8
#define COM1_LSR      (COM1 + 5)
#define LSR_THR_EMPTY 0x20
#define POLLS_MAX     100000 /* no line, no wait */

static void put(char c)
{
    for (unsigned i = 0; i < POLLS_MAX && (x86_inb(COM1_LSR) & LSR_THR_EMPTY) == 0; i++) {
    }
    x86_outb(COM1, (uint8_t)c);
}

static void put_text(const char *text)
{
    while (*text != '\0') {
        put(*text++);
    }
}

static void put_number(uint64_t value, unsigned base)
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

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_text("rom: ");
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        bool is_long = *++format == 'l';
        format += is_long;
        if (*format == 's') {
            put_text(va_arg(args, const char *));
        } else if (*format == 'c') {
            put((char)va_arg(args, int));
        } else if (*format == '%') {
            put('%');
        } else {
            uint64_t value = is_long ? va_arg(args, uint64_t) : va_arg(args, uint32_t);
            put_number(value, *format == 'x' ? 16 : 10);
        }
    }
    put_text("\r\n");
    va_end(args);
}

NK_NORETURN void stop(void)
{
    say("the machine stops here");
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

NK_NORETURN void rom_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t address)
{
    say("exception %lu, error code 0x%lx, at 0x%lx, CR2 0x%lx", vector, error, rip, address);
    stop();
}
