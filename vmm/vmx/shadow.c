/* The shadows of STI and MOV SS, as entries want them. Spec: Intel SDM vol. 3 section 27.3.1.5. */
#include "core/x86.h"
#include "vmx/vmx.h"

/* Of the two shadows that of MOV SS: an entry takes it with IF clear, too. */
uint32_t vmx_interruptibility(uint64_t blocking)
{
    return ((blocking & VMM_BLOCKED_NMI) != 0 ? BLOCKED_NMI : 0u) |
           ((blocking & VMM_BLOCKED_SHADOW) != 0 ? BLOCKED_MOV_SS : 0u);
}

/* As long as it lasts, a single step is pending if TF is set and only then; the processor has seen
 * to that, but not for a guest that a checkpoint brought here. When an instruction was skipped, the
 * step that was held back was that instruction's; a breakpoint was that of MOV SS. */
uint64_t vmx_pending_in_shadow(bool shadow, uint64_t rflags, uint64_t pending)
{
    if (shadow) {
        return (pending & ~X86_DR6_BS) | ((rflags & X86_RFLAGS_TF) != 0 ? X86_DR6_BS : 0);
    }
    return (pending & PENDING_BREAKPOINT) != 0 ? pending & ~X86_DR6_BS : 0;
}
