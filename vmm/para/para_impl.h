/* What the parts of para/ keep of a vCPU. */
#pragma once

#include <vmm/types.h>

#define MSR_WALL_CLOCK  (VMM_PARA_MSR_FIRST + 0)
#define MSR_SYSTEM_TIME (VMM_PARA_MSR_FIRST + 1)
#define MSR_STEAL_TIME  (VMM_PARA_MSR_FIRST + 3)
#define MSR_PV_EOI      (VMM_PARA_MSR_FIRST + 4)

struct para {
    uint64_t system_time, wall_clock, steal_time; /* the MSRs */

    /* Cycles that the vCPU could have run and did not: what has passed since it was last reckoned,
     * less what its thread ran and slept (steal.c). */
    uint64_t stolen;
    uint64_t reckoned_at, ran_then, slept, asleep_since;
};
