/* A neighbour: computes checksums of its memory without end and keeps time by a timer, and says so
 * every half second of its own. What others do must not show in either. Command line: rounds=N. */
#include "tests/guest/lib/guest.h"

#define WORDS        (256 * 1024 / 8)
#define TIMER_VECTOR 0x51
#define TICK_NS      10000000
#define REPORT_TICKS 50

static uint64_t memory[WORDS];
static volatile uint64_t ticks;

static void on_timer(struct guest_frame *frame)
{
    (void)frame;
    ticks++;
    guest_eoi();
}

static uint64_t checksum(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        sum = (sum ^ memory[i]) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 32;
    }
    return sum;
}

/* Nanoseconds of the PM timer, which wraps after 4.7 s, since the last call. */
static uint64_t pm_ns(uint32_t *last)
{
    uint32_t now = guest_pm_timer(), passed = (now - *last) & 0xffffff;
    *last = now;
    return passed * UINT64_C(1000000000) / GUEST_PM_TIMER_HZ;
}

void guest_main(void)
{
    uint64_t rounds = guest_option("rounds", UINT64_MAX), bad = 0, sums = 0, pm_total = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        memory[i] = i * UINT64_C(0x0123456789abcdef);
    }
    uint64_t want = checksum(), hz = guest_tsc_hz(), start = x86_rdtsc();
    uint32_t pm = guest_pm_timer();
    guest_set_handler(TIMER_VECTOR, on_timer);
    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1: nanoseconds */
    guest_lapic_write(LAPIC_TIMER, TIMER_VECTOR | LAPIC_TIMER_PERIODIC);
    guest_lapic_write(LAPIC_TIMER_INITIAL, TICK_NS);
    __asm__ volatile("sti");
    for (uint64_t next = REPORT_TICKS; rounds > 0;) {
        bad += checksum() != want;
        sums++;
        pm_total += pm_ns(&pm);
        if (ticks >= next) {
            uint64_t ns = (x86_rdtsc() - start) / (hz / 1000000) * 1000;
            uint64_t apart = ns > pm_total ? ns - pm_total : pm_total - ns;
            /* Never more ticks than time; the clocks may differ by their calibration. */
            bad += (ticks - 1) * TICK_NS > ns + ns / 10 || apart > ns / 10 + 100000000;
            guest_printf("steady: %lu sums, %lu ticks, %lu ms, %lu wrong\n", sums, ticks,
                         ns / 1000000, bad);
            next = ticks + REPORT_TICKS;
            rounds--;
        }
    }
    guest_printf("steady: done\n");
}
