/* TSC calibration. The sources are slow to read, and on a shared machine any read may be held up:
 * each reading is bracketed by two of the TSC, and the tightest bracket of several is taken. */

#include "kernel/time.h"

#include "base/platform.h"
#include "base/x86.h"
#include "drivers/hpet.h"
#include "drivers/rtc.h"
#include "kernel/acpi.h"
#include "sched/timer.h"

#define SAMPLE_TRIES    8
#define AGREE_PER_MILLE 1
#define FIRST_SPAN_US   1000
#define LAST_SPAN_US    32000 /* the PIT wraps after 54 ms */
#define TRIES_AT_LAST   8
#define STUCK_TICKS     (UINT64_C(1) << 33) /* seconds of TSC without the counter reaching a goal */

#define NS_PER_S    UINT64_C(1000000000)
#define PM_TIMER_HZ 3579545
#define PIT_HZ      1193182
#define PIT_CHANNEL 0x40
#define PIT_COMMAND 0x43
#define PIT_MODE_2  0x34 /* channel 0, low then high byte, rate generator */
#define PIT_LATCH   0x00

uint64_t nk_tsc_hz;

static const char *source_name = "none";
static uint64_t wall_at_zero_ns; /* the wall clock when the TSC was 0; wraps */

struct sample {
    uint64_t tsc, width; /* middle and width of the bracket */
    uint64_t count;
};

static struct sample take_sample(const struct time_counter *c)
{
    struct sample best = {.width = UINT64_MAX};
    for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
        uint64_t before = x86_rdtsc();
        uint64_t count = c->read();
        uint64_t width = x86_rdtsc() - before;
        if (width < best.width) {
            best = (struct sample){before + width / 2, width, count};
        }
    }
    return best;
}

/* Spins until span_us have passed, by the counter if its rate is known, by the TSC if not. */
static bool wait_span(const struct time_counter *c, const struct sample *from, uint64_t span_us)
{
    uint64_t goal = (c->hz != 0 ? c->hz : nk_tsc_hz) * span_us / 1000000;
    uint64_t passed;
    do {
        uint64_t ticks = x86_rdtsc() - from->tsc;
        if (ticks > STUCK_TICKS) {
            return false;
        }
        passed = c->hz != 0 ? (c->read() - from->count) & c->mask : ticks;
    } while (passed < goal);
    return true;
}

/* |a/b - c/d| within the limit, without division. */
static bool rates_agree(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t x = a * d;
    uint64_t y = c * b;
    uint64_t difference = x > y ? x - y : y - x;
    return difference <= x / 1000 * AGREE_PER_MILLE;
}

bool time_measure(const struct time_counter *c, uint64_t *tsc_ticks, uint64_t *counts)
{
    unsigned tries_at_last = 0;
    for (uint64_t span = FIRST_SPAN_US;; span = span * 2 <= LAST_SPAN_US ? span * 2 : span) {
        struct sample s0 = take_sample(c);
        if (!wait_span(c, &s0, span / 2)) {
            return false;
        }
        struct sample s1 = take_sample(c);
        if (!wait_span(c, &s1, span / 2)) {
            return false;
        }
        struct sample s2 = take_sample(c);
        uint64_t first = (s1.count - s0.count) & c->mask;
        uint64_t second = (s2.count - s1.count) & c->mask;
        *tsc_ticks = s2.tsc - s0.tsc;
        *counts = first + second;
        bool tight = s0.width + s2.width <= *tsc_ticks / 1000 * 2 * AGREE_PER_MILLE;
        if (first != 0 && tight && rates_agree(s1.tsc - s0.tsc, first, s2.tsc - s1.tsc, second)) {
            return true;
        }
        if (span * 2 > LAST_SPAN_US && ++tries_at_last == TRIES_AT_LAST) {
            nk_warn("time: readings of %s never agreed; the last one is used", c->name);
            return *counts != 0;
        }
    }
}

static uint64_t read_hpet(void)
{
    return hpet_read();
}

static uint64_t read_pm_timer(void)
{
    return x86_inl((uint16_t)acpi.pm_timer_port);
}

static uint64_t read_pit(void)
{
    x86_outb(PIT_COMMAND, PIT_LATCH);
    uint32_t low = x86_inb(PIT_CHANNEL);
    uint32_t high = x86_inb(PIT_CHANNEL);
    return 0x10000 - (high << 8 | low); /* it counts down */
}

static bool open_hpet(struct time_counter *c)
{
    if (!hpet_open()) {
        return false;
    }
    *c = (struct time_counter){"hpet", read_hpet, UINT32_MAX, hpet_hz()};
    return true;
}

static bool open_pm_timer(struct time_counter *c)
{
    *c = (struct time_counter){"pmtimer", read_pm_timer, 0xffffff, PM_TIMER_HZ};
    return acpi.pm_timer_port != 0;
}

static bool open_pit(struct time_counter *c)
{
    x86_outb(PIT_COMMAND, PIT_MODE_2);
    x86_outb(PIT_CHANNEL, 0);
    x86_outb(PIT_CHANNEL, 0);
    *c = (struct time_counter){"pit", read_pit, 0xffff, PIT_HZ};
    return true;
}

/* Best first: resolution and cost of a reading. */
static bool (*const source_table[TIME_SOURCE_COUNT])(struct time_counter *c) = {
    open_hpet,
    open_pm_timer,
    open_pit,
};

bool time_source_open(unsigned i, struct time_counter *out)
{
    return i < TIME_SOURCE_COUNT && source_table[i](out);
}

static void calibrate_tsc(void)
{
    for (unsigned i = 0; i < TIME_SOURCE_COUNT; i++) {
        struct time_counter c;
        uint64_t ticks, counts;
        if (time_source_open(i, &c) && time_measure(&c, &ticks, &counts)) {
            nk_tsc_hz = x86_mul_div(ticks, c.hz, counts);
            source_name = c.name;
            return;
        }
    }
    nk_panic("time: no clock to calibrate the TSC against: HPET, PM timer and PIT all stand still");
}

void time_init(void)
{
    calibrate_tsc();
    uint64_t seconds = 0;
    if (rtc_get(&seconds) != 0) {
        nk_warn("time: the CMOS clock tells no time; the date is wrong");
    }
    nk_wall_clock_set(seconds * NS_PER_S);
    nk_info("time: TSC at %lu kHz by %s", nk_tsc_hz / 1000, source_name);
}

void nk_wall_clock_set(uint64_t ns)
{
    __atomic_store_n(&wall_at_zero_ns, ns - nk_tsc_to_ns(x86_rdtsc()), __ATOMIC_RELAXED);
}

uint64_t nk_wall_clock_ns(void)
{
    return __atomic_load_n(&wall_at_zero_ns, __ATOMIC_RELAXED) + nk_tsc_to_ns(x86_rdtsc());
}

const char *nk_time_source(void)
{
    return source_name;
}

void nk_udelay(uint64_t us)
{
    uint64_t start = x86_rdtsc();
    uint64_t ticks = nk_tsc_hz * us / 1000000;
    while (x86_rdtsc() - start < ticks) {
        x86_pause();
    }
}
