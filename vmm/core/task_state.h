/* Task state segments: what a task switch reads and writes of them. Spec: Intel SDM vol. 3 sections
 * 8.2.1 (32 bits) and 8.6 (16 bits, the 80286's). Exit context. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

struct vmm_task_state {
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t segment[6]; /* selectors, by enum vmm_segment */
    uint16_t ldt;
    bool trap; /* #DB when the task has been switched to */
};

/* wide: a 32-bit segment. The least limit that it needs; the least of one that is switched from. */
uint32_t vmm_task_limit(bool wide);
uint32_t vmm_task_limit_to_save(bool wide);

/* False: a page fault is queued. A 16-bit segment has neither FS, GS nor trap; without CR3 the
 * field is left alone, and the upper halves of general registers are ones, as processors have it.
 */
bool vmm_task_load(struct vcpu *v, uint64_t base, bool wide,
                   struct vmm_task_state *out) VMM_MUST_CHECK;
/* EIP, EFLAGS, general registers and selectors; the rest stays. */
bool vmm_task_save(struct vcpu *v, uint64_t base, bool wide,
                   const struct vmm_task_state *s) VMM_MUST_CHECK;
