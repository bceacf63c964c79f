/* What every CPU is set up with beyond paging: protection, FPU and extended state. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"

struct cpu_features {
    char vendor[13], brand[49]; /* brand: without blanks around it */
    bool tcg;                   /* this is QEMU's emulator */
    bool mce, monitor, nx, smep, smap, umip, xsave, x2apic, tsc_deadline, tsc_invariant, svm, vmx;
    uint64_t xcr0_all; /* every state component the CPU has */
    uint32_t max_leaf, max_extended_leaf;
};

extern struct cpu_features nk_cpu_features; /* of the boot CPU; the others are alike */

void cpu_detect(void); /* boot CPU: fills nk_cpu_features */

/* CPU 0 is no place for a VM: QEMU's TCG changes the state of its world switches, GIF among it,
 * from other CPUs' threads without a lock (docs/backends.md). */
bool cpu_zero_breaks_vms(void);

/* Every CPU, on itself: CR0, CR4 and XCR0. Machines without XSAVE are left with FXSAVE. */
void cpu_init(void);
