/* Which addresses are RAM: fw_cfg's E820 table, else what CMOS says; and taking some of it. */

#include "boot/rom/rom.h"

#include "base/x86.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71

/* Bytes of CMOS in which firmware keeps the size of RAM (Ralf Brown's list; QEMU hw/i386/x86.c). */
#define CMOS_ABOVE_1M_LOW  0x30 /* in KiB, 63 MiB at most */
#define CMOS_ABOVE_16M_LOW 0x34 /* in 64 KiB */
#define CMOS_ABOVE_4G_LOW  0x5b /* in 64 KiB, three bytes */
#define CMOS_UNIT          NK_KIB(64)

enum { RAM = 1, RESERVED = 2 };

struct rom_memory memory;

uint8_t cmos_read(uint8_t index)
{
    x86_outb(CMOS_INDEX, index);
    return x86_inb(CMOS_DATA);
}

void cmos_write(uint8_t index, uint8_t value)
{
    x86_outb(CMOS_INDEX, index);
    x86_outb(CMOS_DATA, value);
}

static void add(uint64_t base, uint64_t length, uint32_t kind)
{
    if (length == 0 || base + length < base) {
        return;
    }
    if (memory.count == ROM_RANGES_MAX) {
        say("memory range 0x%lx+0x%lx is one too many and was left out", base, length);
        return;
    }
    memory.range[memory.count++] = (struct mb2_range){base, length, kind};
}

/* RAM as such knows no hole for VGA memory and this ROM's copy below 1 MiB. */
static void add_ram(uint64_t base, uint64_t length)
{
    uint64_t end = base + length;
    if (end < base) {
        return;
    }
    if (base < ROM_AP_PAGE && end > ROM_AP_PAGE + NK_PAGE_SIZE) {
        uint64_t low_end = end < ROM_LOW_END ? end : ROM_LOW_END;
        add(base, ROM_AP_PAGE - base, RAM);
        add(ROM_AP_PAGE, NK_PAGE_SIZE, RESERVED);
        add(ROM_AP_PAGE + NK_PAGE_SIZE, low_end - ROM_AP_PAGE - NK_PAGE_SIZE, RAM);
    }
    if (end > ROM_HIGH) {
        uint64_t from = base > ROM_HIGH ? base : ROM_HIGH;
        add(from, end - from, RAM);
    }
}

static bool find_by_fwcfg(void)
{
    struct fwcfg_file file;
    struct {
        uint64_t base, length;
        uint32_t kind;
    } NK_PACKED entry[ROM_RANGES_MAX];
    if (!fwcfg_find("etc/e820", &file) || file.size == 0 || file.size > sizeof(entry)) {
        return false;
    }
    fwcfg_read(&file, entry, file.size);
    for (uint32_t i = 0; i < file.size / sizeof(entry[0]); i++) {
        if (entry[i].kind == RAM) {
            add_ram(entry[i].base, entry[i].length);
        } else {
            add(entry[i].base, entry[i].length, entry[i].kind);
        }
    }
    memory.source = "fw_cfg";
    return true;
}

static uint64_t cmos_number(uint8_t index, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)cmos_read((uint8_t)(index + i)) << 8 * i;
    }
    return value;
}

static void find_by_cmos(void)
{
    uint64_t high = cmos_number(CMOS_ABOVE_16M_LOW, 2) * CMOS_UNIT;
    uint64_t end =
        high != 0 ? NK_MIB(16) + high : ROM_HIGH + NK_KIB(cmos_number(CMOS_ABOVE_1M_LOW, 2));
    add_ram(0, end);
    add_ram(NK_GIB(4), cmos_number(CMOS_ABOVE_4G_LOW, 3) * CMOS_UNIT);
    memory.source = "CMOS";
}

/* The largest piece below 4 GiB is what memory_take() takes from. */
static void choose(void)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < memory.count; i++) {
        const struct mb2_range *r = &memory.range[i];
        uint64_t end = r->base + r->length < ROM_END ? r->base + r->length : ROM_END;
        if (r->kind == RAM && r->base >= ROM_HIGH && r->base < ROM_END && end - r->base > best) {
            best = end - r->base;
            memory.bottom = r->base;
            memory.top = end;
        }
    }
}

void memory_find(void)
{
    uint64_t total = 0;
    if (!find_by_fwcfg()) {
        find_by_cmos();
    }
    add(ROM_LOW_END, ROM_HIGH - ROM_LOW_END, RESERVED);
    choose();
    for (unsigned i = 0; i < memory.count; i++) {
        total += memory.range[i].kind == RAM ? memory.range[i].length : 0;
    }
    say("%lu MiB of RAM by %s", total >> 20, memory.source);
}

uint64_t memory_end_below(uint64_t limit)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < memory.count; i++) {
        const struct mb2_range *r = &memory.range[i];
        uint64_t its = r->base + r->length;
        if (r->kind != RESERVED && r->base < limit && its > end) {
            end = its < limit ? its : limit;
        }
    }
    return end;
}

void memory_reserve(uint64_t base, uint64_t length)
{
    add(base, length, RESERVED);
}

bool memory_is_ram(uint64_t base, uint64_t length)
{
    for (unsigned i = 0; i < memory.count; i++) {
        const struct mb2_range *r = &memory.range[i];
        if (r->kind == RAM && base >= r->base && length <= r->length &&
            base - r->base <= r->length - length) {
            return true;
        }
    }
    return false;
}

void *memory_take(uint64_t size, uint64_t align)
{
    if (memory.top < memory.bottom || size > memory.top - memory.bottom) {
        return NULL;
    }
    uint64_t at = nk_align_down(memory.top - size, align);
    if (at < memory.bottom) {
        return NULL;
    }
    memory.top = at;
    return (void *)at;
}

void *memory_take_as(uint64_t size, uint64_t align, uint32_t kind)
{
    uint64_t end = memory.top;
    size = nk_align_up(size, NK_PAGE_SIZE);
    align = align > NK_PAGE_SIZE ? align : NK_PAGE_SIZE;
    void *at = memory_take(size, align);
    for (unsigned i = 0; at != NULL && i < memory.count; i++) {
        struct mb2_range *r = &memory.range[i];
        if (r->kind == RAM && r->base < end && end == r->base + r->length) {
            r->length = (uint64_t)at - r->base;
            add((uint64_t)at, end - (uint64_t)at, kind);
            return at;
        }
    }
    return at;
}
