/* A vCPU's extended state on its way from and to a checkpoint. Between exits it is in the registers
 * of the vCPU's own thread, so that thread moves it, at the gate. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

enum vmm_fpu_job { VMM_FPU_IDLE, VMM_FPU_SAVE, VMM_FPU_LOAD };

/* Of the state of one vCPU: everything that the policy lets the guest have. */
uint32_t vmm_fpu_bytes(const struct vm *vm);

/* An area for each vCPU, at v->fpu. Context: control. Errors: -VMM_ENOMEM, none is left then. */
int vmm_fpu_alloc(struct vm *vm) VMM_MUST_CHECK;
void vmm_fpu_free(struct vm *vm);

/* Could the processor load this without a fault? */
bool vmm_fpu_valid(const struct vm *vm, const uint8_t *area);

/* Bits of MXCSR that the processor has. */
uint32_t vmm_mxcsr_mask(void);

void vmm_fpu_carry_out(struct vcpu *v); /* v->fpu_job; the vCPU's thread */
