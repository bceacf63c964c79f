/* The vCPU's VMCS: life, controls, host state. Spec: Intel SDM vol. 3 chapter 25. */
#include "core/x86.h"
#include "vmx/vmx.h"

#define MSR_PAT  0x277
#define MSR_EFER 0xc0000080

/* #MC is the node's affair; #DB and #AC can keep a processor in microcode for ever when a guest's
 * handler raises them again (both are handed back to the guest). */
#define EXCEPTIONS ((UINT32_C(1) << X86_DB) | (UINT32_C(1) << X86_AC) | (UINT32_C(1) << X86_MC))

#define DR6_RESET UINT64_C(0xffff0ff0)
#define DR7_RESET UINT64_C(0x400)

/* PAUSEs closer than this many cycles are one loop; one that goes on for longer than the window
 * gives the CPU away. */
#define PAUSE_GAP    128
#define PAUSE_WINDOW 8192

static void free_pages(struct vcpu *v, struct vmx_vcpu *x)
{
    if (x->vmcs.v != 0) {
        vmm_pages_free(v->vm, x->vmcs, 1);
    }
    if (x->virtual_apic != NULL) {
        vmm_pages_free(v->vm, x->virtual_apic_pa, 1);
    }
    if (x->posted != NULL) {
        vmm_pages_free(v->vm, x->posted_pa, 1);
    }
    if (x->pml != NULL) {
        vmm_pages_free(v->vm, x->pml_pa, 1);
    }
    vmm_vm_free(v->vm, x, sizeof(*x));
}

int vmx_vcpu_create(struct vcpu *v)
{
    struct vmx_vcpu *x = vmm_vm_alloc(v->vm, sizeof(*x));
    struct vmx_vm *vm = v->vm->arch;
    uint32_t *page;

    if (x == NULL) {
        return -VMM_ENOMEM;
    }
    x->vmx = v->vm->vmm->arch;
    x->nested = &v->vm->nested;
    x->vm = vm;
    x->ept_seen = vm->ept_seen;
    page = vmx_alloc_page(v->vm, &x->vmcs);
    if (page == NULL) {
        free_pages(v, x);
        return -VMM_ENOMEM;
    }
    *page = x->vmx->caps.revision;
    if ((x->vmx->caps.proc & PROC_TPR_SHADOW) != 0) {
        x->virtual_apic = vmx_alloc_page(v->vm, &x->virtual_apic_pa);
        if (x->virtual_apic == NULL) {
            free_pages(v, x);
            return -VMM_ENOMEM;
        }
    }
    if (vmx_posted_create(v, x) != 0) {
        free_pages(v, x);
        return -VMM_ENOMEM;
    }
    v->ends_at_deadline = (x->vmx->caps.pin & PIN_TIMER) != 0;
    vmx_vmclear(x->vmcs);
    v->arch = x;
    return 0;
}

void vmx_vcpu_destroy(struct vcpu *v)
{
    vmx_detach(v);
    free_pages(v, vmx_vcpu(v));
    v->arch = NULL;
}

static uint16_t selector_of_tr(void)
{
    uint16_t tr;

    __asm__ volatile("str %0" : "=r"(tr));
    return tr;
}

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* The base that a TSS descriptor holds: SDM vol. 3 figure 8-4. */
static uint64_t tss_base(uint64_t gdt, uint16_t selector)
{
    const uint64_t *descriptor = (const uint64_t *)(gdt + (selector & ~7u));

    return (descriptor[0] >> 16 & 0xffffff) | (descriptor[0] >> 56 & 0xff) << 24 |
           descriptor[1] << 32;
}

#define READ_SELECTOR(name, out) __asm__ volatile("mov %%" #name ", %0" : "=r"(out))
#define READ_CR(name, out)       __asm__ volatile("mov %%" #name ", %0" : "=r"(out))

static void host_segments(void)
{
    struct table_register gdt, idt;
    uint16_t cs;

    READ_SELECTOR(cs, cs);
    vmcs_write16(VMCS_HOST_CS, cs);
    /* 64-bit code has no use for the others; the null selector is valid for all of them. */
    vmcs_write16(VMCS_HOST_SS, 0);
    vmcs_write16(VMCS_HOST_DS, 0);
    vmcs_write16(VMCS_HOST_ES, 0);
    vmcs_write16(VMCS_HOST_FS, 0);
    vmcs_write16(VMCS_HOST_GS, 0);
    vmcs_write16(VMCS_HOST_TR, selector_of_tr());
    __asm__ volatile("sgdt %0" : "=m"(gdt));
    __asm__ volatile("sidt %0" : "=m"(idt));
    vmcs_writen(VMCS_HOST_GDTR_BASE, gdt.base);
    vmcs_writen(VMCS_HOST_IDTR_BASE, idt.base);
    vmcs_writen(VMCS_HOST_TR_BASE, tss_base(gdt.base, selector_of_tr()));
}

void vmx_host_state(struct vmx_vcpu *x)
{
    uint64_t cr0, cr3, cr4;

    READ_CR(cr0, cr0);
    READ_CR(cr3, cr3);
    READ_CR(cr4, cr4);
    vmcs_writen(VMCS_HOST_CR0, cr0);
    vmcs_writen(VMCS_HOST_CR3, cr3);
    vmcs_writen(VMCS_HOST_CR4, cr4);
    host_segments();
    vmcs_writen(VMCS_HOST_FS_BASE, vmx_rdmsr(0xc0000100));
    vmcs_writen(VMCS_HOST_GS_BASE, vmx_rdmsr(0xc0000101));
    vmcs_write32(VMCS_HOST_SYSENTER_CS, 0);
    vmcs_writen(VMCS_HOST_SYSENTER_ESP, 0);
    vmcs_writen(VMCS_HOST_SYSENTER_EIP, 0);
    vmcs_write64(VMCS_HOST_PAT, vmx_rdmsr(MSR_PAT));
    vmcs_write64(VMCS_HOST_EFER, vmx_rdmsr(MSR_EFER));
    vmcs_writen(VMCS_HOST_RIP, (uint64_t)vmx_exit_point);
    x->host_rsp = 0; /* switch.asm writes the field when this is not what it has */
}

static void reset_controls(struct vmx_vcpu *x)
{
    const struct vmx_caps *caps = &x->vmx->caps;

    vmcs_write32(VMCS_PIN_CONTROLS, caps->pin);
    vmcs_write32(VMCS_PROC_CONTROLS, caps->proc);
    x->proc = caps->proc;
    vmcs_write32(VMCS_PROC2_CONTROLS, caps->proc2);
    x->proc2 = caps->proc2;
    x->logging = 0;
    vmcs_write32(VMCS_EXIT_CONTROLS, caps->exit);
    vmcs_write32(VMCS_ENTRY_CONTROLS, caps->entry);
    vmcs_write32(VMCS_EXCEPTION_BITMAP, EXCEPTIONS);
    vmcs_write32(VMCS_PF_ERROR_MASK, 0);
    vmcs_write32(VMCS_PF_ERROR_MATCH, 0);
    vmcs_write32(VMCS_CR3_TARGET_COUNT, 0);
    vmcs_write32(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmcs_write32(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write32(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write32(VMCS_ENTRY_INTR_INFO, 0);
    vmcs_write64(VMCS_MSR_BITMAP, x->vmx->msr_bitmap.v);
    vmcs_write64(VMCS_EPT_POINTER, vmx_ept_pointer(caps, x->nested));
    vmcs_writen(VMCS_CR0_MASK, vmx_cr0_owned(caps));
    vmcs_writen(VMCS_CR4_MASK, vmx_cr4_owned(caps));
    if (x->virtual_apic != NULL) {
        vmcs_write64(VMCS_VIRTUAL_APIC, x->virtual_apic_pa.v);
        vmcs_write32(VMCS_TPR_THRESHOLD, 0);
    }
    if ((caps->pin & PIN_TIMER) != 0) {
        vmcs_write32(VMCS_PREEMPTION_TIMER, UINT32_MAX);
        x->timer = UINT32_MAX;
    }
    if ((caps->proc2 & PROC2_XSAVES) != 0) {
        vmcs_write64(VMCS_XSS_EXIT_BITMAP, 0); /* XSS is 0 in guests: no component to exit for */
    }
    if (x->posted != NULL) {
        vmcs_write16(VMCS_POSTED_VECTOR, x->vmx->posted_vector);
        vmcs_write64(VMCS_POSTED_DESCRIPTOR, x->posted_pa.v);
        *x->posted = (struct vmx_posted){.control = 0};
    }
    if (caps->apicv) {
        vmx_apicv_reset(x);
    }
    if ((caps->proc2 & PROC2_PAUSE_LOOP) != 0) {
        vmcs_write32(VMCS_PLE_GAP, PAUSE_GAP);
        vmcs_write32(VMCS_PLE_WINDOW, PAUSE_WINDOW);
    }
}

static void reset_segments(struct vcpu *v)
{
    const struct vmm_segment_state data = {.attributes = 0x093, .limit = 0xffff};
    const struct vmm_segment_state table = {.limit = 0xffff};

    vmx_set_segment(
        v, VMM_SEG_CS,
        &(struct vmm_segment_state){
            .selector = 0xf000, .attributes = 0x09b, .limit = 0xffff, .base = 0xffff0000});
    vmx_set_segment(v, VMM_SEG_DS, &data);
    vmx_set_segment(v, VMM_SEG_ES, &data);
    vmx_set_segment(v, VMM_SEG_SS, &data);
    vmx_set_segment(v, VMM_SEG_FS, &data);
    vmx_set_segment(v, VMM_SEG_GS, &data);
    vmx_set_segment(v, VMM_SEG_GDTR, &table);
    vmx_set_segment(v, VMM_SEG_IDTR, &table);
    vmx_set_segment(v, VMM_SEG_LDTR,
                    &(struct vmm_segment_state){.attributes = 0x082, .limit = 0xffff});
    vmx_set_segment(v, VMM_SEG_TR,
                    &(struct vmm_segment_state){.attributes = 0x08b, .limit = 0xffff});
}

/* What has no meaning for the common code. */
static void reset_rest(struct vmx_vcpu *x)
{
    vmcs_write64(VMCS_LINK_POINTER, UINT64_MAX); /* no shadow VMCS */
    vmcs_write64(VMCS_GUEST_DEBUGCTL, 0);
    vmcs_write32(VMCS_GUEST_ACTIVITY, 0);
    vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmcs_writen(VMCS_GUEST_PENDING_DEBUG, 0);
    vmcs_writen(VMCS_GUEST_RIP, 0);
    vmcs_writen(VMCS_GUEST_RSP, 0);
    vmcs_writen(VMCS_GUEST_RFLAGS, X86_RFLAGS_FIXED);
    x->rip = x->rsp = 0;
    x->rflags = X86_RFLAGS_FIXED;
    x->blocked = 0;
    x->event = x->entered_with = 0;
    x->cr2 = 0;
    x->dr6 = DR6_RESET;
    x->dr_loaded = false;
    x->flat = false;
}

void vmx_vcpu_reset(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);

    reset_controls(x);
    reset_rest(x);
    vmx_release(flags);
    reset_segments(v);
    vmx_set_sysreg(v, VMM_EFER, 0);
    vmx_set_sysreg(v, VMM_CR4, 0);
    vmx_set_sysreg(v, VMM_CR3, 0);
    vmx_set_sysreg(v, VMM_CR0, X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
    vmx_set_sysreg(v, VMM_CR8, 0);
    vmx_set_sysreg(v, VMM_DR7, DR7_RESET);
    vmx_set_sysreg(v, VMM_MSR_PAT, X86_PAT_RESET);
    vmx_set_sysreg(v, VMM_MSR_SYSENTER_CS, 0);
    vmx_set_sysreg(v, VMM_MSR_SYSENTER_ESP, 0);
    vmx_set_sysreg(v, VMM_MSR_SYSENTER_EIP, 0);
    for (unsigned i = 0; i < VMX_LAZY_MSRS; i++) {
        vmx_lazy_msr_write(v, i, 0);
    }
    v->cr4_free = 0;
    v->rip = 0xfff0;
    v->rflags = X86_RFLAGS_FIXED;
}
