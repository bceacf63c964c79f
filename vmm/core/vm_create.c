/* Making a VM: its configuration checked, its parts made in order, and undone backwards. */
#include "core/cpuid.h"
#include "core/vm.h"
#include "dev/platform.h"

#define LOW_HOLE_BASE UINT64_C(0xa0000) /* the VGA window */
#define LOW_HOLE_END  UINT64_C(0xc0000)
#define MEM_MIN       VMM_MIB(2)

void *vmm_vm_alloc(struct vm *vm, size_t size)
{
    void *p = vm->ops->alloc(vm->host, size);

    if (p != NULL) {
        __atomic_add_fetch(&vm->small_bytes, size, __ATOMIC_RELAXED);
    }
    return p;
}

void vmm_vm_free(struct vm *vm, void *p, size_t size)
{
    if (p != NULL) {
        __atomic_sub_fetch(&vm->small_bytes, size, __ATOMIC_RELAXED);
        vm->ops->free(vm->host, p);
    }
}

static bool ends(const char *text, size_t room)
{
    return __builtin_memchr(text, 0, room) != NULL;
}

/* What counts or ends a field is within it: a configuration need not come from a manifest. */
static bool fields_hold(const struct vm_config *c)
{
    bool hold = c->module_count <= VMM_MODULES_MAX && c->ram_node_count <= VMM_RAM_NODES_MAX &&
                ends(c->kernel_path, sizeof(c->kernel_path)) &&
                ends(c->firmware_path, sizeof(c->firmware_path)) &&
                ends(c->initrd_path, sizeof(c->initrd_path)) &&
                ends(c->boot_args, sizeof(c->boot_args));

    for (unsigned i = 0; hold && i < c->module_count; i++) {
        hold = ends(c->module[i], sizeof(c->module[i]));
    }
    return hold;
}

static int name_taken(struct vmm *vmm, const char *name, struct vmm_error *err)
{
    return vmm_fail(vmm, err, VMM_EEXIST, "%s: there is a VM of this name", name);
}

static int check_config(struct vmm *vmm, const struct vm_config *c, struct vmm_error *err)
{
    unsigned cpus = vmm->ops->cpu_count(vmm->host);

    if (c->name[0] == '\0' || !ends(c->name, VMM_NAME_MAX)) {
        return vmm_fail(vmm, err, VMM_EINVAL, "a VM needs a name of 1 to %u characters",
                        VMM_NAME_MAX - 1);
    }
    if (vmm_vm_find(vmm, c->name) != NULL) {
        return name_taken(vmm, c->name, err);
    }
    if (!fields_hold(c)) {
        return vmm_fail(vmm, err, VMM_EINVAL, "%s: a path, text or list has no end", c->name);
    }
    if (c->vcpu_count < 1 || c->vcpu_count > VMM_VCPUS_MAX) {
        return vmm_fail(vmm, err, VMM_EINVAL, "%s: %u vCPUs asked, 1 to %u are possible", c->name,
                        c->vcpu_count, VMM_VCPUS_MAX);
    }
    if (c->mem_bytes < MEM_MIN || c->mem_bytes % VMM_PAGE_SIZE != 0) {
        return vmm_fail(vmm, err, VMM_EINVAL, "%s: memory must be whole pages, 2 MiB at least",
                        c->name);
    }
    if (c->balloon_bytes >= c->mem_bytes) {
        return vmm_fail(vmm, err, VMM_EINVAL, "%s: its balloon would take all memory", c->name);
    }
    for (unsigned i = 0; i < c->vcpu_count; i++) {
        if (c->cpu[i] < -1 || c->cpu[i] >= (int)cpus) {
            return vmm_fail(vmm, err, VMM_EINVAL, "%s: CPU %d asked for vCPU %u, the node has %u",
                            c->name, c->cpu[i], i, cpus);
        }
    }
    return 0;
}

/* RAM as on a PC: below the VGA window, from there to the PCI hole, the rest above 4 GiB. */
static int create_memory(struct vm *vm)
{
    uint64_t bytes = vm->config.mem_bytes;
    uint64_t low = bytes < PLATFORM_LOW_RAM_END ? bytes : PLATFORM_LOW_RAM_END;
    int error = vmm_memory_add(vm, VMM_GPA(0), LOW_HOLE_BASE, VMM_REGION_RAM);

    if (error == 0) {
        error = vmm_memory_add(vm, VMM_GPA(LOW_HOLE_END), low - LOW_HOLE_END, VMM_REGION_RAM);
    }
    if (error == 0 && bytes > low) {
        error = vmm_memory_add(vm, VMM_GPA(VMM_GIB(4)), bytes - low, VMM_REGION_RAM);
    }
    return error;
}

static int create_vcpus(struct vm *vm)
{
    for (unsigned i = 0; i < vm->config.vcpu_count; i++) {
        int error = vmm_vcpu_create(vm, i);

        if (error != 0) {
            return error;
        }
        vm->vcpu_count = i + 1;
    }
    return 0;
}

void vmm_vm_release(struct vm *vm)
{
    vmm_devices_destroy(vm);
    while (vm->vcpu_count > 0) {
        vmm_vcpu_destroy(vm->vcpu[--vm->vcpu_count]);
    }
    vmm_memory_destroy(vm);
    if (vm->cpuid != NULL) {
        vmm_cpuid_destroy(vm);
    }
    vm->vmm->backend->vm_destroy(vm);
    vm->ops->free(vm->host, vm);
}

static int create_parts(struct vm *vm, struct vmm_error *err)
{
    struct vmm *vmm = vm->vmm;
    const char *name = vm->config.name;
    int error = vmm_cpuid_create(vm, vmm_cpuid_raw);

    if (error != 0) {
        return vmm_fail(vmm, err, -error, "%s: no memory for the VM", name);
    }
    error = create_memory(vm);
    if (error != 0) {
        return vmm_fail(vmm, err, -error, "%s: %llu MiB of guest memory asked, %llu MiB free", name,
                        (unsigned long long)(vm->config.mem_bytes >> 20),
                        (unsigned long long)(vmm->ops->pages_available(vmm->host) >> 20));
    }
    error = create_vcpus(vm);
    if (error != 0) {
        return vmm_fail(vmm, err, -error, "%s: no memory for %u vCPUs", name,
                        vm->config.vcpu_count);
    }
    error = vmm_platform_create(vm);
    if (error == -VMM_ENOMEM) {
        return vmm_fail(vmm, err, VMM_ENOMEM, "%s: no memory for its devices", name);
    }
    if (error != 0) { /* the rest of the platform is the library's own */
        return vmm_fail(vmm, err, -error, "%s: the host refuses it a console: %s", name,
                        error == -VMM_EEXIST ? "one of this name is open" : "chars->open fails");
    }
    return 0;
}

int vmm_vm_create(struct vmm *vmm, const struct vm_config *config, struct vm **out,
                  struct vmm_error *err)
{
    uint64_t start = vmm->ops->cycles(vmm->host);
    int error = check_config(vmm, config, err);
    struct vm *vm;
    void *host;

    if (error != 0) {
        return error;
    }
    host = config->host != NULL ? config->host : vmm->host;
    vm = vmm->ops->alloc(host, sizeof(*vm));
    if (vm == NULL) {
        return vmm_fail(vmm, err, VMM_ENOMEM, "%s: no memory for the VM", config->name);
    }
    vm->vmm = vmm;
    vm->ops = vmm->ops;
    vm->host = host;
    vm->config = *config;
    vm->small_bytes = sizeof(*vm);
    vm->state = VM_CREATED;
    error = vmm->backend->vm_create(vm);
    if (error != 0) {
        vmm->ops->free(host, vm);
        return vmm_fail(vmm, err, -error, "%s: no memory for the VM", config->name);
    }
    error = create_parts(vm, err);
    if (error == 0 && vmm_list_add(vm) != 0) {
        error = name_taken(vmm, config->name, err); /* meanwhile */
    }
    if (error != 0) {
        vmm_vm_release(vm);
        return error;
    }
    vm->create_cycles = vmm->ops->cycles(vmm->host) - start;
    *out = vm;
    return 0;
}
