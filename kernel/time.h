/* Node time. Spec of sources: HPET 1.0a, ACPI PM timer, 8254, MC146818. */
#pragma once

#include "base/types.h"

void time_init(void); /* calibrates the TSC, sets nk_tsc_hz; reads the RTC once */
uint64_t nk_wall_clock_ns(void); /* UTC since 1970-01-01 */
const char *nk_time_source(void); /* what the TSC was calibrated against: "hpet", "pmtimer", "pit" */
void nk_udelay(uint64_t us);
