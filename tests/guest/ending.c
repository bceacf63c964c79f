/* The ways a guest ends, or does not. Command line: end=s5|exit|i8042|cf9|triple|spin|halt; code=
 * is what it exits with. */
#include "tests/guest/lib/guest.h"

static void triple_fault(void)
{
    const struct {
        uint16_t limit;
        uint64_t base;
    } NK_PACKED none = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static void end_exit(void)
{
    x86_outl(0xf4, (uint32_t)guest_option("code", 0));
}

static void end_i8042(void)
{
    x86_outb(0x64, 0xfe); /* pulse output line 0: the CPU's reset */
}

static void end_cf9(void)
{
    x86_outb(0xcf9, 0x02);
    x86_outb(0xcf9, 0x06);
}

/* Interrupts off and no exit in the loop: only the host's own interrupts reach this CPU. */
static void spin(void)
{
    for (;;) {
        __asm__ volatile("");
    }
}

static void halt(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} end_table[] = {
    {"s5", guest_power_off},  {"exit", end_exit}, {"i8042", end_i8042}, {"cf9", end_cf9},
    {"triple", triple_fault}, {"spin", spin},     {"halt", halt},
};

void guest_main(void)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(end_table); i++) {
        if (guest_option_is("end", end_table[i].name)) {
            guest_printf("ending: %s\n", end_table[i].name);
            end_table[i].run();
            guest_delay_us(1000000);
            guest_die("still here");
        }
    }
    guest_die("end= names no known way");
}
