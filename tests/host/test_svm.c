/* The SVM back end's parts that need no SVM: VMCB layout, maps, tables, ASIDs, exit codes. */
#include "svm_fixture.h"

#include <string.h>
#include "core/x86.h"

static struct fixture *f;
static struct svm *svm;
static struct svm_vcpu *s;

static int setup(void **state)
{
    (void)state;
    f = svm_fixture_create();
    svm = f->vmm->arch;
    s = svm_vcpu(f->vcpu);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    svm_fixture_destroy(f);
    return 0;
}

/* --- VMCB --------------------------------------------------------------------------------------
 */

/* APM vol. 2 tables B-1 and B-2, typed in again. */
static void fields_are_where_the_manual_says(void **state)
{
    static const struct {
        size_t actual, manual, size;
    } table[] = {
#define FIELD(name, at, bytes) {offsetof(struct vmcb, name), at, bytes}
        FIELD(intercept_cr, 0x000, 4),
        FIELD(intercept_dr, 0x004, 4),
        FIELD(intercept_exceptions, 0x008, 4),
        FIELD(intercept_misc1, 0x00c, 4),
        FIELD(intercept_misc2, 0x010, 4),
        FIELD(iopm_base, 0x040, 8),
        FIELD(msrpm_base, 0x048, 8),
        FIELD(tsc_offset, 0x050, 8),
        FIELD(asid, 0x058, 4),
        FIELD(tlb_control, 0x05c, 4),
        FIELD(v_intr, 0x060, 8),
        FIELD(int_shadow, 0x068, 8),
        FIELD(exit_code, 0x070, 8),
        FIELD(exit_info1, 0x078, 8),
        FIELD(exit_info2, 0x080, 8),
        FIELD(exit_int_info, 0x088, 8),
        FIELD(np_control, 0x090, 8),
        FIELD(event_inj, 0x0a8, 8),
        FIELD(n_cr3, 0x0b0, 8),
        FIELD(clean, 0x0c0, 4),
        FIELD(next_rip, 0x0c8, 8),
        FIELD(insn_count, 0x0d0, 1),
        FIELD(insn_bytes, 0x0d1, 15),
        FIELD(es, 0x400, 16),
        FIELD(cs, 0x410, 16),
        FIELD(ss, 0x420, 16),
        FIELD(ds, 0x430, 16),
        FIELD(fs, 0x440, 16),
        FIELD(gs, 0x450, 16),
        FIELD(gdtr, 0x460, 16),
        FIELD(ldtr, 0x470, 16),
        FIELD(idtr, 0x480, 16),
        FIELD(tr, 0x490, 16),
        FIELD(cpl, 0x4cb, 1),
        FIELD(efer, 0x4d0, 8),
        FIELD(cr4, 0x548, 8),
        FIELD(cr3, 0x550, 8),
        FIELD(cr0, 0x558, 8),
        FIELD(dr7, 0x560, 8),
        FIELD(dr6, 0x568, 8),
        FIELD(rflags, 0x570, 8),
        FIELD(rip, 0x578, 8),
        FIELD(rsp, 0x5d8, 8),
        FIELD(rax, 0x5f8, 8),
        FIELD(star, 0x600, 8),
        FIELD(lstar, 0x608, 8),
        FIELD(cstar, 0x610, 8),
        FIELD(sfmask, 0x618, 8),
        FIELD(kernel_gs_base, 0x620, 8),
        FIELD(sysenter_cs, 0x628, 8),
        FIELD(sysenter_esp, 0x630, 8),
        FIELD(sysenter_eip, 0x638, 8),
        FIELD(cr2, 0x640, 8),
        FIELD(g_pat, 0x668, 8),
#undef FIELD
    };

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(table); i++) {
        assert_int_equal(table[i].actual, table[i].manual);
    }
#define F(name, offset, type, clean_bit) assert_int_equal(sizeof(type), sizeof(s->vmcb->name));
    VMCB_FIELDS(F)
#undef F
    assert_int_equal(sizeof(struct vmcb_segment), 16);
}

static void setters_clear_their_clean_bit_only(void **state)
{
    struct vmcb *b = s->vmcb;

    (void)state;
#define CLEARS(field, value, bit)                                                                  \
    b->clean = VMCB_CLEAN_ALL;                                                                     \
    vmcb_set_##field(b, value);                                                                    \
    assert_int_equal(b->clean, VMCB_CLEAN_ALL & ~(bit))
    CLEARS(intercept_cr, 1, 1 << 0);
    CLEARS(tsc_offset, 1, 1 << 0);
    CLEARS(iopm_base, 1, 1 << 1);
    CLEARS(asid, 1, 1 << 2);
    CLEARS(v_intr, 1, 1 << 3);
    CLEARS(n_cr3, 1, 1 << 4);
    CLEARS(g_pat, 1, 1 << 4);
    CLEARS(cr0, 1, 1 << 5);
    CLEARS(cr3, 1, 1 << 5);
    CLEARS(cr4, 1, 1 << 5);
    CLEARS(efer, 1, 1 << 5);
    CLEARS(dr7, 1, 1 << 6);
    CLEARS(gdtr, (struct vmcb_segment){0}, 1 << 7);
    CLEARS(cs, (struct vmcb_segment){0}, 1 << 8);
    CLEARS(cpl, 1, 1 << 8);
    CLEARS(cr2, 1, 1 << 9);
    CLEARS(rip, 1, 0);
    CLEARS(event_inj, 1, 0);
    CLEARS(fs, (struct vmcb_segment){0}, 0);
    CLEARS(tlb_control, 1, 0);
#undef CLEARS
}

static void registers_read_back(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        const struct vmm_segment_state in = {
            .selector = (uint16_t)(i * 8), .attributes = 0x93, .limit = i, .base = i << 20};

        svm_set_segment(v, (enum vmm_segment)i, &in);
    }
    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        struct vmm_segment_state out;

        svm_get_segment(v, (enum vmm_segment)i, &out);
        assert_int_equal(out.selector, i * 8);
        assert_int_equal(out.attributes, 0x93);
        assert_int_equal(out.limit, i);
        assert_int_equal(out.base, i << 20);
    }
    for (unsigned i = 0; i < VMM_BLOCKING; i++) {
        svm_set_sysreg(v, (enum vmm_sysreg)i, i + 1);
    }
    for (unsigned i = 0; i < VMM_BLOCKING; i++) {
        assert_int_equal(svm_get_sysreg(v, (enum vmm_sysreg)i), i + 1);
    }
    assert_true((vmcb_efer(s->vmcb) & X86_EFER_SVME) != 0); /* VMRUN needs it, the guest not */
    assert_true((vmcb_v_intr(s->vmcb) & VMCB_V_INTR_MASKING) != 0);
    svm_set_segment(v, VMM_SEG_SS, &(struct vmm_segment_state){.attributes = 0xf3});
    assert_int_equal(svm_cpl(v), 3);
}

static void reset_gives_the_manuals_state(void **state)
{
    const struct vmcb *b = s->vmcb;

    (void)state;
    assert_int_equal(b->cs.selector, 0xf000);
    assert_int_equal(b->cs.base, 0xffff0000);
    assert_int_equal(f->vcpu->rip, 0xfff0);
    assert_int_equal(f->vcpu->rflags, 2);
    assert_int_equal(vmcb_cr0(b), 0x60000010);
    assert_int_equal(svm_get_sysreg(f->vcpu, VMM_EFER), 0);
    assert_int_equal(vmcb_dr6(b), 0xffff0ff0);
    assert_int_equal(vmcb_dr7(b), 0x400);
    assert_int_equal(vmcb_g_pat(b), X86_PAT_RESET);
    assert_int_equal(vmcb_np_control(b), 1);
    assert_int_equal(vmcb_n_cr3(b), s->nested->root.v);
    /* Paging registers and RDTSC are the guest's own. */
    assert_int_equal(vmcb_intercept_cr(b), 0);
    assert_int_equal(vmcb_intercept_misc1(b) & 1 << 14, 0);
}

/* --- maps --------------------------------------------------------------------------------------
 */

/* APM vol. 2 section 15.11, typed in again: 2 KiB for each range, two bits for each MSR. */
static bool msr_passes(const uint8_t *map, uint32_t msr, bool write)
{
    unsigned vector = msr < 0x2000 ? 0 : msr >> 16 == 0xc000 ? 1 : 2;
    unsigned bit = vector * 0x4000 + (msr & 0x1fff) * 2 + write;

    return (map[bit / 8] >> bit % 8 & 1) == 0;
}

static void msrs_pass_only_when_switched(void **state)
{
    static uint8_t map[2 * VMM_PAGE_SIZE];
    static const uint32_t pass[] = {0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                                    0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};
    unsigned passing = 0;

    (void)state;
    svm_msr_map_fill(map);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(pass); i++) {
        assert_true(msr_passes(map, pass[i], false));
        assert_true(msr_passes(map, pass[i], true));
    }
    assert_true(msr_passes(map, 0xc0000103, false));
    assert_false(msr_passes(map, 0xc0000103, true));
    assert_false(msr_passes(map, 0xc0000080, false)); /* EFER shows SVME */
    assert_false(msr_passes(map, 0xc0010117, true));  /* VM_HSAVE_PA */
    for (unsigned i = 0; i < sizeof(map) * 8; i++) {
        passing += (map[i / 8] >> i % 8 & 1) == 0;
    }
    assert_int_equal(passing, 2 * VMM_ARRAY_COUNT(pass) + 1);
}

static void map_pages_are_given_back(void **state)
{
    uint64_t pages = posix_host_pages_used(f->host);

    (void)state;
    for (long n = 0; n < 2; n++) {
        posix_host_fail_alloc(f->host, n);
        assert_int_equal(svm_bitmaps_create(f->vmm, svm), -VMM_ENOMEM);
        assert_int_equal(posix_host_pages_used(f->host), pages);
    }
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(svm_bitmaps_create(f->vmm, svm), 0);
    svm_bitmaps_destroy(f->vmm, svm);
    assert_int_equal(posix_host_pages_used(f->host), pages);
}

/* --- ASIDs -------------------------------------------------------------------------------------
 */

static void asids_run_out_into_a_new_generation(void **state)
{
    struct svm_cpu *cpu = &svm->cpu[0];

    (void)state;
    /* The first one on a CPU comes with a flush. */
    svm_asid_renew(s, cpu);
    assert_int_equal(vmcb_asid(s->vmcb), 1);
    assert_int_equal(vmcb_tlb_control(s->vmcb), VMCB_TLB_FLUSH_ALL);
    assert_int_equal(s->asid_generation, cpu->generation);
    for (unsigned asid = 2; asid < svm->asid_count; asid++) {
        vmcb_set_tlb_control(s->vmcb, VMCB_TLB_KEEP);
        svm_flush(s);
        assert_true(s->flush_generation != s->nested->flush_generation);
        svm_asid_renew(s, cpu);
        assert_int_equal(vmcb_asid(s->vmcb), asid);
        assert_int_equal(vmcb_tlb_control(s->vmcb), VMCB_TLB_KEEP);
        assert_int_equal(s->flush_generation, s->nested->flush_generation);
    }
    svm_asid_renew(s, cpu);
    assert_int_equal(vmcb_asid(s->vmcb), 1);
    assert_int_equal(vmcb_tlb_control(s->vmcb), VMCB_TLB_FLUSH_ALL);
    assert_int_equal(cpu->generation, 2);
}

static void another_cpu_means_another_asid_and_no_clean_bits(void **state)
{
    (void)state;
    svm_asid_renew(s, &svm->cpu[0]);
    s->vmcb->clean = VMCB_CLEAN_ALL;
    svm_asid_renew(s, &svm->cpu[1]);
    assert_ptr_equal(s->cpu, &svm->cpu[1]);
    assert_int_equal(s->vmcb->clean, 0);
    svm_asid_renew(s, &svm->cpu[0]);
    assert_int_equal(vmcb_asid(s->vmcb), 2);
}

static void flush_by_asid_keeps_the_asid(void **state)
{
    (void)state;
    svm->features = SVM_FEATURE_FLUSH_BY_ASID;
    svm_asid_renew(s, &svm->cpu[0]);
    svm_flush(s);
    svm_asid_renew(s, &svm->cpu[0]);
    assert_int_equal(vmcb_asid(s->vmcb), 1);
    assert_int_equal(vmcb_tlb_control(s->vmcb), VMCB_TLB_FLUSH_ASID);
}

/* --- exits -------------------------------------------------------------------------------------
 */

static void exit_codes_have_their_kind(void **state)
{
    static const struct {
        uint32_t code;
        enum vmm_exit_kind kind;
        unsigned length;
    } table[] = {
        {0x60, VMM_EXIT_intr, 0},        {0x61, VMM_EXIT_nmi, 0},
        {0x64, VMM_EXIT_intr_window, 0}, {0x6f, VMM_EXIT_rdpmc, 0},
        {0x72, VMM_EXIT_cpuid, 2},       {0x76, VMM_EXIT_invd, 2},
        {0x78, VMM_EXIT_hlt, 1},         {0x7a, VMM_EXIT_refused, 0},
        {0x7f, VMM_EXIT_shutdown, 0},    {0x80, VMM_EXIT_refused, 0},
        {0x81, VMM_EXIT_hypercall, 3},   {0x84, VMM_EXIT_refused, 0},
        {0x86, VMM_EXIT_refused, 0},     {0x89, VMM_EXIT_wbinvd, 2},
        {0x8a, VMM_EXIT_monitor, 0},     {0x8b, VMM_EXIT_mwait, 0},
        {0x8c, VMM_EXIT_mwait, 0},       {0x8d, VMM_EXIT_xsetbv, 3},
        {0x62, VMM_EXIT_unknown, 0},     {0x8f, VMM_EXIT_unknown, 0},
        {0x90, VMM_EXIT_unknown, 0},     {0x401, VMM_EXIT_unknown, 0},
        {0x12345, VMM_EXIT_unknown, 0},
    };

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(table); i++) {
        struct vmm_exit e = svm_fixture_exit(f, table[i].code, 0, 0);

        assert_int_equal(e.kind, table[i].kind);
        assert_int_equal(e.insn_length, table[i].length);
    }
    assert_int_equal(svm_fixture_exit(f, 0x7c, 0, 0).kind,
                     VMM_EXIT_msr_read); /* or write: svm_run() */
}

static void port_exits_are_taken_apart(void **state)
{
    struct vmm_exit e = svm_fixture_exit(f, 0x7b, UINT64_C(0x03fd) << 16 | 0x10 | 1, 0x1002);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_pio);
    assert_int_equal(e.pio.port, 0x3fd);
    assert_int_equal(e.pio.size, 1);
    assert_true(e.pio.in);
    assert_false(e.pio.string || e.pio.rep);
    assert_int_equal(e.insn_length, 2);

    /* REP OUTSD with 32-bit addresses, no segment without decode assists. */
    e = svm_fixture_exit(
        f, 0x7b, UINT64_C(0x1f0) << 16 | 4 << 10 | 1 << 8 | 1 << 6 | 1 << 3 | 1 << 2, 0x1003);
    assert_int_equal(e.pio.size, 4);
    assert_false(e.pio.in);
    assert_true(e.pio.string && e.pio.rep);
    assert_int_equal(e.pio.address_size, 4);
    assert_int_equal(e.pio.segment, VMM_SEG_DS);
    svm->features = SVM_FEATURE_ASSISTS;
    e = svm_fixture_exit(f, 0x7b, UINT64_C(0x1f0) << 16 | 4 << 10 | 1 << 9 | 1 << 4 | 1 << 2,
                         0x1003);
    assert_int_equal(e.pio.address_size, 8);
    assert_int_equal(e.pio.segment, VMM_SEG_FS);
    /* No address size at all, as QEMU's emulator has it in 16-bit code. */
    assert_int_equal(svm_fixture_exit(f, 0x7b, 1 << 4 | 1 << 2, 0x1001).pio.address_size, 2);
}

static void nested_faults_are_taken_apart(void **state)
{
    struct vmm_exit e = svm_fixture_exit(f, 0x400, UINT64_C(1) << 32 | 0x6, 0xfee000b0);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_nested_fault);
    assert_int_equal(e.fault.gpa.v, 0xfee000b0);
    assert_true(e.fault.write);
    assert_false(e.fault.present || e.fault.fetch);
    assert_int_equal(e.insn_count, 0);
    svm->features = SVM_FEATURE_ASSISTS;
    s->vmcb->insn_count = 3;
    memcpy(s->vmcb->insn_bytes, "\x89\x07\x90", 3);
    e = svm_fixture_exit(f, 0x400, 0x15, 0x1000);
    assert_true(e.fault.present && e.fault.fetch && !e.fault.write);
    assert_int_equal(e.insn_count, 3);
    assert_memory_equal(e.insn, "\x89\x07\x90", 3);
}

static void register_exits_are_taken_apart(void **state)
{
    struct vmm_exit e = svm_fixture_exit(f, 0x18, 0, 0);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_cr_access);
    assert_int_equal(e.reg.number, 8);
    assert_true(e.reg.write);
    assert_false(e.reg.gpr_valid);
    svm->features = SVM_FEATURE_ASSISTS;
    e = svm_fixture_exit(f, 0x08, UINT64_C(1) << 63 | 6, 0);
    assert_false(e.reg.write);
    assert_true(e.reg.gpr_valid);
    assert_int_equal(e.reg.gpr, VMM_RSI);
    e = svm_fixture_exit(f, 0x37, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_dr_access);
    assert_int_equal(e.reg.number, 7);
    assert_true(e.reg.write);
    e = svm_fixture_exit(f, 0x40 + X86_AC, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_exception);
    assert_int_equal(e.exception.vector, X86_AC);
    assert_true(e.exception.has_error);
}

static void refused_entries_keep_their_event(void **state)
{
    struct vmm_exit e;

    (void)state;
    svm_inject_intr(f->vcpu, 0x41);
    e = svm_fixture_exit(f, UINT32_MAX, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_entry_failed);
    assert_true(f->vcpu->event.valid);
    assert_int_equal(f->vcpu->event.vector, 0x41);
    assert_int_equal(f->vcpu->event.type, VMM_EVENT_INTR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fields_are_where_the_manual_says),
        TEST(setters_clear_their_clean_bit_only),
        TEST(registers_read_back),
        TEST(reset_gives_the_manuals_state),
        TEST(msrs_pass_only_when_switched),
        TEST(map_pages_are_given_back),
        TEST(asids_run_out_into_a_new_generation),
        TEST(another_cpu_means_another_asid_and_no_clean_bits),
        TEST(flush_by_asid_keeps_the_asid),
        TEST(exit_codes_have_their_kind),
        TEST(port_exits_are_taken_apart),
        TEST(nested_faults_are_taken_apart),
        TEST(register_exits_are_taken_apart),
        TEST(refused_entries_keep_their_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
