#include "kernel/rom.h"

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "base/x86.h"
#include "boot/pack/slots.h"
#include "drivers/rtc.h"
#include "kernel/kernel.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"

/* ICH9 13.9.5: bit 11 of TCO1_CNT halts the timer. */
#define TCO_CONTROL 8
#define TCO_HALT    (1u << 11)

static bool read_record(struct slots *out)
{
    uint8_t bytes[SLOTS_BYTES];
    rtc_cmos_read(SLOTS_CMOS, bytes, sizeof(bytes));
    return slots_decode(out, bytes);
}

static void write_record(const struct slots *slots)
{
    uint8_t bytes[SLOTS_BYTES];
    slots_encode(slots, bytes);
    rtc_cmos_write(SLOTS_CMOS, bytes, sizeof(bytes));
}

static void stop_watchdog(void)
{
    if (nk_bootinfo.rom_watchdog != 0 && nk_bootinfo.rom_watchdog < UINT16_MAX - TCO_CONTROL) {
        x86_outw((uint16_t)(nk_bootinfo.rom_watchdog + TCO_CONTROL), TCO_HALT);
    }
}

void rom_mark_good(void)
{
    struct slots slots;
    if (!nk_bootinfo.from_rom || nk_bootinfo.rom_slot >= SLOTS) {
        return;
    }
    stop_watchdog();
    if (!read_record(&slots)) {
        nk_warn("rom: the record of slots in CMOS is gone; slot %c stays unmarked",
                'A' + (int)nk_bootinfo.rom_slot);
        return;
    }
    slots_mark_good(&slots, nk_bootinfo.rom_slot);
    write_record(&slots);
    nk_debug("rom: the kernel in slot %c is marked good", 'A' + (int)nk_bootinfo.rom_slot);
}

static const char *describe(const struct slots *s, unsigned slot)
{
    if (s->tries[slot] >= SLOTS_TRIES) {
        return "left alone: it never got ready";
    }
    return s->good[slot] ? "good" : "new";
}

static void show(const struct slots *s)
{
    shell_printf("SLOT  KERNEL  STARTS  STATE\n");
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (s->print[slot] != 0) {
            shell_printf("%c%s  0x%04x  %6u  %s\n", 'A' + (int)slot,
                         slot == nk_bootinfo.rom_slot ? " now" : "    ", s->print[slot],
                         s->tries[slot], describe(s, slot));
        }
    }
}

int cmd_rom(int argc, char **argv)
{
    struct slots slots;
    bool retry = argc == 2 && strcmp(argv[1], "retry") == 0;
    if (argc > 1 && !retry) {
        return shell_usage(argv[0]);
    }
    if (!nk_bootinfo.from_rom || !read_record(&slots)) {
        shell_printf("%s\n", nk_bootinfo.from_rom ? "the record of slots in CMOS is gone"
                                                  : "this node was not started from a flash image");
        return -ENOENT;
    }
    if (retry) {
        memset(slots.tries, 0, sizeof(slots.tries));
        write_record(&slots);
    }
    show(&slots);
    return 0;
}

const char *rom_candidate(unsigned position, unsigned i)
{
    return position == 1 && i == 0 ? "retry" : NULL;
}
