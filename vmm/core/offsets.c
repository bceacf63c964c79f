/* Offsets for the assembly of the back ends. */
#include "core/vcpu.h"

void vmm_core_offsets(void);
void vmm_core_offsets(void)
{
    OFFSETS_MEMBER(VCPU_RAX, struct vcpu, gpr[VMM_RAX]);
    OFFSETS_MEMBER(VCPU_RCX, struct vcpu, gpr[VMM_RCX]);
    OFFSETS_MEMBER(VCPU_RDX, struct vcpu, gpr[VMM_RDX]);
    OFFSETS_MEMBER(VCPU_RBX, struct vcpu, gpr[VMM_RBX]);
    OFFSETS_MEMBER(VCPU_RBP, struct vcpu, gpr[VMM_RBP]);
    OFFSETS_MEMBER(VCPU_RSI, struct vcpu, gpr[VMM_RSI]);
    OFFSETS_MEMBER(VCPU_RDI, struct vcpu, gpr[VMM_RDI]);
    OFFSETS_MEMBER(VCPU_R8, struct vcpu, gpr[VMM_R8]);
    OFFSETS_MEMBER(VCPU_R9, struct vcpu, gpr[VMM_R9]);
    OFFSETS_MEMBER(VCPU_R10, struct vcpu, gpr[VMM_R10]);
    OFFSETS_MEMBER(VCPU_R11, struct vcpu, gpr[VMM_R11]);
    OFFSETS_MEMBER(VCPU_R12, struct vcpu, gpr[VMM_R12]);
    OFFSETS_MEMBER(VCPU_R13, struct vcpu, gpr[VMM_R13]);
    OFFSETS_MEMBER(VCPU_R14, struct vcpu, gpr[VMM_R14]);
    OFFSETS_MEMBER(VCPU_R15, struct vcpu, gpr[VMM_R15]);
}
