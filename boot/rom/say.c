/* Lines on COM1. reset.asm has set it up. */

#include "boot/rom/rom.h"

#include <stdarg.h>

#include "base/x86.h"
#include "boot/pack/text.h"

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

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (const char *prefix = "rom: "; *prefix != '\0'; prefix++) {
        put(*prefix);
    }
    text_print(put, format, args);
    put('\r');
    put('\n');
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
