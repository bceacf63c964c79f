/* Page-modification logging: the processor writes the address of each page whose dirty bit it sets
 * into a buffer of the vCPU. Spec: Intel SDM vol. 3 section 29.3.6. */
#include "core/dirty.h"
#include "vmx/vmx.h"

#define PML_ENTRIES (VMM_PAGE_SIZE / sizeof(uint64_t))
#define PML_EMPTY   (PML_ENTRIES - 1) /* the index counts down, and wraps when the buffer is full */

static void free_buffers(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vmx_vcpu *x = vmx_vcpu(vm->vcpu[i]);

        if (x->pml != NULL) {
            vmm_pages_free(vm, x->pml_pa, 1);
            x->pml = NULL;
        }
    }
}

/* vCPUs take it up at their next entry, and go by way of vmm_quiesce() before a buffer is freed.
 * One that does not run meanwhile may find the next log then, of which the buffer is another: so
 * each has a number. */
bool vmx_log_writes(struct vm *vm, bool on)
{
    const struct vmx *vmx = vm->vmm->arch;
    struct vmx_vm *arch = vm->arch;

    if ((vmx->caps.proc2_offered & PROC2_PML) == 0) {
        return false;
    }
    for (unsigned i = 0; on && i < vm->vcpu_count; i++) {
        struct vmx_vcpu *x = vmx_vcpu(vm->vcpu[i]);

        x->pml = vmx_alloc_page(vm, &x->pml_pa);
        if (x->pml == NULL) {
            free_buffers(vm);
            return false;
        }
    }
    __atomic_store_n(&arch->logging, on ? ++arch->logs : 0, __ATOMIC_SEQ_CST);
    if (!on) {
        vmm_quiesce(vm);
        free_buffers(vm);
    }
    return true;
}

void vmx_pml_switch(struct vmx_vcpu *x, uint32_t logging)
{
    if (logging != 0) {
        vmcs_write64(VMCS_PML_ADDRESS, x->pml_pa.v);
        vmcs_write16(VMCS_PML_INDEX, PML_EMPTY);
    }
    vmx_set_proc2(x, logging != 0 ? x->proc2 | PROC2_PML : x->proc2 & ~PROC2_PML);
    x->logging = logging;
}

void vmx_pml_drain(struct vcpu *v, struct vmx_vcpu *x)
{
    unsigned index = (uint16_t)(vmcs_read16(VMCS_PML_INDEX) + 1); /* of the last entry */

    if (index == PML_ENTRIES) {
        return;
    }
    for (; index < PML_ENTRIES; index++) {
        vmm_dirty_mark_gpa(v->vm, VMM_GPA(x->pml[index]));
    }
    vmcs_write16(VMCS_PML_INDEX, PML_EMPTY);
}
