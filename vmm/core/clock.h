/* Guest time. Its unit inside the library is the guest cycle: host TSC cycles since the VM's
 * power-on without its pauses, so that deadlines need no rounding on their way to the hardware. */
#pragma once

#include <vmm/types.h>

struct vm;

uint64_t vmm_clock_cycles(struct vm *vm);
/* Exact for any argument whose result fits, saturating beyond. */
uint64_t vmm_cycles_to_ns(uint64_t cycles, uint64_t khz);
/* Rounded up: at that cycle the clock shows ns or more. */
uint64_t vmm_ns_to_cycles(uint64_t ns, uint64_t khz);
/* Ticks of a device clock: floor(ns * hz / 10^9), and the first ns that shows this many ticks. */
uint64_t vmm_ns_to_ticks(uint64_t ns, uint64_t hz);
uint64_t vmm_ticks_to_ns(uint64_t ticks, uint64_t hz);
