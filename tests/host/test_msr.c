/* MSR policy, one MSR after another. */
#include "scripted.h"

#include "core/cpuid.h"
#include "core/irq.h"
#include "core/msr.h"

#include <string.h>
#include "core/x86.h"

static struct scripted *m;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    m = scripted_create(1);
    v = m->vcpu;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scripted_destroy(m);
    return 0;
}

static uint64_t read_msr(uint32_t msr)
{
    uint64_t value = 0;

    assert_true(scripted_rdmsr(m, msr, &value));
    return value;
}

static void refuses_write(uint32_t msr, uint64_t value)
{
    uint64_t before = 0, after = 0;
    bool readable = scripted_rdmsr(m, msr, &before);

    assert_false(vmm_msr_write(v, msr, value));
    assert_true(scripted_rdmsr(m, msr, &after) == readable);
    assert_int_equal(after, before);
}

static void keeps(uint32_t msr, uint64_t value)
{
    assert_true(vmm_msr_write(v, msr, value));
    assert_int_equal(read_msr(msr), value);
}

static void tsc_and_adjust_move_together(void **state)
{
    uint64_t tsc = read_msr(0x10);

    (void)state;
    assert_true(vmm_msr_write(v, 0x10, tsc + 1000));
    assert_int_equal(read_msr(0x10), tsc + 1000);
    assert_int_equal(read_msr(0x3b), 1000);
    keeps(0x3b, 0);
    assert_int_equal(read_msr(0x10), tsc);
    keeps(0x3b, -UINT64_C(5));
    assert_int_equal(read_msr(0x10), tsc - 5);
    assert_int_equal(mock_vcpu(v)->tsc_offset, v->tsc_offset);
}

static void tsc_aux_has_32_bits(void **state)
{
    (void)state;
    keeps(0xc0000103, UINT32_MAX);
    refuses_write(0xc0000103, UINT64_C(1) << 32);
}

static void efer_hides_svm_and_obeys_its_rules(void **state)
{
    (void)state;
    assert_int_equal(read_msr(0xc0000080), 0);
    refuses_write(0xc0000080, X86_EFER_SVME);
    refuses_write(0xc0000080, UINT64_C(1) << 40);
    keeps(0xc0000080, X86_EFER_SCE | X86_EFER_LME);
    /* LMA follows paging, not the write. */
    assert_true(vmm_msr_write(v, 0xc0000080, X86_EFER_LME | X86_EFER_LMA));
    assert_int_equal(read_msr(0xc0000080), X86_EFER_LME);
    mock_vcpu(v)->sysreg[VMM_CR0] |= X86_CR0_PG;
    mock_vcpu(v)->sysreg[VMM_EFER] |= X86_EFER_LMA;
    refuses_write(0xc0000080, 0);
    assert_true(vmm_msr_write(v, 0xc0000080, X86_EFER_LME | X86_EFER_SCE));
    assert_int_equal(read_msr(0xc0000080), X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
}

static void pat_takes_memory_types_only(void **state)
{
    (void)state;
    assert_int_equal(read_msr(0x277), X86_PAT_RESET);
    keeps(0x277, UINT64_C(0x0001040506070100));
    refuses_write(0x277, 2);
    refuses_write(0x277, UINT64_C(0x03) << 56);
    refuses_write(0x277, 8);
    assert_int_equal(read_msr(0x277), UINT64_C(0x0001040506070100));
}

static void mtrrs_are_kept(void **state)
{
    static const uint32_t fixed[] = {0x250, 0x258, 0x259, 0x268, 0x26f};

    (void)state;
    assert_int_equal(read_msr(0xfe), 0x508);
    refuses_write(0xfe, 0);
    assert_int_equal(read_msr(0x2ff), 0x806); /* on, write-back */
    keeps(0x2ff, 0xc00);
    refuses_write(0x2ff, 0x807);
    refuses_write(0x2ff, 0x1000);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(fixed); i++) {
        keeps(fixed[i], UINT64_C(0x0001040506000104) + ((uint64_t)(i % 2) << 56));
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(fixed); i++) {
        assert_int_equal(read_msr(fixed[i]),
                         UINT64_C(0x0001040506000104) + ((uint64_t)(i % 2) << 56));
    }
    refuses_write(0x250, 2);
    refuses_write(0x250, UINT64_C(7) << 32);
    keeps(0x200, 0x80000006);
    keeps(0x20f, 0xfff000800);
    refuses_write(0x20e, 3);
    assert_false(vmm_msr_write(v, 0x251, 0));
}

static void what_linux_reads_has_an_answer(void **state)
{
    static const uint32_t readable[] = {
        0x8b,       0xce,       0x179,      0x17a,      0x1a0,      0x1d9,      0x1db,
        0xc0010010, 0xc0010015, 0xc001001a, 0xc001001d, 0xc001001f, 0xc0010055, 0xc0010058,
        0xc0010112, 0xc0010113, 0xc0010114, 0xc0011020, 0xc0011022, 0xc0011029, 0xc001102a};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(readable); i++) {
        uint64_t value;

        assert_true(scripted_rdmsr(m, readable[i], &value));
    }
    assert_int_equal(read_msr(0xc0010114) & 0x10, 0x10); /* SVM disabled */
    assert_int_equal(read_msr(0xc0011029) & 2, 2);       /* LFENCE serialises */
    refuses_write(0x1d9, 1);
    assert_true(vmm_msr_write(v, 0x79, 0x1234));
    assert_true(vmm_msr_write(v, 0xc0010007, 0)); /* Xen stops the counters without asking */
    assert_int_equal(read_msr(0xc0010000), 0);
}

static void the_lapic_answers_for_its_own(void **state)
{
    (void)state;
    assert_int_equal(read_msr(0x1b), 0xfee00900); /* enabled, boot CPU */
    assert_false(vmm_msr_write(v, 0x802, 0));     /* x2APIC mode is off */
    keeps(0x1b, 0xfee00d00);
    assert_int_equal(read_msr(0x802), 0);
    keeps(0x808, 0x20);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_CR8], 2);
    refuses_write(0x802, 1);
    assert_int_equal(read_msr(0x6e0), 0);
}

static void unknown_ones_are_ignored_where_the_manifest_says_so(void **state)
{
    uint64_t value = 7;

    (void)state;
    m->vm->config.ignore_unknown_msrs = true;
    posix_host_clear_log(m->host);
    assert_true(scripted_rdmsr(m, 0x12345678, &value));
    assert_int_equal(value, 0);
    assert_true(vmm_msr_write(v, 0x12345678, 1));
    assert_non_null(strstr(posix_host_log(m->host), "read of MSR 0x12345678 ignored"));
    assert_null(strstr(posix_host_log(m->host), "write of MSR 0x12345678")); /* one line */
    assert_false(vmm_msr_write(v, 0xfe, 0)); /* a known one that is read-only */
    m->vm->config.ignore_unknown_msrs = false;
}

static void unknown_ones_fault_and_are_reported_once(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_msr_read, .insn_length = 2};
    uint64_t value;

    (void)state;
    v->gpr[VMM_RCX] = 0x12345;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_true(v->event.valid && v->event.vector == X86_GP && v->event.has_error);
    assert_int_equal(v->rip, 0x1000);
    e.kind = VMM_EXIT_msr_write;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_true(v->event.valid && v->event.vector == X86_GP);
    posix_host_clear_log(m->host);
    assert_false(scripted_rdmsr(m, 0x12345, &value));
    assert_string_equal(posix_host_log(m->host), "");
    assert_false(scripted_rdmsr(m, 0, &value));
    assert_false(scripted_rdmsr(m, UINT32_MAX, &value));
    assert_false(scripted_rdmsr(m, 0x8ff + 1, &value));
    assert_false(scripted_rdmsr(m, 0xc0010117, &value)); /* VM_HSAVE_PA */
}

static void the_instructions_split_the_value(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_msr_write, .insn_length = 2};

    (void)state;
    v->gpr[VMM_RCX] = UINT64_C(0xffffffff00000277);
    v->gpr[VMM_RAX] = UINT64_C(0xdeadbeef06060606);
    v->gpr[VMM_RDX] = UINT64_C(0xdeadbeef05050505);
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1002);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_MSR_PAT], UINT64_C(0x0505050506060606));
    e.kind = VMM_EXIT_msr_read;
    v->gpr[VMM_RAX] = v->gpr[VMM_RDX] = UINT64_MAX;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RAX], 0x06060606);
    assert_int_equal(v->gpr[VMM_RDX], 0x05050505);
}

/* Any number, any value: an answer or #GP, never more. */
static void random_accesses_are_survived(void **state)
{
    uint64_t x = 88172645463325252;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t value;
        uint32_t msr;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        msr = (uint32_t)x & 0x1fff;
        msr |= (x >> 40 & 3) == 1 ? 0xc0000000 : (x >> 40 & 3) == 2 ? 0xc0010000 : 0;
        if ((x >> 33 & 1) != 0) {
            (void)!vmm_msr_write(v, msr, x >> (x >> 50 & 63));
        } else {
            (void)!scripted_rdmsr(m, msr, &value);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tsc_and_adjust_move_together),
        TEST(tsc_aux_has_32_bits),
        TEST(efer_hides_svm_and_obeys_its_rules),
        TEST(pat_takes_memory_types_only),
        TEST(mtrrs_are_kept),
        TEST(what_linux_reads_has_an_answer),
        TEST(the_lapic_answers_for_its_own),
        TEST(unknown_ones_are_ignored_where_the_manifest_says_so),
        TEST(unknown_ones_fault_and_are_reported_once),
        TEST(the_instructions_split_the_value),
        TEST(random_accesses_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
