/* The pure parts of the VMX back end: controls from capability MSRs, access rights, MSR bitmap, the
 * auditor of refused entries. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "core/x86.h"
#include "vmx/vmx.h"

/* --- controls --------------------------------------------------------------------------------- */

#define FIXED_MSRS 0x11

struct msrs {
    uint64_t value[FIXED_MSRS]; /* from 0x480 */
};

static uint64_t read_msr(void *arg, uint32_t msr)
{
    const struct msrs *m = arg;

    assert_in_range(msr, 0x480, 0x480 + FIXED_MSRS - 1);
    return m->value[msr - 0x480];
}

/* A processor that has everything and demands nothing but what the SDM says it does. */
static struct msrs full_processor(void)
{
    struct msrs m = {.value = {[0x0] = UINT64_C(1) << 55 | 0x12,
                               [0x5] = 5,
                               [0x6] = 0x80000021,
                               [0x7] = 0xffffffff,
                               [0x8] = 0x2000,
                               [0x9] = 0x3767ff,
                               [0xb] = UINT64_C(0xffffffff) << 32,
                               [0xc] = UINT64_C(0xf0106334141)}};

    m.value[0xd] = UINT64_C(0xff) << 32 | 0x16;
    m.value[0xe] = UINT64_C(0xfff9fffe) << 32 | 0x4006172;
    m.value[0xf] = UINT64_C(0x7fffff) << 32 | 0x36dfb;
    m.value[0x10] = UINT64_C(0xffff) << 32 | 0x11fb;
    return m;
}

static void controls_obey_both_halves(void **state)
{
    uint32_t out;

    (void)state;
    assert_int_equal(vmx_controls(UINT64_C(0xf0) << 32 | 0x10, 0x20, 0x40, &out), 0);
    assert_int_equal(out, 0x70);
    assert_int_equal(vmx_controls(UINT64_C(0xf0) << 32, 0x21, 0, &out), 1);
    vmx_controls(UINT64_C(0xf0) << 32, 0, 0x0f, &out);
    assert_int_equal(out, 0);
}

static void full_processor_is_used(void **state)
{
    struct msrs m = full_processor();
    struct vmx_caps caps;
    const char *lacks;

    (void)state;
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, NULL, &lacks), 0);
    assert_null(lacks);
    assert_int_equal(caps.revision, 0x12);
    assert_true((caps.proc & PROC_TPR_SHADOW) != 0);
    assert_int_equal(caps.proc & (PROC_CR8_LOAD | PROC_CR8_STORE), 0);
    assert_int_equal(caps.proc & 0x18000, 0); /* TRUE controls: no CR3 exits */
    assert_true((caps.proc2 & PROC2_UNRESTRICTED) != 0 && (caps.proc2 & PROC2_VPID) != 0);
    assert_true(caps.page_1g && caps.ept_ad && caps.apicv);
    assert_true((caps.pin & PIN_TIMER) != 0 && (caps.proc2 & PROC2_XSAVES) != 0);
    assert_int_equal(caps.timer_shift, 5);
    /* By the LAPIC's mode, not from the start. */
    assert_int_equal(caps.proc2 & (PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_VIRTUAL_INTR), 0);
}

static void features_can_be_taken_away(void **state)
{
    struct msrs m = full_processor();
    struct vmx_caps caps;
    const char *lacks;

    (void)state;
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, "-vpid,-tpr,-1g,-unrestricted", &lacks), 0);
    assert_int_equal(caps.proc2 & (PROC2_VPID | PROC2_UNRESTRICTED), 0);
    assert_int_equal(caps.proc & PROC_TPR_SHADOW, 0);
    assert_int_equal(caps.proc & (PROC_CR8_LOAD | PROC_CR8_STORE), PROC_CR8_LOAD | PROC_CR8_STORE);
    assert_false(caps.page_1g || caps.apicv); /* interrupts without exits need the TPR shadow */
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, "-apicv,-timer,-xsaves", &lacks), 0);
    assert_false(caps.apicv);
    assert_int_equal(caps.pin & PIN_TIMER, 0);
    assert_int_equal(caps.proc2 & PROC2_XSAVES, 0);
    assert_true((caps.proc & PROC_TPR_SHADOW) != 0);
}

static void posting_is_asked_for(void **state)
{
    struct msrs m = full_processor();
    struct vmx_caps caps;
    const char *lacks;

    (void)state;
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, NULL, &lacks), 0);
    assert_false(caps.posted || caps.ack);
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, "+posted", &lacks), 0);
    assert_true(caps.posted && caps.ack && (caps.exit & EXIT_ACK_INTR) != 0);
    assert_int_equal(caps.pin & PIN_POSTED, 0); /* with the LAPIC's mode */
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, "-apicv,+posted", &lacks), 0);
    assert_true(!caps.posted && caps.ack);
}

static void what_lacks_is_named(void **state)
{
    struct msrs m = full_processor();
    struct vmx_caps caps;
    const char *lacks;

    (void)state;
    m.value[0xb] = 0;
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, NULL, &lacks), -VMM_ENOTSUP);
    assert_non_null(strstr(lacks, "EPT"));
    m = full_processor();
    m.value[0xd] = UINT64_C(0x9) << 32;
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, NULL, &lacks), -VMM_ENOTSUP);
    assert_non_null(strstr(lacks, "NMI"));
}

static void old_processors_have_no_true_controls(void **state)
{
    struct msrs m = full_processor();
    struct vmx_caps caps;
    const char *lacks;

    (void)state;
    m.value[0x0] = 0x12;
    m.value[0x1] = m.value[0xd];
    m.value[0x2] = UINT64_C(0xfff9fffe) << 32 | 0x401e172;
    m.value[0x3] = m.value[0xf];
    m.value[0x4] = m.value[0x10];
    assert_int_equal(vmx_caps_read(&caps, read_msr, &m, NULL, &lacks), 0);
    assert_int_equal(caps.proc & 0x18000, 0x18000); /* CR3 exits cannot be had off */
}

/* --- access rights, bitmap -------------------------------------------------------------------- */

static void rights_are_attributes(void **state)
{
    (void)state;
    assert_int_equal(vmx_rights(VMM_SEG_CS, 0xa9b, 0xffffffff), 0xa09b);
    assert_int_equal(vmx_attributes(0xa09b), 0xa9b);
    assert_int_equal(vmx_rights(VMM_SEG_DS, 0xc92, 0xffffffff), 0xc093); /* accessed */
    assert_int_equal(vmx_rights(VMM_SEG_TR, 0x089, 0x67), 0x8b);         /* busy */
    assert_int_equal(vmx_rights(VMM_SEG_DS, 0x893, 0xfff0), 0x93);       /* G cannot be */
    assert_int_equal(vmx_rights(VMM_SEG_DS, 0x093, 0xffffffff), 0x8093); /* G has to be */
    assert_true((vmx_rights(VMM_SEG_DS, 0, 0) & RIGHTS_UNUSABLE) != 0);
    assert_int_equal(vmx_attributes(RIGHTS_UNUSABLE | 0xf3), 0x73); /* not present, DPL kept */
}

static bool passes(const uint8_t *map, unsigned at, uint32_t index)
{
    return (map[at + index / 8] >> index % 8 & 1) == 0;
}

static void msr_map_passes_what_is_switched(void **state)
{
    static uint8_t map[4096];
    unsigned open = 0;

    (void)state;
    vmx_msr_map_fill(map);
    assert_true(passes(map, 0, 0x174) && passes(map, 0x800, 0x176));
    assert_true(passes(map, 0x400, 0x82) && passes(map, 0xc00, 0x102));
    assert_true(passes(map, 0x400, 0x103) && !passes(map, 0xc00, 0x103));
    assert_false(passes(map, 0x400, 0x80));
    for (unsigned i = 0; i < sizeof(map) * 8; i++) {
        open += (map[i / 8] >> i % 8 & 1) == 0;
    }
    assert_int_equal(open, 2 * (3 + 4 + 3) + 1);
}

static void x2apic_msrs_need_no_exits(void **state)
{
    static uint8_t map[4096];

    (void)state;
    vmx_msr_map_fill(map);
    assert_false(passes(map, 0, 0x808) || passes(map, 0x800, 0x80b));
    vmx_msr_map_open_x2apic(map);
    for (uint32_t msr = 0x800; msr < 0x900; msr++) {
        bool exists = msr == 0x802 || msr == 0x803 || msr == 0x808 || msr == 0x80a ||
                      msr == 0x80d || (msr >= 0x80f && msr <= 0x828) || msr == 0x830 ||
                      (msr >= 0x832 && msr <= 0x838) || msr == 0x83e;

        assert_int_equal(passes(map, 0, msr), exists); /* not 0x839: the current count runs */
        assert_int_equal(passes(map, 0x800, msr), msr == 0x808 || msr == 0x80b || msr == 0x83f);
    }
    assert_true(passes(map, 0x400, 0x82)); /* the others as before */
}

/* --- the auditor ------------------------------------------------------------------------------ */

#define FIELD_ROOM 0x7000

struct audited {
    uint64_t field[FIELD_ROOM];
    const char *wanted_name, *wanted_rule;
    bool found; /* that was reported */
    struct vmx_caps caps;
};

static uint64_t read_field(void *arg, uint32_t field)
{
    const struct audited *a = arg;

    assert_true(field < FIELD_ROOM);
    return a->field[field];
}

static void report(void *arg, const char *section, const char *field, uint64_t value,
                   const char *rule)
{
    struct audited *a = arg;

    (void)value;
    assert_int_equal(strncmp(section, "27.", 3), 0);
    if (a->wanted_name != NULL && strcmp(field, a->wanted_name) == 0 &&
        strstr(rule, a->wanted_rule) != NULL) {
        a->found = true;
    }
}

/* 64-bit guest, as entries like it. */
static struct audited *good(void)
{
    static struct audited audited;
    struct audited *a = &audited;
    struct msrs m = full_processor();
    const char *lacks;

    memset(a, 0, sizeof(*a));
    assert_int_equal(vmx_caps_read(&a->caps, read_msr, &m, NULL, &lacks), 0);
    a->field[VMCS_ID_PROC2_CONTROLS] = a->caps.proc2;
    a->field[VMCS_ID_PROC_CONTROLS] = a->caps.proc;
    a->field[VMCS_ID_PIN_CONTROLS] = a->caps.pin;
    a->field[VMCS_ID_EXIT_CONTROLS] = a->caps.exit;
    a->field[VMCS_ID_ENTRY_CONTROLS] = a->caps.entry | ENTRY_IA32E;
    a->field[VMCS_ID_EPT_POINTER] = 0x100000 | 0x5e;
    a->field[VMCS_ID_VPID] = 1;
    a->field[VMCS_ID_HOST_CR0] = a->field[VMCS_ID_GUEST_CR0] = 0x80010033;
    a->field[VMCS_ID_HOST_CR4] = a->field[VMCS_ID_GUEST_CR4] = 0x20a0;
    a->field[VMCS_ID_HOST_CS] = 8;
    a->field[VMCS_ID_HOST_TR] = 0x40;
    a->field[VMCS_ID_HOST_PAT] = a->field[VMCS_ID_GUEST_PAT] = X86_PAT_RESET;
    a->field[VMCS_ID_GUEST_EFER] = X86_EFER_LME | X86_EFER_LMA;
    a->field[VMCS_ID_GUEST_CS_RIGHTS] = 0xa09b;
    a->field[VMCS_ID_GUEST_CS_LIMIT] = 0xffffffff;
    for (unsigned i = VMCS_ID_GUEST_SS_RIGHTS; i <= VMCS_ID_GUEST_GS_RIGHTS; i += 2) {
        a->field[i] = RIGHTS_UNUSABLE;
    }
    a->field[VMCS_ID_GUEST_ES_RIGHTS] = a->field[VMCS_ID_GUEST_LDTR_RIGHTS] = RIGHTS_UNUSABLE;
    a->field[VMCS_ID_GUEST_TR_RIGHTS] = 0x8b;
    a->field[VMCS_ID_GUEST_TR_LIMIT] = 0x67;
    a->field[VMCS_ID_GUEST_RFLAGS] = 2;
    a->field[VMCS_ID_LINK_POINTER] = UINT64_MAX;
    return a;
}

static void good_state_passes(void **state)
{
    (void)state;
    struct audited *a = good();

    assert_int_equal(vmx_audit(&a->caps, read_field, a, report), 0);
}

/* One field wrong, and the auditor names it; it may break rules of other fields too. */
static void each_rule_names_its_field(void **state)
{
    static const struct {
        uint32_t field;
        uint64_t value;
        const char *name, *rule;
    } wrong_table[] = {
        {VMCS_ID_PIN_CONTROLS, 0, "PIN_CONTROLS", "must be 1"},
        {VMCS_ID_PIN_CONTROLS, 0x116, "PIN_CONTROLS", "must be 0"},
        {VMCS_ID_PIN_CONTROLS, 0x36, "PIN_CONTROLS", "virtual NMIs need NMI exiting"},
        {VMCS_ID_PIN_CONTROLS, 0x9f, "PIN_CONTROLS", "posted interrupts need virtual ones"},
        {VMCS_ID_PROC_CONTROLS, 0, "PROC_CONTROLS", "must be 1"},
        {VMCS_ID_PROC2_CONTROLS, PROC2_UNRESTRICTED, "PROC2_CONTROLS", "needs EPT"},
        {VMCS_ID_PROC2_CONTROLS, PROC2_EPT | PROC2_X2APIC | PROC2_APIC_ACCESS, "PROC2_CONTROLS",
         "not virtualised both"},
        {VMCS_ID_EXIT_CONTROLS, 0, "EXIT_CONTROLS", "must be 1"},
        {VMCS_ID_ENTRY_CONTROLS, UINT32_MAX, "ENTRY_CONTROLS", "must be 0"},
        {VMCS_ID_VIRTUAL_APIC, 0x80, "VIRTUAL_APIC", "aligned"},
        {VMCS_ID_EPT_POINTER, 0x100040, "EPT_POINTER", "walk length"},
        {VMCS_ID_VPID, 0, "VPID", "not 0"},
        {VMCS_ID_MSR_BITMAP, 0x1001, "MSR_BITMAP", "aligned"},
        {VMCS_ID_HOST_CS, 0, "HOST_CS", "not null"},
        {VMCS_ID_HOST_CS, 0xb, "HOST_CS", "RPL"},
        {VMCS_ID_HOST_GS_BASE, UINT64_C(1) << 60, "HOST_GS_BASE", "canonical"},
        {VMCS_ID_HOST_PAT, 2, "HOST_PAT", "memory types"},
        {VMCS_ID_GUEST_CR0, 0x80000001, "GUEST_CR0", "fixed bits"},
        {VMCS_ID_GUEST_CR4, 0x2000, "GUEST_CR4", "needs PAE"},
        {VMCS_ID_GUEST_EFER, 0x400, "GUEST_EFER", "PG is set"},
        {VMCS_ID_GUEST_DR7, UINT64_C(1) << 32, "GUEST_DR7", "63:32"},
        {VMCS_ID_GUEST_CS_RIGHTS, 0xe09b, "GUEST_CS_RIGHTS", "D/B"},
        {VMCS_ID_GUEST_CS_RIGHTS, 0xa091, "GUEST_CS_RIGHTS", "accessed code"},
        {VMCS_ID_GUEST_CS_LIMIT, 0xfff00000, "CS", "G is 0"},
        {VMCS_ID_GUEST_DS_RIGHTS, 0x92, "DS", "accessed"},
        {VMCS_ID_GUEST_TR_RIGHTS, 0x89, "GUEST_TR_RIGHTS", "busy TSS"},
        {VMCS_ID_GUEST_GDTR_LIMIT, 0x10000, "GUEST_GDTR_LIMIT", "31:16"},
        {VMCS_ID_GUEST_RFLAGS, 0, "GUEST_RFLAGS", "reserved"},
        {VMCS_ID_GUEST_RFLAGS, 0x20002, "GUEST_RFLAGS", "VM is 0"},
        {VMCS_ID_GUEST_ACTIVITY, 1, "GUEST_ACTIVITY", "active"},
        {VMCS_ID_GUEST_INTERRUPTIBILITY, 1, "GUEST_INTERRUPTIBILITY", "IF is set"},
        {VMCS_ID_GUEST_INTERRUPTIBILITY, 3, "GUEST_INTERRUPTIBILITY", "both"},
        {VMCS_ID_LINK_POINTER, 0, "LINK_POINTER", "shadow"},
        {VMCS_ID_ENTRY_INTR_INFO, 0x80000030, "GUEST_RFLAGS", "IF is set"},
        {VMCS_ID_ENTRY_INTR_INFO, 0x80000203, "ENTRY_INTR_INFO", "vector 2"},
        {VMCS_ID_ENTRY_INTR_INFO, 0x80000a02, "ENTRY_INTR_INFO", "error code"},
        {VMCS_ID_ENTRY_INTR_INFO, 0x80000330, "ENTRY_INTR_INFO", "below 32"},
    };

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(wrong_table); i++) {
        struct audited *a = good();

        a->field[wrong_table[i].field] = wrong_table[i].value;
        a->wanted_name = wrong_table[i].name;
        a->wanted_rule = wrong_table[i].rule;
        assert_true(vmx_audit(&a->caps, read_field, a, report) > 0);
        if (!a->found) {
            fail_msg("not named: %s, %s", a->wanted_name, a->wanted_rule);
        }
    }
}

/* A checkpoint does not say whose shadow it was, nor what the processor had noted. */
static void any_shadow_can_come_back(void **state)
{
    static const uint64_t rflags_table[] = {0, X86_RFLAGS_IF, X86_RFLAGS_TF,
                                            X86_RFLAGS_TF | X86_RFLAGS_IF};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(rflags_table); i++) {
        struct audited *a = good();
        uint64_t rflags = rflags_table[i] | X86_RFLAGS_FIXED;

        a->field[VMCS_ID_GUEST_RFLAGS] = rflags;
        a->field[VMCS_ID_GUEST_INTERRUPTIBILITY] =
            vmx_interruptibility(VMM_BLOCKED_SHADOW | VMM_BLOCKED_NMI);
        a->field[VMCS_ID_GUEST_PENDING_DEBUG] = vmx_pending_in_shadow(true, rflags, 0);
        assert_int_equal(vmx_audit(&a->caps, read_field, a, report), 0);
        a->field[VMCS_ID_GUEST_PENDING_DEBUG] ^= X86_DR6_BS;
        a->wanted_name = "GUEST_PENDING_DEBUG";
        a->wanted_rule = "BS is TF";
        assert_int_equal(vmx_audit(&a->caps, read_field, a, report), 1);
        assert_true(a->found);
    }
    assert_int_equal(vmx_interruptibility(VMM_BLOCKED_NMI), BLOCKED_NMI);
    assert_int_equal(vmx_interruptibility(0), 0);
}

/* The instruction in the shadow was skipped: the step was its own, the breakpoint the one before.
 */
static void a_step_ends_with_its_shadow(void **state)
{
    const uint64_t breakpoint = PENDING_BREAKPOINT | 2;

    (void)state;
    assert_int_equal(vmx_pending_in_shadow(false, X86_RFLAGS_TF, X86_DR6_BS), 0);
    assert_int_equal(vmx_pending_in_shadow(false, X86_RFLAGS_TF, X86_DR6_BS | breakpoint),
                     breakpoint);
    assert_int_equal(vmx_pending_in_shadow(true, 0, breakpoint), breakpoint);
}

static void real_mode_has_no_error_codes(void **state)
{
    (void)state;
    struct audited *a = good();

    a->field[VMCS_ID_ENTRY_CONTROLS] = a->caps.entry;
    a->field[VMCS_ID_GUEST_CR0] = 0x30;
    a->field[VMCS_ID_GUEST_CR4] = 0x2000;
    a->field[VMCS_ID_GUEST_EFER] = 0;
    a->field[VMCS_ID_GUEST_CS_RIGHTS] = 0x9b;
    a->field[VMCS_ID_GUEST_CS_LIMIT] = 0xffff;
    assert_int_equal(vmx_audit(&a->caps, read_field, a, report), 0);
    a->field[VMCS_ID_ENTRY_INTR_INFO] = 0x80000b0d;
    a->wanted_name = "ENTRY_INTR_INFO";
    a->wanted_rule = "real mode";
    assert_int_equal(vmx_audit(&a->caps, read_field, a, report), 1);
    assert_true(a->found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls_obey_both_halves),
        cmocka_unit_test(full_processor_is_used),
        cmocka_unit_test(features_can_be_taken_away),
        cmocka_unit_test(posting_is_asked_for),
        cmocka_unit_test(what_lacks_is_named),
        cmocka_unit_test(old_processors_have_no_true_controls),
        cmocka_unit_test(rights_are_attributes),
        cmocka_unit_test(msr_map_passes_what_is_switched),
        cmocka_unit_test(x2apic_msrs_need_no_exits),
        cmocka_unit_test(good_state_passes),
        cmocka_unit_test(each_rule_names_its_field),
        cmocka_unit_test(real_mode_has_no_error_codes),
        cmocka_unit_test(any_shadow_can_come_back),
        cmocka_unit_test(a_step_ends_with_its_shadow),
    };

    return cmocka_run_group_tests_name("vmx", tests, NULL, NULL);
}
