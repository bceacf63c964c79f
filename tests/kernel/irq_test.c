/* Interrupt lines, with the 8254 as the device: it is on every machine, on ISA line 0. */
#include "base/percpu.h"
#include "base/x86.h"
#include "kernel/irq.h"
#include "kernel/lapic.h"
#include "kernel/time.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"

#define PIT_IRQ     0
#define PIT_COMMAND 0x43
#define PIT_CHANNEL 0x40
#define PIT_MODE_2  0x34
#define PIT_1000_HZ 1193

struct device {
    volatile unsigned count;
    volatile unsigned cpu;
    volatile unsigned depth, preempt_count;
    bool claims;
};

static bool handler(void *arg)
{
    struct device *d = arg;
    d->count++;
    d->cpu = this_cpu->id;
    d->depth = this_cpu->irq_depth;
    d->preempt_count = nk_preempt_depth();
    return d->claims;
}

static void start_pit(void)
{
    x86_outb(PIT_COMMAND, PIT_MODE_2);
    x86_outb(PIT_CHANNEL, PIT_1000_HZ & 0xff);
    x86_outb(PIT_CHANNEL, PIT_1000_HZ >> 8);
}

/* True when at least `count` more interrupts came within a second. */
static bool comes(const struct device *d, unsigned count)
{
    unsigned goal = d->count + count;
    for (unsigned ms = 0; ms < 1000 && d->count < goal; ms++) {
        nk_udelay(1000);
    }
    return d->count >= goal;
}

KTEST(irq_line)
{
    struct device d = {.claims = true};
    struct nk_irq_info info;
    start_pit();
    EXPECT(!nk_irq_get_info(PIT_IRQ, &info));
    ASSERT_EQ(nk_irq_attach(PIT_IRQ, "test", handler, &d), 0);
    EXPECT(comes(&d, 3));
    EXPECT_EQ(d.depth, 1);
    EXPECT_GE(d.preempt_count, 1);
    ASSERT(nk_irq_get_info(PIT_IRQ, &info));
    EXPECT_STREQ(info.name, "test");
    EXPECT_GE(info.count, 3);
    EXPECT_EQ(info.unhandled, 0);
    EXPECT(!info.level);

    nk_irq_mask(PIT_IRQ);
    nk_udelay(2000); /* one may have been on its way */
    unsigned masked_at = d.count;
    nk_udelay(20000);
    EXPECT_EQ(d.count, masked_at);
    nk_irq_unmask(PIT_IRQ);
    EXPECT(comes(&d, 1));

    nk_irq_detach(PIT_IRQ, handler, &d);
    unsigned detached_at = d.count;
    nk_udelay(20000);
    EXPECT_EQ(d.count, detached_at);
    EXPECT(!nk_irq_get_info(PIT_IRQ, &info));
}

KTEST(irq_shared_line)
{
    struct device first = {.claims = false}, second = {.claims = true};
    struct nk_irq_info info;
    start_pit();
    ASSERT_EQ(nk_irq_attach(PIT_IRQ, "first", handler, &first), 0);
    ASSERT_EQ(nk_irq_attach(PIT_IRQ, "second", handler, &second), 0);
    EXPECT(comes(&second, 2));
    EXPECT_GE(first.count, 2);
    nk_irq_detach(PIT_IRQ, handler, &first);
    unsigned first_count = first.count;
    EXPECT(comes(&second, 2));
    EXPECT_EQ(first.count, first_count);
    ASSERT(nk_irq_get_info(PIT_IRQ, &info));
    EXPECT_STREQ(info.name, "second");
    nk_irq_detach(PIT_IRQ, handler, &second);
}

KTEST(irq_affinity)
{
    struct device d = {.claims = true};
    start_pit();
    EXPECT_EQ(nk_irq_set_affinity(PIT_IRQ, nk_cpu_count), -22);
    ASSERT_EQ(nk_irq_attach(PIT_IRQ, "test", handler, &d), 0);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        EXPECT_EQ(nk_irq_set_affinity(PIT_IRQ, cpu), 0);
        EXPECT(comes(&d, 2)); /* the first may still go to the CPU before */
        EXPECT(comes(&d, 1));
        EXPECT_EQ(d.cpu, cpu);
    }
    EXPECT_EQ(nk_irq_set_affinity(PIT_IRQ, 0), 0);
    nk_irq_detach(PIT_IRQ, handler, &d);
}

KTEST(irq_bad_lines)
{
    struct device d = {.claims = true};
    EXPECT_EQ(nk_irq_attach(NK_IRQ_COUNT, "none", handler, &d), -22);
    EXPECT_EQ(nk_irq_attach(NK_IRQ_COUNT - 1, "none", handler, &d), -22);
    EXPECT_EQ(nk_irq_attach(PIT_IRQ, "none", NULL, &d), -22);
    nk_irq_detach(PIT_IRQ, handler, &d); /* not attached: nothing happens */
    nk_irq_mask(NK_IRQ_COUNT);
}

static volatile uint64_t arrived;

static void note_arrival(struct nk_timer *t)
{
    (void)t;
    arrived = x86_rdtsc();
}

KTEST(timer_not_early)
{
    struct nk_timer t;
    nk_timer_init(&t, note_arrival);
    for (unsigned i = 0; i < 20; i++) {
        arrived = 0;
        uint64_t deadline = x86_rdtsc() + nk_ns_to_tsc(50000);
        nk_timer_arm(&t, deadline);
        while (arrived == 0) {
            x86_pause();
        }
        EXPECT_GE(arrived, deadline);
    }
}

/* The longest gap between two readings of the TSC while one interrupt comes: what it cost. */
static uint64_t interrupt_cost(void (*provoke)(void))
{
    uint64_t plain = UINT64_MAX;
    uint64_t longest = 0;
    arrived = 0;
    provoke();
    uint64_t last = x86_rdtsc();
    do {
        uint64_t now = x86_rdtsc();
        uint64_t gap = now - last;
        plain = gap < plain ? gap : plain;
        longest = gap > longest ? gap : longest;
        last = now;
    } while (arrived == 0);
    uint64_t gap = x86_rdtsc() - last; /* it may have come just before the last test */
    longest = gap > longest ? gap : longest;
    return longest - plain;
}

static struct nk_timer bench_timer;

static void provoke_timer(void)
{
    nk_timer_arm(&bench_timer, x86_rdtsc() + 10000);
}

static bool note_pit(void *arg)
{
    (void)arg;
    arrived = x86_rdtsc();
    return true;
}

static void provoke_pit(void)
{
}

KBENCH(irq_service)
{
    static uint64_t samples[KTEST_BENCH_SAMPLES];
    nk_timer_init(&bench_timer, note_arrival);
    for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
        samples[i] = interrupt_cost(provoke_timer);
    }
    ktest_bench_samples("timer_interrupt", samples, KTEST_BENCH_SAMPLES);

    start_pit();
    if (nk_irq_attach(PIT_IRQ, "bench", note_pit, NULL) == 0) {
        for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
            samples[i] = interrupt_cost(provoke_pit);
        }
        ktest_bench_samples("device_interrupt", samples, KTEST_BENCH_SAMPLES);
        nk_irq_detach(PIT_IRQ, note_pit, NULL);
    }
}

/* An IPI with the vector of a line whose handler notes when it ran. */
KBENCH(self_ipi)
{
    static uint64_t to_handler[KTEST_BENCH_SAMPLES], round_trip[KTEST_BENCH_SAMPLES];
    struct nk_irq_info info;
    if (nk_irq_attach(PIT_IRQ, "bench", note_pit, NULL) != 0) {
        return;
    }
    nk_irq_mask(PIT_IRQ);
    if (nk_irq_get_info(PIT_IRQ, &info)) {
        for (unsigned i = 0; i < KTEST_BENCH_SAMPLES; i++) {
            arrived = 0;
            uint64_t start = x86_rdtsc();
            lapic_send_ipi(this_cpu->apic_id, info.vector);
            while (arrived == 0) {
            }
            round_trip[i] = x86_rdtsc() - start;
            to_handler[i] = arrived - start;
        }
        ktest_bench_samples("self_ipi_handler", to_handler, KTEST_BENCH_SAMPLES);
        ktest_bench_samples("self_ipi_round_trip", round_trip, KTEST_BENCH_SAMPLES);
    }
    nk_irq_detach(PIT_IRQ, note_pit, NULL);
}
