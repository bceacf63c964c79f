/* Inside CPUID: the policy table (cpuid_policy.c) and what is made of it for a VM (cpuid.c). */
#pragma once

#include "core/cpuid.h"
#include "core/vm.h"

#define B(n) (UINT32_C(1) << (n))
#define ALL  UINT32_MAX

#define LEAVES_PER_GROUP 0x24 /* low byte of the highest leaf in any group, and one */
#define ANSWERS_MAX      64
#define COMPONENTS       10 /* XSAVE state components that guests may have: bits of XCR0 */

#define EXT1_EDX_NX       B(20)
#define EXT1_EDX_FFXSR    B(25)
#define XSAVEC_EAX_XSAVES B(3)

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
struct cpuid_rule {
    uint32_t leaf, subleaf;
    struct vmm_cpuid_regs keep;
    struct vmm_cpuid_regs force;
    void (*build)(struct vm *vm, struct vmm_cpuid_regs *r);
    uint8_t dynamic;
    bool indexed; /* ECX chooses the subleaf */
};

/* Sorted by leaf and subleaf. */
extern const struct cpuid_rule cpuid_rule_table[];
extern const unsigned cpuid_rule_count;
