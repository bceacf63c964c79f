/* What guests see of the processor: CPUID answers, computed from one policy table when the VM is
 * made, so that the exit is a look-up. Spec: AMD APM vol. 3 appendix E; Intel SDM vol. 2 "CPUID".
 */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

struct vmm_cpuid;

struct vmm_cpuid_regs {
    uint32_t eax, ebx, ecx, edx;
};

/* Features that a back end may have to keep from guests although the processor has them. */
enum vmm_hidden {
    VMM_HIDDEN_RDTSCP = 1 << 0,
    VMM_HIDDEN_INVPCID = 1 << 1,
    VMM_HIDDEN_XSAVES = 1 << 2,
};

/* What a configuration can hide (core/features.c): bits of a leaf, and the XSAVE components that go
 * with it, which take along what needs them. */
#define VMM_FEATURE_COUNT 17
struct vmm_feature {
    const char *name;
    uint32_t leaf;
    struct vmm_cpuid_regs bits;
    uint64_t xcr0;
};
extern const struct vmm_feature vmm_feature_table[VMM_FEATURE_COUNT];
int vmm_feature_find(const char *name); /* -1: there is none of that name */

/* The processor's own answer; a test brings its own. */
typedef void (*vmm_cpuid_raw_fn)(uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out);

int vmm_cpuid_create(struct vm *vm, vmm_cpuid_raw_fn raw) VMM_MUST_CHECK;
void vmm_cpuid_destroy(struct vm *vm);
void vmm_cpuid_raw(uint32_t leaf, uint32_t subleaf, struct vmm_cpuid_regs *out);

/* What the policy lets the guest have. */
uint64_t vmm_cpuid_xcr0_allowed(const struct vmm_cpuid *c);
uint32_t vmm_cpuid_xsave_size(const struct vmm_cpuid *c, uint64_t xcr0);
bool vmm_cpuid_has_xsaves(struct vmm_cpuid *c);
uint32_t vmm_cpuid_signature(struct vmm_cpuid *c); /* leaf 1 EAX */
uint64_t vmm_cpuid_efer_allowed(struct vmm_cpuid *c);
/* Of all answers but those that tell frequencies: machines with the same one can hand VMs over. */
uint64_t vmm_cpuid_fingerprint(struct vmm_cpuid *c);
