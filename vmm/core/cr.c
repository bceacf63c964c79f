/* Writes to CR0, CR3 and CR4 that exited, with the rules for them. Spec: Intel SDM vol. 3 sections
 * 2.5 and 4.1; AMD APM vol. 2 section 3.1. */
#include "core/vm.h"
#include "core/x86.h"

#define CR4_PCIDE      (UINT64_C(1) << 17)
#define CR3_NO_FLUSH   (UINT64_C(1) << 63) /* with PCIDs */
#define CR3_RESERVED   (UINT64_C(0x7ff) << 52)
#define PAE_POINTERS   UINT64_C(0xffffffe0) /* of CR3 */
#define PDPTE_RESERVED (UINT64_C(0xfff) << 52 | 0x1c6)

static bool in_64_bit_code(struct vcpu *v)
{
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_CS, &cs);
    return (cs.attributes & VMM_SEGMENT_LONG) != 0;
}

/* PAE's four pointers are read, and judged, when CR3 is loaded or such paging goes on. Bit 5 would
 * be reserved, too, but emulators set it: A. SDM vol. 3 section 4.4.1. */
static bool pae_pointers_valid(struct vcpu *v, uint64_t cr3)
{
    uint64_t entry[4];

    if (vmm_memory_read(v->vm, VMM_GPA(cr3 & PAE_POINTERS), entry, sizeof(entry)) != 0) {
        return false; /* all ones */
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(entry); i++) {
        if ((entry[i] & 1) != 0 && (entry[i] & PDPTE_RESERVED) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_pae(struct vcpu *v, uint64_t cr0, uint64_t cr4)
{
    return (cr0 & X86_CR0_PG) != 0 && (cr4 & X86_CR4_PAE) != 0 &&
           (v->backend->get_sysreg(v, VMM_EFER) & X86_EFER_LMA) == 0;
}

/* Paging goes on or off: EFER.LMA follows LME. */
static bool switch_paging(struct vcpu *v, bool on)
{
    uint64_t efer = v->backend->get_sysreg(v, VMM_EFER);
    uint64_t cr4 = v->backend->get_sysreg(v, VMM_CR4);

    if (on && (efer & X86_EFER_LME) != 0) {
        if ((cr4 & X86_CR4_PAE) == 0 || in_64_bit_code(v)) {
            return false;
        }
        v->backend->set_sysreg(v, VMM_EFER, efer | X86_EFER_LMA);
    } else if (on) {
        return (cr4 & X86_CR4_PAE) == 0 ||
               pae_pointers_valid(v, v->backend->get_sysreg(v, VMM_CR3));
    } else {
        if ((cr4 & CR4_PCIDE) != 0 || ((efer & X86_EFER_LMA) != 0 && in_64_bit_code(v))) {
            return false;
        }
        v->backend->set_sysreg(v, VMM_EFER, efer & ~X86_EFER_LMA);
    }
    return true;
}

static bool write_cr0(struct vcpu *v, uint64_t value)
{
    uint64_t old = v->backend->get_sysreg(v, VMM_CR0);

    if (value >> 32 != 0 || ((value & X86_CR0_PG) != 0 && (value & X86_CR0_PE) == 0) ||
        ((value & X86_CR0_NW) != 0 && (value & X86_CR0_CD) == 0)) {
        return false;
    }
    if (((value ^ old) & X86_CR0_PG) != 0 && !switch_paging(v, (value & X86_CR0_PG) != 0)) {
        return false;
    }
    v->backend->set_sysreg(v, VMM_CR0, (value & X86_CR0_WRITABLE) | X86_CR0_ET);
    return true;
}

static bool write_cr3(struct vcpu *v, uint64_t value)
{
    uint64_t cr4 = v->backend->get_sysreg(v, VMM_CR4);

    if ((value & CR3_RESERVED) != 0 || ((value & CR3_NO_FLUSH) != 0 && (cr4 & CR4_PCIDE) == 0)) {
        return false;
    }
    value &= ~CR3_NO_FLUSH;
    if (is_pae(v, v->backend->get_sysreg(v, VMM_CR0), cr4) && !pae_pointers_valid(v, value)) {
        return false;
    }
    v->backend->set_sysreg(v, VMM_CR3, value);
    return true;
}

/* Mostly only bits that guests do not have cause an exit. */
static bool write_cr4(struct vcpu *v, uint64_t value)
{
    if (((value ^ v->backend->get_sysreg(v, VMM_CR4)) & ~v->cr4_free) != 0) {
        return false;
    }
    if (is_pae(v, v->backend->get_sysreg(v, VMM_CR0), value) &&
        !pae_pointers_valid(v, v->backend->get_sysreg(v, VMM_CR3))) {
        return false;
    }
    v->backend->set_sysreg(v, VMM_CR4, value);
    return true;
}

/* Only 64-bit code moves more than 32 bits. */
static uint64_t moved(struct vcpu *v, uint64_t value)
{
    struct vmm_address_mode mode;

    v->backend->get_address_mode(v, &mode);
    return vmm_mode_is_64(&mode) ? value : (uint32_t)value;
}

bool vmm_write_cr(struct vcpu *v, unsigned number, uint64_t value)
{
    value = moved(v, value);
    switch (number) {
    case 0:
        return write_cr0(v, value);
    case 3:
        return write_cr3(v, value);
    case 4:
        return write_cr4(v, value);
    default:
        return false;
    }
}
