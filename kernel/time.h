/* Node time. Spec of sources: IA-PC HPET 1.0a, ACPI 6.4 PM timer, Intel 8254, MC146818. */
#pragma once

#include "base/types.h"

void time_init(void);            /* calibrates the TSC, sets nk_tsc_hz; reads the RTC once */
uint64_t nk_wall_clock_ns(void); /* UTC since 1970-01-01 */
void nk_wall_clock_set(uint64_t ns);
const char *
nk_time_source(void); /* what the TSC was calibrated against: "hpet", "pmtimer", "pit" */
void nk_udelay(uint64_t us);

/* A free-running counter that counts up. */
struct time_counter {
    const char *name;
    uint64_t (*read)(void);
    uint64_t mask; /* it counts modulo mask + 1 */
    uint64_t hz;   /* 0: unknown; then the TSC must be calibrated */
};

/* TSC ticks and counts of the counter over the same span, which is as long as it takes for two
 * halves of it to agree within 0.1%. False: the counter does not count. */
bool time_measure(const struct time_counter *c, uint64_t *tsc_ticks, uint64_t *counts);

/* The i-th clock a TSC can be calibrated against, made to run; false when the machine has none. */
#define TIME_SOURCE_COUNT 3
bool time_source_open(unsigned i, struct time_counter *out) NK_MUST_CHECK;
