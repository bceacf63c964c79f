/* The one-shot timer of the local APIC. Spec: Intel SDM vol. 3 section 11.5.4. */

#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/cpu.h"
#include "kernel/irq.h"
#include "kernel/lapic.h"
#include "kernel/time.h"

#define MSR_TSC_DEADLINE 0x6e0u
#define LVT_TSC_DEADLINE (2u << 17)
#define DIVIDE_BY_1      0xbu
#define SCALE_SHIFT      32

/* Timer counts per TSC tick, as a 32.32 fixed-point number; 0 in TSC-deadline mode. One value for
 * all CPUs: they share the bus clock. */
static uint64_t count_per_tick;

static uint64_t read_elapsed(void)
{
    return UINT32_MAX - lapic_read(LAPIC_TIMER_CURRENT);
}

static void calibrate(void)
{
    lapic_write(LAPIC_LVT_TIMER, LAPIC_LVT_MASKED | NK_VECTOR_TIMER);
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    lapic_write(LAPIC_TIMER_COUNT, UINT32_MAX);

    const struct time_counter counter = {"lapic", read_elapsed, UINT32_MAX, 0};
    uint64_t ticks, counts;
    if (!time_measure(&counter, &ticks, &counts)) {
        nk_panic("lapic: its timer does not run");
    }
    lapic_write(LAPIC_TIMER_COUNT, 0);
    count_per_tick = x86_mul_div(counts, UINT64_C(1) << SCALE_SHIFT, ticks);
    nk_info("time: LAPIC timer at %lu kHz, one-shot", x86_mul_div(nk_tsc_hz, counts, ticks) / 1000);
}

void lapic_timer_init_cpu(void)
{
    if (nk_cpu_features.tsc_deadline) {
        lapic_write(LAPIC_LVT_TIMER, LVT_TSC_DEADLINE | NK_VECTOR_TIMER);
        /* In xAPIC mode the write above is a store, which WRMSR could overtake. */
        __asm__ volatile("mfence" : : : "memory");
        x86_wrmsr(MSR_TSC_DEADLINE, 0);
        return;
    }
    if (count_per_tick == 0) {
        calibrate();
    }
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, NK_VECTOR_TIMER);
}

/* Rounded up, so that it never fires early by a fraction. A span beyond the 32-bit counter does
 * fire early: nk_timer_interrupt() then finds nothing due and sets the rest. */
static uint32_t counts_until(uint64_t deadline_tsc)
{
    int64_t left = (int64_t)(deadline_tsc - x86_rdtsc());
    if (left <= 0) {
        return 1;
    }
    unsigned __int128 counts = ((unsigned __int128)left * count_per_tick >> SCALE_SHIFT) + 1;
    return counts < UINT32_MAX ? (uint32_t)counts : UINT32_MAX;
}

void nk_platform_timer_set(uint64_t deadline_tsc)
{
    this_cpu->timer_deadline = deadline_tsc;
    if (count_per_tick == 0) {
        x86_wrmsr(MSR_TSC_DEADLINE, deadline_tsc);
    } else {
        lapic_write(LAPIC_TIMER_COUNT, deadline_tsc != 0 ? counts_until(deadline_tsc) : 0);
    }
}
