/* CPU features that a VM's configuration can hide, by the names that Linux has for them where it
 * has any. */
#include <vmm/vm.h>

#include "core/cpuid.h"
#include "core/x86.h"

#define B(n) (UINT32_C(1) << (n))

const struct vmm_feature vmm_feature_table[VMM_FEATURE_COUNT] = {
    {"aes", 0x1, {.ecx = B(25)}, 0},
    {"avx", 0x1, {.ecx = B(12) | B(28) | B(29)}, X86_XCR0_AVX | X86_XCR0_AVX512},
    {"avx512", 0x7, {0, 0, 0, 0}, X86_XCR0_AVX512},
    {"cx16", 0x1, {.ecx = B(13)}, 0},
    {"erms", 0x7, {.ebx = B(9)}, 0},
    {"fsgsbase", 0x7, {.ebx = B(0)}, 0},
    {"kvm_pv", 0x40000101, {.eax = UINT32_MAX}, 0},
    {"pcid", 0x1, {.ecx = B(17)}, 0},
    {"pdpe1gb", 0x80000001, {.edx = B(26)}, 0},
    {"rdrand", 0x1, {.ecx = B(30)}, 0},
    {"rdseed", 0x7, {.ebx = B(18)}, 0},
    {"sha", 0x7, {.ebx = B(29)}, 0},
    {"smap", 0x7, {.ebx = B(20)}, 0},
    {"smep", 0x7, {.ebx = B(7)}, 0},
    {"sse4", 0x1, {.ecx = B(19) | B(20)}, 0},
    {"umip", 0x7, {.ecx = B(2)}, 0},
    {"xsave", 0x1, {0, 0, 0, 0}, UINT64_MAX}, /* with all that needs it */
};

int vmm_feature_find(const char *name)
{
    for (unsigned i = 0; i < VMM_FEATURE_COUNT; i++) {
        if (__builtin_strcmp(vmm_feature_table[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const char *vmm_feature_name(unsigned i)
{
    return i < VMM_FEATURE_COUNT ? vmm_feature_table[i].name : NULL;
}
