/* Calibration: every clock of the machine must tell the same TSC rate. */
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/acpi.h"
#include "kernel/time.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define TOLERANCE_PER_MILLE 5
#define TRIES               5 /* the machine under the emulator may be busy */

static bool agrees(const struct time_counter *c)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t ticks, counts;
        if (!time_measure(c, &ticks, &counts)) {
            return false;
        }
        uint64_t hz = x86_mul_div(ticks, c->hz, counts);
        uint64_t off = hz > nk_tsc_hz ? hz - nk_tsc_hz : nk_tsc_hz - hz;
        if (off <= nk_tsc_hz / 1000 * TOLERANCE_PER_MILLE) {
            return true;
        }
        ktest_note("%s says %lu Hz, calibrated %lu Hz", c->name, hz, nk_tsc_hz);
    }
    return false;
}

KTEST(time_sources_agree)
{
    unsigned count = 0;
    struct time_counter c;
    for (unsigned i = 0; i < TIME_SOURCE_COUNT; i++) {
        if (time_source_open(i, &c)) {
            count++;
            EXPECT(agrees(&c));
        }
    }
    EXPECT_GE(count, 1);
}

KTEST(time_monotonic)
{
    uint64_t last = nk_now_ns();
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now = nk_now_ns();
        ASSERT(now >= last);
        last = now;
    }
    uint64_t before = x86_rdtsc();
    nk_udelay(2000);
    EXPECT_GE(nk_tsc_to_ns(x86_rdtsc() - before), 1999000);
}

KTEST(time_wall_clock)
{
    uint64_t now = nk_wall_clock_ns() / 1000000000;
    EXPECT_GT(now, 1577836799); /* the test machine's clock stands at 2020 or later */
    EXPECT_LT(now, UINT64_C(4102444800));
    EXPECT_STREQ(nk_time_source(), acpi.hpet_address != 0 ? "hpet" : "pit");
}
