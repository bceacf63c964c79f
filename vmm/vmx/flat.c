/* Protected mode without paging where processors lack "unrestricted guest", and so demand paging:
 * pages map each address to itself, and the guest sees its own CR0, CR3, CR4 and EFER. Spec: Intel
 * SDM vol. 3 sections 24.8 (restrictions on operation) and 4.3 (32-bit paging). */
#include "core/x86.h"
#include "vmx/vmx.h"

/* Between the LAPIC and the firmware, where no device or memory of a guest is. */
#define DIRECTORY_GPA UINT64_C(0xfeffc000)

#define ENTRIES   1024
#define PAGE_SIZE UINT32_C(0x400000)
#define PAGE_BITS UINT32_C(0xe7) /* present, write, user, accessed, dirty, 4 MiB */

#define CR4_PSE   (UINT64_C(1) << 4)
#define CR4_PCIDE (UINT64_C(1) << 17)
#define CR4_SMEP  (UINT64_C(1) << 20)
#define CR4_SMAP  (UINT64_C(1) << 21)

int vmx_flat_create(struct vm *vm, struct vmx_vm *arch)
{
    uint32_t *directory = vmx_alloc_page(vm, &arch->flat_page);

    if (directory == NULL) {
        return -VMM_ENOMEM;
    }
    for (uint32_t i = 0; i < ENTRIES; i++) {
        directory[i] = i * PAGE_SIZE | PAGE_BITS;
    }
    /* Writable, for a processor that keeps EPT's dirty bits takes a walk for a write. */
    return vmm_nested_map(vm, VMM_GPA(DIRECTORY_GPA), arch->flat_page, VMM_PAGE_SIZE,
                          VMM_MAP_READ | VMM_MAP_WRITE);
}

/* 4 MiB pages that user and supervisor code share. */
uint64_t vmx_flat_cr4(uint64_t value)
{
    return (value | CR4_PSE) & ~(X86_CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP);
}

void vmx_flat_enter(struct vcpu *v, struct vmx_vcpu *x)
{
    const struct vmx_caps *caps = &x->vmx->caps;
    uint64_t cr4 = vmx_cr4_loaded(x);

    x->flat_cr3 = vmcs_readn(VMCS_GUEST_CR3);
    x->flat_efer = vmcs_read64(VMCS_GUEST_EFER);
    x->flat = true;
    vmcs_writen(VMCS_GUEST_CR3, DIRECTORY_GPA);
    vmx_load_efer(x->flat_efer & ~(X86_EFER_LME | X86_EFER_LMA));
    vmcs_writen(VMCS_CR4_MASK, UINT64_MAX);
    vmx_set_cr4(x, cr4);
    vmx_set_proc(x, x->proc | PROC_CR3_LOAD | PROC_CR3_STORE);
    v->cr4_free = ~vmx_cr4_owned(caps) & ~CR4_PCIDE;
}

void vmx_flat_leave(struct vcpu *v, struct vmx_vcpu *x)
{
    const struct vmx_caps *caps = &x->vmx->caps;
    uint64_t cr4 = vmx_cr4_loaded(x);

    x->flat = false;
    vmcs_writen(VMCS_GUEST_CR3, x->flat_cr3);
    vmx_load_efer(x->flat_efer);
    vmcs_writen(VMCS_CR4_MASK, vmx_cr4_owned(caps));
    vmx_set_cr4(x, cr4);
    vmx_set_proc(x, (x->proc & ~(PROC_CR3_LOAD | PROC_CR3_STORE)) |
                        (caps->proc & (PROC_CR3_LOAD | PROC_CR3_STORE)));
    v->cr4_free = 0;
}
