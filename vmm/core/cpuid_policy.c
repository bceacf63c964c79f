/* What guests may see of the processor: one row per leaf and subleaf of CPUID. */
#include "core/cpuid_policy.h"

#include "core/irq.h"
#include "core/x86.h"

#define MAX_BASIC    0x16
#define MAX_EXTENDED UINT32_C(0x80000021)
#define MAX_HYPER    UINT32_C(0x40000010)

#define LEAF1_ECX_AVX   (B(12) /* FMA */ | B(28) /* AVX */ | B(29) /* F16C */)
#define LEAF1_ECX_XSAVE (B(26) /* XSAVE */ | LEAF1_ECX_AVX)
#define LEAF1_ECX                                                                                  \
    (B(0) /* SSE3 */ | B(1) /* PCLMULQDQ */ | B(9) /* SSSE3 */ | B(13) /* CX16 */ |                \
     B(17) /* PCID */ | B(19) /* SSE4.1 */ | B(20) /* SSE4.2 */ | B(22) /* MOVBE */ |              \
     B(23) /* POPCNT */ | B(25) /* AES */ | B(30) /* RDRAND */ | LEAF1_ECX_XSAVE)
/* The library's own LAPIC gives x2APIC and the deadline timer on any processor. */
#define LEAF1_ECX_FORCE (B(21) /* x2APIC */ | B(24) /* TSC_DEADLINE */ | B(31) /* hypervisor */)
/* What AMD repeats in leaf 0x80000001. */
#define LEAF1_EDX_COMMON                                                                           \
    (B(0) /* FPU */ | B(1) /* VME */ | B(2) /* DE */ | B(3) /* PSE */ | B(4) /* TSC */ |           \
     B(5) /* MSR */ | B(6) /* PAE */ | B(7) /* MCE */ | B(8) /* CX8 */ | B(9) /* APIC */ |         \
     B(12) /* MTRR */ | B(13) /* PGE */ | B(14) /* MCA */ | B(15) /* CMOV */ | B(16) /* PAT */ |   \
     B(17) /* PSE36 */ | B(23) /* MMX */ | B(24) /* FXSR */)
#define LEAF1_EDX                                                                                  \
    (LEAF1_EDX_COMMON | B(11) /* SEP */ | B(19) /* CLFSH */ | B(25) /* SSE */ | B(26) /* SSE2 */)
#define LEAF1_EDX_HTT B(28)

#define LEAF7_EBX_AVX512                                                                           \
    (B(16) /* F */ | B(17) /* DQ */ | B(21) /* IFMA */ | B(28) /* CD */ | B(30) /* BW */ |         \
     B(31) /* VL */)
#define LEAF7_EBX_AVX (B(5) /* AVX2 */ | LEAF7_EBX_AVX512)
#define LEAF7_EBX                                                                                  \
    (B(0) /* FSGSBASE */ | B(3) /* BMI1 */ | B(7) /* SMEP */ | B(8) /* BMI2 */ | B(9) /* ERMS */ | \
     LEAF7_EBX_INVPCID | B(18) /* RDSEED */ | B(19) /* ADX */ | B(20) /* SMAP */ |                 \
     B(23) /* CLFLUSHOPT */ | B(24) /* CLWB */ | B(29) /* SHA */ | LEAF7_EBX_AVX)
#define LEAF7_EBX_TSC_ADJUST B(1)
#define LEAF7_EBX_INVPCID    B(10)
#define LEAF7_ECX_AVX512                                                                           \
    (B(1) /* VBMI */ | B(6) /* VBMI2 */ | B(11) /* VNNI */ | B(12) /* BITALG */ |                  \
     B(14) /* VPOPCNTDQ */)
#define LEAF7_ECX_AVX (B(9) /* VAES */ | B(10) /* VPCLMULQDQ */ | LEAF7_ECX_AVX512)
/* No protection keys: what is emulated does not obey them. */
#define LEAF7_ECX_RDPID B(22)
#define LEAF7_ECX       (B(2) /* UMIP */ | B(8) /* GFNI */ | LEAF7_ECX_RDPID | LEAF7_ECX_AVX)
#define LEAF7_EDX       (B(4) /* FSRM */)

#define EXT1_ECX_AVX        (B(11) /* XOP */ | B(16) /* FMA4 */)
#define EXT1_ECX_CMP_LEGACY B(1)
/* Not SVM, no OS-visible workarounds, IBS, SKINIT, watchdog, LWP, counters or MWAITX. */
#define EXT1_ECX                                                                                   \
    (B(0) /* LAHF */ | B(5) /* ABM */ | B(6) /* SSE4A */ | B(7) /* MisAlignSse */ |                \
     B(8) /* 3DNowPrefetch */ | B(21) /* TBM */ | EXT1_ECX_AVX)
#define EXT1_EDX_RDTSCP B(27)
#define EXT1_EDX                                                                                   \
    (LEAF1_EDX_COMMON | B(11) /* SYSCALL */ | EXT1_EDX_NX | B(22) /* MmxExt */ | EXT1_EDX_FFXSR |  \
     B(26) /* Page1GB */ | EXT1_EDX_RDTSCP | B(29) /* LM */ | B(30) | B(31) /* 3DNow */)
#define EXT8_EBX  (B(0) /* CLZERO */ | B(2) /* RstrFpErrPtrs */ | B(9) /* WBNOINVD */)
#define EXT21_EAX (B(2) /* LFENCE serialises */ | B(6) /* null selector clears base */)

#define KVM_FEATURE_NOP_IO_DELAY       B(1)
#define KVM_FEATURE_CLOCKSOURCE2       B(3)
#define KVM_FEATURE_STEAL_TIME         B(5)
#define KVM_FEATURE_PV_EOI             B(6)
#define KVM_FEATURE_PV_UNHALT          B(7)
#define KVM_FEATURE_PV_TLB_FLUSH       B(9)
#define KVM_FEATURE_PV_SEND_IPI        B(11)
#define KVM_FEATURE_PV_SCHED_YIELD     B(13)
#define KVM_FEATURE_CLOCKSOURCE_STABLE B(24)

static void signature(struct vmm_cpuid_regs *r, const char text[12])
{
    __builtin_memcpy(&r->ebx, text, 4);
    __builtin_memcpy(&r->ecx, text + 4, 4);
    __builtin_memcpy(&r->edx, text + 8, 4);
}

/* How many bits an APIC id of this VM takes. */
static unsigned id_bits(const struct vm *vm)
{
    unsigned bits = 0;

    while ((1u << bits) < vm->config.vcpu_count) {
        bits++;
    }
    return bits;
}

static void build_1(struct vm *vm, struct vmm_cpuid_regs *r)
{
    if ((vm->cpuid->xcr0_allowed & X86_XCR0_AVX) == 0) {
        r->ecx &= ~LEAF1_ECX_AVX;
    }
    if (vm->cpuid->xcr0_allowed == 0) {
        r->ecx &= ~LEAF1_ECX_XSAVE;
    }
    r->ebx |= vm->config.vcpu_count << 16;
    if (vm->config.vcpu_count > 1) {
        r->edx |= LEAF1_EDX_HTT;
    }
}

static void build_7(struct vm *vm, struct vmm_cpuid_regs *r)
{
    uint64_t xcr0 = vm->cpuid->xcr0_allowed;

    if ((xcr0 & X86_XCR0_AVX) == 0) {
        r->ebx &= ~LEAF7_EBX_AVX;
        r->ecx &= ~LEAF7_ECX_AVX;
    }
    if ((xcr0 & X86_XCR0_AVX512) == 0) {
        r->ebx &= ~LEAF7_EBX_AVX512;
        r->ecx &= ~LEAF7_ECX_AVX512;
    }
    if ((vm->vmm->hidden & VMM_HIDDEN_INVPCID) != 0) {
        r->ebx &= ~LEAF7_EBX_INVPCID;
    }
    if ((vm->vmm->hidden & VMM_HIDDEN_RDTSCP) != 0) {
        r->ecx &= ~LEAF7_ECX_RDPID;
    }
}

static void build_topology_core(struct vm *vm, struct vmm_cpuid_regs *r)
{
    r->eax = id_bits(vm);
    r->ebx = vm->config.vcpu_count;
}

static void build_xsave(struct vm *vm, struct vmm_cpuid_regs *r)
{
    struct vmm_cpuid *c = vm->cpuid;

    r->eax = (uint32_t)c->xcr0_allowed;
    r->ecx = c->xcr0_allowed == 0 ? 0 : vmm_cpuid_xsave_size(c, c->xcr0_allowed);
    r->edx = (uint32_t)(c->xcr0_allowed >> 32);
}

static void build_xsavec(struct vm *vm, struct vmm_cpuid_regs *r)
{
    if (vm->cpuid->xcr0_allowed == 0) {
        r->eax = 0;
    }
    if ((vm->vmm->hidden & VMM_HIDDEN_XSAVES) != 0) {
        r->eax &= ~XSAVEC_EAX_XSAVES;
    }
}

static void build_tsc_ratio(struct vm *vm, struct vmm_cpuid_regs *r)
{
    r->eax = VLAPIC_TIMER_KHZ;
    r->ebx = (uint32_t)vm->ops->cycles_khz;
    r->ecx = VLAPIC_TIMER_KHZ * 1000;
}

static void build_mhz(struct vm *vm, struct vmm_cpuid_regs *r)
{
    r->eax = r->ebx = (uint32_t)(vm->ops->cycles_khz / 1000);
    r->ecx = VLAPIC_TIMER_KHZ / 1000;
}

static void build_hyper_signature(struct vm *vm, struct vmm_cpuid_regs *r)
{
    (void)vm;
    signature(r, "Orthocone\0\0");
}

static void build_hyper_timing(struct vm *vm, struct vmm_cpuid_regs *r)
{
    r->eax = (uint32_t)vm->ops->cycles_khz;
    r->ebx = VLAPIC_TIMER_KHZ;
}

static void build_kvm_signature(struct vm *vm, struct vmm_cpuid_regs *r)
{
    (void)vm;
    signature(r, "KVMKVMKVM\0\0");
}

static void build_ext_max(struct vm *vm, struct vmm_cpuid_regs *r)
{
    uint32_t raw = vm->cpuid->max_extended_raw;

    r->eax = raw < MAX_EXTENDED ? raw : MAX_EXTENDED;
}

static void build_ext_1(struct vm *vm, struct vmm_cpuid_regs *r)
{
    if ((vm->cpuid->xcr0_allowed & X86_XCR0_AVX) == 0) {
        r->ecx &= ~EXT1_ECX_AVX;
    }
    if (vm->config.vcpu_count > 1) {
        r->ecx |= EXT1_ECX_CMP_LEGACY;
    }
    if ((vm->vmm->hidden & VMM_HIDDEN_RDTSCP) != 0) {
        r->edx &= ~EXT1_EDX_RDTSCP;
    }
}

/* Five-level paging is not offered, so linear addresses have 48 bits. */
static void build_ext_8(struct vm *vm, struct vmm_cpuid_regs *r)
{
    r->eax = (r->eax & 0xff) | 48 << 8;
    r->ecx = id_bits(vm) << 12 | (vm->config.vcpu_count - 1);
}

#define XSAVE_COMPONENT(i)                                                                         \
    {                                                                                              \
        .leaf = 0xd, .subleaf = (i), .indexed = true, .keep = { ALL, ALL, ALL, 0 }                 \
    }

/* Sorted by leaf and subleaf; subleaves count from 0 without gaps. */
const struct cpuid_rule cpuid_rule_table[] = {
    {.leaf = 0x0, .keep = {0, ALL, ALL, ALL}, .force = {.eax = MAX_BASIC}},
    {.leaf = 0x1,
     .keep = {ALL, 0xff00 /* CLFLUSH size */, LEAF1_ECX, LEAF1_EDX},
     .force = {.ecx = LEAF1_ECX_FORCE, .edx = B(9) /* APIC */},
     .build = build_1,
     .dynamic = DYN_LEAF_1},
    {.leaf = 0x6, .force = {.eax = B(2) /* ARAT: the LAPIC timer never stops */}},
    {.leaf = 0x7,
     .indexed = true,
     .keep = {0, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX},
     .force = {.ebx = LEAF7_EBX_TSC_ADJUST},
     .build = build_7},
    {.leaf = 0xb,
     .subleaf = 0,
     .indexed = true,
     .force = {.ebx = 1, .ecx = 0x100},
     .dynamic = DYN_X2APIC_ID},
    {.leaf = 0xb,
     .subleaf = 1,
     .indexed = true,
     .force = {.ecx = 0x201},
     .build = build_topology_core,
     .dynamic = DYN_X2APIC_ID},
    {.leaf = 0xd, .subleaf = 0, .indexed = true, .build = build_xsave, .dynamic = DYN_XSAVE},
    {.leaf = 0xd,
     .subleaf = 1,
     .indexed = true,
     .keep = {.eax = B(0) /* XSAVEOPT */ | B(1) /* XSAVEC */ | B(2) /* XGETBV ECX=1 */ |
                     XSAVEC_EAX_XSAVES /* without supervisor states: MSR XSS can only be 0 */},
     .build = build_xsavec,
     .dynamic = DYN_XSAVEC},
    XSAVE_COMPONENT(2),
    XSAVE_COMPONENT(3),
    XSAVE_COMPONENT(4),
    XSAVE_COMPONENT(5),
    XSAVE_COMPONENT(6),
    XSAVE_COMPONENT(7),
    XSAVE_COMPONENT(8),
    XSAVE_COMPONENT(9),
    {.leaf = 0x15, .build = build_tsc_ratio},
    {.leaf = 0x16, .build = build_mhz},
    {.leaf = 0x40000000, .force = {.eax = MAX_HYPER}, .build = build_hyper_signature},
    {.leaf = 0x40000010, .build = build_hyper_timing},
    {.leaf = 0x40000100, .force = {.eax = 0x40000101}, .build = build_kvm_signature},
    {.leaf = 0x40000101,
     .force = {.eax = KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 | KVM_FEATURE_STEAL_TIME |
                      KVM_FEATURE_PV_EOI | KVM_FEATURE_PV_UNHALT | KVM_FEATURE_PV_TLB_FLUSH |
                      KVM_FEATURE_PV_SEND_IPI | KVM_FEATURE_PV_SCHED_YIELD |
                      KVM_FEATURE_CLOCKSOURCE_STABLE}},
    {.leaf = 0x80000000, .keep = {0, ALL, ALL, ALL}, .build = build_ext_max},
    {.leaf = 0x80000001, .keep = {ALL, 0, EXT1_ECX, EXT1_EDX}, .build = build_ext_1},
    {.leaf = 0x80000002, .keep = {ALL, ALL, ALL, ALL}}, /* the name */
    {.leaf = 0x80000003, .keep = {ALL, ALL, ALL, ALL}},
    {.leaf = 0x80000004, .keep = {ALL, ALL, ALL, ALL}},
    {.leaf = 0x80000005, .keep = {ALL, ALL, ALL, ALL}}, /* caches */
    {.leaf = 0x80000006, .keep = {ALL, ALL, ALL, ALL}},
    /* The TSC that guests see is the host's, which the host vouches for. */
    {.leaf = 0x80000007, .force = {.edx = B(8) /* invariant TSC */}},
    {.leaf = 0x80000008, .keep = {ALL, EXT8_EBX, 0, 0}, .build = build_ext_8},
    {.leaf = 0x80000021, .keep = {.eax = EXT21_EAX}},
};

const unsigned cpuid_rule_count = VMM_ARRAY_COUNT(cpuid_rule_table);
_Static_assert(VMM_ARRAY_COUNT(cpuid_rule_table) <= ANSWERS_MAX, "more answers than room");
