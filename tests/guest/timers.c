/* Every timer fires, not too early, in every mode; all clocks agree about the length of a second.
 * How late an interrupt comes depends on the host's load and is not judged here. */
#include "tests/guest/lib/guest.h"

#define MSR_TSC_DEADLINE 0x6e0
#define TIMER_VECTOR     0x51
#define LATEST_US        2000000 /* an interrupt that has not come by then is lost */

#define PORT_B         0x61
#define PORT_B_GATE2   (1u << 0)
#define PORT_B_SPEAKER (1u << 1)
#define PORT_B_OUT2    (1u << 5)

static volatile uint32_t interrupts;
static volatile uint64_t last_interrupt;

static void on_lapic(struct guest_frame *frame)
{
    (void)frame;
    last_interrupt = x86_rdtsc();
    interrupts++;
    guest_eoi();
}

static void on_pit(struct guest_frame *frame)
{
    (void)frame;
    last_interrupt = x86_rdtsc();
    interrupts++;
    guest_pic_eoi(0);
}

/* Wait for `count` interrupts; microseconds from `start`, or 0 when they did not come. */
static uint64_t wait_for(uint32_t count, uint64_t start)
{
    for (uint32_t i = 0; i < LATEST_US / 1000 && interrupts < count; i++) {
        volatile uint32_t never = 0;
        guest_wait(&never, 1000);
    }
    return interrupts < count ? 0 : (last_interrupt - start) / (guest_tsc_hz() / 1000000);
}

/* --- rates -------------------------------------------------------------------------------------
 */

static uint32_t read_lapic(void)
{
    return ~guest_lapic_read(LAPIC_TIMER_CURRENT);
}

static uint32_t read_pit(void)
{
    x86_outb(0x43, 0); /* latch channel 0 */
    uint32_t low = x86_inb(0x40);
    return 0xffff - (low | (uint32_t)x86_inb(0x40) << 8);
}

/* Ticks per second over some `ms` of the TSC; done again if the host let so much time pass that the
 * counter may have gone round. */
static uint64_t rate(uint32_t (*read)(void), uint32_t mask, unsigned ms)
{
    struct guest_sample a, b;
    unsigned tries = 0;
    do {
        a = guest_sample(read);
        guest_delay_us(ms * 1000u);
        b = guest_sample(read);
    } while ((b.tsc - a.tsc) / (guest_tsc_hz() / 1000) > ms + ms / 4 && ++tries < 10);
    return ((b.count - a.count) & mask) * guest_tsc_hz() / (b.tsc - a.tsc);
}

static void check_rates(void)
{
    uint64_t hz = rate(guest_pm_timer, 0xffffff, 500);
    guest_check_between(hz, GUEST_PM_TIMER_HZ / 100 * 99, GUEST_PM_TIMER_HZ / 100 * 101,
                        "rate: PM timer");
    guest_pit_periodic(0);
    hz = rate(read_pit, 0xffff, 40);
    guest_check_between(hz, GUEST_PIT_HZ / 100 * 97, GUEST_PIT_HZ / 100 * 103, "rate: PIT");
}

/* --- LAPIC -------------------------------------------------------------------------------------
 */

static uint64_t lapic_hz;

static void check_lapic(void)
{
    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
    guest_lapic_write(LAPIC_TIMER_INITIAL, UINT32_MAX);
    lapic_hz = rate(read_lapic, UINT32_MAX, 100);
    guest_printf("# LAPIC timer %lu kHz, TSC %lu kHz\n", lapic_hz / 1000, guest_tsc_hz() / 1000);

    interrupts = 0;
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    uint64_t start = x86_rdtsc();
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(lapic_hz / 50));
    guest_check_between(wait_for(1, start), 19500, LATEST_US, "LAPIC one-shot: 20 ms");
    guest_check_equal(guest_lapic_read(LAPIC_TIMER_CURRENT), 0, "LAPIC one-shot: count ends at 0");
    guest_delay_us(30000);
    guest_check_equal(interrupts, 1, "LAPIC one-shot: fires once");

    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0x3); /* by 16 */
    interrupts = 0;
    start = x86_rdtsc();
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(lapic_hz / 800));
    guest_check_between(wait_for(1, start), 19500, LATEST_US, "LAPIC one-shot: divided by 16");

    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
    guest_lapic_write(LAPIC_TIMER_INITIAL, 0); /* or the old count may begin anew */
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_PERIODIC | TIMER_VECTOR);
    interrupts = 0;
    start = x86_rdtsc();
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(lapic_hz / 100));
    guest_check_between(wait_for(5, start), 49000, LATEST_US, "LAPIC periodic: 5 times 10 ms");
    guest_lapic_write(LAPIC_TIMER_INITIAL, 0);
    interrupts = 0;
    volatile uint32_t never = 0;
    guest_wait(&never, 30000);
    guest_check_between(interrupts, 0, 1, "LAPIC periodic: stopped by a count of 0");
}

static void check_deadline(void)
{
    if (!(x86_cpuid(1, 0).ecx & (1u << 24))) {
        guest_skip("TSC deadline", "not offered");
        return;
    }
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_DEADLINE | TIMER_VECTOR);
    interrupts = 0;
    uint64_t start = x86_rdtsc(), deadline = start + guest_tsc_hz() / 50;
    x86_wrmsr(MSR_TSC_DEADLINE, deadline);
    guest_check_equal(x86_rdmsr(MSR_TSC_DEADLINE), deadline, "deadline: reads back while armed");
    uint64_t us = wait_for(1, start);
    guest_check(us && last_interrupt >= deadline, "deadline: fires, not before its time");
    guest_check_equal(x86_rdmsr(MSR_TSC_DEADLINE), 0, "deadline: reads 0 when it has fired");

    interrupts = 0;
    x86_wrmsr(MSR_TSC_DEADLINE, start);
    guest_check(wait_for(1, start) != 0, "deadline: one in the past fires at once");

    /* Far enough that a busy host gets here before it. */
    interrupts = 0;
    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + guest_tsc_hz() / 4);
    x86_wrmsr(MSR_TSC_DEADLINE, 0);
    volatile uint32_t never = 0;
    guest_wait(&never, 300000);
    guest_check_equal(interrupts, 0, "deadline: 0 disarms");

    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + guest_tsc_hz() / 4);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    guest_wait(&never, 300000);
    guest_check_equal(interrupts, 0, "deadline: another mode disarms");
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
}

/* --- changes of the mode while it counts --------------------------------------------------------
 */

#define OTHER_VECTOR 0x52
#define MS           (lapic_hz / 1000)

static volatile uint32_t others;

static void on_other(struct guest_frame *frame)
{
    (void)frame;
    others++;
    guest_eoi();
}

static void let_in_for(uint64_t us)
{
    volatile uint32_t never = 0;
    guest_wait(&never, us);
}

static void check_mode_changes(void)
{
    guest_set_handler(OTHER_VECTOR, on_other);
    interrupts = others = 0;
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(250 * MS));
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | OTHER_VECTOR);
    let_in_for(400000);
    guest_check(interrupts == 0 && others == 1, "timer: its vector when it fires counts");

    interrupts = 0;
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | LAPIC_MASKED | TIMER_VECTOR);
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(5 * MS));
    guest_delay_us(20000);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    let_in_for(20000);
    guest_check_equal(interrupts, 0, "timer: what ended while masked does not fire later");

    interrupts = 0;
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(10 * MS));
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_PERIODIC | TIMER_VECTOR);
    guest_check(wait_for(3, x86_rdtsc()) != 0, "timer: one-shot made periodic goes on");
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    guest_lapic_write(LAPIC_TIMER_INITIAL, 0);
    let_in_for(20000);
}

/* Nothing of one kind of mode is left in the other. */
static void check_deadline_changes(void)
{
    if (!(x86_cpuid(1, 0).ecx & (1u << 24))) {
        return;
    }
    interrupts = 0;
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(250 * MS));
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_DEADLINE | TIMER_VECTOR);
    guest_check_equal(guest_lapic_read(LAPIC_TIMER_CURRENT), 0, "deadline: the count is stopped");
    guest_lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)(5 * MS));
    let_in_for(300000);
    guest_check_equal(interrupts, 0, "deadline: a count means nothing");

    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_DEADLINE | LAPIC_MASKED | TIMER_VECTOR);
    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + guest_tsc_hz() / 200);
    guest_delay_us(20000);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_DEADLINE | TIMER_VECTOR);
    let_in_for(20000);
    guest_check_equal(interrupts, 0, "deadline: one that passed while masked does not fire");
    guest_check_equal(x86_rdmsr(MSR_TSC_DEADLINE), 0, "deadline: ... and reads 0");

    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + 60 * guest_tsc_hz());
    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + guest_tsc_hz() / 200);
    guest_check(wait_for(1, x86_rdtsc()) != 0, "deadline: an earlier one takes the place");
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    x86_wrmsr(MSR_TSC_DEADLINE, x86_rdtsc() + guest_tsc_hz() / 200);
    let_in_for(20000);
    guest_check_equal(interrupts, 1, "deadline: in another mode a write means nothing");
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
}

/* --- PIT ---------------------------------------------------------------------------------------
 */

static void check_pit(void)
{
    guest_set_handler(GUEST_PIC_VECTOR, on_pit);
    guest_pit_one_shot(0); /* its output is low for the next 55 ms */
    guest_pic_unmask(0);
    volatile uint32_t never = 0;
    guest_wait(&never, 1000); /* takes an edge that the PIC remembered */
    interrupts = 0;
    uint64_t start = x86_rdtsc();
    guest_pit_one_shot(GUEST_PIT_HZ / 50);
    guest_check_between(wait_for(1, start), 19000, LATEST_US, "PIT one-shot: 20 ms");

    start = x86_rdtsc();
    guest_pit_periodic(GUEST_PIT_HZ / 100);
    interrupts = 0;
    guest_check_between(wait_for(5, start), 39000, LATEST_US, "PIT periodic: 5 times 10 ms");
    guest_pic_mask_all();

    /* Channel 2 as kernels use it to calibrate: gate and output in port 61h. */
    x86_outb(PORT_B, (x86_inb(PORT_B) & ~(PORT_B_SPEAKER | PORT_B_GATE2)) | PORT_B_GATE2);
    x86_outb(0x43, 0xb0); /* channel 2, both bytes, mode 0 */
    x86_outb(0x42, (uint8_t)(GUEST_PIT_HZ / 50));
    x86_outb(0x42, (uint8_t)(GUEST_PIT_HZ / 50 >> 8));
    start = x86_rdtsc();
    bool low = (x86_inb(PORT_B) & PORT_B_OUT2) == 0;
    uint64_t us;
    bool high;
    do {
        high = (x86_inb(PORT_B) & PORT_B_OUT2) != 0;
        us = (x86_rdtsc() - start) / (guest_tsc_hz() / 1000000);
    } while (!high && us < LATEST_US);
    guest_check(low, "PIT channel 2: output low at first");
    guest_check_between(us, 19000, LATEST_US - 1, "PIT channel 2: output high after 20 ms");
}

/* --- RTC ---------------------------------------------------------------------------------------
 */

static unsigned cmos_number(uint8_t index)
{
    uint8_t v = guest_cmos(index);
    return guest_cmos(0xb) & 4 ? v : (v >> 4) * 10u + (v & 15u);
}

static void wait_second_change(void)
{
    uint8_t second = guest_cmos(0);
    for (unsigned i = 0; i < 1500 && guest_cmos(0) == second; i++) {
        guest_delay_us(1000);
    }
}

static void check_rtc(void)
{
    guest_check((guest_cmos(0xd) & 0x80) != 0, "RTC: battery good");
    /* A busy host makes one look late; it does not do so every time. */
    uint64_t ms = 0;
    for (unsigned i = 0; i < 5 && (ms < 900 || ms > 1100); i++) {
        wait_second_change();
        uint64_t start = x86_rdtsc();
        wait_second_change();
        ms = (x86_rdtsc() - start) / (guest_tsc_hz() / 1000);
    }
    guest_check_between(ms, 900, 1100, "RTC: a second");
    guest_printf("# RTC %02u%02u-%02u-%02u %02u:%02u:%02u\n", cmos_number(0x32), cmos_number(9),
                 cmos_number(8), cmos_number(7), cmos_number(4), cmos_number(2), cmos_number(0));
}

void guest_main(void)
{
    guest_set_handler(TIMER_VECTOR, on_lapic);
    check_rates();
    check_lapic();
    check_deadline();
    check_mode_changes();
    check_deadline_changes();
    check_pit();
    check_rtc();
    guest_check_summary();
}
