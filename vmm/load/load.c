/* Finding and opening what the configuration names. */
#include "load/boot.h"

struct loaded_file {
    const char *name;
    const void *data;
    uint64_t size;
};

static int file_open(struct vm *vm, const char *name, struct loaded_file *f, struct vmm_error *err)
{
    const struct vmm_host_files *files = vm->ops->files;

    f->name = name;
    if (files == NULL) {
        return vmm_fail(vm->vmm, err, VMM_ENOTSUP, "%s: %s: this host has no files",
                        vm->config.name, name);
    }
    if (files->open(vm->host, name, &f->data, &f->size) != 0) {
        return vmm_fail(vm->vmm, err, VMM_ENOENT, "%s: %s: no such file", vm->config.name, name);
    }
    return 0;
}

static void file_close(struct vm *vm, struct loaded_file *f)
{
    if (f->data != NULL) {
        vm->ops->files->close(vm->host, f->name, f->data);
    }
}

static int load_firmware(struct vm *vm, struct vmm_error *err)
{
    struct loaded_file rom = {0};
    int error = file_open(vm, vm->config.firmware_path, &rom, err);

    if (error == 0) {
        error = vmm_load_firmware(vm, rom.data, rom.size, err);
    }
    file_close(vm, &rom);
    return error;
}

/* Without a word in the manifest what the file says it is decides, the more particular first: a
 * Linux kernel's vmlinux has a PVH note, a multiboot kernel may have all of them. */
static const struct protocol {
    enum vm_protocol protocol;
    bool modules;                          /* more than one */
    bool (*is)(const struct boot_file *f); /* NULL: no file says so */
    int (*load)(const struct boot *b);
} protocol_table[] = {
    {VM_PROTOCOL_LINUX64, false, boot_is_linux, boot_load_linux},
    {VM_PROTOCOL_LINUX32, false, NULL, boot_load_linux},
    {VM_PROTOCOL_LINUX16, false, NULL, boot_load_linux},
    {VM_PROTOCOL_MULTIBOOT2, true, boot_is_multiboot2, boot_load_multiboot2},
    {VM_PROTOCOL_MULTIBOOT, true, boot_is_multiboot, boot_load_multiboot},
    {VM_PROTOCOL_PVH, true, boot_is_pvh, boot_load_pvh},
    {VM_PROTOCOL_FLAT32, false, NULL, boot_load_flat32},
    {VM_PROTOCOL_FLAT16, false, NULL, boot_load_flat16},
};

/* An ELF file may be one of theirs that is damaged: then that is the reason. */
static int refuse_unknown(const struct boot *b)
{
    struct boot_elf elf;
    int error = boot_is_elf(&b->kernel) ? boot_elf_check(b, &elf) : 0;

    return error != 0 ? error
                      : boot_refuse(b, "not a kernel that can be booted: no bzImage, and without "
                                       "multiboot header or PVH note");
}

static int load_by_protocol(const struct boot *b)
{
    enum vm_protocol wanted = b->vm->config.protocol;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(protocol_table); i++) {
        const struct protocol *p = &protocol_table[i];

        if (wanted == VM_PROTOCOL_AUTO ? p->is != NULL && p->is(&b->kernel)
                                       : p->protocol == wanted) {
            return b->more_count != 0 && !p->modules
                       ? boot_refuse(b, "modules: its boot protocol has one, initrd_path")
                       : p->load(b);
        }
    }
    return refuse_unknown(b);
}

void vmm_module_path(const char *module, char *path)
{
    while (*module != '\0' && *module != ' ') {
        *path++ = *module++;
    }
    *path = '\0';
}

static int load_kernel(struct vm *vm, struct vmm_error *err)
{
    const struct vm_config *c = &vm->config;
    struct loaded_file kernel = {0}, initrd = {0}, module[VMM_MODULES_MAX] = {0};
    char path[VMM_MODULES_MAX][sizeof(c->module[0])];
    struct boot boot = {.vm = vm, .args = c->boot_args, .err = err};
    int error = file_open(vm, c->kernel_path, &kernel, err);

    if (error == 0 && c->initrd_path[0] != '\0') {
        error = file_open(vm, c->initrd_path, &initrd, err);
    }
    for (unsigned i = 0; i < c->module_count && error == 0; i++) {
        vmm_module_path(c->module[i], path[i]);
        error = file_open(vm, path[i], &module[i], err);
        boot.more[i] = (struct boot_file){c->module[i], module[i].data, module[i].size};
        boot.more_count++;
    }
    if (error == 0) {
        boot.kernel = (struct boot_file){c->kernel_path, kernel.data, kernel.size};
        boot.module = (struct boot_file){c->initrd_path, initrd.data, initrd.size};
        error = load_by_protocol(&boot);
    }
    for (unsigned i = 0; i < boot.more_count; i++) {
        file_close(vm, &module[i]);
    }
    file_close(vm, &initrd);
    file_close(vm, &kernel);
    return error;
}

int vmm_load(struct vm *vm, struct vmm_error *err)
{
    return vm->config.firmware_path[0] != '\0' ? load_firmware(vm, err) : load_kernel(vm, err);
}
