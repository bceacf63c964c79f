/* Multiboot 2 kernels. Spec: "Multiboot2 Specification version 2.0". */
#include "load/boot.h"

#define SEARCH_BYTES 32768
#define HEADER_MAGIC 0xe85250d6
#define BOOT_MAGIC   0x36d76289

/* Header tags. */
enum { WANT_END, WANT_ADDRESS = 2, WANT_ENTRY = 3, WANT_RELOCATABLE = 10 /* the last known */ };
#define TAG_OPTIONAL 1

/* Information tags. */
enum {
    INFO_END = 0,
    INFO_ARGS = 1,
    INFO_LOADER = 2,
    INFO_MODULE = 3,
    INFO_MEMORY = 4,
    INFO_MAP = 6,
    INFO_RSDP = 15, /* ACPI 2 and later */
};

#define MAP_MAX    32
#define RSDP_BYTES 36
#define INFO_ROOM  (BOOT_STACK - 0x1000 - BOOT_INFO)

struct header {
    uint64_t length;
    uint64_t entry; /* 0: the file's own */
    bool has_address;
    struct boot_addresses at;
};

static bool find_header(const struct boot_file *f, struct header *out)
{
    for (uint64_t at = 0; at + 16 <= f->size && at + 16 <= SEARCH_BYTES; at += 8) {
        uint32_t sum = 0;

        for (unsigned i = 0; i < 16; i += 4) {
            sum += (uint32_t)boot_get(f->data, at + i, 4);
        }
        if (boot_get(f->data, at, 4) != HEADER_MAGIC || sum != 0) {
            continue;
        }
        *out = (struct header){.at.offset = at, .length = boot_get(f->data, at + 8, 4)};
        return out->length >= 16 && out->length <= f->size - at;
    }
    return false;
}

bool boot_is_multiboot2(const struct boot_file *f)
{
    struct header h;

    return find_header(f, &h);
}

/* What the header asks for. NULL: nothing that we cannot give. */
static const char *read_tags(const struct boot_file *f, struct header *h)
{
    uint64_t at = h->at.offset + 16, end = h->at.offset + h->length;

    while (at + 8 <= end) {
        uint64_t type = boot_get(f->data, at, 2), flags = boot_get(f->data, at + 2, 2);
        uint64_t size = boot_get(f->data, at + 4, 4);

        if (size < 8 || size > end - at) {
            return "multiboot2 header: a tag is longer than the header";
        }
        if (type == WANT_END) {
            return NULL;
        }
        if (type == WANT_ADDRESS && size >= 24) {
            h->has_address = true;
            h->at.header = (uint32_t)boot_get(f->data, at + 8, 4);
            h->at.load = (uint32_t)boot_get(f->data, at + 12, 4);
            h->at.load_end = (uint32_t)boot_get(f->data, at + 16, 4);
            h->at.bss_end = (uint32_t)boot_get(f->data, at + 20, 4);
        } else if (type == WANT_ENTRY && size >= 12) {
            h->entry = boot_get(f->data, at + 8, 4);
        } else if (type > WANT_RELOCATABLE && (flags & TAG_OPTIONAL) == 0) {
            return "multiboot2 header: demands something unknown";
        }
        at += (size + 7) & ~UINT64_C(7);
    }
    return NULL;
}

static int load_image(const struct boot *b, struct boot_elf *out)
{
    const char *why;
    struct header h;
    int error;

    if (!find_header(&b->kernel, &h)) {
        return boot_refuse(b, "no multiboot2 header");
    }
    why = read_tags(&b->kernel, &h);
    if (why != NULL) {
        return boot_refuse(b, why);
    }
    if (h.has_address && h.entry == 0) {
        error = boot_refuse(b, "multiboot2 header: addresses without an entry");
    } else if (h.has_address) {
        error = boot_load_addresses(b, &h.at, &out->end);
    } else if (!boot_is_elf(&b->kernel)) {
        error = boot_refuse(b, "multiboot2 kernel that is no ELF file and has no addresses");
    } else {
        error = boot_elf_check(b, out);
        error = error != 0 ? error : boot_elf_load(b);
    }
    if (h.entry != 0) {
        out->entry = h.entry;
    }
    return error;
}

/* --- the information structure ------------------------------------------------------------------
 */

struct writer {
    const struct boot *b;
    uint64_t at; /* guest-physical */
    int error;
};

static void put(struct writer *w, const void *bytes, uint64_t size)
{
    if (w->error == 0 && w->at + size > BOOT_INFO + INFO_ROOM) {
        w->error = boot_refuse(w->b, "boot_args are too long");
    }
    if (w->error == 0 && vmm_memory_write(w->b->vm, VMM_GPA(w->at), bytes, size) != 0) {
        w->error = boot_refuse(w->b, "no memory behind the guest's RAM");
    }
    w->at += size;
}

static void put_u32(struct writer *w, uint32_t value)
{
    put(w, &value, sizeof(value));
}

static void begin_tag(struct writer *w, uint32_t type, uint64_t payload)
{
    w->at = (w->at + 7) & ~UINT64_C(7);
    put_u32(w, type);
    put_u32(w, (uint32_t)(8 + payload));
}

static void put_string_tag(struct writer *w, uint32_t type, const char *text)
{
    uint64_t size = __builtin_strlen(text) + 1;

    begin_tag(w, type, size);
    put(w, text, size);
}

static void put_memory(struct writer *w)
{
    struct vmm_e820 e820[MAP_MAX];
    unsigned count = vmm_e820_build(w->b->vm, e820, MAP_MAX);

    begin_tag(w, INFO_MEMORY, 8);
    put_u32(w, (uint32_t)(e820[0].size / 1024));
    put_u32(w, (uint32_t)((boot_ram_end(w->b->vm) - BOOT_LOWEST) / 1024));
    begin_tag(w, INFO_MAP, 8 + count * 24);
    put_u32(w, 24);
    put_u32(w, 0);
    for (unsigned i = 0; i < count; i++) {
        put(w, &e820[i].base, 8);
        put(w, &e820[i].size, 8);
        put_u32(w, e820[i].type);
        put_u32(w, 0);
    }
}

static void put_rsdp(struct writer *w)
{
    uint8_t rsdp[RSDP_BYTES];
    gpa_t at;

    if (w->error == 0) {
        w->error = vmm_acpi_build(w->b->vm, &at, w->b->err);
    }
    if (w->error == 0 && vmm_memory_read(w->b->vm, at, rsdp, sizeof(rsdp)) == 0) {
        begin_tag(w, INFO_RSDP, sizeof(rsdp));
        put(w, rsdp, sizeof(rsdp));
    }
}

int boot_load_multiboot2(const struct boot *b)
{
    struct writer w = {.b = b, .at = BOOT_INFO + 8};
    struct boot_modules modules = {0};
    struct boot_elf image = {0};
    uint32_t size;

    w.error = load_image(b, &image);
    put_string_tag(&w, INFO_ARGS, b->args);
    put_string_tag(&w, INFO_LOADER, "Orthocone");
    if (w.error == 0) {
        w.error = boot_place_modules(b, image.end, &modules);
    }
    for (unsigned i = 0; i < modules.count; i++) {
        const struct boot_file *f = modules.entry[i].file;

        begin_tag(&w, INFO_MODULE, 8 + __builtin_strlen(f->name) + 1);
        put_u32(&w, (uint32_t)modules.entry[i].address);
        put_u32(&w, (uint32_t)(modules.entry[i].address + f->size));
        put(&w, f->name, __builtin_strlen(f->name) + 1);
    }
    put_memory(&w);
    put_rsdp(&w);
    if (w.error == 0) {
        w.error = boot_write_services(b);
    }
    begin_tag(&w, INFO_END, 0);
    if (w.error != 0) {
        return w.error;
    }
    size = (uint32_t)(w.at - BOOT_INFO);
    w.at = BOOT_INFO;
    put_u32(&w, size);
    put_u32(&w, 0);
    return w.error != 0 ? w.error
                        : boot_enter_protected(b, (uint32_t)image.entry, BOOT_MAGIC, BOOT_INFO);
}
