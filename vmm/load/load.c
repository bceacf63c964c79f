/* Finding and opening what the configuration names. */
#include "load/load.h"

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

static int load_kernel(struct vm *vm, struct vmm_error *err)
{
    const struct vm_config *c = &vm->config;
    struct loaded_file kernel = {0}, initrd = {0};
    int error = file_open(vm, c->kernel_path, &kernel, err);

    if (error == 0 && c->initrd_path[0] != '\0') {
        error = file_open(vm, c->initrd_path, &initrd, err);
    }
    if (error == 0) {
        error = vmm_load_bzimage(vm, kernel.data, kernel.size, initrd.data, initrd.size,
                                 c->boot_args, err);
    }
    file_close(vm, &initrd);
    file_close(vm, &kernel);
    return error;
}

int vmm_load(struct vm *vm, struct vmm_error *err)
{
    return vm->config.firmware_path[0] != '\0' ? load_firmware(vm, err) : load_kernel(vm, err);
}
