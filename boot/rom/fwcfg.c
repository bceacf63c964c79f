#include "boot/rom/rom.h"

#include "base/x86.h"

#define PORT_SELECT 0x510
#define PORT_DATA   0x511

#define ITEM_SIGNATURE 0x00
#define ITEM_FILES     0x19
#define NAME_MAX       56
#define FILES_MAX      256

static void read(void *out, uint32_t size)
{
    void *to = out;
    uint64_t count = size;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(PORT_DATA) : "memory");
}

static uint32_t read_big_endian(void)
{
    uint32_t value;
    read(&value, sizeof(value));
    return __builtin_bswap32(value);
}

bool fwcfg_present(void)
{
    char signature[4];
    x86_outw(PORT_SELECT, ITEM_SIGNATURE);
    read(signature, sizeof(signature));
    return __builtin_memcmp(signature, "QEMU", sizeof(signature)) == 0;
}

static bool same_name(const char *a, const char *b)
{
    unsigned i = 0;
    while (i < NAME_MAX - 1 && a[i] != '\0' && a[i] == b[i]) {
        i++;
    }
    return a[i] == b[i];
}

bool fwcfg_find(const char *name, struct fwcfg_file *out)
{
    if (!fwcfg_present()) {
        return false;
    }
    x86_outw(PORT_SELECT, ITEM_FILES);
    uint32_t count = read_big_endian();
    for (uint32_t i = 0; i < count && i < FILES_MAX; i++) {
        struct {
            uint32_t size;
            uint16_t select, reserved;
            char name[NAME_MAX];
        } file;
        read(&file, sizeof(file));
        if (same_name(name, file.name)) {
            out->size = __builtin_bswap32(file.size);
            out->select = __builtin_bswap16(file.select);
            return true;
        }
    }
    return false;
}

void fwcfg_read(const struct fwcfg_file *f, void *out, uint32_t size)
{
    x86_outw(PORT_SELECT, f->select);
    read(out, size);
}

uint16_t fwcfg_number(uint16_t select)
{
    uint16_t value;
    x86_outw(PORT_SELECT, select);
    read(&value, sizeof(value));
    return value;
}
