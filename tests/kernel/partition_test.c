/* Tests of sched/partition.c, isolated CPUs, affinity masks and work stealing. */
#include "sched/partition.h"

#include <errno.h>

#include "base/platform.h"
#include "base/x86.h"
#include "drivers/devices.h"
#include "kernel/kernel.h"
#include "sched/sched.h"
#include "sched/timer.h"
#include "sched/work.h"
#include "tests/kernel/ktest.h"

#define MS UINT64_C(1000000) /* ns */

static volatile bool stop;

/* The last CPU gets the table; the test itself is partition 0, and may be on that CPU. */
static unsigned table_cpu(void)
{
    return nk_cpu_count - 1;
}

static void finish(struct nk_thread *t)
{
    EXPECT_EQ(nk_thread_join(t), 0);
    EXPECT_EQ(nk_thread_destroy(t), 0);
}

KTEST(partition_refused)
{
    static const struct {
        struct nk_partition_table table;
        const char *why;
    } bad_table[] = {
        {{.frame_ns = MS}, "a table has 1 to 32 slots"},
        {{.frame_ns = MS, .slot_count = 33}, "a table has 1 to 32 slots"},
        {{.frame_ns = MS, .slot_count = 1, .slots = {{16, MS}}},
         "a slot names a partition above 15"},
        {{.frame_ns = MS, .slot_count = 2, .slots = {{1, MS - 1}, {2, 1}}},
         "a slot is shorter than 50 us"},
        {{.frame_ns = 3 * MS, .slot_count = 2, .slots = {{1, MS}, {2, MS}}},
         "the slots do not fill the major frame"},
        {{.frame_ns = MS, .slot_count = 2, .slots = {{1, MS}, {2, MS}}},
         "the slots are longer than the major frame"},
        {{.frame_ns = MS, .slot_count = 2, .slots = {{1, UINT64_MAX}, {2, MS}}},
         "the slots are longer than the major frame"},
    };
    const char *why;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(bad_table); i++) {
        EXPECT_EQ(nk_partition_set_table(0, &bad_table[i].table, &why), -EINVAL);
        EXPECT_STREQ(why, bad_table[i].why);
    }
    const struct nk_partition_table good = {.frame_ns = MS, .slot_count = 1, .slots = {{0, MS}}};
    EXPECT_EQ(nk_partition_set_table(nk_cpu_count, &good, &why), -EINVAL);
    EXPECT_STREQ(why, "there is no such CPU");
    EXPECT_EQ(nk_partition_current(), -1);
    EXPECT_EQ(nk_thread_set_partition(nk_thread_current(), NK_PARTITION_MAX + 1), -EINVAL);
}

/* --- slots under overload --------------------------------------------------------------------- */

struct hog {
    struct nk_thread *thread;
    unsigned partition, priority;
    uint64_t rounds, strays, ticks; /* strays: it ran in another partition's slot */
};

static void hog_cpu(void *arg)
{
    struct hog *h = arg;
    while (!stop) {
        uint64_t flags = nk_irq_save();
        h->strays += nk_partition_current() != (int)h->partition;
        nk_irq_restore(flags);
        h->rounds++;
        if (h->rounds % 64 == 0) {
            nk_thread_yield();
        }
    }
}

static uint64_t ticks_of(const struct nk_thread *t)
{
    struct nk_thread_info info = {.id = nk_thread_id(t) - 1};
    return nk_thread_next_info(info.id, &info) ? info.cpu_ticks : 0;
}

static void start_hogs(struct hog *h, unsigned count)
{
    stop = false;
    for (unsigned i = 0; i < count; i++) {
        struct nk_thread_attr attr = {
            .name = "hog", .cpu = (int)table_cpu(), .priority = h[i].priority};
        ASSERT_EQ(nk_thread_create(&h[i].thread, &attr, hog_cpu, &h[i]), 0);
        ASSERT_EQ(nk_thread_set_partition(h[i].thread, h[i].partition), 0);
        ASSERT_EQ(nk_thread_run(h[i].thread), 0);
    }
}

static void stop_hogs(struct hog *h, unsigned count)
{
    stop = true;
    nk_partition_clear_table(table_cpu());
    for (unsigned i = 0; i < count; i++) {
        finish(h[i].thread);
    }
    EXPECT_EQ(nk_partition_current(), -1);
}

/* Three threads that never rest, one of them of the highest priority, in two partitions: each
 * partition has its slots, and nothing of the others'. */
KTEST(partition_strict)
{
    static const struct nk_partition_table table = {
        .frame_ns = 10 * MS,
        .slot_count = 4,
        .slots = {{0, 1 * MS}, {1, 3 * MS}, {0, 1 * MS}, {2, 5 * MS}},
    };
    struct hog h[] = {{.partition = 1, .priority = NK_PRIORITY_MAX},
                      {.partition = 2, .priority = 3},
                      {.partition = 2, .priority = 3}};
    char text[4];
    const bool exact = nk_option("exact", text, sizeof(text)); /* time is counted in instructions */
    ASSERT_EQ(nk_partition_set_table(table_cpu(), &table, NULL), 0);
    start_hogs(h, NK_ARRAY_COUNT(h));
    nk_thread_sleep_ns(30 * MS);
    uint64_t start = x86_rdtsc();
    for (unsigned i = 0; i < NK_ARRAY_COUNT(h); i++) {
        h[i].ticks = ticks_of(h[i].thread);
    }
    nk_thread_sleep_ns(200 * MS);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(h); i++) {
        h[i].ticks = ticks_of(h[i].thread) - h[i].ticks;
        EXPECT_GT(h[i].rounds, 0);
    }
    uint64_t elapsed = x86_rdtsc() - start;
    struct nk_partition_info info;
    nk_partition_get_info(table_cpu(), &info);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(h); i++) {
        EXPECT_EQ(h[i].strays, 0);
    }
    uint64_t share[2] = {h[0].ticks * 1000 / elapsed, (h[1].ticks + h[2].ticks) * 1000 / elapsed};
    stop_hogs(h, NK_ARRAY_COUNT(h));
    ktest_note("shares %lu and %lu of 1000, slots begin up to %lu ns late", share[0], share[1],
               nk_tsc_to_ns(info.late_max));
    EXPECT_GT(info.slots + info.skipped, 40);
    EXPECT_EQ(info.slack_run, 0);
    if (exact) {
        EXPECT(share[0] >= 290 && share[0] <= 310);
        EXPECT(share[1] >= 490 && share[1] <= 510);
        EXPECT_LT(nk_tsc_to_ns(info.late_max), 50000);
        EXPECT_EQ(info.skipped, 0);
    }
}

/* With slack a partition that has nothing to do lends its slots. */
KTEST(partition_slack)
{
    static const struct nk_partition_table table = {
        .frame_ns = 10 * MS,
        .slack = true,
        .slot_count = 3,
        .slots = {{0, 2 * MS}, {1, 2 * MS}, {2, 6 * MS}},
    };
    struct hog h = {.partition = 1};
    struct nk_partition_info info = {.slack_run = 0};
    ASSERT_EQ(nk_partition_set_table(table_cpu(), &table, NULL), 0);
    start_hogs(&h, 1);
    for (unsigned i = 0; i < 500 && (info.slack_run < 5 || h.strays == 0 || h.strays >= h.rounds);
         i++) {
        nk_thread_sleep_ns(10 * MS);
        nk_partition_get_info(table_cpu(), &info);
    }
    stop_hogs(&h, 1);
    EXPECT_GE(info.slack_run, 5);
    EXPECT_GT(h.strays, 0); /* it did run there */
    EXPECT_GT(h.rounds, h.strays);
}

/* --- where threads may run -------------------------------------------------------------------- */

static uint64_t seen_cpus; /* atomic */

static void wander(void *arg)
{
    (void)arg;
    while (!stop) {
        nk_preempt_disable();
        __atomic_or_fetch(&seen_cpus, UINT64_C(1) << this_cpu->id, __ATOMIC_RELAXED);
        nk_preempt_enable();
        nk_thread_sleep_ns(MS / 10);
    }
}

static void wait_until_seen(uint64_t cpus)
{
    for (unsigned i = 0; i < 5000 && __atomic_load_n(&seen_cpus, __ATOMIC_RELAXED) != cpus; i++) {
        nk_thread_sleep_ns(MS);
    }
    EXPECT_EQ(__atomic_load_n(&seen_cpus, __ATOMIC_RELAXED), cpus);
}

KTEST(affinity_mask)
{
    struct nk_thread *t;
    stop = false;
    ASSERT_EQ(nk_thread_start(&t, NULL, wander, NULL), 0);
    EXPECT_EQ(nk_thread_set_affinity(t, 0), -EINVAL);
    EXPECT_EQ(nk_thread_set_affinity(t, UINT64_C(1) << 63), -EINVAL);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        const uint64_t mask = UINT64_C(1) << cpu;
        ASSERT_EQ(nk_thread_set_affinity(t, mask), 0);
        for (unsigned i = 0; i < 5000; i++) { /* it has moved when it has been seen there alone */
            __atomic_store_n(&seen_cpus, 0, __ATOMIC_RELAXED);
            nk_thread_sleep_ns(2 * MS);
            if (__atomic_load_n(&seen_cpus, __ATOMIC_RELAXED) == mask) {
                break;
            }
        }
        __atomic_store_n(&seen_cpus, 0, __ATOMIC_RELAXED);
        wait_until_seen(mask);
        nk_thread_sleep_ns(5 * MS);
        EXPECT_EQ(seen_cpus, mask);
    }
    EXPECT_EQ(nk_thread_set_affinity(t, NK_AFFINITY_ANY), 0);
    stop = true;
    finish(t);
}

/* --- isolated CPUs ---------------------------------------------------------------------------- */

static uint64_t interrupts_of(unsigned cpu)
{
    const struct nk_cpu *c = &nk_cpu_table[cpu];
    uint64_t sum = 0;
    for (unsigned kind = 0; kind < NK_ARRAY_COUNT(c->irq_count); kind++) {
        sum += __atomic_load_n(&c->irq_count[kind], __ATOMIC_RELAXED);
    }
    return sum;
}

static void note_cpu(struct nk_work *w)
{
    (void)w;
    __atomic_fetch_or(&seen_cpus, UINT64_C(1) << this_cpu->id, __ATOMIC_RELAXED);
    nk_thread_yield();
}

/* Work for the service threads, and interrupts of the serial line: it is written to. */
static void keep_others_busy(uint64_t ns)
{
    struct nk_work work[8];
    for (unsigned i = 0; i < NK_ARRAY_COUNT(work); i++) {
        nk_work_init(&work[i], note_cpu);
    }
    const uint64_t end = nk_now_ns() + ns;
    for (unsigned round = 0; nk_now_ns() < end; round++) {
        for (unsigned i = 0; i < NK_ARRAY_COUNT(work); i++) {
            nk_work_post(devices_queue, &work[i]);
        }
        if (round % 256 == 0) {
            ktest_note("%lu ms left", (end - nk_now_ns()) / MS);
        }
        nk_thread_sleep_ns(MS);
    }
    nk_work_flush(devices_queue);
}

static uint64_t calm, disturbed; /* of the thread that is alone on its CPU */

static void compute_alone(void *arg)
{
    (void)arg;
    const unsigned cpu = this_cpu->id;
    __atomic_store_n(&calm, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        x86_pause();
    }
    disturbed = interrupts_of(cpu);
}

/* One thread on an isolated CPU, and more than enough to do elsewhere, timers, work and devices
 * included: the CPU takes no interrupt of any kind, and no thread comes to it. For 10 s where the
 * command line has isolated it. */
KTEST(isolated_cpu)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU only");
    const unsigned cpu = nk_cpu_count - 1;
    const uint64_t before = sched_isolated();
    const uint64_t span = before != 0 ? 10000 * MS : 300 * MS;
    struct nk_thread *alone, *others[8];
    EXPECT_EQ(sched_isolate(1), -EINVAL);
    ASSERT_EQ(sched_isolate(before | UINT64_C(1) << cpu), 0);
    stop = false;
    calm = 0;
    nk_thread_sleep_ns(2 * SCHED_SLICE_NS); /* what was there has gone */
    struct nk_thread_attr attr = {.name = "alone", .cpu = (int)cpu};
    ASSERT_EQ(nk_thread_start(&alone, &attr, compute_alone, NULL), 0);
    while (!__atomic_load_n(&calm, __ATOMIC_ACQUIRE)) {
        nk_thread_sleep_ns(MS);
    }
    __atomic_store_n(&seen_cpus, 0, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(others); i++) {
        ASSERT_EQ(nk_thread_start(&others[i], NULL, wander, NULL), 0);
    }
    nk_thread_sleep_ns(20 * MS); /* a timer of the CPU from before has fired */
    const uint64_t count = interrupts_of(cpu);
    keep_others_busy(span);
    EXPECT_EQ(interrupts_of(cpu), count);
    EXPECT_EQ(__atomic_load_n(&seen_cpus, __ATOMIC_RELAXED) >> cpu & 1, 0);
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    finish(alone);
    EXPECT_EQ(disturbed, count);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(others); i++) {
        finish(others[i]);
    }
    EXPECT_EQ(sched_isolate(before), 0);
}

/* The kernel's command line says so on one machine of the tier. */
KTEST(isolated_by_command_line)
{
    char text[8];
    KTEST_SKIP_UNLESS(nk_option("isolate", text, sizeof(text)), "no isolate= given");
    EXPECT_EQ(sched_isolated(), 2); /* isolate=1 */
}

/* --- work stealing ---------------------------------------------------------------------------- */

static void spin_on(void *arg)
{
    (void)arg;
    while (!stop) {
        nk_preempt_disable();
        __atomic_or_fetch(&seen_cpus, UINT64_C(1) << this_cpu->id, __ATOMIC_RELAXED);
        nk_preempt_enable();
        x86_pause();
    }
}

static volatile bool other_busy;

static void keep_busy(void *arg)
{
    (void)arg;
    while (other_busy) {
        x86_pause();
    }
}

static uint64_t stolen_from(unsigned cpu)
{
    struct sched_stats stats;
    sched_get_stats(cpu, &stats);
    return stats.stolen;
}

/* Threads pile up on one CPU while the other is busy; when that one has nothing to do any more, it
 * takes one of them. (Or a slice ended just then, and it was sent: hence several tries.) */
KTEST(stealing)
{
    KTEST_SKIP_UNLESS(nk_cpu_count > 1, "one CPU only");
    struct nk_thread *t[4], *busy;
    const uint64_t before = stolen_from(0);
    sched_set_stealing(3);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), 0), 0);
    for (unsigned round = 0; round < 50 && stolen_from(0) == before; round++) {
        stop = false;
        other_busy = true;
        struct nk_thread_attr attr = {.name = "busy", .cpu = 1, .priority = 20};
        ASSERT_EQ(nk_thread_start(&busy, &attr, keep_busy, NULL), 0);
        for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
            attr = (struct nk_thread_attr){.name = "spin", .cpu = 0};
            ASSERT_EQ(nk_thread_start(&t[i], &attr, spin_on, NULL), 0);
            EXPECT_EQ(nk_thread_set_affinity(t[i], 3), 0);
        }
        nk_thread_sleep_ns(5 * MS);
        other_busy = false;
        finish(busy);
        stop = true;
        for (unsigned i = 0; i < NK_ARRAY_COUNT(t); i++) {
            finish(t[i]);
        }
    }
    EXPECT_GT(stolen_from(0), before);
    sched_set_stealing(0);
    EXPECT_EQ(nk_thread_pin(nk_thread_current(), NK_CPU_ANY), 0);
}
