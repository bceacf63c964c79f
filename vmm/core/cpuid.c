/* CPUID: the policy table (cpuid_policy.c), applied once per VM. See cpuid.h. */
#include "core/cpuid_policy.h"

#include "core/checkpoint.h"
#include "core/x86.h"

/* They tell the frequencies of this machine. */
#define LEAF_TSC          0x15
#define LEAF_FREQUENCY    0x16
#define LEAF_HYPER_TIMING UINT32_C(0x40000010)

#define XSAVE_LEGACY 576 /* the legacy area and the header */

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

static void hide_features(const struct vm *vm, const struct cpuid_rule *rule,
                          struct vmm_cpuid_regs *r)
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

static void apply_rule(struct vm *vm, const struct cpuid_rule *rule, vmm_cpuid_raw_fn raw)
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

    if (c == NULL) {
        return -VMM_ENOMEM;
    }
    vm->cpuid = c;
    raw(0, 0, &r);
    c->max_basic_raw = r.eax;
    raw(0x80000000, 0, &r);
    c->max_extended_raw = r.eax;
    measure_components(vm, raw);
    for (unsigned i = 0; i < cpuid_rule_count; i++) {
        apply_rule(vm, &cpuid_rule_table[i], raw);
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

static inline const struct answer *answer_find(struct vmm_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
    static const struct answer nothing;
    const struct leaf *l;
    unsigned i;

    if (vmm_likely(leaf < LEAVES_PER_GROUP)) {
        l = &c->leaf[BASIC][leaf];
    } else {
        l = leaf_find(c, leaf);
        if (l == NULL) {
            return &nothing;
        }
    }
    i = l->indexed ? subleaf : 0;
    return vmm_likely(i < l->count) ? &c->answer[l->first + i] : &nothing;
}

static void answer(struct vcpu *v, const struct vmm_cpuid_regs *r)
{
    v->gpr[VMM_RAX] = r->eax;
    v->gpr[VMM_RBX] = r->ebx;
    v->gpr[VMM_RCX] = r->ecx;
    v->gpr[VMM_RDX] = r->edx;
}

static const struct answer *answer_asked(struct vcpu *v)
{
    return answer_find(v->vm->cpuid, (uint32_t)v->gpr[VMM_RAX], (uint32_t)v->gpr[VMM_RCX]);
}

/* Out of line, so that a plain answer saves no registers for it. */
static __attribute__((noinline)) enum vmm_action answer_rare(struct vcpu *v, struct vmm_exit *e)
{
    if (vmm_skip_instruction(v, e)) {
        const struct answer *a = answer_asked(v);
        struct vmm_cpuid_regs r = a->regs;

        add_dynamic(v, (enum dynamic)a->dynamic, &r);
        answer(v, &r);
    }
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_cpuid(struct vcpu *v, struct vmm_exit *e)
{
    const struct answer *a = answer_asked(v);

    if (vmm_unlikely(a->dynamic != STATIC || !vmm_skip_quick(v, e))) {
        return answer_rare(v, e);
    }
    answer(v, &a->regs);
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

    for (unsigned i = 0; i < cpuid_rule_count; i++) {
        uint32_t leaf = cpuid_rule_table[i].leaf;
        const struct answer *a = answer_find(c, leaf, cpuid_rule_table[i].subleaf);

        if (leaf != LEAF_TSC && leaf != LEAF_FREQUENCY && leaf != LEAF_HYPER_TIMING) {
            sum = vmm_checksum(sum, &a->regs, sizeof(a->regs));
        }
    }
    return sum;
}
