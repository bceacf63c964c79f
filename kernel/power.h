/* Power-off and reset of the node. */
#pragma once

#include "base/types.h"

NK_NORETURN void nk_power_off(void); /* ACPI S5; halts with a line when the machine cannot */
NK_NORETURN void nk_reset(void);     /* ACPI reset register, 0xcf9, i8042, triple fault */
NK_NORETURN void nk_debug_exit(
    uint8_t code); /* isa-debug-exit at 0xf4: QEMU ends with 2*code+1; elsewhere: power off */
