/* The SVM back end's parts that need no SVM: VMCB layout, maps, tables, ASIDs, exit codes, events.
 */
#include "fixture.h"
#include "mock_backend.h"

#include <stdlib.h>
#include <string.h>
#include "core/x86.h"
#include "svm/svm.h"

#define CPUS 2

static struct fixture *f;
static struct svm *svm;
static struct svm_vcpu *s;
static void *mock_vm_arch, *mock_vcpu_arch;
static const struct vmm_backend *mock_table;
static struct vmm_backend mixed_table; /* the mock's, but for what reads this back end's state */

/* The fixture's VM with this back end's state in place of the mock's. */
static int setup(void **state)
{
    (void)state;
    f = fixture_create(0, 1);
    mock_vm_arch = f->vm->arch;
    mock_vcpu_arch = f->vcpu->arch;
    svm = calloc(1, sizeof(*svm) + CPUS * sizeof(svm->cpu[0]));
    svm->cpu_count = CPUS;
    svm->asid_count = 4;
    svm->npt_levels = 4;
    svm->page_1g = true;
    for (unsigned i = 0; i < CPUS; i++) {
        svm->cpu[i].next_asid = svm->asid_count;
    }
    f->vmm->arch = svm;
    vmm_nested_destroy(f->vm); /* the mock's */
    assert_int_equal(svm_npt_create(f->vm), 0);
    assert_int_equal(svm_vcpu_create(f->vcpu), 0);
    s = svm_vcpu(f->vcpu);
    svm_vcpu_reset(f->vcpu);
    mock_table = f->vcpu->backend;
    mixed_table = *mock_table;
    mixed_table.get_segment = svm_get_segment;
    mixed_table.get_sysreg = svm_get_sysreg;
    mixed_table.set_sysreg = svm_set_sysreg;
    mixed_table.get_address_mode = svm_get_address_mode;
    mixed_table.cpl = svm_cpl;
    f->vcpu->backend = &mixed_table;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    svm_vcpu_destroy(f->vcpu);
    f->vm->arch = mock_vm_arch;
    f->vcpu->arch = mock_vcpu_arch;
    f->vcpu->backend = mock_table;
    free(svm);
    fixture_destroy(f);
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

static void msrs_pass_only_when_switched(void **state)
{
    static uint8_t map[2 * VMM_PAGE_SIZE];
    static const uint32_t pass[] = {0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                                    0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};
    unsigned passing = 0;

    (void)state;
    svm_msr_map_fill(map);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(pass); i++) {
        assert_true(svm_msr_passes(map, pass[i], false));
        assert_true(svm_msr_passes(map, pass[i], true));
    }
    assert_true(svm_msr_passes(map, 0xc0000103, false));
    assert_false(svm_msr_passes(map, 0xc0000103, true));
    assert_false(svm_msr_passes(map, 0xc0000080, false)); /* EFER shows SVME */
    assert_false(svm_msr_passes(map, 0xc0010117, true));  /* VM_HSAVE_PA */
    assert_false(svm_msr_passes(map, 0x40000000, false)); /* in no vector: always exits */
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

static struct vmm_exit decode(uint64_t code, uint64_t info1, uint64_t info2)
{
    struct vmm_exit e = {.code = (uint32_t)code, .info1 = info1, .info2 = info2, .rip = 0x1000};

    if (e.code >= VMCB_EXIT_TABLE_END) {
        svm_exit_beyond_table(f->vcpu, &e);
    } else {
        e.kind = (enum vmm_exit_kind)svm_exit_table[code].kind;
        e.insn_length = svm_exit_table[code].length;
        if (svm_exit_table[code].detail) {
            svm_exit_detail(f->vcpu, &e);
        }
    }
    return e;
}

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
        struct vmm_exit e = decode(table[i].code, 0, 0);

        assert_int_equal(e.kind, table[i].kind);
        assert_int_equal(e.insn_length, table[i].length);
    }
    assert_int_equal(decode(0x7c, 0, 0).kind, VMM_EXIT_msr_read); /* or write: svm_run() */
}

static void port_exits_are_taken_apart(void **state)
{
    struct vmm_exit e = decode(0x7b, UINT64_C(0x03fd) << 16 | 0x10 | 1, 0x1002);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_pio);
    assert_int_equal(e.pio.port, 0x3fd);
    assert_int_equal(e.pio.size, 1);
    assert_true(e.pio.in);
    assert_false(e.pio.string || e.pio.rep);
    assert_int_equal(e.insn_length, 2);

    /* REP OUTSD with 32-bit addresses, no segment without decode assists. */
    e = decode(0x7b, UINT64_C(0x1f0) << 16 | 4 << 10 | 1 << 8 | 1 << 6 | 1 << 3 | 1 << 2, 0x1003);
    assert_int_equal(e.pio.size, 4);
    assert_false(e.pio.in);
    assert_true(e.pio.string && e.pio.rep);
    assert_int_equal(e.pio.address_size, 4);
    assert_int_equal(e.pio.segment, VMM_SEG_DS);
    svm->features = SVM_FEATURE_ASSISTS;
    e = decode(0x7b, UINT64_C(0x1f0) << 16 | 4 << 10 | 1 << 9 | 1 << 4 | 1 << 2, 0x1003);
    assert_int_equal(e.pio.address_size, 8);
    assert_int_equal(e.pio.segment, VMM_SEG_FS);
    /* No address size at all, as QEMU's emulator has it in 16-bit code. */
    assert_int_equal(decode(0x7b, 1 << 4 | 1 << 2, 0x1001).pio.address_size, 2);
}

static void nested_faults_are_taken_apart(void **state)
{
    struct vmm_exit e = decode(0x400, UINT64_C(1) << 32 | 0x6, 0xfee000b0);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_nested_fault);
    assert_int_equal(e.fault.gpa.v, 0xfee000b0);
    assert_true(e.fault.write);
    assert_false(e.fault.present || e.fault.fetch);
    assert_int_equal(e.insn_count, 0);
    svm->features = SVM_FEATURE_ASSISTS;
    s->vmcb->insn_count = 3;
    memcpy(s->vmcb->insn_bytes, "\x89\x07\x90", 3);
    e = decode(0x400, 0x15, 0x1000);
    assert_true(e.fault.present && e.fault.fetch && !e.fault.write);
    assert_int_equal(e.insn_count, 3);
    assert_memory_equal(e.insn, "\x89\x07\x90", 3);
}

static void register_exits_are_taken_apart(void **state)
{
    struct vmm_exit e = decode(0x18, 0, 0);

    (void)state;
    assert_int_equal(e.kind, VMM_EXIT_cr_access);
    assert_int_equal(e.reg.number, 8);
    assert_true(e.reg.write);
    assert_false(e.reg.gpr_valid);
    svm->features = SVM_FEATURE_ASSISTS;
    e = decode(0x08, UINT64_C(1) << 63 | 6, 0);
    assert_false(e.reg.write);
    assert_true(e.reg.gpr_valid);
    assert_int_equal(e.reg.gpr, VMM_RSI);
    e = decode(0x37, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_dr_access);
    assert_int_equal(e.reg.number, 7);
    assert_true(e.reg.write);
    e = decode(0x40 + X86_AC, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_exception);
    assert_int_equal(e.exception.vector, X86_AC);
    assert_true(e.exception.has_error);
}

static void refused_entries_keep_their_event(void **state)
{
    struct vmm_exit e;

    (void)state;
    svm_inject_intr(f->vcpu, 0x41);
    e = decode(UINT32_MAX, 0, 0);
    assert_int_equal(e.kind, VMM_EXIT_entry_failed);
    assert_true(f->vcpu->event.valid);
    assert_int_equal(f->vcpu->event.vector, 0x41);
    assert_int_equal(f->vcpu->event.type, VMM_EVENT_INTR);
}

/* --- events ------------------------------------------------------------------------------------
 */

static void events_are_encoded(void **state)
{
    const struct vmm_event fault = {
        .valid = true, .type = VMM_EVENT_EXCEPTION, .has_error = true, .vector = 14, .error = 6};
    struct vcpu *v = f->vcpu;

    (void)state;
    v->rflags |= X86_RFLAGS_IF;
    assert_true(svm_intr_allowed(v));
    svm_inject_intr(v, 0x31);
    assert_int_equal(vmcb_event_inj(s->vmcb), 0x80000031);
    assert_false(svm_intr_allowed(v)); /* taken */
    svm_inject_event(v, &fault);
    assert_int_equal(vmcb_event_inj(s->vmcb), UINT64_C(6) << 32 | 0x80000b0e);
    vmcb_set_event_inj(s->vmcb, 0);
    assert_true(svm_nmi_allowed(v));
    svm_inject_nmi(v);
    assert_int_equal(vmcb_event_inj(s->vmcb), 0x80000202);
    vmcb_set_event_inj(s->vmcb, 0);
    assert_false(svm_nmi_allowed(v)); /* until IRET */
    assert_true((vmcb_intercept_misc1(s->vmcb) & 1 << 20) != 0);
    decode(0x74, 0, 0);
    assert_int_equal(vmcb_intercept_misc1(s->vmcb) & 1 << 20, 0);
    assert_false(svm_nmi_allowed(v)); /* the IRET has not run yet */
    v->nmi_pending = true;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_IRET), SVM_RARE_IRET); /* a page was in its way */
    assert_false(svm_nmi_allowed(v));
    v->rip += 100;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_IRET), 0);
    assert_true(svm_nmi_allowed(v));
    assert_true((v->requests & VMM_REQ_NMI) != 0);
    v->intr_shadow = true;
    assert_false(svm_intr_allowed(v) || svm_nmi_allowed(v));
    v->intr_shadow = false;
    v->rflags &= ~X86_RFLAGS_IF;
    assert_false(svm_intr_allowed(v));
}

/* An exit is made where the guest can take one. */
static void nmis_get_their_exit(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    v->nmi_pending = true;
    s->rare = 0;
    v->intr_shadow = true;
    svm_set_nmi_window(v); /* a step */
    assert_int_equal(s->rare, SVM_RARE_STEP);
    svm_nmi_entry(v);
    assert_true((v->rflags & X86_RFLAGS_TF) != 0);
    v->rip++;
    vmcb_set_exit_code(s->vmcb, 0x41);
    vmcb_set_dr6(s->vmcb, X86_DR6_BS);
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_STEP), 0);
    assert_int_equal(v->rflags & X86_RFLAGS_TF, 0);
    assert_true(svm_nmi_step_done(v)); /* not the guest's */
    assert_int_equal(vmcb_dr6(s->vmcb) & X86_DR6_BS, 0);
    assert_false(svm_nmi_step_done(v));

    s->rare = 0;
    v->intr_shadow = false;
    svm_inject_intr(v, 0x31); /* the entry brings something else */
    svm_set_nmi_window(v);
    assert_int_equal(s->rare & SVM_RARE_SOON, SVM_RARE_SOON);
    v->requests = 0;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_SOON), 0);
    assert_true((v->requests & VMM_REQ_NMI) != 0);
    vmcb_set_event_inj(s->vmcb, 0);
}

static void an_iret_is_stepped_over_for_the_next_nmi(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    s->nmi_blocked = v->nmi_pending = true;
    s->rare = 0;
    decode(0x74, 0, 0);
    assert_int_equal(s->rare, SVM_RARE_IRET | SVM_RARE_STEP);
    svm_nmi_entry(v);
    vmcb_set_exit_code(s->vmcb, 0x400); /* a page was in its way */
    assert_int_equal(svm_nmi_exit(v, s->rare), SVM_RARE_IRET | SVM_RARE_STEP);
    assert_true(s->nmi_blocked);
    assert_int_equal(v->rflags & X86_RFLAGS_TF, 0);
    svm_nmi_entry(v);
    v->rip += 0x100; /* into a handler: the IRET has faulted, and saved the flag */
    assert_int_equal(svm_nmi_exit(v, s->rare), 0);
    assert_false(s->nmi_blocked);
    vmcb_set_dr6(s->vmcb, X86_DR6_BS);
    assert_true(svm_nmi_step_done(v)); /* when that handler comes back */
    assert_false(svm_nmi_step_done(v));
}

static void interrupted_deliveries_come_again(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    svm_event_again(v, UINT64_C(2) << 32 | 0x80000b0e);
    assert_true(v->event.valid && v->event.has_error);
    assert_int_equal(v->event.type, VMM_EVENT_EXCEPTION);
    assert_int_equal(v->event.vector, 14);
    assert_int_equal(v->event.error, 2);
    svm_event_again(v, 0x80000330); /* an interrupt that is called an exception */
    assert_int_equal(v->event.type, VMM_EVENT_INTR);
    assert_int_equal(v->event.vector, 0x30);
    v->event.valid = false;
    svm_event_again(v, 0x80000480); /* INTn, INT3, INTO run again by themselves */
    svm_event_again(v, 0x80000303);
    svm_event_again(v, 0x80000304);
    assert_false(v->event.valid);
}

/* CR8 may not be written without an exit while V_IRQ is set. */
static void windows_and_cr8_share_an_intercept(void **state)
{
    struct vcpu *v = f->vcpu;
    const struct vmcb *b = s->vmcb;

    (void)state;
    svm_set_sysreg(v, VMM_CR8, 3);
    svm_set_intr_window(v, true);
    assert_true((vmcb_v_intr(b) & VMCB_V_IRQ) != 0);
    assert_true((vmcb_v_intr(b) & VMCB_V_IGN_TPR) != 0);
    assert_int_equal(svm_get_sysreg(v, VMM_CR8), 3);
    assert_true((vmcb_intercept_misc1(b) & VMCB_VINTR) != 0);
    assert_int_equal(vmcb_intercept_cr(b), VMCB_WRITE(8));
    svm_set_cr8_exits(v, true);
    svm_set_intr_window(v, false);
    assert_int_equal(vmcb_v_intr(b) & VMCB_V_IRQ, 0);
    assert_int_equal(vmcb_intercept_misc1(b) & VMCB_VINTR, 0);
    assert_int_equal(vmcb_intercept_cr(b), VMCB_WRITE(8));
    svm_set_cr8_exits(v, false);
    assert_int_equal(vmcb_intercept_cr(b), 0);
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
        TEST(events_are_encoded),
        TEST(interrupted_deliveries_come_again),
        TEST(nmis_get_their_exit),
        TEST(an_iret_is_stepped_over_for_the_next_nmi),
        TEST(windows_and_cr8_share_an_intercept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
