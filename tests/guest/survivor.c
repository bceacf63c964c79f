/* Fills every register that a checkpoint must carry, lets every timer run, and looks at all of it
 * again and again: whatever happens to the VM meanwhile must not show. Ends when the byte at
 * 0x9000 ("end") is not zero, or never. */
#include "tests/guest/lib/guest.h"

#define MSR_TSC_ADJUST     0x3b
#define MSR_PAT            0x277
#define MSR_MTRR_FIX64K    0x250
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_SFMASK         0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103
#define MSR_SYSENTER_EIP   0x176

#define TICK_VECTOR     0x51
#define DEADLINE_VECTOR 0x52
#define TICKS_PER_S     100
#define HPET            UINT64_C(0xfed00000)
#define PIT_IRQ         0
#define RTC_IRQ         8

static const struct {
    uint32_t msr;
    uint64_t value;
} msr_table[] = {
    {MSR_STAR, 0x0013000800000000}, {MSR_LSTAR, 0xffffffff81234560},
    {MSR_SFMASK, 0x47700},          {MSR_KERNEL_GS_BASE, 0xffff888000123000},
    {MSR_TSC_AUX, 0x1234},          {MSR_SYSENTER_EIP, 0xffffffff81abcdef},
    {MSR_PAT, 0x0007040600070406},  {MSR_MTRR_FIX64K, 0x0606060606060606},
};

static volatile uint64_t ticks, deadlines, pits, rtcs;

static void on_tick(struct guest_frame *frame)
{
    (void)frame;
    ticks++;
    guest_eoi();
}

static void on_pit(struct guest_frame *frame)
{
    (void)frame;
    pits++;
    guest_pic_eoi(PIT_IRQ);
}

static void on_rtc(struct guest_frame *frame)
{
    (void)frame;
    rtcs++;
    guest_cmos(0x0c); /* or it is the last one */
    guest_pic_eoi(RTC_IRQ);
}

static uint32_t hpet(unsigned reg)
{
    return *(volatile uint32_t *)(HPET + reg);
}

static void set_hpet(unsigned reg, uint64_t value)
{
    *(volatile uint64_t *)(HPET + reg) = value;
}

/* --- registers -------------------------------------------------------------------------------- */

static uint8_t pattern[16] __attribute__((aligned(16)));

static void fill_registers(void)
{
    static const uint16_t fcw = 0x0f7f; /* round to zero */
    static const uint32_t mxcsr = 0x7f80;
    for (unsigned i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(0xa0 + i * 5);
    }
    x86_write_cr4(x86_read_cr4() | 3 << 9); /* OSFXSR, OSXMMEXCPT */
    __asm__ volatile("fninit; fldpi; fldln2; fldcw %0; ldmxcsr %1" ::"m"(fcw), "m"(mxcsr));
    __asm__ volatile("movdqa %0, %%xmm0; movdqa %0, %%xmm7; movdqa %0, %%xmm15" ::"m"(pattern));
    __asm__ volatile("mov %0, %%db0; mov %1, %%db3" ::"r"(UINT64_C(0x1000)), "r"(UINT64_C(0x3000)));
    for (unsigned i = 0; i < NK_ARRAY_COUNT(msr_table); i++) {
        guest_wrmsr(msr_table[i].msr, msr_table[i].value);
    }
}

static unsigned wrong_registers(void)
{
    static uint8_t seen[512] __attribute__((aligned(16)));
    unsigned wrong = 0;
    uint64_t db0, db3, value;
    __asm__ volatile("fxsave64 %0" : "=m"(seen));
    wrong += *(const uint16_t *)seen != 0x0f7f || *(const uint32_t *)(seen + 24) != 0x7f80;
    /* fldln2 is on top, fldpi below it. */
    wrong += *(const uint64_t *)(seen + 32) != 0xb17217f7d1cf79ac;
    wrong += *(const uint64_t *)(seen + 48) != 0xc90fdaa22168c235;
    for (unsigned i = 0; i < sizeof(pattern); i++) {
        wrong += seen[160 + i] != pattern[i] || seen[160 + 7 * 16 + i] != pattern[i] ||
                 seen[160 + 15 * 16 + i] != pattern[i];
    }
    __asm__ volatile("mov %%db0, %0; mov %%db3, %1" : "=r"(db0), "=r"(db3));
    wrong += db0 != 0x1000 || db3 != 0x3000;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(msr_table); i++) {
        wrong +=
            guest_rdmsr(msr_table[i].msr, &value) != GUEST_NO_FAULT || value != msr_table[i].value;
    }
    return wrong;
}

/* --- clocks ----------------------------------------------------------------------------------- */

static uint64_t hz;

static void arm_deadline(void)
{
    guest_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + hz / TICKS_PER_S);
}

static void on_deadline(struct guest_frame *frame)
{
    (void)frame;
    deadlines++;
    arm_deadline();
    guest_eoi();
}

static void start_timers(void)
{
    guest_set_handler(DEADLINE_VECTOR, on_deadline);
    guest_lapic_write(LAPIC_TIMER, DEADLINE_VECTOR | LAPIC_TIMER_DEADLINE);
    arm_deadline();
    guest_set_handler(TICK_VECTOR, on_tick); /* HPET timer 2 by the IOAPIC's pin 20 */
    guest_ioapic_route(20, TICK_VECTOR, 0);
    set_hpet(0x10, 0);
    set_hpet(0xf0, 0);
    set_hpet(0x140, 20 << 9 | 1 << 6 | 1 << 3 | 1 << 2);
    set_hpet(0x148, 1000000);
    set_hpet(0x148, 1000000);
    set_hpet(0x10, 1);
    guest_pic_init();
    guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT);
    guest_set_handler(GUEST_PIC_VECTOR + PIT_IRQ, on_pit);
    guest_set_handler(GUEST_PIC_VECTOR + RTC_IRQ, on_rtc);
    guest_pit_periodic(GUEST_PIT_HZ / TICKS_PER_S);
    x86_outb(0x70, 0x0a);
    x86_outb(0x71, 0x29); /* 128 Hz */
    x86_outb(0x70, 0x0b);
    x86_outb(0x71, 0x42);
    guest_cmos(0x0c);
    guest_pic_unmask(PIT_IRQ);
    guest_pic_unmask(2);
    guest_pic_unmask(RTC_IRQ);
}

/* The TSC, the HPET and the PM timer have gone on by the same time since the last call. They are
 * read within 10 ms: a CPU withheld between two readings is not a clock gone wrong. */
static unsigned wrong_clocks(void)
{
    static uint64_t tsc;
    static uint32_t counter, pm;
    uint64_t now;
    uint32_t counter_now, pm_now;
    do {
        now = x86_rdtsc();
        counter_now = hpet(0xf0);
        pm_now = guest_pm_timer();
    } while (x86_rdtsc() - now > hz / 100);
    uint64_t ns = (now - tsc) / (hz / 1000000) * 1000;
    uint64_t hpet_ns = (uint32_t)(counter_now - counter) * UINT64_C(10);
    uint64_t pm_ns = ((pm_now - pm) & 0xffffff) * UINT64_C(1000000000) / GUEST_PM_TIMER_HZ;
    bool first = tsc == 0, backwards = now < tsc;
    tsc = now;
    counter = counter_now;
    pm = pm_now;
    if (first || pm_ns > 4000000000) { /* the PM timer may have gone round */
        return 0;
    }
    uint64_t allowed = ns / 10 + 50000000;
    return backwards || ns + allowed < hpet_ns || hpet_ns + allowed < ns || ns + allowed < pm_ns ||
           pm_ns + allowed < ns;
}

void guest_main(void)
{
    volatile uint8_t *end = (volatile uint8_t *)0x9000;
    uint64_t wrong = 0, rounds = 0, next = 0, start;
    hz = guest_tsc_hz();
    *end = 0;
    fill_registers();
    start_timers();
    start = x86_rdtsc();
    __asm__ volatile("sti");
    guest_printf("survivor: ready\n");
    while (*end == 0) {
        unsigned registers = wrong_registers(), clocks = wrong_clocks();
        if (registers != 0 || clocks != 0) {
            guest_printf("survivor: round %lu: %u registers, %u clocks wrong\n", rounds, registers,
                         clocks);
        }
        wrong += registers + clocks;
        rounds++;
        if (x86_rdtsc() - start >= next) {
            guest_printf("survivor: %lu ms, %lu wrong, deadlines %lu, hpet %lu, pit %lu, rtc %lu\n",
                         (x86_rdtsc() - start) / (hz / 1000), wrong, deadlines, ticks, pits, rtcs);
            next += hz / 2;
        }
    }
    guest_printf("survivor: done\n");
}
