/* What a host may do with the memory of a VM that runs. */
#include "core/reclaim.h"
#include "core/vm.h"
#include "dev/platform.h"

void vmm_vm_memory(struct vm *vm, struct vm_memory *out)
{
    const struct vmm_region *r;

    *out = (struct vm_memory){.balloon_driver = false};
    vmm_control_enter(vm);
    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        out->ram += r->kind == VMM_REGION_RAM ? r->size : 0;
    }
    out->backed = __atomic_load_n(&vm->nested.page_count, __ATOMIC_RELAXED) * VMM_PAGE_SIZE;
    out->stored = __atomic_load_n(&vm->memory.stored_count, __ATOMIC_RELAXED) * VMM_PAGE_SIZE;
    vballoon_report(vm, out);
    (void)vmm_control_leave(vm, 0);
}

int vmm_vm_swap_out(struct vm *vm, uint64_t bytes, uint64_t *moved)
{
    vmm_control_enter(vm);
    return vmm_control_leave(vm, vmm_memory_reclaim(vm, bytes, moved));
}

int vmm_vm_add_memory(struct vm *vm, uint64_t gpa, uint64_t bytes, const void *data)
{
    int error;

    vmm_control_enter(vm);
    error = vmm_memory_add(vm, VMM_GPA(gpa), bytes, data != NULL ? VMM_REGION_ROM : VMM_REGION_RAM);
    if (error == 0 && data != NULL) {
        error = vmm_memory_write(vm, VMM_GPA(gpa), data, bytes);
        if (error != 0 && vmm_memory_remove(vm, VMM_GPA(gpa)) != 0) {
            vmm_vm_log(vm, VMM_LOG_ERROR, "no memory to take a part of a ROM away again");
        }
    }
    return vmm_control_leave(vm, error);
}

int vmm_vm_remove_memory(struct vm *vm, uint64_t gpa)
{
    vmm_control_enter(vm);
    return vmm_control_leave(vm, vmm_memory_remove(vm, VMM_GPA(gpa)));
}
