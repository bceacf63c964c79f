/* PM timer, PIT, CMOS clock, the TSC's rate. */
#include "tests/guest/lib/guest.h"

#define PM_TIMER 0x608
#define PIT_0    0x40
#define PIT_MODE 0x43

#define CALIBRATION_TICKS (GUEST_PM_TIMER_HZ / 20) /* 50 ms */
#define SAMPLE_TRIES      20

uint32_t guest_pm_timer(void)
{
    return x86_inl(PM_TIMER) & 0xffffff;
}

struct guest_sample guest_sample(uint32_t (*read)(void))
{
    struct guest_sample s = {0};
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
        uint64_t before = x86_rdtsc();
        uint32_t count = read();
        uint64_t took = x86_rdtsc() - before;
        if (took < best) {
            best = took;
            s = (struct guest_sample){before + took / 2, count};
        }
    }
    return s;
}

uint64_t guest_tsc_hz(void)
{
    static uint64_t hz;
    if (!hz) {
        struct guest_sample start = guest_sample(guest_pm_timer), end;
        while (((guest_pm_timer() - start.count) & 0xffffff) < CALIBRATION_TICKS) {
        }
        end = guest_sample(guest_pm_timer);
        hz = (end.tsc - start.tsc) * GUEST_PM_TIMER_HZ / ((end.count - start.count) & 0xffffff);
    }
    return hz;
}

void guest_delay_us(uint64_t us)
{
    uint64_t end = x86_rdtsc() + guest_tsc_hz() / 1000000 * us;
    while ((int64_t)(end - x86_rdtsc()) > 0) {
        x86_pause();
    }
}

bool guest_wait(volatile uint32_t *flag, uint64_t timeout_us)
{
    uint64_t end = x86_rdtsc() + guest_tsc_hz() / 1000000 * timeout_us;
    while (!*flag && (int64_t)(end - x86_rdtsc()) > 0) {
        /* Not HLT: an interrupt that never comes must end in a failure, not in a hang. */
        __asm__ volatile("sti; nop; pause; cli" : : : "memory");
    }
    return *flag != 0;
}

void guest_pit_periodic(uint16_t divisor)
{
    x86_outb(PIT_MODE, 0x34); /* channel 0, both bytes, mode 2 */
    x86_outb(PIT_0, (uint8_t)divisor);
    x86_outb(PIT_0, (uint8_t)(divisor >> 8));
}

void guest_pit_one_shot(uint16_t count)
{
    x86_outb(PIT_MODE, 0x30); /* channel 0, both bytes, mode 0 */
    x86_outb(PIT_0, (uint8_t)count);
    x86_outb(PIT_0, (uint8_t)(count >> 8));
}

uint8_t guest_cmos(uint8_t index)
{
    x86_outb(0x70, index);
    return x86_inb(0x71);
}
