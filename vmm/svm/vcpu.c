/* The vCPU's VMCB: life and registers. */
#include "core/x86.h"
#include "svm/svm.h"

/* #MC is the node's affair; #DB and #AC can keep a processor in microcode for ever when a guest's
 * handler raises them again (both are handed back to the guest). */
#define EXCEPTIONS ((UINT32_C(1) << X86_DB) | (UINT32_C(1) << X86_AC) | (UINT32_C(1) << X86_MC))
#define MISC1                                                                                      \
    (VMCB_INTR | VMCB_NMI | VMCB_RDPMC | VMCB_CPUID | VMCB_INVD | VMCB_HLT | VMCB_INVLPGA |        \
     VMCB_IOIO_PROT | VMCB_MSR_PROT | VMCB_SHUTDOWN)
#define MISC2                                                                                      \
    (VMCB_VMRUN | VMCB_VMMCALL | VMCB_VMLOAD | VMCB_VMSAVE | VMCB_STGI | VMCB_CLGI | VMCB_SKINIT | \
     VMCB_WBINVD | VMCB_MONITOR | VMCB_MWAIT | VMCB_MWAIT_ARMED | VMCB_XSETBV | VMCB_RDPRU)

#define NP_ENABLE UINT64_C(1)

#define DR6_RESET UINT64_C(0xffff0ff0)
#define DR7_RESET UINT64_C(0x400)

int svm_vcpu_create(struct vcpu *v)
{
    struct svm_vcpu *s = vmm_vm_alloc(v->vm, sizeof(*s));
    hpa_t page;

    if (s == NULL) {
        return -VMM_ENOMEM;
    }
    if (v->ops->pages_alloc(v->host, 1, VMM_PAGE_SIZE, v->vm->config.node, &page) != 0) {
        vmm_vm_free(v->vm, s, sizeof(*s));
        return -VMM_ENOMEM;
    }
    s->vmcb_pa = page.v;
    s->vmcb = v->ops->hpa_to_va(v->host, page);
    s->svm = v->vm->vmm->arch;
    s->nested = &v->vm->nested;
    s->cpus = s->svm->cpu;
    s->nrip = (s->svm->features & SVM_FEATURE_NRIP) != 0;
    s->follow_xcr0 = v->ops->xcr0_supported != 0;
    s->clean_after_exit = (s->svm->features & SVM_FEATURE_CLEAN) != 0 ? VMCB_CLEAN_ALL : 0;
    v->arch = s;
    return 0;
}

void svm_vcpu_destroy(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    vmm_pages_free(v->vm, VMM_HPA(s->vmcb_pa), 1);
    vmm_vm_free(v->vm, s, sizeof(*s));
    v->arch = NULL;
}

static void reset_control(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;

    vmcb_set_intercept_dr(b, SVM_DR_INTERCEPTS);
    vmcb_set_intercept_exceptions(b, EXCEPTIONS);
    vmcb_set_intercept_misc1(b, MISC1);
    vmcb_set_intercept_misc2(b, MISC2);
    vmcb_set_iopm_base(b, s->svm->iopm.v);
    vmcb_set_msrpm_base(b, s->svm->msrpm.v);
    vmcb_set_np_control(b, NP_ENABLE);
    vmcb_set_n_cr3(b, s->nested->root.v);
    vmcb_set_v_intr(b, VMCB_V_INTR_MASKING);
}

/* APM vol. 2 table 14-1. */
static void reset_save(struct vmcb *b)
{
    const struct vmcb_segment data = {.attributes = 0x093, .limit = 0xffff};
    const struct vmcb_segment table = {.limit = 0xffff};

    vmcb_set_cs(b, (struct vmcb_segment){0xf000, 0x09b, 0xffff, 0xffff0000});
    vmcb_set_ds(b, data);
    vmcb_set_es(b, data);
    vmcb_set_ss(b, data);
    vmcb_set_fs(b, data);
    vmcb_set_gs(b, data);
    vmcb_set_gdtr(b, table);
    vmcb_set_idtr(b, table);
    vmcb_set_ldtr(b, (struct vmcb_segment){.attributes = 0x082, .limit = 0xffff});
    vmcb_set_tr(b, (struct vmcb_segment){.attributes = 0x08b, .limit = 0xffff});
    vmcb_set_cr0(b, X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
    vmcb_set_efer(b, X86_EFER_SVME); /* VMRUN demands it; the guest never sees it */
    vmcb_set_dr6(b, DR6_RESET);
    vmcb_set_dr7(b, DR7_RESET);
    vmcb_set_g_pat(b, X86_PAT_RESET);
}

void svm_vcpu_reset(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    __builtin_memset(s->vmcb, 0, sizeof(*s->vmcb));
    reset_control(s);
    reset_save(s->vmcb);
    s->asid_generation = 0; /* no CPU's: a new ASID at the next entry */
    s->injected = 0;
    s->tpr = 0;
    s->rare = 0;
    s->nmi_blocked = s->window = s->cr8_exits = s->stepping = s->step_left = false;
    v->rip = 0xfff0;
    v->rflags = X86_RFLAGS_FIXED;
}

/* In the order of enum vmm_segment. */
static const uint16_t segment_offset_table[VMM_SEG_COUNT] = {
    offsetof(struct vmcb, es),   offsetof(struct vmcb, cs), offsetof(struct vmcb, ss),
    offsetof(struct vmcb, ds),   offsetof(struct vmcb, fs), offsetof(struct vmcb, gs),
    offsetof(struct vmcb, ldtr), offsetof(struct vmcb, tr), offsetof(struct vmcb, gdtr),
    offsetof(struct vmcb, idtr),
};

void svm_get_segment(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out)
{
    struct vmcb_segment segment;

    __builtin_memcpy(&segment, svm_vcpu(v)->vmcb->bytes + segment_offset_table[which],
                     sizeof(segment));
    *out = (struct vmm_segment_state){
        .selector = segment.selector,
        .attributes = segment.attributes,
        .limit = segment.limit,
        .base = segment.base,
    };
}

void svm_set_segment(struct vcpu *v, enum vmm_segment which, const struct vmm_segment_state *s)
{
    const struct vmcb_segment segment = {s->selector, s->attributes, s->limit, s->base};
    struct vmcb *b = svm_vcpu(v)->vmcb;

    switch (which) {
    case VMM_SEG_ES:
        vmcb_set_es(b, segment);
        break;
    case VMM_SEG_CS:
        vmcb_set_cs(b, segment);
        break;
    case VMM_SEG_SS:
        vmcb_set_ss(b, segment);
        vmcb_set_cpl(b, s->attributes >> 5 & 3);
        break;
    case VMM_SEG_DS:
        vmcb_set_ds(b, segment);
        break;
    case VMM_SEG_FS:
        vmcb_set_fs(b, segment);
        break;
    case VMM_SEG_GS:
        vmcb_set_gs(b, segment);
        break;
    case VMM_SEG_LDTR:
        vmcb_set_ldtr(b, segment);
        break;
    case VMM_SEG_TR:
        vmcb_set_tr(b, segment);
        break;
    case VMM_SEG_GDTR:
        vmcb_set_gdtr(b, segment);
        break;
    case VMM_SEG_IDTR:
        vmcb_set_idtr(b, segment);
        break;
    case VMM_SEG_COUNT:
        break;
    }
}

uint64_t svm_get_sysreg(struct vcpu *v, enum vmm_sysreg which)
{
    const struct vmcb *b = svm_vcpu(v)->vmcb;

    switch (which) {
    case VMM_CR0:
        return vmcb_cr0(b);
    case VMM_CR2:
        return vmcb_cr2(b);
    case VMM_CR3:
        return vmcb_cr3(b);
    case VMM_CR4:
        return vmcb_cr4(b);
    case VMM_CR8:
        return vmcb_v_intr(b) & VMCB_V_TPR;
    case VMM_EFER:
        return vmcb_efer(b) & ~X86_EFER_SVME;
    case VMM_DR6:
        return vmcb_dr6(b);
    case VMM_DR7:
        return vmcb_dr7(b);
    case VMM_MSR_STAR:
        return vmcb_star(b);
    case VMM_MSR_LSTAR:
        return vmcb_lstar(b);
    case VMM_MSR_CSTAR:
        return vmcb_cstar(b);
    case VMM_MSR_SFMASK:
        return vmcb_sfmask(b);
    case VMM_MSR_KERNEL_GS_BASE:
        return vmcb_kernel_gs_base(b);
    case VMM_MSR_SYSENTER_CS:
        return vmcb_sysenter_cs(b);
    case VMM_MSR_SYSENTER_ESP:
        return vmcb_sysenter_esp(b);
    case VMM_MSR_SYSENTER_EIP:
        return vmcb_sysenter_eip(b);
    case VMM_MSR_PAT:
        return vmcb_g_pat(b);
    case VMM_BLOCKING:
        return (svm_vcpu(v)->nmi_blocked ? VMM_BLOCKED_NMI : 0u) |
               (v->intr_shadow ? VMM_BLOCKED_SHADOW : 0u);
    case VMM_SYSREG_COUNT:
        break;
    }
    return 0;
}

/* Changes of the paging registers throw the guest's translations away, as the instructions that
 * make them would. */
void svm_set_sysreg(struct vcpu *v, enum vmm_sysreg which, uint64_t value)
{
    struct svm_vcpu *s = svm_vcpu(v);
    struct vmcb *b = s->vmcb;

    switch (which) {
    case VMM_CR0:
        vmcb_set_cr0(b, value);
        svm_flush(s);
        break;
    case VMM_CR2:
        vmcb_set_cr2(b, value);
        break;
    case VMM_CR3:
        vmcb_set_cr3(b, value);
        svm_flush(s);
        break;
    case VMM_CR4:
        vmcb_set_cr4(b, value);
        svm_flush(s);
        break;
    case VMM_CR8:
        vmcb_set_v_intr(b, (vmcb_v_intr(b) & ~VMCB_V_TPR) | (value & VMCB_V_TPR));
        s->tpr = value & VMCB_V_TPR;
        break;
    case VMM_EFER:
        vmcb_set_efer(b, value | X86_EFER_SVME);
        svm_flush(s);
        break;
    case VMM_DR6:
        vmcb_set_dr6(b, value);
        break;
    case VMM_DR7:
        vmcb_set_dr7(b, value);
        break;
    case VMM_MSR_STAR:
        vmcb_set_star(b, value);
        break;
    case VMM_MSR_LSTAR:
        vmcb_set_lstar(b, value);
        break;
    case VMM_MSR_CSTAR:
        vmcb_set_cstar(b, value);
        break;
    case VMM_MSR_SFMASK:
        vmcb_set_sfmask(b, value);
        break;
    case VMM_MSR_KERNEL_GS_BASE:
        vmcb_set_kernel_gs_base(b, value);
        break;
    case VMM_MSR_SYSENTER_CS:
        vmcb_set_sysenter_cs(b, value);
        break;
    case VMM_MSR_SYSENTER_ESP:
        vmcb_set_sysenter_esp(b, value);
        break;
    case VMM_MSR_SYSENTER_EIP:
        vmcb_set_sysenter_eip(b, value);
        break;
    case VMM_MSR_PAT:
        vmcb_set_g_pat(b, value);
        break;
    case VMM_BLOCKING:
        s->nmi_blocked = (value & VMM_BLOCKED_NMI) != 0;
        v->intr_shadow = (value & VMM_BLOCKED_SHADOW) != 0;
        break;
    case VMM_SYSREG_COUNT:
        break;
    }
}

void svm_flush_tlb(struct vcpu *v)
{
    svm_flush(svm_vcpu(v));
}

void svm_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
    vmcb_set_tsc_offset(svm_vcpu(v)->vmcb, offset);
}

unsigned svm_cpl(struct vcpu *v)
{
    return vmcb_cpl(svm_vcpu(v)->vmcb);
}

void svm_get_address_mode(struct vcpu *v, struct vmm_address_mode *out)
{
    const struct vmcb *b = svm_vcpu(v)->vmcb;
    const struct vmcb_segment cs = vmcb_cs(b);

    out->cr0 = vmcb_cr0(b);
    out->cr3 = vmcb_cr3(b);
    out->cr4 = vmcb_cr4(b);
    out->efer = vmcb_efer(b);
    out->cs_base = cs.base;
    out->cs_limit = cs.limit;
    out->cs_attributes = cs.attributes;
    out->cpl = vmcb_cpl(b);
}

void svm_dump(struct vcpu *v, enum vmm_log_level level)
{
    const struct svm_vcpu *s = svm_vcpu(v);
    const struct vmcb *b = s->vmcb;
    struct vm *vm = v->vm;

    vmm_vm_log(vm, level, "  VMCB: exit %llx info %llx %llx int info %llx next rip %llx",
               (unsigned long long)vmcb_exit_code(b), (unsigned long long)vmcb_exit_info1(b),
               (unsigned long long)vmcb_exit_info2(b), (unsigned long long)vmcb_exit_int_info(b),
               (unsigned long long)vmcb_next_rip(b));
    vmm_vm_log(vm, level,
               "  VMCB: intercepts cr %08x dr %08x exc %08x misc %08x %08x v_intr %llx shadow %llx",
               vmcb_intercept_cr(b), vmcb_intercept_dr(b), vmcb_intercept_exceptions(b),
               vmcb_intercept_misc1(b), vmcb_intercept_misc2(b), (unsigned long long)vmcb_v_intr(b),
               (unsigned long long)vmcb_int_shadow(b));
    vmm_vm_log(vm, level,
               "  VMCB: asid %u n_cr3 %llx tsc offset %llx event %llx clean %x entered with %llx",
               vmcb_asid(b), (unsigned long long)vmcb_n_cr3(b),
               (unsigned long long)vmcb_tsc_offset(b), (unsigned long long)vmcb_event_inj(b),
               b->clean, (unsigned long long)s->injected);
}
