/* Multiboot 1 kernels, ELF or placed by the header's own address fields.
 * Spec: "Multiboot Specification version 0.6.96". */
#include "load/boot.h"

#define SEARCH_BYTES 8192
#define HEADER_MAGIC 0x1badb002
#define BOOT_MAGIC   0x2badb002

/* Header flags; unknown ones among the lower 16 are demands that we cannot meet. */
#define WANT_PAGE_ALIGN (1u << 0)
#define WANT_MEMORY     (1u << 1)
#define WANT_VIDEO      (1u << 2)
#define WANT_KNOWN      (WANT_PAGE_ALIGN | WANT_MEMORY | WANT_VIDEO)
#define HAS_ADDRESSES   (1u << 16)

/* Information flags. */
#define INFO_MEMORY  (1u << 0)
#define INFO_ARGS    (1u << 2)
#define INFO_MODULES (1u << 3)
#define INFO_MAP     (1u << 6)
#define INFO_LOADER  (1u << 9)

#define MAP_MAX 32

struct info {
    uint32_t flags, memory_lower, memory_upper, boot_device, args;
    uint32_t module_count, modules, symbols[4], map_length, map;
    uint32_t drives_length, drives, config, loader_name, apm;
    uint32_t vbe[4], framebuffer[6];
};

struct module {
    uint32_t start, end, args, reserved;
};

struct map_entry {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

/* As they lie in RAM at BOOT_INFO. */
struct boot_data {
    struct info info;
    struct module module[1 + VMM_MODULES_MAX];
    struct map_entry map[MAP_MAX];
    char loader_name[12];
    char module_text[1 + VMM_MODULES_MAX][sizeof(((struct vm_config *)NULL)->module[0])];
};

struct header {
    uint32_t flags;
    struct boot_addresses at; /* with HAS_ADDRESSES, as is the next */
    uint32_t entry;
};

static bool find_header(const struct boot_file *f, struct header *out)
{
    for (uint64_t at = 0; at + 12 <= f->size && at + 12 <= SEARCH_BYTES; at += 4) {
        uint32_t magic = (uint32_t)boot_get(f->data, at, 4);
        uint32_t flags = (uint32_t)boot_get(f->data, at + 4, 4);
        uint32_t checksum = (uint32_t)boot_get(f->data, at + 8, 4);

        if (magic != HEADER_MAGIC || magic + flags + checksum != 0) {
            continue;
        }
        *out = (struct header){.flags = flags, .at.offset = at};
        if ((flags & HAS_ADDRESSES) != 0) {
            if (at + 32 > f->size) {
                return false;
            }
            out->at.header = (uint32_t)boot_get(f->data, at + 12, 4);
            out->at.load = (uint32_t)boot_get(f->data, at + 16, 4);
            out->at.load_end = (uint32_t)boot_get(f->data, at + 20, 4);
            out->at.bss_end = (uint32_t)boot_get(f->data, at + 24, 4);
            out->entry = (uint32_t)boot_get(f->data, at + 28, 4);
        }
        return true;
    }
    return false;
}

bool boot_is_multiboot(const struct boot_file *f)
{
    struct header h;

    return find_header(f, &h);
}

static int load_image(const struct boot *b, struct boot_elf *out)
{
    struct header h;
    int error;

    if (!find_header(&b->kernel, &h)) {
        return boot_refuse(b, "no multiboot header");
    }
    if ((h.flags & 0xffff & ~WANT_KNOWN) != 0) {
        return boot_refuse(b, "multiboot header: demands something unknown");
    }
    if ((h.flags & HAS_ADDRESSES) != 0) {
        *out = (struct boot_elf){.entry = h.entry};
        return boot_load_addresses(b, &h.at, &out->end);
    }
    if (!boot_is_elf(&b->kernel)) {
        return boot_refuse(b, "multiboot kernel that is no ELF file and has no addresses");
    }
    error = boot_elf_check(b, out);
    return error != 0 ? error : boot_elf_load(b);
}

static void fill_map(struct vm *vm, struct boot_data *data)
{
    struct vmm_e820 e820[MAP_MAX];
    unsigned count = vmm_e820_build(vm, e820, MAP_MAX);

    for (unsigned i = 0; i < count; i++) {
        data->map[i] = (struct map_entry){sizeof(struct map_entry) - sizeof(uint32_t), e820[i].base,
                                          e820[i].size, e820[i].type};
        if (e820[i].base == 0) {
            data->info.memory_lower = (uint32_t)(e820[i].size / 1024);
        } else if (e820[i].base == BOOT_LOWEST) {
            data->info.memory_upper = (uint32_t)(e820[i].size / 1024);
        }
    }
    data->info.map = BOOT_INFO + offsetof(struct boot_data, map);
    data->info.map_length = count * (uint32_t)sizeof(struct map_entry);
}

static void fill_modules(const struct boot_modules *modules, struct boot_data *data)
{
    for (unsigned i = 0; i < modules->count; i++) {
        const struct boot_file *f = modules->entry[i].file;
        uint64_t text = offsetof(struct boot_data, module_text) + i * sizeof(data->module_text[0]);

        data->module[i].start = (uint32_t)modules->entry[i].address;
        data->module[i].end = (uint32_t)(modules->entry[i].address + f->size);
        data->module[i].args = (uint32_t)(BOOT_INFO + text);
        __builtin_memcpy(data->module_text[i], f->name, __builtin_strlen(f->name) + 1);
    }
    data->info.module_count = modules->count;
    data->info.modules = BOOT_INFO + offsetof(struct boot_data, module);
}

int boot_load_multiboot(const struct boot *b)
{
    struct boot_data data = {
        .info = {.flags = INFO_MEMORY | INFO_ARGS | INFO_MODULES | INFO_MAP | INFO_LOADER,
                 .args = BOOT_ARGS,
                 .loader_name = BOOT_INFO + offsetof(struct boot_data, loader_name)},
        .loader_name = "Orthocone",
    };
    struct boot_modules modules = {0};
    struct boot_elf image = {0};
    gpa_t rsdp;
    int error = load_image(b, &image);

    if (error == 0) {
        error = boot_place_modules(b, image.end, &modules);
    }
    if (error == 0) {
        error = vmm_acpi_build(b->vm, &rsdp, b->err); /* found by its signature below 1 MiB */
    }
    if (error == 0) {
        error = boot_write_args(b, true);
    }
    if (error == 0) {
        error = boot_write_services(
            b); /* boot loaders, loaded by this protocol, go back to real mode */
    }
    if (error != 0) {
        return error;
    }
    fill_map(b->vm, &data);
    fill_modules(&modules, &data);
    if (vmm_memory_write(b->vm, VMM_GPA(BOOT_INFO), &data, sizeof(data)) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return boot_enter_protected(b, (uint32_t)image.entry, BOOT_MAGIC, BOOT_INFO);
}
