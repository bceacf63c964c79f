/* From the capability MSRs to the controls that are used. Pure: the MSRs come by a function.
 * Spec: Intel SDM vol. 3 appendix A. */
#include "core/x86.h"
#include "vmx/vmx.h"

#define MSR_BASIC      0x480
#define MSR_PIN        0x481
#define MSR_PROC       0x482
#define MSR_EXIT       0x483
#define MSR_ENTRY      0x484
#define MSR_MISC       0x485
#define MSR_CR0_FIXED0 0x486
#define MSR_CR0_FIXED1 0x487
#define MSR_CR4_FIXED0 0x488
#define MSR_CR4_FIXED1 0x489
#define MSR_PROC2      0x48b
#define MSR_EPT_VPID   0x48c
#define TRUE_DISTANCE  12 /* MSR_TRUE_PIN - MSR_PIN, and so on for four of them */

#define BASIC_TRUE_CONTROLS (UINT64_C(1) << 55)
#define MISC_TIMER_SHIFT    UINT64_C(0x1f)

/* Interrupts of the LAPIC without exits: all of it, or none. */
#define PROC2_APICV (PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VIRTUAL_INTR)

#define EPT_4_LEVELS       (UINT64_C(1) << 6)
#define EPT_WRITE_BACK     (UINT64_C(1) << 14)
#define EPT_2M             (UINT64_C(1) << 16)
#define EPT_1G             (UINT64_C(1) << 17)
#define EPT_INVEPT         (UINT64_C(1) << 20)
#define EPT_ACCESSED_DIRTY (UINT64_C(1) << 21)
#define EPT_INVEPT_SINGLE  (UINT64_C(1) << 25)
#define EPT_INVEPT_ALL     (UINT64_C(1) << 26)
#define VPID_INVVPID       (UINT64_C(1) << 32)
#define VPID_INVVPID_ALL   (UINT64_C(1) << 42)

#define EPT_NEEDED  (EPT_4_LEVELS | EPT_WRITE_BACK | EPT_2M | EPT_INVEPT | EPT_INVEPT_ALL)
#define VPID_NEEDED (VPID_INVVPID | VPID_INVVPID_ALL)

#define PIN_NEEDED (PIN_INTR | PIN_NMI | PIN_VIRTUAL_NMIS)
#define PROC_NEEDED                                                                                \
    (PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_RDPMC | PROC_MOV_DR | PROC_IO |                \
     PROC_MSR_BITMAPS | PROC_MONITOR | PROC_SECONDARY)
#define EXIT_NEEDED                                                                                \
    (EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER)
#define ENTRY_NEEDED (ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER)

uint32_t vmx_controls(uint64_t capability, uint32_t need, uint32_t like, uint32_t *out)
{
    uint32_t must = (uint32_t)capability;
    uint32_t may = (uint32_t)(capability >> 32);

    *out = ((need | like) & may) | must;
    return need & ~may;
}

/* Secondary controls that are used when there, and the words that take them away. */
static const struct {
    uint32_t bit;
    const char *name;
} like_table[] = {
    {PROC2_RDTSCP, "rdtscp"},   {PROC2_VPID, "vpid"},      {PROC2_WBINVD, "wbinvd"},
    {PROC2_INVPCID, "invpcid"}, {PROC2_PAUSE_LOOP, "ple"}, {PROC2_UNRESTRICTED, "unrestricted"},
    {PROC2_XSAVES, "xsaves"},
};

static bool wanted(const char *without, const char *name)
{
    return !vmm_option_takes_away(without, name);
}

static uint32_t secondary_like(const struct vmx_caps *caps, const char *without)
{
    uint32_t like = 0;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(like_table); i++) {
        if (wanted(without, like_table[i].name)) {
            like |= like_table[i].bit;
        }
    }
    if ((caps->ept_vpid & VPID_NEEDED) != VPID_NEEDED) {
        like &= ~PROC2_VPID;
    }
    return like;
}

static void read_fixed(struct vmx_caps *caps, vmx_msr_reader read, void *arg, const char *without)
{
    caps->revision = (uint32_t)read(arg, MSR_BASIC) & 0x7fffffff;
    caps->cr0_fixed0 = read(arg, MSR_CR0_FIXED0);
    caps->cr0_fixed1 = read(arg, MSR_CR0_FIXED1);
    caps->cr4_fixed0 = read(arg, MSR_CR4_FIXED0);
    caps->cr4_fixed1 = read(arg, MSR_CR4_FIXED1);
    caps->ept_vpid = read(arg, MSR_EPT_VPID);
    caps->page_1g = (caps->ept_vpid & EPT_1G) != 0 && wanted(without, "1g");
    caps->ept_ad = (caps->ept_vpid & EPT_ACCESSED_DIRTY) != 0 && wanted(without, "ad");
    caps->invept_single = (caps->ept_vpid & EPT_INVEPT_SINGLE) != 0;
}

static void choose_timer(struct vmx_caps *caps, uint64_t misc, const char *without)
{
    caps->timer_shift = (unsigned)(misc & MISC_TIMER_SHIFT);
    if ((caps->pin_allowed >> 32 & PIN_TIMER) != 0 && wanted(without, "timer")) {
        caps->pin |= PIN_TIMER;
    }
}

/* The log is of dirty bits. */
static void choose_pml(struct vmx_caps *caps, const char *without)
{
    caps->proc2_offered = caps->proc2;
    if ((caps->proc2_allowed >> 32 & PROC2_PML) != 0 && caps->ept_ad && wanted(without, "pml")) {
        caps->proc2_offered |= PROC2_PML;
    }
}

/* Posting wants exits to acknowledge their interrupts; that alone can be had as well. */
static void choose_posted(struct vmx_caps *caps, const char *without)
{
    bool asked = vmm_option_adds(without, "posted");

    caps->ack = asked && (caps->exit_allowed >> 32 & EXIT_ACK_INTR) != 0;
    caps->posted = caps->ack && caps->apicv && (caps->pin_allowed >> 32 & PIN_POSTED) != 0;
    if (caps->ack) {
        caps->exit |= EXIT_ACK_INTR;
    }
}

static void choose_apicv(struct vmx_caps *caps, const char *without)
{
    caps->apicv = (caps->proc2_allowed >> 32 & PROC2_APICV) == PROC2_APICV &&
                  (caps->proc & PROC_TPR_SHADOW) != 0 && wanted(without, "apicv");
}

/* CR8: either the TPR shadow, or exits. */
static uint32_t choose_proc(struct vmx_caps *caps, const char *without)
{
    bool shadow = (caps->proc_allowed >> 32 & PROC_TPR_SHADOW) != 0 && wanted(without, "tpr");

    return vmx_controls(caps->proc_allowed,
                        PROC_NEEDED | (shadow ? PROC_TPR_SHADOW : PROC_CR8_LOAD | PROC_CR8_STORE),
                        0, &caps->proc);
}

int vmx_caps_read(struct vmx_caps *caps, vmx_msr_reader read, void *arg, const char *without,
                  const char **lacks)
{
    uint32_t at = (read(arg, MSR_BASIC) & BASIC_TRUE_CONTROLS) != 0 ? TRUE_DISTANCE : 0;

    *lacks = NULL;
    caps->pin_allowed = read(arg, MSR_PIN + at);
    caps->proc_allowed = read(arg, MSR_PROC + at);
    caps->proc2_allowed = read(arg, MSR_PROC2);
    caps->exit_allowed = read(arg, MSR_EXIT + at);
    caps->entry_allowed = read(arg, MSR_ENTRY + at);
    if (vmx_controls(caps->pin_allowed, PIN_NEEDED, 0, &caps->pin) != 0) {
        *lacks = "virtual NMIs";
    } else if (choose_proc(caps, without) != 0) {
        *lacks = "secondary controls or MSR bitmaps";
    } else if ((caps->proc2_allowed >> 32 & PROC2_EPT) == 0) {
        *lacks = "nested paging (EPT)";
    } else if (vmx_controls(caps->exit_allowed, EXIT_NEEDED, 0, &caps->exit) != 0 ||
               vmx_controls(caps->entry_allowed, ENTRY_NEEDED, 0, &caps->entry) != 0) {
        *lacks = "controls that switch EFER and PAT";
    }
    if (*lacks != NULL) {
        return -VMM_ENOTSUP;
    }
    read_fixed(caps, read, arg, without);
    if ((caps->ept_vpid & EPT_NEEDED) != EPT_NEEDED) {
        *lacks = "a form of EPT that is needed: four levels, write-back, 2 MiB pages, INVEPT";
        return -VMM_ENOTSUP;
    }
    vmx_controls(caps->proc2_allowed, PROC2_EPT, secondary_like(caps, without), &caps->proc2);
    choose_timer(caps, read(arg, MSR_MISC), without);
    choose_apicv(caps, without);
    choose_pml(caps, without);
    choose_posted(caps, without);
    return 0;
}
