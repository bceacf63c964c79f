/* Guest time. Its unit inside the library is the guest cycle: host TSC cycles since the VM's
 * power-on without its pauses, so that deadlines need no rounding on their way to the hardware. */
#pragma once

#include <vmm/types.h>

struct vm;

uint64_t vmm_clock_cycles(struct vm *vm);
/* Ticks of a device's clock since the VM's power-on. */
uint64_t vmm_clock_ticks(struct vm *vm, uint32_t hz);
/* Exact for any argument whose result fits, saturating beyond. */
uint64_t vmm_cycles_to_ns(uint64_t cycles, uint64_t khz);
/* Rounded up: at that cycle the clock shows ns or more. */
uint64_t vmm_ns_to_cycles(uint64_t ns, uint64_t khz);
/* The first ns at which vmm_clock_ticks() shows this many. */
uint64_t vmm_ticks_to_ns(uint64_t ticks, uint32_t hz);
