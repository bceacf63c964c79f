#include "kernel/rom.h"

#include "base/platform.h"
#include "base/x86.h"
#include "boot/pack/slots.h"
#include "kernel/kernel.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71

static void read_record(uint8_t bytes[SLOTS_BYTES])
{
    for (unsigned i = 0; i < SLOTS_BYTES; i++) {
        x86_outb(CMOS_INDEX, (uint8_t)(SLOTS_CMOS + i));
        bytes[i] = x86_inb(CMOS_DATA);
    }
}

static void write_record(const uint8_t bytes[SLOTS_BYTES])
{
    for (unsigned i = 0; i < SLOTS_BYTES; i++) {
        x86_outb(CMOS_INDEX, (uint8_t)(SLOTS_CMOS + i));
        x86_outb(CMOS_DATA, bytes[i]);
    }
}

/* ICH9 13.9.5: bit 11 of TCO1_CNT halts the timer. */
#define TCO_CONTROL 8
#define TCO_HALT    (1u << 11)

static void stop_watchdog(void)
{
    if (nk_bootinfo.rom_watchdog != 0 && nk_bootinfo.rom_watchdog < UINT16_MAX - TCO_CONTROL) {
        x86_outw((uint16_t)(nk_bootinfo.rom_watchdog + TCO_CONTROL), TCO_HALT);
    }
}

void rom_mark_good(void)
{
    uint8_t bytes[SLOTS_BYTES];
    struct slots slots;
    if (!nk_bootinfo.from_rom || nk_bootinfo.rom_slot >= SLOTS) {
        return;
    }
    stop_watchdog();
    read_record(bytes);
    if (!slots_decode(&slots, bytes)) {
        nk_warn("rom: the record of slots in CMOS is gone; slot %c stays unmarked",
                'A' + (int)nk_bootinfo.rom_slot);
        return;
    }
    slots_mark_good(&slots, nk_bootinfo.rom_slot);
    slots_encode(&slots, bytes);
    write_record(bytes);
    nk_debug("rom: the kernel in slot %c is marked good", 'A' + (int)nk_bootinfo.rom_slot);
}
