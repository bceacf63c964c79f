/* The loader's order. */

#include "boot/rom/rom.h"

#include "boot/pack/crc32c.h"
#include "boot/rom/acpi.h"
#include "boot/rom/cpus.h"
#include "boot/rom/pci.h"

#define CMDLINE_MAX   256
#define LOADER_HEADER 16         /* entry.asm: magic, size, checksum, entry */
#define RECORD_MAX    NK_KIB(16) /* 50 modules and 64 ranges take half of it */

static struct mb2_module module[PACK_ENTRIES_MAX];
static struct mb2_info info;
static char cmdline[CMDLINE_MAX];

/* A damaged part that is not in use today is worth a line: it is what tomorrow falls back to. */
static void check_flash(const struct rom_anchor *anchor, const uint8_t *flash, uint32_t running)
{
    const uint8_t *block = flash + anchor->size - PACK_PAGE;
    const uint32_t zero = 0;
    size_t crc_at = (size_t)((const uint8_t *)&anchor->crc - block);
    uint32_t crc = crc32c(crc32c(0, block, crc_at), &zero, 4);
    if (crc32c(crc, &anchor->crc + 1, PACK_PAGE - crc_at - 4) != anchor->crc) {
        say("boot block: its checksum is wrong; it still works");
    }
    for (unsigned i = 0; i < ROM_LOADERS; i++) {
        uint32_t at = anchor->loader[i];
        const uint32_t *loader = (const void *)(flash + at);
        if (at == running) {
            continue;
        }
        bool inside = at % 4 == 0 && at < anchor->size && anchor->size - at >= LOADER_HEADER;
        uint32_t size = inside ? loader[1] : 0;
        if (size < LOADER_HEADER || size > anchor->size - at ||
            crc32c(crc32c(crc32c(0, loader, 8), &zero, 4), loader + 3, size - 12) != loader[2]) {
            say("loader, copy %u: its checksum is wrong; the other one runs", i + 1);
        }
    }
}

/* The first good copy of the directory. Both are looked at: damage should be known early. */
static void open_directory(struct pack *out, const struct rom_anchor *anchor, const uint8_t *flash)
{
    bool found = false;
    for (unsigned i = 0; i < 2; i++) {
        struct pack p;
        const char *error = pack_open(&p, flash, anchor->size, anchor->directory[i]);
        if (error != NULL) {
            say("directory, copy %u: %s", i + 1, error);
        } else if (!found) {
            *out = p;
            found = true;
        }
    }
    if (!found) {
        say("no copy of the directory is good");
        stop();
    }
}

static void load_module(const struct pack *p, const struct pack_entry *e)
{
    uint64_t top = memory.top;
    void *at = memory_take(e->unpacked, NK_PAGE_SIZE);
    const char *error = at == NULL ? "there is no RAM for it" : pack_read(p, e, at);
    if (error != NULL) {
        say("file %s: %s; it is left out", e->name, error);
        memory.top = top;
        return;
    }
    module[info.module_count++] = (struct mb2_module){e->name, (uint32_t)(uint64_t)at, e->unpacked};
}

static void load_cmdline(const struct pack *p, const struct pack_entry *e)
{
    const char *error = e->unpacked >= CMDLINE_MAX ? "it is too long" : pack_read(p, e, cmdline);
    cmdline[error == NULL ? e->unpacked : 0] = '\0';
    if (error != NULL) {
        say("command line: %s; it is left out", error);
    }
}

static void load_parts(const struct pack *p)
{
    for (uint32_t i = 0; i < p->header->count; i++) {
        const struct pack_entry *e = &p->entry[i];
        if (e->kind == PACK_MODULE) {
            load_module(p, e);
        } else if (e->kind == PACK_CMDLINE) {
            load_cmdline(p, e);
        }
    }
}

static void *take_record(void)
{
    void *at = memory_take(RECORD_MAX, NK_PAGE_SIZE);
    if (at == NULL) {
        say("there is no RAM for the boot record");
        stop();
    }
    return at;
}

static void write_record(void *at)
{
    info.cmdline = cmdline;
    info.loader = info.slot == 0 ? "Orthocone ROM, slot A" : "Orthocone ROM, slot B";
    info.module = module;
    info.range = memory.range;
    info.range_count = memory.count;
    if (mb2_write(at, RECORD_MAX, &info) == 0) {
        say("the boot record is too long");
        stop();
    }
}

NK_NORETURN void rom_main(const struct rom_anchor *anchor, uint32_t loader)
{
    const uint8_t *flash = (const uint8_t *)(ROM_END - anchor->size);
    struct pack pack;
    say("Orthocone, %u KiB of flash", anchor->size >> 10);
    check_flash(anchor, flash, loader);
    memory_find();
    cpus_start();
    pci_start();
    info.rsdp = acpi_start(&info.rsdp_length); /* QEMU's tables tell what PCI has become */
    open_directory(&pack, anchor, flash);
    /* Record and kernel come before the files, which may take all there is. */
    void *record = take_record();
    struct rom_kernel kernel = kernel_load(&pack);
    load_parts(&pack);
    info.slot = kernel.slot;
    info.watchdog = kernel.other ? chipset_watch() : 0; /* a reset helps if another one may run */
    write_record(record);
    rom_enter(kernel.entry, (uint32_t)(uint64_t)record);
}
