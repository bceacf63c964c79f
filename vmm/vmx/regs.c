/* The guest's registers in the VMCS, in the common code's form, and back. Spec: Intel SDM vol. 3
 * sections 25.4.1 (guest state), 25.6.6 (masks and read shadows of CR0 and CR4). */
#include "core/x86.h"
#include "vmx/vmx.h"

#define CR0_OWNED (X86_CR0_NE | X86_CR0_NW | X86_CR0_CD)

/* CR4 bits that guests may have: VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP FSGSBASE
 * PCIDE OSXSAVE SMEP SMAP PKE. */
#define CR4_OFFERED                                                                                \
    (UINT64_C(0xfff) | UINT64_C(1) << 16 | UINT64_C(1) << 17 | X86_CR4_OSXSAVE |                   \
     UINT64_C(1) << 20 | UINT64_C(1) << 21 | X86_CR4_PKE)

#define ATTRIBUTE_PRESENT      0x80
#define ATTRIBUTE_CODE_OR_DATA 0x10
#define ATTRIBUTE_ACCESSED     0x1
#define ATTRIBUTE_BUSY         0x2
#define RIGHTS_G               (UINT32_C(1) << 15)

static const struct {
    vmcs16_t selector;
    vmcs32_t limit, rights;
    vmcsn_t base;
} segment_table[VMM_SEG_COUNT] = {
#define SEGMENT(name)                                                                              \
    [VMM_SEG_##name] = {{VMCS_ID_GUEST_##name},                                                    \
                        {VMCS_ID_GUEST_##name##_LIMIT},                                            \
                        {VMCS_ID_GUEST_##name##_RIGHTS},                                           \
                        {VMCS_ID_GUEST_##name##_BASE}}
    SEGMENT(ES),
    SEGMENT(CS),
    SEGMENT(SS),
    SEGMENT(DS),
    SEGMENT(FS),
    SEGMENT(GS),
    SEGMENT(LDTR),
    SEGMENT(TR),
#undef SEGMENT
    [VMM_SEG_GDTR] = {.limit = {VMCS_ID_GUEST_GDTR_LIMIT}, .base = {VMCS_ID_GUEST_GDTR_BASE}},
    [VMM_SEG_IDTR] = {.limit = {VMCS_ID_GUEST_IDTR_LIMIT}, .base = {VMCS_ID_GUEST_IDTR_BASE}},
};

static bool is_table(enum vmm_segment which)
{
    return which == VMM_SEG_GDTR || which == VMM_SEG_IDTR;
}

uint16_t vmx_attributes(uint32_t rights)
{
    uint32_t attributes = (rights & 0xff) | (rights >> 4 & 0xf00);

    return (uint16_t)((rights & RIGHTS_UNUSABLE) != 0 ? attributes & ~ATTRIBUTE_PRESENT
                                                      : attributes);
}

/* Entries check what descriptors in memory need not keep to: a segment in use is accessed, a TSS
 * busy, and G agrees with the limit (section 27.3.1.2). */
uint32_t vmx_rights(enum vmm_segment which, uint16_t attributes, uint32_t limit)
{
    uint32_t rights = (attributes & 0xffu) | (attributes & 0xf00u) << 4;

    if ((attributes & ATTRIBUTE_PRESENT) == 0) {
        return rights | RIGHTS_UNUSABLE;
    }
    if (which == VMM_SEG_TR) {
        rights |= ATTRIBUTE_BUSY;
    } else if ((attributes & ATTRIBUTE_CODE_OR_DATA) != 0) {
        rights |= ATTRIBUTE_ACCESSED;
    }
    if ((limit & 0xfff) != 0xfff) {
        rights &= ~RIGHTS_G;
    } else if (limit >> 20 != 0) {
        rights |= RIGHTS_G;
    }
    return rights;
}

void vmx_get_segment(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out)
{
    uint64_t flags = vmx_acquire(v);

    *out = (struct vmm_segment_state){
        .limit = vmcs_read32(segment_table[which].limit),
        .base = vmcs_readn(segment_table[which].base),
    };
    if (!is_table(which)) {
        out->selector = vmcs_read16(segment_table[which].selector);
        out->attributes = vmx_attributes(vmcs_read32(segment_table[which].rights));
    }
    vmx_release(flags);
}

void vmx_set_segment(struct vcpu *v, enum vmm_segment which, const struct vmm_segment_state *s)
{
    uint64_t flags = vmx_acquire(v);

    vmcs_write32(segment_table[which].limit, s->limit);
    vmcs_writen(segment_table[which].base, s->base);
    if (!is_table(which)) {
        vmcs_write16(segment_table[which].selector, s->selector);
        vmcs_write32(segment_table[which].rights, vmx_rights(which, s->attributes, s->limit));
    }
    vmx_release(flags);
}

/* --- control registers ------------------------------------------------------------------------ */

/* Without "unrestricted guest" PE and PG are fixed as well. */
static uint64_t cr0_fixed(const struct vmx_caps *caps)
{
    uint64_t free = (caps->proc2 & PROC2_UNRESTRICTED) != 0 ? X86_CR0_PE | X86_CR0_PG : UINT64_C(0);

    return caps->cr0_fixed0 & ~free;
}

/* Bits that the guest sees in the read shadow, and whose change exits: caching is the node's, and
 * what VMX fixes cannot be what a guest wants it to be. */
uint64_t vmx_cr0_owned(const struct vmx_caps *caps)
{
    return CR0_OWNED | cr0_fixed(caps);
}

uint64_t vmx_cr4_owned(const struct vmx_caps *caps)
{
    return ~(CR4_OFFERED & caps->cr4_fixed1) | caps->cr4_fixed0;
}

static uint64_t guest_cr0(const struct vmx_caps *caps)
{
    uint64_t owned = vmx_cr0_owned(caps);

    return (vmcs_readn(VMCS_GUEST_CR0) & ~owned) | (vmcs_readn(VMCS_CR0_SHADOW) & owned);
}

uint64_t vmx_cr4_loaded(const struct vmx_vcpu *x)
{
    uint64_t owned = x->flat ? UINT64_MAX : vmx_cr4_owned(&x->vmx->caps);

    return (vmcs_readn(VMCS_GUEST_CR4) & ~owned) | (vmcs_readn(VMCS_CR4_SHADOW) & owned);
}

static uint64_t guest_cr3(const struct vmx_vcpu *x)
{
    return x->flat ? x->flat_cr3 : vmcs_readn(VMCS_GUEST_CR3);
}

static uint64_t guest_efer(const struct vmx_vcpu *x)
{
    return x->flat ? x->flat_efer : vmcs_read64(VMCS_GUEST_EFER);
}

/* With EPT the processor takes PAE's four entries from the VMCS; it loads them itself when the
 * guest changes these registers, but not when an exit's handler does (section 27.3.2.4). */
static void load_pdptes(struct vcpu *v)
{
    const vmcs64_t field_table[] = {VMCS_GUEST_PDPTE0, VMCS_GUEST_PDPTE1, VMCS_GUEST_PDPTE2,
                                    VMCS_GUEST_PDPTE3};
    uint64_t entry[4] = {0, 0, 0, 0};
    uint64_t flags = vmx_acquire(v);
    bool pae = (vmcs_readn(VMCS_GUEST_CR0) & X86_CR0_PG) != 0 &&
               (vmcs_readn(VMCS_GUEST_CR4) & X86_CR4_PAE) != 0 &&
               (vmcs_read64(VMCS_GUEST_EFER) & X86_EFER_LMA) == 0;
    uint64_t cr3 = vmcs_readn(VMCS_GUEST_CR3);

    vmx_release(flags);
    if (!pae || vmm_memory_read(v->vm, VMM_GPA(cr3 & 0xffffffe0), entry, sizeof(entry)) != 0) {
        return;
    }
    flags = vmx_acquire(v);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(field_table); i++) {
        vmcs_write64(field_table[i], entry[i]);
    }
    vmx_release(flags);
}

static void set_cr0(struct vcpu *v, struct vmx_vcpu *x, uint64_t value)
{
    const struct vmx_caps *caps = &x->vmx->caps;
    uint64_t real = value & ~(X86_CR0_NW | X86_CR0_CD);
    bool restricted = (caps->proc2 & PROC2_UNRESTRICTED) == 0;
    bool flat = restricted && (value & (X86_CR0_PE | X86_CR0_PG)) == X86_CR0_PE;

    x->cannot_run = restricted && (value & X86_CR0_PE) == 0;
    if (flat && !x->flat) {
        vmx_flat_enter(v, x);
    } else if (!flat && x->flat) {
        vmx_flat_leave(v, x);
    }
    vmcs_writen(VMCS_GUEST_CR0, (real | cr0_fixed(caps) | X86_CR0_NE) & caps->cr0_fixed1);
    vmcs_writen(VMCS_CR0_SHADOW, value);
}

void vmx_set_cr4(struct vmx_vcpu *x, uint64_t value)
{
    const struct vmx_caps *caps = &x->vmx->caps;

    vmcs_writen(VMCS_CR4_SHADOW, value);
    value = x->flat ? vmx_flat_cr4(value) : value;
    vmcs_writen(VMCS_GUEST_CR4, (value | caps->cr4_fixed0) & caps->cr4_fixed1);
}

/* "IA-32e mode guest" has to agree with EFER.LMA; an exit updates it, too. */
void vmx_load_efer(uint64_t value)
{
    uint32_t entry = vmcs_read32(VMCS_ENTRY_CONTROLS) & ~ENTRY_IA32E;

    vmcs_write64(VMCS_GUEST_EFER, value);
    vmcs_write32(VMCS_ENTRY_CONTROLS, entry | ((value & X86_EFER_LMA) != 0 ? ENTRY_IA32E : 0));
}

static void set_efer(struct vmx_vcpu *x, uint64_t value)
{
    if (x->flat) {
        x->flat_efer = value;
    } else {
        vmx_load_efer(value);
    }
}

static void set_cr3(struct vmx_vcpu *x, uint64_t value)
{
    if (x->flat) {
        x->flat_cr3 = value;
    } else {
        vmcs_writen(VMCS_GUEST_CR3, value);
    }
}

static uint64_t get_loaded(struct vmx_vcpu *x, enum vmm_sysreg which)
{
    switch (which) {
    case VMM_CR0:
        return guest_cr0(&x->vmx->caps);
    case VMM_CR3:
        return guest_cr3(x);
    case VMM_CR4:
        return vmx_cr4_loaded(x);
    case VMM_EFER:
        return guest_efer(x);
    case VMM_DR7:
        return vmcs_readn(VMCS_GUEST_DR7);
    case VMM_MSR_SYSENTER_CS:
        return vmcs_read32(VMCS_GUEST_SYSENTER_CS);
    case VMM_MSR_SYSENTER_ESP:
        return vmcs_readn(VMCS_GUEST_SYSENTER_ESP);
    case VMM_MSR_SYSENTER_EIP:
        return vmcs_readn(VMCS_GUEST_SYSENTER_EIP);
    case VMM_MSR_PAT:
        return vmcs_read64(VMCS_GUEST_PAT);
    default:
        return 0;
    }
}

static void set_loaded(struct vcpu *v, enum vmm_sysreg which, uint64_t value)
{
    struct vmx_vcpu *x = vmx_vcpu(v);

    switch (which) {
    case VMM_CR0:
        set_cr0(v, x, value);
        break;
    case VMM_CR3:
        set_cr3(x, value);
        break;
    case VMM_CR4:
        vmx_set_cr4(x, value);
        break;
    case VMM_EFER:
        set_efer(x, value);
        break;
    case VMM_DR7:
        vmcs_writen(VMCS_GUEST_DR7, value);
        break;
    case VMM_MSR_SYSENTER_CS:
        vmcs_write32(VMCS_GUEST_SYSENTER_CS, (uint32_t)value);
        break;
    case VMM_MSR_SYSENTER_ESP:
        vmcs_writen(VMCS_GUEST_SYSENTER_ESP, value);
        break;
    case VMM_MSR_SYSENTER_EIP:
        vmcs_writen(VMCS_GUEST_SYSENTER_EIP, value);
        break;
    case VMM_MSR_PAT:
        vmcs_write64(VMCS_GUEST_PAT, value);
        break;
    default:
        break;
    }
}

/* Which of the lazy MSRs, VMX_LAZY_MSRS: none. */
static unsigned lazy_index(enum vmm_sysreg which)
{
    switch (which) {
    case VMM_MSR_STAR:
        return 0;
    case VMM_MSR_LSTAR:
        return 1;
    case VMM_MSR_CSTAR:
        return 2;
    case VMM_MSR_SFMASK:
        return 3;
    case VMM_MSR_KERNEL_GS_BASE:
        return 4;
    default:
        return VMX_LAZY_MSRS;
    }
}

uint64_t vmx_get_sysreg(struct vcpu *v, enum vmm_sysreg which)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    unsigned lazy = lazy_index(which);
    uint64_t flags, value;

    if (which == VMM_CR2) {
        return x->cr2;
    }
    if (which == VMM_CR8) {
        return x->virtual_apic != NULL ? x->virtual_apic[VMX_VTPR] >> 4 : x->tpr;
    }
    if (which == VMM_DR6) {
        return x->dr6;
    }
    if (which == VMM_BLOCKING) {
        return ((x->blocked & BLOCKED_NMI) != 0 ? VMM_BLOCKED_NMI : 0u) |
               (v->intr_shadow ? VMM_BLOCKED_SHADOW : 0u);
    }
    if (lazy < VMX_LAZY_MSRS) {
        return vmx_lazy_msr_read(v, lazy);
    }
    flags = vmx_acquire(v);
    value = get_loaded(x, which);
    vmx_release(flags);
    return value;
}

static void set_blocking(struct vcpu *v, uint64_t value)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);

    v->intr_shadow = (value & VMM_BLOCKED_SHADOW) != 0;
    x->blocked = vmx_interruptibility(value);
    vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, x->blocked);
    vmx_release(flags);
}

/* Changes of the paging registers throw the guest's translations away, as the instructions that
 * make them would. */
void vmx_set_sysreg(struct vcpu *v, enum vmm_sysreg which, uint64_t value)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    unsigned lazy = lazy_index(which);
    uint64_t flags;

    if (which == VMM_CR2) {
        x->cr2 = value;
    } else if (which == VMM_CR8) {
        x->tpr = value & 15;
        if (x->virtual_apic != NULL) {
            x->virtual_apic[VMX_VTPR] = (uint8_t)(x->tpr << 4);
        }
    } else if (which == VMM_DR6) {
        x->dr6 = value;
    } else if (which == VMM_BLOCKING) {
        set_blocking(v, value);
    } else if (lazy < VMX_LAZY_MSRS) {
        vmx_lazy_msr_write(v, lazy, value);
    } else {
        flags = vmx_acquire(v);
        set_loaded(v, which, value);
        vmx_release(flags);
    }
    if (which == VMM_CR0 || which == VMM_CR3 || which == VMM_CR4 || which == VMM_EFER) {
        vmx_flush(x);
        load_pdptes(v);
    }
}

void vmx_flush_tlb(struct vcpu *v)
{
    vmx_flush(vmx_vcpu(v));
}

void vmx_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
    uint64_t flags = vmx_acquire(v);

    vmcs_write64(VMCS_TSC_OFFSET, offset);
    vmx_release(flags);
}

/* SS.DPL is CPL in every mode but real mode, where entries demand that it be 0. */
static unsigned cpl_loaded(void)
{
    return vmcs_read32(VMCS_GUEST_SS_RIGHTS) >> 5 & 3;
}

unsigned vmx_cpl(struct vcpu *v)
{
    uint64_t flags = vmx_acquire(v);
    unsigned cpl = cpl_loaded();

    vmx_release(flags);
    return cpl;
}

void vmx_get_address_mode(struct vcpu *v, struct vmm_address_mode *out)
{
    const struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);

    out->cr0 = guest_cr0(&x->vmx->caps);
    out->cr3 = guest_cr3(x);
    out->cr4 = vmx_cr4_loaded(x);
    out->efer = guest_efer(x);
    out->cs_base = vmcs_readn(VMCS_GUEST_CS_BASE);
    out->cs_limit = vmcs_read32(VMCS_GUEST_CS_LIMIT);
    out->cs_attributes = vmx_attributes(vmcs_read32(VMCS_GUEST_CS_RIGHTS));
    out->cpl = (uint8_t)cpl_loaded();
    vmx_release(flags);
}
