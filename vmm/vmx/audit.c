/* Which rule for VM entries does a VMCS break? Pure: the fields come by a function. Spec: Intel SDM
 * vol. 3 sections 27.2 (controls and host state) and 27.3.1 (guest state). */
#include "core/x86.h"
#include "vmx/vmx.h"

#define CR4_PCIDE     (UINT64_C(1) << 17)
#define RFLAGS_VM     (UINT64_C(1) << 17)
#define RFLAGS_FIXED0 UINT64_C(0xffffffffffc08028) /* must be 0: 63:22, 15, 5, 3 */

#define RIGHTS_TYPE(r) ((r)&15)
#define RIGHTS_S       0x10u
#define RIGHTS_DPL(r)  ((r) >> 5 & 3)
#define RIGHTS_P       0x80u
#define RIGHTS_L       0x2000u
#define RIGHTS_DB      0x4000u
#define RIGHTS_G       0x8000u
#define RIGHTS_ZERO    0xfffe0f00u
#define SELECTOR_TI    4u
#define SELECTOR_RPL   3u

struct audit {
    const struct vmx_caps *caps;
    vmx_field_reader read;
    void *arg;
    vmx_audit_report report;
    const char *section; /* of the manual, whose rules are looked at */
    unsigned broken;
    uint64_t cr0, cr4, rflags;
    bool long_mode, unrestricted;
};

static uint64_t get(struct audit *a, uint32_t field)
{
    return a->read(a->arg, field);
}

static void check(struct audit *a, bool holds, const char *field, uint64_t value, const char *rule)
{
    if (!holds) {
        a->broken++;
        a->report(a->arg, a->section, field, value, rule);
    }
}

/* Name and value of a field, for check(). */
#define FIELD(name) #name, get(a, VMCS_ID_##name)

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static bool pat_valid(uint64_t pat)
{
    for (unsigned shift = 0; shift < 64; shift += 8) {
        uint64_t type = pat >> shift & 0xff;

        if (type > 7 || type == 2 || type == 3) {
            return false;
        }
    }
    return true;
}

/* --- sections 27.2.1 and 27.2.2 ----------------------------------------------------------------
 */

static bool has(struct audit *a, uint32_t field, uint32_t control)
{
    return (get(a, field) & control) != 0;
}

/* What a control needs to be set as well. */
static const struct {
    uint32_t field, control, other_field, other;
    const char *name, *rule;
} needs_table[] = {
#define NEEDS(where, control, other_where, other, rule)                                            \
    {                                                                                              \
        VMCS_ID_##where##_CONTROLS, control, VMCS_ID_##other_where##_CONTROLS, other,              \
            #where "_CONTROLS", rule                                                               \
    }
    NEEDS(PIN, PIN_VIRTUAL_NMIS, PIN, PIN_NMI, "virtual NMIs need NMI exiting"),
    NEEDS(PROC, PROC_NMI_WINDOW, PIN, PIN_VIRTUAL_NMIS, "an NMI window needs virtual NMIs"),
    NEEDS(PROC2, PROC2_UNRESTRICTED, PROC2, PROC2_EPT, "unrestricted guest needs EPT"),
    NEEDS(PROC2, PROC2_PML, PROC2, PROC2_EPT, "page-modification logging needs EPT"),
    NEEDS(PROC2, PROC2_X2APIC, PROC, PROC_TPR_SHADOW, "x2APIC mode needs the TPR shadow"),
    NEEDS(PROC2, PROC2_APIC_REGS, PROC, PROC_TPR_SHADOW, "APIC registers need the TPR shadow"),
    NEEDS(PROC2, PROC2_VIRTUAL_INTR, PROC, PROC_TPR_SHADOW,
          "virtual interrupts need the TPR shadow"),
    NEEDS(PROC2, PROC2_VIRTUAL_INTR, PIN, PIN_INTR, "virtual interrupts need interrupt exiting"),
    NEEDS(PIN, PIN_POSTED, PROC2, PROC2_VIRTUAL_INTR, "posted interrupts need virtual ones"),
    NEEDS(PIN, PIN_POSTED, EXIT, EXIT_ACK_INTR, "posted interrupts need acknowledgement at exits"),
#undef NEEDS
};

/* Bits that capability MSRs want set or clear. */
static void allowed(struct audit *a, uint32_t field, const char *name, uint64_t capability)
{
    uint64_t value = get(a, field);

    check(a, (value & (uint32_t)capability) == (uint32_t)capability, name, value,
          "reserved bits that must be 1 (capability MSR)");
    check(a, (value & ~(capability >> 32)) == 0, name, value,
          "reserved bits that must be 0 (capability MSR)");
}

static void controls(struct audit *a)
{
    const struct vmx_caps *c = a->caps;
    bool ept = has(a, VMCS_ID_PROC2_CONTROLS, PROC2_EPT);
    bool shadow = has(a, VMCS_ID_PROC_CONTROLS, PROC_TPR_SHADOW);
    uint64_t eptp = get(a, VMCS_ID_EPT_POINTER);

    a->section = "27.2.1.1";
    allowed(a, VMCS_ID_PIN_CONTROLS, "PIN_CONTROLS", c->pin_allowed);
    allowed(a, VMCS_ID_PROC_CONTROLS, "PROC_CONTROLS", c->proc_allowed);
    allowed(a, VMCS_ID_PROC2_CONTROLS, "PROC2_CONTROLS", c->proc2_allowed);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(needs_table); i++) {
        check(a,
              !has(a, needs_table[i].field, needs_table[i].control) ||
                  has(a, needs_table[i].other_field, needs_table[i].other),
              needs_table[i].name, get(a, needs_table[i].field), needs_table[i].rule);
    }
    check(a, get(a, VMCS_ID_CR3_TARGET_COUNT) <= 4, FIELD(CR3_TARGET_COUNT), "at most 4");
    check(a, (get(a, VMCS_ID_MSR_BITMAP) & 0xfff) == 0, FIELD(MSR_BITMAP), "4 KiB aligned");
    check(a, !shadow || (get(a, VMCS_ID_VIRTUAL_APIC) & 0xfff) == 0, FIELD(VIRTUAL_APIC),
          "4 KiB aligned");
    check(a,
          !has(a, VMCS_ID_PROC2_CONTROLS, PROC2_APIC_ACCESS) ||
              !has(a, VMCS_ID_PROC2_CONTROLS, PROC2_X2APIC),
          FIELD(PROC2_CONTROLS), "APIC accesses and x2APIC mode are not virtualised both");
    check(a,
          !has(a, VMCS_ID_PROC2_CONTROLS, PROC2_APIC_ACCESS) ||
              (get(a, VMCS_ID_APIC_ACCESS) & 0xfff) == 0,
          FIELD(APIC_ACCESS), "4 KiB aligned");
    check(a,
          !has(a, VMCS_ID_PROC2_CONTROLS, PROC2_PML) || (get(a, VMCS_ID_PML_ADDRESS) & 0xfff) == 0,
          FIELD(PML_ADDRESS), "4 KiB aligned");
    check(a, !has(a, VMCS_ID_PROC2_CONTROLS, PROC2_VPID) || get(a, VMCS_ID_VPID) != 0, FIELD(VPID),
          "not 0");
    check(a, !ept || (eptp & 7) == 6, FIELD(EPT_POINTER), "memory type is write-back");
    check(a, !ept || (eptp >> 3 & 7) == 3, FIELD(EPT_POINTER), "walk length is 4");
    check(a, !ept || (eptp & 0xf80) == 0, FIELD(EPT_POINTER), "bits 11:7 are 0");
    a->section = "27.2.1.2";
    allowed(a, VMCS_ID_EXIT_CONTROLS, "EXIT_CONTROLS", c->exit_allowed);
    a->section = "27.2.1.3";
    allowed(a, VMCS_ID_ENTRY_CONTROLS, "ENTRY_CONTROLS", c->entry_allowed);
}

static void event(struct audit *a)
{
    uint32_t info = (uint32_t)get(a, VMCS_ID_ENTRY_INTR_INFO);
    uint32_t type = info >> INTR_INFO_TYPE_SHIFT & 7;
    bool error = (info & INTR_INFO_HAS_ERROR) != 0;
    uint64_t blocked = get(a, VMCS_ID_GUEST_INTERRUPTIBILITY);

    a->section = "27.2.1.3";
    if ((info & INTR_INFO_VALID) == 0) {
        return;
    }
    check(a, type != 1 && type != 7, FIELD(ENTRY_INTR_INFO), "type is not reserved");
    check(a, type != INTR_TYPE_NMI || (info & 0xff) == 2, FIELD(ENTRY_INTR_INFO),
          "an NMI has vector 2");
    check(a, type != INTR_TYPE_EXCEPTION || (info & 0xff) < 32, FIELD(ENTRY_INTR_INFO),
          "an exception has a vector below 32");
    check(a, !error || type == INTR_TYPE_EXCEPTION, FIELD(ENTRY_INTR_INFO),
          "only exceptions have an error code");
    check(a, !error || (a->cr0 & X86_CR0_PE) != 0, FIELD(ENTRY_INTR_INFO),
          "no error code in real mode");
    check(a, type != INTR_TYPE_EXTERNAL || (a->rflags & X86_RFLAGS_IF) != 0, FIELD(GUEST_RFLAGS),
          "IF is set when an interrupt is injected");
    check(a, type != INTR_TYPE_EXTERNAL || (blocked & BLOCKED_SHADOW) == 0,
          FIELD(GUEST_INTERRUPTIBILITY), "no shadow when an interrupt is injected");
    check(a, type != INTR_TYPE_NMI || (blocked & (BLOCKED_MOV_SS | BLOCKED_NMI)) == 0,
          FIELD(GUEST_INTERRUPTIBILITY), "NMIs are not blocked when one is injected");
}

static void host(struct audit *a)
{
    const struct vmx_caps *c = a->caps;
    uint64_t cr0 = get(a, VMCS_ID_HOST_CR0);
    uint64_t cr4 = get(a, VMCS_ID_HOST_CR4);

    a->section = "27.2.2";
    check(a, (cr0 & c->cr0_fixed0) == c->cr0_fixed0 && (cr0 & ~c->cr0_fixed1) == 0, FIELD(HOST_CR0),
          "fixed bits (IA32_VMX_CR0_FIXED0, FIXED1)");
    check(a, (cr4 & c->cr4_fixed0) == c->cr4_fixed0 && (cr4 & ~c->cr4_fixed1) == 0, FIELD(HOST_CR4),
          "fixed bits (IA32_VMX_CR4_FIXED0, FIXED1)");
    check(a, get(a, VMCS_ID_HOST_CS) != 0, FIELD(HOST_CS), "not null");
    check(a, get(a, VMCS_ID_HOST_TR) != 0, FIELD(HOST_TR), "not null");
    check(a, (get(a, VMCS_ID_HOST_CS) & (SELECTOR_TI | SELECTOR_RPL)) == 0, FIELD(HOST_CS),
          "RPL and TI are 0");
    check(a, (get(a, VMCS_ID_HOST_TR) & (SELECTOR_TI | SELECTOR_RPL)) == 0, FIELD(HOST_TR),
          "RPL and TI are 0");
    check(a, canonical(get(a, VMCS_ID_HOST_FS_BASE)), FIELD(HOST_FS_BASE), "canonical");
    check(a, canonical(get(a, VMCS_ID_HOST_GS_BASE)), FIELD(HOST_GS_BASE), "canonical");
    check(a, canonical(get(a, VMCS_ID_HOST_TR_BASE)), FIELD(HOST_TR_BASE), "canonical");
    check(a, canonical(get(a, VMCS_ID_HOST_RIP)), FIELD(HOST_RIP), "canonical");
    check(a, pat_valid(get(a, VMCS_ID_HOST_PAT)), FIELD(HOST_PAT), "memory types");
}

/* --- section 27.3.1 ----------------------------------------------------------------------------
 */

static void control_registers(struct audit *a)
{
    const struct vmx_caps *c = a->caps;
    uint64_t free = a->unrestricted ? X86_CR0_PE | X86_CR0_PG : 0;
    uint64_t need = c->cr0_fixed0 & ~free;
    uint64_t efer = get(a, VMCS_ID_GUEST_EFER);

    a->section = "27.3.1.1";
    check(a, (a->cr0 & need) == need && (a->cr0 & ~c->cr0_fixed1) == 0, FIELD(GUEST_CR0),
          "fixed bits (IA32_VMX_CR0_FIXED0, FIXED1)");
    check(a, (a->cr0 & X86_CR0_PG) == 0 || (a->cr0 & X86_CR0_PE) != 0, FIELD(GUEST_CR0),
          "PG needs PE");
    check(a, (a->cr0 & X86_CR0_NW) == 0 || (a->cr0 & X86_CR0_CD) != 0, FIELD(GUEST_CR0),
          "NW needs CD");
    check(a, (a->cr4 & c->cr4_fixed0) == c->cr4_fixed0 && (a->cr4 & ~c->cr4_fixed1) == 0,
          FIELD(GUEST_CR4), "fixed bits (IA32_VMX_CR4_FIXED0, FIXED1)");
    check(a, !a->long_mode || (a->cr0 & X86_CR0_PG) != 0, FIELD(GUEST_CR0),
          "\"IA-32e mode guest\" needs PG");
    check(a, !a->long_mode || (a->cr4 & X86_CR4_PAE) != 0, FIELD(GUEST_CR4),
          "\"IA-32e mode guest\" needs PAE");
    check(a, a->long_mode || (a->cr4 & CR4_PCIDE) == 0, FIELD(GUEST_CR4),
          "PCIDE needs \"IA-32e mode guest\"");
    check(a, ((efer & X86_EFER_LMA) != 0) == a->long_mode, FIELD(GUEST_EFER),
          "LMA agrees with \"IA-32e mode guest\"");
    check(a,
          (a->cr0 & X86_CR0_PG) == 0 ||
              ((efer & X86_EFER_LMA) != 0) == ((efer & X86_EFER_LME) != 0),
          FIELD(GUEST_EFER), "LMA is LME when PG is set");
    check(a, pat_valid(get(a, VMCS_ID_GUEST_PAT)), FIELD(GUEST_PAT), "memory types");
    check(a, get(a, VMCS_ID_GUEST_DR7) >> 32 == 0, FIELD(GUEST_DR7), "bits 63:32 are 0");
    check(a, canonical(get(a, VMCS_ID_GUEST_SYSENTER_ESP)), FIELD(GUEST_SYSENTER_ESP), "canonical");
    check(a, canonical(get(a, VMCS_ID_GUEST_SYSENTER_EIP)), FIELD(GUEST_SYSENTER_EIP), "canonical");
}

struct segment_name {
    const char *name;
    uint32_t selector, limit, rights, base;
};

#define SEGMENT(name)                                                                              \
    {                                                                                              \
#name, VMCS_ID_GUEST_##name, VMCS_ID_GUEST_##name##_LIMIT, VMCS_ID_GUEST_##name##_RIGHTS,  \
            VMCS_ID_GUEST_##name##_BASE                                                            \
    }

/* What all segments in use have in common. */
static void usable(struct audit *a, const struct segment_name *s, uint64_t rights)
{
    uint64_t limit = get(a, s->limit);

    check(a, (rights & RIGHTS_P) != 0, s->name, rights, "access rights: present");
    check(a, (rights & RIGHTS_ZERO) == 0, s->name, rights, "access rights: reserved bits are 0");
    check(a, (limit & 0xfff) == 0xfff || (rights & RIGHTS_G) == 0, s->name, limit,
          "limit: G is 0 when a bit of 11:0 is 0");
    check(a, limit >> 20 == 0 || (rights & RIGHTS_G) != 0, s->name, limit,
          "limit: G is 1 when a bit of 31:20 is 1");
}

static void code_segment(struct audit *a)
{
    static const struct segment_name cs = SEGMENT(CS);
    uint64_t rights = get(a, cs.rights);
    unsigned type = RIGHTS_TYPE(rights);

    a->section = "27.3.1.2";
    usable(a, &cs, rights);
    check(a, (rights & RIGHTS_S) != 0, FIELD(GUEST_CS_RIGHTS), "S is 1");
    check(a, type == 9 || type == 11 || type == 13 || type == 15 || (type == 3 && a->unrestricted),
          FIELD(GUEST_CS_RIGHTS), "accessed code (or type 3, unrestricted guest)");
    check(a, !a->long_mode || (rights & RIGHTS_L) == 0 || (rights & RIGHTS_DB) == 0,
          FIELD(GUEST_CS_RIGHTS), "D/B is 0 in 64-bit code");
    check(a, get(a, cs.base) >> 32 == 0, FIELD(GUEST_CS_BASE), "bits 63:32 are 0");
}

static void data_segments(struct audit *a)
{
    static const struct segment_name data_table[] = {SEGMENT(SS), SEGMENT(DS), SEGMENT(ES),
                                                     SEGMENT(FS), SEGMENT(GS)};
    uint64_t ss = get(a, VMCS_ID_GUEST_SS_RIGHTS);

    a->section = "27.3.1.2";
    check(a, (a->cr0 & X86_CR0_PE) != 0 || RIGHTS_DPL(ss) == 0, FIELD(GUEST_SS_RIGHTS),
          "DPL is 0 in real mode");
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(data_table); i++) {
        const struct segment_name *s = &data_table[i];
        uint64_t rights = get(a, s->rights);

        if ((rights & RIGHTS_UNUSABLE) != 0) {
            continue;
        }
        usable(a, s, rights);
        check(a, (rights & RIGHTS_S) != 0 && (rights & 1) != 0, s->name, rights,
              "access rights: S is 1, accessed");
        check(a, i > 2 || get(a, s->base) >> 32 == 0, s->name, get(a, s->base),
              "base: bits 63:32 are 0");
        check(a, canonical(get(a, s->base)), s->name, get(a, s->base), "base: canonical");
    }
}

static void system_segments(struct audit *a)
{
    static const struct segment_name tr = SEGMENT(TR);
    static const struct segment_name ldtr = SEGMENT(LDTR);
    uint64_t rights = get(a, tr.rights);
    unsigned type = RIGHTS_TYPE(rights);

    a->section = "27.3.1.2";
    usable(a, &tr, rights);
    check(a, (rights & RIGHTS_UNUSABLE) == 0, FIELD(GUEST_TR_RIGHTS), "usable");
    check(a, (rights & RIGHTS_S) == 0 && (type == 11 || (type == 3 && !a->long_mode)),
          FIELD(GUEST_TR_RIGHTS), "a busy TSS (64-bit in \"IA-32e mode guest\")");
    check(a, (get(a, tr.selector) & SELECTOR_TI) == 0, FIELD(GUEST_TR), "TI is 0");
    check(a, canonical(get(a, tr.base)), FIELD(GUEST_TR_BASE), "canonical");
    rights = get(a, ldtr.rights);
    if ((rights & RIGHTS_UNUSABLE) == 0) {
        usable(a, &ldtr, rights);
        check(a, (rights & RIGHTS_S) == 0 && RIGHTS_TYPE(rights) == 2, FIELD(GUEST_LDTR_RIGHTS),
              "an LDT");
        check(a, canonical(get(a, ldtr.base)), FIELD(GUEST_LDTR_BASE), "canonical");
    }
    a->section = "27.3.1.3";
    check(a, canonical(get(a, VMCS_ID_GUEST_GDTR_BASE)), FIELD(GUEST_GDTR_BASE), "canonical");
    check(a, canonical(get(a, VMCS_ID_GUEST_IDTR_BASE)), FIELD(GUEST_IDTR_BASE), "canonical");
    check(a, get(a, VMCS_ID_GUEST_GDTR_LIMIT) <= 0xffff, FIELD(GUEST_GDTR_LIMIT),
          "bits 31:16 are 0");
    check(a, get(a, VMCS_ID_GUEST_IDTR_LIMIT) <= 0xffff, FIELD(GUEST_IDTR_LIMIT),
          "bits 31:16 are 0");
}

static void rest(struct audit *a)
{
    uint64_t rip = get(a, VMCS_ID_GUEST_RIP);
    uint64_t blocked = get(a, VMCS_ID_GUEST_INTERRUPTIBILITY);
    uint64_t shadow = blocked & BLOCKED_SHADOW;
    bool step = (get(a, VMCS_ID_GUEST_PENDING_DEBUG) & X86_DR6_BS) != 0;
    bool code64 = a->long_mode && (get(a, VMCS_ID_GUEST_CS_RIGHTS) & RIGHTS_L) != 0;

    a->section = "27.3.1.4";
    check(a, code64 || rip >> 32 == 0, FIELD(GUEST_RIP), "bits 63:32 are 0 outside 64-bit code");
    check(a, (a->rflags & RFLAGS_FIXED0) == 0 && (a->rflags & X86_RFLAGS_FIXED) != 0,
          FIELD(GUEST_RFLAGS), "reserved bits");
    check(a, !a->long_mode || (a->rflags & RFLAGS_VM) == 0, FIELD(GUEST_RFLAGS),
          "VM is 0 in \"IA-32e mode guest\"");
    a->section = "27.3.1.5";
    check(a, get(a, VMCS_ID_GUEST_ACTIVITY) == 0, FIELD(GUEST_ACTIVITY), "active");
    check(a, shadow != BLOCKED_SHADOW, FIELD(GUEST_INTERRUPTIBILITY),
          "STI and MOV SS do not both block");
    check(a, (blocked & BLOCKED_STI) == 0 || (a->rflags & X86_RFLAGS_IF) != 0,
          FIELD(GUEST_INTERRUPTIBILITY), "STI blocks only when IF is set");
    check(a, shadow == 0 || step == ((a->rflags & X86_RFLAGS_TF) != 0), FIELD(GUEST_PENDING_DEBUG),
          "in a shadow BS is TF");
    check(a, get(a, VMCS_ID_LINK_POINTER) == UINT64_MAX, FIELD(LINK_POINTER), "no shadow VMCS");
}

unsigned vmx_audit(const struct vmx_caps *caps, vmx_field_reader read, void *arg,
                   vmx_audit_report report)
{
    struct audit audit = {.caps = caps, .read = read, .arg = arg, .report = report};
    struct audit *a = &audit;

    a->cr0 = get(a, VMCS_ID_GUEST_CR0);
    a->cr4 = get(a, VMCS_ID_GUEST_CR4);
    a->rflags = get(a, VMCS_ID_GUEST_RFLAGS);
    a->long_mode = (get(a, VMCS_ID_ENTRY_CONTROLS) & ENTRY_IA32E) != 0;
    a->unrestricted = (get(a, VMCS_ID_PROC2_CONTROLS) & PROC2_UNRESTRICTED) != 0;
    controls(a);
    event(a);
    host(a);
    control_registers(a);
    code_segment(a);
    data_segments(a);
    system_segments(a);
    rest(a);
    return a->broken;
}
