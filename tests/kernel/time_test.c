/* Calibration: every clock of the machine must tell the same TSC rate. */
#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/x86.h"
#include "drivers/hpet.h"
#include "drivers/rtc.h"
#include "kernel/acpi.h"
#include "kernel/irq.h"
#include "kernel/time.h"
#include "sched/thread.h"
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

/* --- the HPET's events, the CMOS clock -------------------------------------------------------- */

static volatile unsigned events;

static void count_event(void *arg)
{
    (void)arg;
    events++;
}

static void wait_for_event(void)
{
    for (uint64_t end = nk_now_ns() + UINT64_C(60000000000); events == 0 && nk_now_ns() < end;) {
        nk_thread_sleep_ns(10000000);
    }
}

static bool claims_nothing(void *arg)
{
    (void)arg;
    return false;
}

KTEST(hpet_events)
{
    KTEST_SKIP_UNLESS(hpet_open(), "no HPET");
    for (unsigned i = 0; i < 5; i++) {
        uint64_t start = nk_now_ns();
        ASSERT_EQ(hpet_sleep(2000000), 0);
        EXPECT_GE(nk_now_ns() - start, 2000000 - 2000000 * TOLERANCE_PER_MILLE / 1000);
    }
    ASSERT_EQ(hpet_sleep(0), 0); /* nearer than the comparator sees */

    events = 0;
    ASSERT_EQ(hpet_event_open(), 0);
    EXPECT_EQ(hpet_sleep(1000), -EBUSY);
    EXPECT_EQ(hpet_event_arm(UINT64_MAX / 2, count_event, NULL), -EINVAL);
    EXPECT_EQ(hpet_event_arm(UINT64_C(10000000000), count_event, NULL), 0);
    EXPECT_EQ(hpet_event_arm(1000000, count_event, NULL), 0); /* in its place */
    wait_for_event();
    hpet_event_close();
    EXPECT_EQ(events, 1);
}

/* Without a message its line is that of the PIT. */
KTEST(hpet_lost_interrupt)
{
    struct nk_irq_info info;
    KTEST_SKIP_UNLESS(hpet_open(), "no HPET");
    ASSERT_EQ(hpet_event_open(), 0);
    bool has_line = nk_irq_get_info(0, &info) && strcmp(info.name, "hpet") == 0;
    hpet_event_close();
    KTEST_SKIP_UNLESS(has_line, "its interrupts are messages");
    ASSERT_EQ(nk_irq_attach(0, "test", claims_nothing, NULL), 0);
    nk_irq_mask(0);
    EXPECT_EQ(hpet_sleep(1000000), -ETIMEDOUT);
    nk_irq_unmask(0);
    EXPECT_EQ(hpet_sleep(1000000), 0); /* it works again */
    nk_irq_detach(0, claims_nothing, NULL);
}

KTEST(rtc_dates)
{
    static const struct {
        struct rtc_date date;
        uint64_t seconds;
    } known_table[] = {
        {{1970, 1, 1, 0, 0, 0}, 0},
        {{2000, 2, 29, 23, 59, 59}, 951868799},
        {{2000, 3, 1, 0, 0, 0}, 951868800},
        {{2038, 1, 19, 3, 14, 8}, UINT64_C(2147483648)},
        {{2100, 2, 28, 12, 0, 0}, UINT64_C(4107499200)},
    };
    for (unsigned i = 0; i < NK_ARRAY_COUNT(known_table); i++) {
        EXPECT_EQ(rtc_from_date(&known_table[i].date), known_table[i].seconds);
    }
    for (uint64_t seconds = 0; seconds < UINT64_C(16725225600); seconds += 86399 * 7 + 3) {
        struct rtc_date d = rtc_to_date(seconds);
        ASSERT_EQ(rtc_from_date(&d), seconds);
        ASSERT(d.month >= 1 && d.month <= 12 && d.day >= 1 && d.day <= 31);
    }
}

KTEST(rtc_set)
{
    uint64_t before, now;
    ASSERT_EQ(rtc_get(&before), 0);
    EXPECT_EQ(rtc_set(951868799), 0); /* the last second of a leap day */
    ASSERT_EQ(rtc_get(&now), 0);
    EXPECT_GE(now, 951868799);
    EXPECT_LE(now, 951868799 + 60);
    EXPECT_EQ(rtc_set(UINT64_C(32503680000)), -EINVAL); /* the year 3000 */
    EXPECT_EQ(rtc_set(before), 0);
}

KTEST(rtc_alarm)
{
    uint64_t now;
    ASSERT_EQ(rtc_get(&now), 0);
    EXPECT_EQ(rtc_alarm(now, count_event, NULL), -EINVAL);
    EXPECT_EQ(rtc_alarm(now + 2 * 86400, count_event, NULL), -EINVAL);
    events = 0;
    ASSERT_EQ(rtc_alarm(now + 3600, count_event, NULL), 0);
    EXPECT(rtc_alarm_cancel());
    EXPECT(!rtc_alarm_cancel());
    ASSERT_EQ(rtc_get(&now), 0);
    ASSERT_EQ(rtc_alarm(now + RTC_ALARM_MIN + 1, count_event, NULL), 0);
    wait_for_event();
    EXPECT_EQ(events, 1);
    uint64_t then;
    ASSERT_EQ(rtc_get(&then), 0);
    EXPECT_GE(then, now + RTC_ALARM_MIN + 1);
    EXPECT(!rtc_alarm_cancel());
}
