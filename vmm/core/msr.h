/* MSRs that cause exits: one policy table says for each what a guest's access does. What is not in
 * it gives #GP. Spec: AMD APM vol. 2 appendix A; Intel SDM vol. 4. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

struct vmm;

void vmm_msr_create(struct vmm *vmm); /* the index of the policy's rows */
void vmm_msr_reset(struct vcpu *v);

/* False: #GP. */
bool vmm_msr_write(struct vcpu *v, uint32_t msr, uint64_t value) VMM_MUST_CHECK;
