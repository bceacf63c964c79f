/* CPUID policy: against a processor that has everything, one that has nothing, and an Intel one. */
#include "scripted.h"

#include <string.h>
#include "core/cpuid.h"
#include "core/msr.h"
#include "core/irq.h"
#include "core/x86.h"

#define BIT(n) (UINT32_C(1) << (n))

static uint32_t max_basic = 0x20, max_extended = 0x80000021;

/* All features; the leaf's number where a guest may see numbers. */
static void raw_everything(uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out)
{
    *out = (struct vmm_cpuid_regs){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    if (leaf == 0) {
        *out = (struct vmm_cpuid_regs){max_basic, 0x68747541, 0x444d4163, 0x69746e65};
    } else if (leaf == 0x80000000) {
        out->eax = max_extended;
    } else if (leaf == 0xd && subleaf == 2) {
        *out = (struct vmm_cpuid_regs){256, 576, 0, 0};
    } else if (leaf == 0xd && subleaf == 9) {
        *out = (struct vmm_cpuid_regs){8, 2688, 0, 0};
    }
}

static void raw_nothing(uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out)
{
    (void)subleaf;
    *out = (struct vmm_cpuid_regs){leaf == 0 ? 1 : leaf == 0x80000000 ? 0x80000001 : 0, 0, 0, 0};
}

static struct scripted *create(unsigned vcpu_count, vmm_cpuid_raw_fn raw)
{
    struct scripted *m = scripted_create(vcpu_count);

    vmm_cpuid_destroy(m->vm);
    assert_int_equal(vmm_cpuid_create(m->vm, raw), 0);
    return m;
}

static struct vmm_cpuid_regs query(struct vcpu *v, uint32_t leaf, uint32_t subleaf)
{
    struct vmm_exit e = {.kind = VMM_EXIT_cpuid, .insn_length = 2};

    v->gpr[VMM_RAX] = leaf;
    v->gpr[VMM_RCX] = subleaf;
    assert_int_equal(vmm_handle_cpuid(v, &e), VMM_CONTINUE);
    return (struct vmm_cpuid_regs){(uint32_t)v->gpr[VMM_RAX], (uint32_t)v->gpr[VMM_RBX],
                                   (uint32_t)v->gpr[VMM_RCX], (uint32_t)v->gpr[VMM_RDX]};
}

static void assert_zero(struct vmm_cpuid_regs r)
{
    assert_int_equal(r.eax | r.ebx | r.ecx | r.edx, 0);
}

static void what_is_not_offered_is_hidden(void **state)
{
    struct scripted *m = create(1, raw_everything);
    struct vmm_cpuid_regs r = query(m->vcpu, 1, 0);

    (void)state;
    assert_int_equal(r.ecx & BIT(3), 0);                                /* MONITOR */
    assert_int_equal(r.ecx & (BIT(5) | BIT(6)), 0);                     /* VMX, SMX */
    assert_int_equal(r.ecx & BIT(15), 0);                               /* PDCM */
    assert_int_equal(r.edx & (BIT(21) | BIT(22)), 0);                   /* DS, thermal */
    assert_int_equal(query(m->vcpu, 7, 0).ecx & BIT(16), 0);            /* LA57 */
    assert_int_equal(query(m->vcpu, 7, 0).ebx & (BIT(4) | BIT(11)), 0); /* HLE, RTM */
    r = query(m->vcpu, 0x80000001, 0);
    assert_int_equal(r.ecx & BIT(2), 0);  /* SVM */
    assert_int_equal(r.ecx & BIT(12), 0); /* SKINIT */
    assert_int_equal(r.ecx & BIT(29), 0); /* MONITORX */
    assert_zero(query(m->vcpu, 0x8000000a, 0));
    assert_zero(query(m->vcpu, 0x8000001f, 0));
    assert_zero(query(m->vcpu, 5, 0));
    assert_zero(query(m->vcpu, 0xa, 0));
    assert_int_equal(query(m->vcpu, 0x80000008, 0).ebx & BIT(4), 0); /* RDPRU */
    scripted_destroy(m);
}

static void what_the_library_makes_is_offered_on_any_processor(void **state)
{
    struct scripted *m = create(1, raw_nothing);

    (void)state;
    assert_true((query(m->vcpu, 1, 0).ecx & BIT(21)) != 0); /* x2APIC */
    assert_true((query(m->vcpu, 1, 0).ecx & BIT(24)) != 0); /* TSC deadline */
    assert_true((query(m->vcpu, 1, 0).ecx & BIT(31)) != 0); /* hypervisor */
    assert_true((query(m->vcpu, 1, 0).edx & BIT(9)) != 0);  /* APIC */
    assert_true((query(m->vcpu, 7, 0).ebx & BIT(1)) != 0);  /* TSC_ADJUST */
    assert_true((query(m->vcpu, 6, 0).eax & BIT(2)) != 0);  /* ARAT */
    assert_int_equal(query(m->vcpu, 1, 0).ecx & (BIT(26) | BIT(27) | BIT(28)), 0);
    scripted_destroy(m);
}

static void leaves_beyond_the_last_are_zero(void **state)
{
    struct scripted *m = create(1, raw_everything);

    (void)state;
    assert_int_equal(query(m->vcpu, 0, 0).eax, 0x16);
    assert_int_equal(query(m->vcpu, 0, 0).ebx, 0x68747541);
    assert_zero(query(m->vcpu, 0x17, 0));
    assert_zero(query(m->vcpu, 0xff, 0));
    assert_zero(query(m->vcpu, 0x12345678, 0));
    assert_zero(query(m->vcpu, 0x40000200, 0));
    assert_zero(query(m->vcpu, UINT32_MAX, 0));
    assert_int_equal(query(m->vcpu, 0x80000000, 0).eax, 0x80000021);
    assert_zero(query(m->vcpu, 0x80000022, 0));
    assert_zero(query(m->vcpu, 7, 1));
    assert_zero(query(m->vcpu, 0xb, 2));
    assert_zero(query(m->vcpu, 0xd, 10));
    /* ECX means nothing to a leaf without subleaves. */
    assert_int_equal(query(m->vcpu, 0, 77).eax, 0x16);
    scripted_destroy(m);
}

/* Intel's processors answer for their last leaf when asked for one they do not have. */
static void leaves_that_the_processor_lacks_are_not_asked_for(void **state)
{
    struct scripted *m;

    (void)state;
    max_basic = 6;
    max_extended = 0x80000004;
    m = create(1, raw_everything);
    assert_int_equal(query(m->vcpu, 7, 0).ebx, BIT(1));
    assert_int_equal(query(m->vcpu, 1, 0).ecx & BIT(26), 0); /* XSAVE without leaf 0xd */
    assert_int_equal(query(m->vcpu, 0x80000008, 0).ebx, 0);
    max_basic = 0x20;
    max_extended = 0x80000021;
    scripted_destroy(m);
}

static void xsave_follows_xcr0(void **state)
{
    struct scripted *m = create(1, raw_everything);
    struct vmm_cpuid_regs r = query(m->vcpu, 0xd, 0);

    (void)state;
    assert_int_equal(r.eax, 7);
    assert_int_equal(r.ebx, 576);
    assert_int_equal(r.ecx, 832);
    assert_int_equal(r.edx, 0);
    vmm_vcpu_set_xcr0(m->vcpu, 7);
    assert_int_equal(query(m->vcpu, 0xd, 0).ebx, 832);
    assert_int_equal(query(m->vcpu, 0xd, 1).ebx, 832);
    assert_int_equal(query(m->vcpu, 0xd, 1).eax & BIT(3), BIT(3)); /* XSAVES */
    assert_int_equal(query(m->vcpu, 0xd, 2).eax, 256);
    assert_zero(query(m->vcpu, 0xd, 9)); /* no PKRU */
    assert_int_equal(query(m->vcpu, 7, 0).ecx & BIT(3), 0);
    assert_int_equal(query(m->vcpu, 7, 0).ebx & BIT(16), 0); /* AVX-512 */
    assert_true((query(m->vcpu, 7, 0).ebx & BIT(5)) != 0);   /* AVX2 */
    scripted_destroy(m);
}

static void hidden_features(void **state)
{
    struct scripted *m = scripted_create(1);

    (void)state;
    vmm_cpuid_destroy(m->vm);
    m->vm->config.hidden_features = UINT64_C(1) << vmm_feature_find("avx") |
                                    UINT64_C(1) << vmm_feature_find("cx16") |
                                    UINT64_C(1) << vmm_feature_find("kvm_pv");
    assert_int_equal(vmm_cpuid_create(m->vm, raw_everything), 0);
    assert_int_equal(query(m->vcpu, 1, 0).ecx & (BIT(13) | BIT(28) | BIT(12) | BIT(29)), 0);
    assert_true((query(m->vcpu, 1, 0).ecx & BIT(26)) != 0); /* XSAVE is there */
    assert_int_equal(query(m->vcpu, 7, 0).ebx & BIT(5), 0); /* AVX2 needs AVX */
    assert_int_equal(query(m->vcpu, 0xd, 0).eax, 3);
    assert_int_equal(vmm_cpuid_xcr0_allowed(m->vm->cpuid), 3);
    assert_int_equal(query(m->vcpu, 0x40000101, 0).eax, 0);
    vmm_cpuid_destroy(m->vm);
    m->vm->config.hidden_features = UINT64_C(1) << vmm_feature_find("xsave");
    assert_int_equal(vmm_cpuid_create(m->vm, raw_everything), 0);
    assert_int_equal(query(m->vcpu, 1, 0).ecx & (BIT(26) | BIT(28)), 0);
    assert_zero(query(m->vcpu, 0xd, 0));
    assert_int_equal(vmm_feature_find("nothing"), -1);
    assert_string_equal(vmm_feature_name(0), "aes");
    assert_null(vmm_feature_name(VMM_FEATURE_COUNT));
    scripted_destroy(m);
}

static void os_bits_follow_cr4(void **state)
{
    struct scripted *m = create(1, raw_everything);

    (void)state;
    assert_int_equal(query(m->vcpu, 1, 0).ecx & BIT(27), 0);
    mock_vcpu(m->vcpu)->sysreg[VMM_CR4] = X86_CR4_OSXSAVE | X86_CR4_PKE;
    assert_true((query(m->vcpu, 1, 0).ecx & BIT(27)) != 0);
    assert_int_equal(query(m->vcpu, 7, 0).ecx & (BIT(3) | BIT(4)), 0); /* no protection keys */
    scripted_destroy(m);
}

static void topology_is_right(void **state)
{
    struct scripted *m = create(3, raw_everything);

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct vcpu *v = m->vm->vcpu[i];

        assert_int_equal(query(v, 1, 0).ebx >> 24, i);
        assert_int_equal(query(v, 1, 0).ebx >> 16 & 0xff, 3);
        assert_true((query(v, 1, 0).edx & BIT(28)) != 0);
        assert_int_equal(query(v, 0xb, 0).edx, i);
        assert_int_equal(query(v, 0xb, 0).ecx, 0x100);
        assert_int_equal(query(v, 0xb, 1).eax, 2);
        assert_int_equal(query(v, 0xb, 1).ebx, 3);
        assert_int_equal(query(v, 0xb, 1).edx, i);
        assert_int_equal(query(v, 0x80000008, 0).ecx, 2 << 12 | 2);
    }
    scripted_destroy(m);
    m = create(1, raw_everything);
    assert_int_equal(query(m->vcpu, 1, 0).edx & BIT(28), 0);
    assert_int_equal(query(m->vcpu, 0x80000008, 0).ecx, 0);
    scripted_destroy(m);
}

static void frequencies_are_told(void **state)
{
    struct scripted *m = create(1, raw_everything);
    struct vmm_cpuid_regs r = query(m->vcpu, 0x15, 0);

    (void)state;
    assert_int_equal((uint64_t)r.ecx * r.ebx / r.eax, POSIX_CYCLES_KHZ * 1000);
    assert_int_equal(query(m->vcpu, 0x16, 0).eax, POSIX_CYCLES_KHZ / 1000);
    r = query(m->vcpu, 0x40000000, 0);
    assert_int_equal(r.eax, 0x40000010);
    assert_memory_equal(&r.ebx, "Orthocone\0\0\0", 12);
    r = query(m->vcpu, 0x40000010, 0);
    assert_int_equal(r.eax, POSIX_CYCLES_KHZ);
    assert_int_equal(r.ebx, VLAPIC_TIMER_KHZ);
    r = query(m->vcpu, 0x40000100, 0);
    assert_memory_equal(&r.ebx, "KVMKVMKVM\0\0\0", 12);
    assert_int_equal(query(m->vcpu, 0x40000101, 0).eax, BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) |
                                                            BIT(9) | BIT(11) | BIT(13) | BIT(24));
    assert_true((query(m->vcpu, 0x80000007, 0).edx & BIT(8)) != 0);
    scripted_destroy(m);
}

static void the_instruction_has_32_bit_operands(void **state)
{
    struct scripted *m = create(1, raw_everything);
    struct vcpu *v = m->vcpu;
    struct vmm_cpuid_regs r = query(v, 1, 0);
    struct vmm_exit e = {.kind = VMM_EXIT_cpuid, .insn_length = 2};

    (void)state;
    v->gpr[VMM_RAX] = UINT64_C(0xffffffff00000001);
    v->gpr[VMM_RBX] = v->gpr[VMM_RCX] = v->gpr[VMM_RDX] = UINT64_MAX;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RAX], r.eax);
    assert_int_equal(v->gpr[VMM_RBX], r.ebx);
    assert_int_equal(v->gpr[VMM_RCX], r.ecx);
    assert_int_equal(v->gpr[VMM_RDX], r.edx);
    assert_int_equal(v->rip, 0x1002);
    scripted_destroy(m);
}

/* What a back end cannot give is not offered although the processor has it. */
static void features_can_be_hidden(void **state)
{
    struct scripted *m = create(1, raw_everything);
    uint64_t value;

    (void)state;
    assert_true(scripted_rdmsr(m, 0xda0, &value) && value == 0);
    assert_true(vmm_msr_write(m->vcpu, 0xda0, 0) && !vmm_msr_write(m->vcpu, 0xda0, 0x100));
    assert_int_equal(query(m->vcpu, 7, 0).ebx & BIT(10), BIT(10));
    assert_int_equal(query(m->vcpu, 0x80000001, 0).edx & BIT(27), BIT(27));
    m->vm->vmm->hidden = VMM_HIDDEN_RDTSCP | VMM_HIDDEN_INVPCID | VMM_HIDDEN_XSAVES;
    vmm_cpuid_destroy(m->vm);
    assert_int_equal(vmm_cpuid_create(m->vm, raw_everything), 0);
    assert_int_equal(query(m->vcpu, 7, 0).ebx & BIT(10), 0);
    assert_int_equal(query(m->vcpu, 7, 0).ecx & BIT(22), 0); /* RDPID */
    assert_int_equal(query(m->vcpu, 0x80000001, 0).edx & BIT(27), 0);
    assert_int_equal(query(m->vcpu, 0xd, 1).eax & BIT(3), 0);
    assert_false(scripted_rdmsr(m, 0xda0, &value) || vmm_msr_write(m->vcpu, 0xda0, 0));
    scripted_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_offered_is_hidden),
        cmocka_unit_test(what_the_library_makes_is_offered_on_any_processor),
        cmocka_unit_test(leaves_beyond_the_last_are_zero),
        cmocka_unit_test(leaves_that_the_processor_lacks_are_not_asked_for),
        cmocka_unit_test(xsave_follows_xcr0),
        cmocka_unit_test(features_can_be_hidden),
        cmocka_unit_test(hidden_features),
        cmocka_unit_test(os_bits_follow_cr4),
        cmocka_unit_test(topology_is_right),
        cmocka_unit_test(frequencies_are_told),
        cmocka_unit_test(the_instruction_has_32_bit_operands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
