/* Other CPUs: calls between them, and what the page tables promise across them. */
#include "base/layout.h"
#include "base/percpu.h"
#include "kernel/kernel.h"
#include "kernel/smp.h"
#include "kernel/trap.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#define TEST_VA UINT64_C(0xffffe00000000000) /* nothing of the kernel's is there */

static volatile uint64_t ran_on; /* bit per CPU */
static volatile uint32_t call_count;

static void note_cpu(void *arg)
{
    (void)arg;
    __atomic_fetch_or(&ran_on, UINT64_C(1) << this_cpu->id, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&call_count, 1, __ATOMIC_SEQ_CST);
}

KTEST(smp_cpu_records)
{
    EXPECT_GE(nk_cpu_count, 1);
    for (unsigned i = 0; i < nk_cpu_count; i++) {
        EXPECT_EQ(nk_cpu_table[i].id, i);
        EXPECT(nk_cpu_table[i].self == &nk_cpu_table[i]);
        EXPECT_EQ(nk_cpu_table[i].online, 1);
        for (unsigned j = 0; j < i; j++) {
            EXPECT_NE(nk_cpu_table[i].apic_id, nk_cpu_table[j].apic_id);
        }
    }
}

KTEST(smp_call)
{
    EXPECT_EQ(nk_cpu_call(nk_cpu_count, note_cpu, NULL, true), -22);
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        ran_on = 0;
        EXPECT_EQ(nk_cpu_call(cpu, note_cpu, NULL, true), 0);
        EXPECT_EQ(ran_on, UINT64_C(1) << cpu);
    }
}

KTEST(smp_call_others)
{
    ran_on = 0;
    call_count = 0;
    nk_preempt_disable();
    unsigned here = this_cpu->id;
    nk_cpu_call_others(note_cpu, NULL);
    nk_preempt_enable();
    EXPECT_EQ(call_count, nk_cpu_count - 1);
    EXPECT_EQ(ran_on | UINT64_C(1) << here, (UINT64_C(1) << nk_cpu_count) - 1);
}

#define ORDERED_CALLS 200
static volatile unsigned next_expected;
static volatile unsigned out_of_order;

static void note_order(void *arg)
{
    out_of_order += (uint64_t)arg != next_expected;
    next_expected++;
}

KTEST(smp_call_order)
{
    unsigned target = nk_cpu_count - 1;
    next_expected = 0;
    out_of_order = 0;
    for (uint64_t i = 0; i < ORDERED_CALLS; i++) {
        ASSERT_EQ(nk_cpu_call(target, note_order, (void *)i, false), 0);
    }
    EXPECT_EQ(nk_cpu_call(target, note_order, (void *)(uint64_t)ORDERED_CALLS, true), 0);
    EXPECT_EQ(next_expected, ORDERED_CALLS + 1);
    EXPECT_EQ(out_of_order, 0);
}

#define CROSSING_CALLS 500

static void call_around(void *arg)
{
    unsigned from = (unsigned)(uint64_t)arg;
    for (unsigned i = 0; i < CROSSING_CALLS; i++) {
        if (nk_cpu_call((from + i) % nk_cpu_count, note_cpu, NULL, true) != 0) {
            return;
        }
    }
}

/* CPUs that wait for each other at the same time must all get through. */
KTEST(smp_calls_cross)
{
    struct nk_thread *t[CONFIG_NR_CPUS];
    call_count = 0;
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        struct nk_thread_attr attr = {.name = "caller", .cpu = (int)cpu};
        ASSERT_EQ(nk_thread_start(&t[cpu], &attr, call_around, (void *)(uint64_t)cpu), 0);
    }
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        EXPECT_EQ(nk_thread_join(t[cpu]), 0);
        EXPECT_EQ(nk_thread_destroy(t[cpu]), 0);
    }
    EXPECT_EQ(call_count, CROSSING_CALLS * nk_cpu_count);
}

static volatile bool faulted;

static bool skip_store(struct nk_trap_frame *f)
{
    faulted = true;
    f->rip += 2; /* movb %al, (%rcx) */
    return true;
}

static void store(void *arg)
{
    (void)arg;
    __asm__ volatile("movb %%al, (%%rcx)" : : "a"(1), "c"(TEST_VA) : "memory");
}

KTEST(smp_shootdown)
{
    unsigned other = nk_cpu_count - 1;
    pa_t page;
    ASSERT_EQ(buddy_alloc(0, BUDDY_NODE_ANY, &page), 0);
    ASSERT_EQ(paging_map(TEST_VA, page, NK_PAGE_SIZE, PAGING_WRITE), 0);
    nk_trap_handler before = nk_trap_set_handler(NK_EXCEPTION_PF, skip_store);

    faulted = false;
    EXPECT_EQ(nk_cpu_call(other, store, NULL, true), 0); /* fills the other CPU's TLB */
    EXPECT(!faulted);
    EXPECT_EQ(paging_protect(TEST_VA, NK_PAGE_SIZE, PAGING_READ), 0);
    EXPECT_EQ(nk_cpu_call(other, store, NULL, true), 0);
    EXPECT(faulted);
    paging_unmap(TEST_VA, NK_PAGE_SIZE);
    faulted = false;
    EXPECT_EQ(nk_cpu_call(other, store, NULL, true), 0);
    EXPECT(faulted);

    nk_trap_set_handler(NK_EXCEPTION_PF, before);
    buddy_free(page, 0);
}

static volatile uint64_t handled_at;

static void note_time(void *arg)
{
    (void)arg;
    handled_at = x86_rdtsc();
}

KBENCH(smp_call)
{
    nk_preempt_disable();
    unsigned other = (this_cpu->id + 1) % nk_cpu_count;
    int err = 0;
    if (other != this_cpu->id) {
        KBENCH_MEASURE("cross_call", err |= nk_cpu_call(other, note_time, NULL, true));
    }
    nk_preempt_enable();
    EXPECT_EQ(err, 0);
}

KTEST(cpu_lists)
{
    static const struct {
        const char *text;
        uint64_t cpus; /* 0: it is refused */
    } list_table[] = {
        {"0", 1},   {"1,3", 10}, {"1-3", 14}, {"0,2-3,5", 45},      {"", 0},
        {",", 0},   {"1,", 0},   {"-", 0},    {"3-1", 0},           {"1-", 0},
        {"1 2", 0}, {"a", 0},    {"64", 0},   {"0-63", UINT64_MAX}, {"99999999999999999999", 0},
    };
    for (unsigned i = 0; i < NK_ARRAY_COUNT(list_table); i++) {
        uint64_t cpus = 0;
        bool good = nk_parse_cpus(list_table[i].text, &cpus);
        EXPECT_EQ(good, list_table[i].cpus != 0);
        EXPECT_EQ(cpus, list_table[i].cpus);
    }
}
