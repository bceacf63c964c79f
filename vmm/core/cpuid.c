/* CPUID: one policy table, applied once per VM. See cpuid.h. */
#include "core/cpuid.h"

#include "core/checkpoint.h"
#include "core/irq.h"
#include "core/vm.h"
#include "core/x86.h"

#define B(n) (UINT32_C(1) << (n))
#define ALL  UINT32_MAX

#define MAX_BASIC    0x16
#define MAX_EXTENDED UINT32_C(0x80000021)
#define MAX_HYPER    UINT32_C(0x40000010)

/* They tell the frequencies of this machine. */
#define LEAF_TSC          0x15
#define LEAF_FREQUENCY    0x16
#define LEAF_HYPER_TIMING UINT32_C(0x40000010)

#define LEAVES_PER_GROUP 0x24 /* low byte of the highest leaf in any group, and one */
#define ANSWERS_MAX      64
#define COMPONENTS       10  /* XSAVE state components that guests may have: bits of XCR0 */
#define XSAVE_LEGACY     576 /* the legacy area and the header */

/* Answers that depend on the vCPU's state. */
enum dynamic { STATIC, DYN_LEAF_1, DYN_X2APIC_ID, DYN_XSAVE, DYN_XSAVEC };

struct answer {
    struct vmm_cpuid_regs regs;
    uint8_t dynamic; /* enum dynamic */
};

/* Leaves come in four groups, by their upper 24 bits. */
enum group { BASIC, HYPER, KVM, EXTENDED, GROUP_COUNT };

struct leaf {
    uint8_t first; /* its answers begin here */
    uint8_t count; /* 0: the leaf is not there */
    bool indexed;  /* ECX chooses; else it is ignored */
};

struct component {
    uint32_t size, offset;
    bool aligned; /* in the compacted format */
};

struct vmm_cpuid {
    struct leaf leaf[GROUP_COUNT][LEAVES_PER_GROUP];
    struct answer answer[ANSWERS_MAX];
    unsigned answer_count;
    uint32_t max_basic_raw, max_extended_raw;
    uint64_t xcr0_allowed;
    struct component component[COMPONENTS];
};

/* One row per leaf and subleaf: what passes through from the processor, what is set whatever it
 * says, then what code must work out. Leaves not listed read as zero, as AMD's do. */
struct rule {
    uint32_t leaf, subleaf;
    struct vmm_cpuid_regs keep;
    struct vmm_cpuid_regs force;
    void (*build)(struct vm *vm, struct vmm_cpuid_regs *r);
    uint8_t dynamic;
    bool indexed; /* ECX chooses the subleaf */
};

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

#define XSAVEC_EAX_XSAVES B(3)

#define EXT1_ECX_AVX        (B(11) /* XOP */ | B(16) /* FMA4 */)
#define EXT1_ECX_CMP_LEGACY B(1)
/* Not SVM, no OS-visible workarounds, IBS, SKINIT, watchdog, LWP, counters or MWAITX. */
#define EXT1_ECX                                                                                   \
    (B(0) /* LAHF */ | B(5) /* ABM */ | B(6) /* SSE4A */ | B(7) /* MisAlignSse */ |                \
     B(8) /* 3DNowPrefetch */ | B(21) /* TBM */ | EXT1_ECX_AVX)
#define EXT1_EDX_NX     B(20)
#define EXT1_EDX_RDTSCP B(27)
#define EXT1_EDX_FFXSR  B(25)
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
static const struct rule rule_table[] = {
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

void vmm_cpuid_raw(uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out)
{
    __asm__ volatile("cpuid"
                     : "=a"(out->eax), "=b"(out->ebx), "=c"(out->ecx), "=d"(out->edx)
                     : "a"(leaf), "c"(subleaf));
}

static struct leaf *leaf_find(struct vmm_cpuid *c, uint32_t leaf)
{
    uint32_t index = leaf & 0xff;
    enum group group;

    switch (leaf >> 8) {
    case 0x000000:
        group = BASIC;
        break;
    case 0x400000:
        group = HYPER;
        break;
    case 0x400001:
        group = KVM;
        break;
    case 0x800000:
        group = EXTENDED;
        break;
    default:
        return NULL;
    }
    return index < LEAVES_PER_GROUP ? &c->leaf[group][index] : NULL;
}

/* Intel's processors answer for their last leaf when asked beyond it: ask only what is there. */
static bool raw_has(const struct vmm_cpuid *c, uint32_t leaf)
{
    return leaf >= 0x80000000 ? leaf <= c->max_extended_raw : leaf <= c->max_basic_raw;
}

static void measure_components(struct vm *vm, vmm_cpuid_raw_fn raw)
{
    struct vmm_cpuid *c = vm->cpuid;
    uint64_t allowed =
        vm->ops->xcr0_supported & (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX | X86_XCR0_AVX512);

    for (unsigned i = 0; i < VMM_FEATURE_COUNT; i++) {
        if ((vm->config.hidden_features >> i & 1) != 0) {
            allowed &= ~vmm_feature_table[i].xcr0;
        }
    }
    if ((allowed & X86_XCR0_AVX512) != X86_XCR0_AVX512) {
        allowed &= ~X86_XCR0_AVX512;
    }
    c->xcr0_allowed = raw_has(c, 0xd) ? allowed : 0;
    for (unsigned i = 2; i < COMPONENTS; i++) {
        struct vmm_cpuid_regs r;

        if ((c->xcr0_allowed >> i & 1) != 0) {
            raw(0xd, i, &r);
            c->component[i] =
                (struct component){.size = r.eax, .offset = r.ebx, .aligned = (r.ecx & B(1)) != 0};
        }
    }
}

static void hide_features(const struct vm *vm, const struct rule *rule, struct vmm_cpuid_regs *r)
{
    for (unsigned i = 0; i < VMM_FEATURE_COUNT; i++) {
        const struct vmm_feature *f = &vmm_feature_table[i];

        if ((vm->config.hidden_features >> i & 1) != 0 && f->leaf == rule->leaf) {
            r->eax &= ~f->bits.eax;
            r->ebx &= ~f->bits.ebx;
            r->ecx &= ~f->bits.ecx;
            r->edx &= ~f->bits.edx;
        }
    }
}

static void apply_rule(struct vm *vm, const struct rule *rule, vmm_cpuid_raw_fn raw)
{
    struct vmm_cpuid *c = vm->cpuid;
    struct leaf *leaf = leaf_find(c, rule->leaf);
    struct answer *a = &c->answer[c->answer_count];
    struct vmm_cpuid_regs r = {0, 0, 0, 0};

    vmm_assert(vm->vmm, leaf != NULL && leaf->count == rule->subleaf);
    if (leaf->count++ == 0) {
        leaf->first = (uint8_t)c->answer_count;
        leaf->indexed = rule->indexed;
    }
    c->answer_count++;
    if (raw_has(c, rule->leaf)) {
        raw(rule->leaf, rule->subleaf, &r);
    }
    r.eax = (r.eax & rule->keep.eax) | rule->force.eax;
    r.ebx = (r.ebx & rule->keep.ebx) | rule->force.ebx;
    r.ecx = (r.ecx & rule->keep.ecx) | rule->force.ecx;
    r.edx = (r.edx & rule->keep.edx) | rule->force.edx;
    if (rule->leaf == 0xd && rule->subleaf >= 2 && (c->xcr0_allowed >> rule->subleaf & 1) == 0) {
        r = (struct vmm_cpuid_regs){0, 0, 0, 0};
    }
    if (rule->build != NULL) {
        rule->build(vm, &r);
    }
    hide_features(vm, rule, &r);
    a->regs = r;
    a->dynamic = rule->dynamic;
}

int vmm_cpuid_create(struct vm *vm, vmm_cpuid_raw_fn raw)
{
    struct vmm_cpuid *c = vmm_vm_alloc(vm, sizeof(*c));
    struct vmm_cpuid_regs r;

    _Static_assert(VMM_ARRAY_COUNT(rule_table) <= ANSWERS_MAX, "more answers than room");
    if (c == NULL) {
        return -VMM_ENOMEM;
    }
    vm->cpuid = c;
    raw(0, 0, &r);
    c->max_basic_raw = r.eax;
    raw(0x80000000, 0, &r);
    c->max_extended_raw = r.eax;
    measure_components(vm, raw);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(rule_table); i++) {
        apply_rule(vm, &rule_table[i], raw);
    }
    return 0;
}

void vmm_cpuid_destroy(struct vm *vm)
{
    vmm_vm_free(vm, vm->cpuid, sizeof(*vm->cpuid));
    vm->cpuid = NULL;
}

uint32_t vmm_cpuid_xsave_size(const struct vmm_cpuid *c, uint64_t xcr0)
{
    uint32_t size = XSAVE_LEGACY;

    for (unsigned i = 2; i < COMPONENTS; i++) {
        uint32_t end = c->component[i].offset + c->component[i].size;

        if ((xcr0 >> i & 1) != 0 && end > size) {
            size = end;
        }
    }
    return size;
}

static uint32_t xsavec_size(const struct vmm_cpuid *c, uint64_t xcr0)
{
    uint32_t size = XSAVE_LEGACY;

    for (unsigned i = 2; i < COMPONENTS; i++) {
        if ((xcr0 >> i & 1) != 0) {
            size = c->component[i].aligned ? (size + 63) & ~UINT32_C(63) : size;
            size += c->component[i].size;
        }
    }
    return size;
}

static void add_dynamic(struct vcpu *v, enum dynamic what, struct vmm_cpuid_regs *r)
{
    switch (what) {
    case STATIC:
        break;
    case DYN_LEAF_1:
        r->ebx |= v->id << 24;
        if ((v->backend->get_sysreg(v, VMM_CR4) & X86_CR4_OSXSAVE) != 0) {
            r->ecx |= B(27);
        }
        break;
    case DYN_X2APIC_ID:
        r->edx = v->id;
        break;
    case DYN_XSAVE:
        r->ebx = r->eax == 0 ? 0 : v->xsave_size;
        break;
    case DYN_XSAVEC:
        r->ebx = (r->eax & B(1)) == 0 ? 0 : xsavec_size(v->vm->cpuid, v->xcr0);
        break;
    }
}

static const struct answer *answer_find(struct vmm_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
    static const struct answer nothing;
    const struct leaf *l =
        vmm_likely(leaf < LEAVES_PER_GROUP) ? &c->leaf[BASIC][leaf] : leaf_find(c, leaf);
    unsigned i;

    if (vmm_unlikely(l == NULL)) {
        return &nothing;
    }
    i = l->indexed ? subleaf : 0;
    return vmm_likely(i < l->count) ? &c->answer[l->first + i] : &nothing;
}

void vmm_cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out)
{
    const struct answer *a = answer_find(v->vm->cpuid, leaf, subleaf);

    *out = a->regs;
    add_dynamic(v, (enum dynamic)a->dynamic, out);
}

static void answer(struct vcpu *v, const struct vmm_cpuid_regs *r)
{
    v->gpr[VMM_RAX] = r->eax;
    v->gpr[VMM_RBX] = r->ebx;
    v->gpr[VMM_RCX] = r->ecx;
    v->gpr[VMM_RDX] = r->edx;
}

enum vmm_action vmm_handle_cpuid(struct vcpu *v, struct vmm_exit *e)
{
    const struct answer *a =
        answer_find(v->vm->cpuid, (uint32_t)v->gpr[VMM_RAX], (uint32_t)v->gpr[VMM_RCX]);

    if (!vmm_skip_instruction(v, e)) {
        return VMM_CONTINUE;
    }
    if (vmm_unlikely(a->dynamic != STATIC)) {
        struct vmm_cpuid_regs r = a->regs;

        add_dynamic(v, (enum dynamic)a->dynamic, &r);
        answer(v, &r);
    } else {
        answer(v, &a->regs);
    }
    return VMM_CONTINUE;
}

bool vmm_cpuid_has_xsaves(struct vmm_cpuid *c)
{
    return (answer_find(c, 0xd, 1)->regs.eax & XSAVEC_EAX_XSAVES) != 0;
}

uint32_t vmm_cpuid_signature(struct vmm_cpuid *c)
{
    return answer_find(c, 0x1, 0)->regs.eax;
}

uint64_t vmm_cpuid_xcr0_allowed(const struct vmm_cpuid *c)
{
    return c->xcr0_allowed;
}

uint64_t vmm_cpuid_efer_allowed(struct vmm_cpuid *c)
{
    uint32_t edx = answer_find(c, 0x80000001, 0)->regs.edx;

    return X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA |
           ((edx & EXT1_EDX_NX) != 0 ? X86_EFER_NXE : 0) |
           ((edx & EXT1_EDX_FFXSR) != 0 ? X86_EFER_FFXSR : 0);
}

/* Leaf 1 EBX and others add the vCPU's own state to these when it asks. */
uint64_t vmm_cpuid_fingerprint(struct vmm_cpuid *c)
{
    uint64_t sum = vmm_checksum(0, &c->xcr0_allowed, sizeof(c->xcr0_allowed));

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(rule_table); i++) {
        uint32_t leaf = rule_table[i].leaf;
        const struct answer *a = answer_find(c, leaf, rule_table[i].subleaf);

        if (leaf != LEAF_TSC && leaf != LEAF_FREQUENCY && leaf != LEAF_HYPER_TIMING) {
            sum = vmm_checksum(sum, &a->regs, sizeof(a->regs));
        }
    }
    return sum;
}
