/* The kernel as a UEFI application: no boot loader beside it.
 *
 * The application carries a container (boot/pack/pack.h) with the kernel and a node's files in a
 * section of its own. A file orthocone.pack in the root directory of the volume it came from is
 * preferred, for all but the kernel if it has none. The parts go to memory below 4 GiB, the kernel
 * to where it is linked; then boot services end, and the kernel finds a multiboot 2 record.
 * Spec: UEFI 2.10; Microsoft PE Format. */

#include "boot/efi/efi.h"

#include <stdarg.h>

#include "boot/pack/elf.h"
#include "boot/pack/mb2.h"
#include "boot/pack/pack.h"
#include "boot/pack/text.h"

#define BELOW_4G    UINT64_C(0xffffffff)
#define CMDLINE_MAX 256
#define RECORD_MAX  NK_KIB(32)
#define RANGES_MAX  512
#define MAP_MAX     NK_KIB(128)
#define TEXT_MAX    256

#define GUID_LOADED_IMAGE                                                                          \
    {                                                                                              \
        0x5b1b31a1, 0x9562, 0x11d2,                                                                \
        {                                                                                          \
            0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b                                         \
        }                                                                                          \
    }
#define GUID_FILE_SYSTEM                                                                           \
    {                                                                                              \
        0x964e5b22, 0x6459, 0x11d2,                                                                \
        {                                                                                          \
            0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b                                         \
        }                                                                                          \
    }
#define GUID_SCREEN                                                                                \
    {                                                                                              \
        0x9042a9de, 0x23dc, 0x4a38,                                                                \
        {                                                                                          \
            0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a                                         \
        }                                                                                          \
    }
#define GUID_ACPI_2                                                                                \
    {                                                                                              \
        0x8868e871, 0xe4f1, 0x11d3,                                                                \
        {                                                                                          \
            0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81                                         \
        }                                                                                          \
    }
#define GUID_ACPI_1                                                                                \
    {                                                                                              \
        0xeb9d2d30, 0x2d88, 0x11d3,                                                                \
        {                                                                                          \
            0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d                                         \
        }                                                                                          \
    }

enum { RAM = 1, RESERVED = 2, ACPI_RECLAIM = 3, ACPI_NVS = 4, BAD = 5 }; /* E820 */

extern const uint8_t enter_start[], enter_end[]; /* enter.asm */

static struct efi_system *efi_system;
static struct efi_loaded_image *image;
static struct mb2_module module[2 * PACK_ENTRIES_MAX];
static struct mb2_range range[RANGES_MAX];
static struct mb2_info info;
static struct elf_plan plan;
static char cmdline[CMDLINE_MAX];

/* ---- text */

static uint16_t text[TEXT_MAX];
static unsigned text_length;

static void put(char c)
{
    if (text_length < TEXT_MAX - 1) {
        text[text_length++] = (uint8_t)c;
    }
}

/* A line on the firmware's console. */
static NK_PRINTF(1, 2) void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_length = 0;
    for (const char *prefix = "efi: "; *prefix != '\0'; prefix++) {
        put(*prefix);
    }
    text_print(put, format, args);
    va_end(args);
    text_length = text_length < TEXT_MAX - 3 ? text_length : TEXT_MAX - 3;
    put('\r');
    put('\n');
    text[text_length] = 0;
    (void)efi_system->output->output(efi_system->output, text);
}

/* ---- memory */

static void *take(uint64_t size)
{
    uint64_t at = BELOW_4G;
    uint64_t pages = nk_align_up(size, NK_PAGE_SIZE) >> NK_PAGE_SHIFT;
    return efi_system->boot->allocate_pages(EFI_BELOW, EFI_LOADER_DATA, pages, &at) == 0
               ? (void *)at
               : NULL;
}

static void drop(void *at, uint64_t size)
{
    uint64_t pages = nk_align_up(size, NK_PAGE_SIZE) >> NK_PAGE_SHIFT;
    (void)efi_system->boot->free_pages((uint64_t)at, pages);
}

/* A part in memory of its own, or NULL and a line. */
static void *load_part(const struct pack *p, const struct pack_entry *e)
{
    void *at = take(e->unpacked);
    const char *error = at == NULL ? "there is no memory for it" : pack_read(p, e, at);
    if (error == NULL) {
        return at;
    }
    say("%s: %s; it is left out", e->name, error);
    if (at != NULL) {
        drop(at, e->unpacked);
    }
    return NULL;
}

/* ---- containers */

/* The section ".pack" of the application itself. */
static bool open_own(struct pack *out)
{
    uint32_t header, size, at;
    uint16_t sections, optional;
    __builtin_memcpy(&header, image->base + 0x3c, 4);
    __builtin_memcpy(&sections, image->base + header + 6, 2);
    __builtin_memcpy(&optional, image->base + header + 20, 2);
    const uint8_t *section = image->base + header + 24 + optional;
    for (unsigned i = 0; i < sections; i++, section += 40) {
        if (__builtin_memcmp(section, ".pack\0\0", 8) == 0) {
            __builtin_memcpy(&size, section + 8, 4);
            __builtin_memcpy(&at, section + 12, 4);
            const char *error = pack_open(out, image->base + at, size, 0);
            if (error != NULL) {
                say("the container inside: %s", error);
            }
            return error == NULL;
        }
    }
    return false;
}

static void *read_file(struct efi_file *file, uint64_t *size)
{
    if (file->set_position(file, UINT64_MAX) != 0 || file->get_position(file, size) != 0 ||
        file->set_position(file, 0) != 0 || *size == 0 || *size > BELOW_4G) {
        return NULL;
    }
    uint64_t read = *size;
    void *at = take(*size);
    if (at != NULL && (file->read(file, &read, at) != 0 || read != *size)) {
        drop(at, *size);
        return NULL;
    }
    return at;
}

/* The file beside the application. */
static bool open_file(struct pack *out)
{
    static const struct efi_guid which = GUID_FILE_SYSTEM;
    static const uint16_t name[] = u"\\orthocone.pack";
    void *volume;
    struct efi_file *root, *file;
    uint64_t size;
    if (efi_system->boot->handle_protocol(image->device, &which, &volume) != 0 ||
        ((struct efi_file_system *)volume)->open_volume(volume, &root) != 0) {
        return false;
    }
    if (root->open(root, &file, name, 1, 0) != 0) {
        (void)root->close(root);
        return false;
    }
    void *at = read_file(file, &size);
    (void)file->close(file);
    (void)root->close(root);
    const char *error = at == NULL ? "it cannot be read" : pack_open(out, at, size, 0);
    if (error != NULL) {
        say("orthocone.pack: %s; it is left out", error);
    }
    return error == NULL;
}

/* The kernel, at its place; false with a line. */
static bool load_kernel(const struct pack *p, const struct pack_entry *e)
{
    void *file = load_part(p, e);
    const char *error = file == NULL ? "" : elf_check(file, e->unpacked, &plan);
    uint64_t at = nk_align_down(plan.base, NK_PAGE_SIZE);
    uint64_t pages = (nk_align_up(plan.end, NK_PAGE_SIZE) - at) >> NK_PAGE_SHIFT;
    if (error != NULL) {
        say("kernel %s: %s", e->name, file == NULL ? "it cannot be loaded" : error);
        return false;
    }
    if (efi_system->boot->allocate_pages(EFI_AT, EFI_LOADER_DATA, pages, &at) != 0) {
        say("kernel %s: the memory at 0x%lx to 0x%lx is not free", e->name, plan.base, plan.end);
        return false;
    }
    elf_place(file, &plan, (void *)plan.base);
    drop(file, e->unpacked);
    return true;
}

static void load_files(const struct pack *p)
{
    for (uint32_t i = 0; i < p->header->count; i++) {
        const struct pack_entry *e = &p->entry[i];
        void *at = e->kind == PACK_KERNEL ? NULL : load_part(p, e);
        if (at == NULL) {
            continue;
        }
        if (e->kind == PACK_MODULE) {
            module[info.module_count++] =
                (struct mb2_module){e->name, (uint32_t)(uint64_t)at, e->unpacked};
        } else if (cmdline[0] == '\0' && e->unpacked < CMDLINE_MAX) {
            __builtin_memcpy(cmdline, at, e->unpacked);
        }
    }
}

/* ---- what the firmware tells */

/* The application's arguments. Their first word is the application. */
static void read_options(void)
{
    const uint16_t *at = image->options, *end = at + image->options_size / 2;
    unsigned n = 0;
    while (at<end && * at> ' ' && *at <= '~') {
        at++;
    }
    while (at < end && *at == ' ') {
        at++;
    }
    while (at < end && *at >= ' ' && *at <= '~' && n < CMDLINE_MAX - 1) {
        cmdline[n++] = (char)*at++;
    }
    cmdline[at < end && *at != 0 ? 0 : n] = '\0'; /* binary options are not ours */
}

static void find_acpi(void)
{
    static const struct efi_guid which[2] = {GUID_ACPI_1, GUID_ACPI_2};
    static const uint32_t length[2] = {20, 36};
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t k = 0; k < efi_system->table_count; k++) {
            if (__builtin_memcmp(&efi_system->table[k].which, &which[i], sizeof(which[i])) == 0) {
                info.rsdp = efi_system->table[k].table;
                info.rsdp_length = length[i];
            }
        }
    }
}

/* Formats 0 and 1 have 8 bits for each colour in 32; in others we cannot draw. */
static void find_screen(void)
{
    static const struct efi_guid which = GUID_SCREEN;
    void *found;
    if (efi_system->boot->locate_protocol(&which, NULL, &found) != 0) {
        return;
    }
    const struct efi_screen *screen = found;
    const struct efi_screen_mode *mode = screen->state->mode;
    if (mode->format <= 1) {
        info.screen = (struct mb2_screen){screen->state->base, mode->pixels_per_line * 4,
                                          mode->width, mode->height};
    }
}

static uint32_t e820_kind(uint32_t kind)
{
    switch (kind) {
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_BOOT_CODE:
    case EFI_BOOT_DATA:
    case EFI_CONVENTIONAL:
        return RAM;
    case EFI_ACPI_RECLAIM:
        return ACPI_RECLAIM;
    case EFI_ACPI_NVS:
        return ACPI_NVS;
    case EFI_UNUSABLE:
        return BAD;
    default:
        return RESERVED;
    }
}

/* In order of addresses, neighbours of one kind joined. */
static void add_range(const struct efi_memory *m)
{
    struct mb2_range r = {m->base, m->pages << NK_PAGE_SHIFT, e820_kind(m->kind)};
    unsigned at = info.range_count;
    while (at > 0 && range[at - 1].base > r.base) {
        at--;
    }
    if (at > 0 && range[at - 1].kind == r.kind &&
        range[at - 1].base + range[at - 1].length == r.base) {
        range[at - 1].length += r.length;
        return;
    }
    if (info.range_count == RANGES_MAX) {
        return; /* left out: memory that the kernel will not use */
    }
    for (unsigned i = info.range_count++; i > at; i--) {
        range[i] = range[i - 1];
    }
    range[at] = r;
}

/* The memory map, and with it the end of boot services; nothing can be printed afterwards. */
static bool leave_firmware(efi_handle self, uint8_t *map)
{
    for (unsigned tries = 0; tries < 2; tries++) { /* the first may change the map */
        uint64_t size = MAP_MAX, key, entry;
        uint32_t version;
        if (efi_system->boot->get_memory_map(&size, map, &key, &entry, &version) != 0) {
            return false;
        }
        if (efi_system->boot->exit_boot_services(self, key) == 0) {
            for (uint64_t at = 0; at + sizeof(struct efi_memory) <= size; at += entry) {
                add_range((const struct efi_memory *)(map + at));
            }
            return true;
        }
    }
    return false;
}

/* ---- */

static bool load_all(void)
{
    struct pack own, file;
    bool has_own = open_own(&own), has_file = open_file(&file);
    const struct pack *p = has_file && pack_kernel(&file, 0) != NULL ? &file : &own;
    if (p == &own && (!has_own || pack_kernel(&own, 0) == NULL)) {
        say("there is no kernel, neither inside nor in orthocone.pack");
        return false;
    }
    if (!load_kernel(p, pack_kernel(p, 0))) {
        return false;
    }
    load_files(has_file ? &file : &own);
    return true;
}

efi_status EFIAPI efi_main(efi_handle self, struct efi_system *system);
efi_status EFIAPI efi_main(efi_handle self, struct efi_system *system)
{
    static const struct efi_guid which = GUID_LOADED_IMAGE;
    void *found;
    efi_system = system;
    if (system->boot->handle_protocol(self, &which, &found) != 0) {
        return 1;
    }
    image = found;
    read_options();
    uint8_t *record = take(RECORD_MAX), *map = take(MAP_MAX), *enter = take(NK_PAGE_SIZE);
    if (record == NULL || map == NULL || enter == NULL) {
        say("there is no memory below 4 GiB");
        return 1;
    }
    if (!load_all()) {
        return 1;
    }
    find_acpi();
    find_screen();
    info.cmdline = cmdline;
    info.loader = "UEFI";
    info.module = module;
    info.range = range;
    info.slot = MB2_NO_SLOT;
    if (!leave_firmware(self, map)) {
        say("the firmware does not let go");
        return 1;
    }
    (void)mb2_write(record, RECORD_MAX, &info);
    __builtin_memcpy(enter, enter_start, (size_t)(enter_end - enter_start));
    ((void (*)(uint32_t, uint32_t))enter)(plan.entry, (uint32_t)(uint64_t)record);
    return 1;
}
