/* ACPI tables: QEMU's, which come with a script for placing them; else our own (acpi_build.c).
 * Spec: QEMU's hw/acpi/bios-linker-loader.c (the script's records); ACPI 6.4 chapter 5. */

#include "boot/rom/acpi.h"

#include "boot/rom/rom.h"

#define NAME_MAX     56
#define FILES_MAX    16
#define RECORDS_MAX  256
#define FILE_MAX     NK_MIB(4)
#define ALIGN_MAX    NK_KIB(64)
#define ACPI_RECLAIM 3

enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3, WRITE_POINTER = 4 };

struct record {
    uint32_t command;
    union {
        struct {
            char file[NAME_MAX];
            uint32_t align;
            uint8_t zone;
        } NK_PACKED allocate;
        struct {
            char in[NAME_MAX], to[NAME_MAX];
            uint32_t offset;
            uint8_t size;
        } NK_PACKED pointer;
        struct {
            char file[NAME_MAX];
            uint32_t offset, start, length;
        } NK_PACKED checksum;
        uint8_t room[124];
    };
} NK_PACKED;
_Static_assert(sizeof(struct record) == 128, "record of the linker's script");

static struct file {
    char name[NAME_MAX];
    uint8_t *at;
    uint32_t size;
} files[FILES_MAX];
static unsigned file_count;

static struct file *find(const char *name)
{
    for (unsigned i = 0; i < file_count; i++) {
        if (__builtin_memcmp(files[i].name, name, NAME_MAX) == 0) {
            return &files[i];
        }
    }
    return NULL;
}

static bool allocate(const struct record *r)
{
    struct fwcfg_file source;
    uint32_t align = r->allocate.align;
    if (r->allocate.file[NAME_MAX - 1] != '\0' || file_count == FILES_MAX || align > ALIGN_MAX ||
        (align & (align - 1)) != 0 || find(r->allocate.file) != NULL ||
        !fwcfg_find(r->allocate.file, &source) || source.size == 0 || source.size > FILE_MAX) {
        return false;
    }
    struct file *f = &files[file_count];
    f->at = memory_take_as(source.size, align, ACPI_RECLAIM);
    if (f->at == NULL) {
        return false;
    }
    __builtin_memcpy(f->name, r->allocate.file, NAME_MAX);
    f->size = source.size;
    fwcfg_read(&source, f->at, source.size);
    file_count++;
    return true;
}

static bool add_pointer(const struct record *r)
{
    struct file *in = find(r->pointer.in), *to = find(r->pointer.to);
    uint32_t size = r->pointer.size, offset = r->pointer.offset;
    uint64_t value = 0;
    if (in == NULL || to == NULL || (size != 1 && size != 2 && size != 4 && size != 8) ||
        offset > in->size || size > in->size - offset) {
        return false;
    }
    __builtin_memcpy(&value, in->at + offset, size);
    value += (uint64_t)to->at;
    __builtin_memcpy(in->at + offset, &value, size);
    return true;
}

uint8_t acpi_checksum(const void *data, size_t size)
{
    const uint8_t *byte = data;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + byte[i]);
    }
    return (uint8_t)-sum;
}

static bool add_checksum(const struct record *r)
{
    struct file *f = find(r->checksum.file);
    uint32_t start = r->checksum.start, length = r->checksum.length;
    if (f == NULL || r->checksum.offset >= f->size || start > f->size || length > f->size - start) {
        return false;
    }
    f->at[r->checksum.offset] = 0;
    f->at[r->checksum.offset] = acpi_checksum(f->at + start, length);
    return true;
}

static bool carry_out(const struct record *r)
{
    switch (r->command) {
    case ALLOCATE:
        return allocate(r);
    case ADD_POINTER:
        return add_pointer(r);
    case ADD_CHECKSUM:
        return add_checksum(r);
    case WRITE_POINTER: /* tells the emulator of buffers for devices that no kernel of ours drives
                         */
        return true;
    default:
        return r->command == 0; /* the script is padded */
    }
}

static const void *link_tables(void)
{
    static struct record script[RECORDS_MAX];
    struct fwcfg_file source;
    if (!fwcfg_find("etc/table-loader", &source)) {
        return NULL;
    }
    if (source.size > sizeof(script)) {
        say("acpi: the linker's script is too long");
        return NULL;
    }
    fwcfg_read(&source, script, source.size);
    for (uint32_t i = 0; i < source.size / sizeof(script[0]); i++) {
        if (!carry_out(&script[i])) {
            say("acpi: record %u of the linker's script, command %u, cannot be carried out", i,
                script[i].command);
            return NULL;
        }
    }
    static const char rsdp_name[NAME_MAX] = "etc/acpi/rsdp";
    const struct file *rsdp = find(rsdp_name);
    return rsdp != NULL && rsdp->size >= ACPI_RSDP_1 ? rsdp->at : NULL;
}

const void *acpi_start(uint32_t *length)
{
    const uint8_t *rsdp = link_tables();
    *length = ACPI_RSDP_2;
    if (rsdp == NULL) {
        rsdp = acpi_build();
        say("acpi: tables %s", rsdp != NULL ? "of the loader's own" : "are missing: no RAM");
        return rsdp;
    }
    if (rsdp[ACPI_RSDP_REVISION] < 2) {
        *length = ACPI_RSDP_1;
    }
    say("acpi: tables by fw_cfg");
    return rsdp;
}
