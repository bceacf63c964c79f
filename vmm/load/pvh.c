/* PVH: ELF kernels with a 32-bit entry in a note; Linux's vmlinux is one.
 * Spec: Xen docs/misc/pvh.pandoc, "Direct Boot ABI"; xen/include/public/arch-x86/hvm/start_info.h.
 */
#include "load/boot.h"

#define START_MAGIC   0x336ec578
#define START_VERSION 1
#define MAP_MAX       32

struct start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, args, rsdp, map;
    uint32_t map_count, reserved;
};

struct module {
    uint64_t address, size, args, reserved;
};

struct map_entry {
    uint64_t address, size;
    uint32_t type, reserved;
};

/* As they lie in RAM at BOOT_INFO. */
struct boot_data {
    struct start_info start;
    struct module module[1 + VMM_MODULES_MAX];
    struct map_entry map[MAP_MAX];
};

static unsigned fill_map(struct vm *vm, struct map_entry *map)
{
    struct vmm_e820 e820[MAP_MAX];
    unsigned count = vmm_e820_build(vm, e820, MAP_MAX);

    for (unsigned i = 0; i < count; i++) {
        map[i] = (struct map_entry){e820[i].base, e820[i].size, e820[i].type, 0};
    }
    return count;
}

int boot_load_pvh(const struct boot *b)
{
    struct boot_data data = {.start = {.magic = START_MAGIC, .version = START_VERSION}};
    struct boot_elf elf;
    struct boot_modules modules = {0};
    gpa_t rsdp;
    int error;

    if (!boot_is_elf(&b->kernel)) {
        return boot_refuse(b, "no ELF file, so without a PVH note");
    }
    error = boot_elf_check(b, &elf);
    if (error == 0 && elf.pvh_entry == 0) {
        error = boot_refuse(b, "no PVH entry");
    }
    if (error == 0) {
        error = boot_elf_load(b);
    }
    if (error == 0) {
        error = boot_place_modules(b, elf.end, &modules);
    }
    if (error == 0) {
        error = vmm_acpi_build(b->vm, &rsdp, b->err);
    }
    if (error == 0) {
        error = boot_write_args(b, false);
    }
    if (error != 0) {
        return error;
    }
    for (unsigned i = 0; i < modules.count; i++) {
        data.module[i].address = modules.entry[i].address;
        data.module[i].size = modules.entry[i].file->size;
    }
    data.start.module_count = modules.count;
    data.start.modules = BOOT_INFO + offsetof(struct boot_data, module);
    data.start.args = BOOT_ARGS;
    data.start.rsdp = rsdp.v;
    data.start.map = BOOT_INFO + offsetof(struct boot_data, map);
    data.start.map_count = fill_map(b->vm, data.map);
    if (vmm_memory_write(b->vm, VMM_GPA(BOOT_INFO), &data, sizeof(data)) != 0) {
        return boot_refuse(b, "no memory behind the guest's RAM");
    }
    return boot_enter_protected(b, (uint32_t)elf.pvh_entry, 0, BOOT_INFO);
}
