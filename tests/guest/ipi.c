/* Interrupts between CPUs: every destination, shorthand and delivery mode, in xAPIC and x2APIC
 * mode; start and restart of CPUs. Command line: cpus=N, how many there are; closed=0, where a CPU
 * that keeps its interrupts off is not to be had back. */
#include "tests/guest/lib/guest.h"

#define WORK_VECTOR  0xd0 /* there is something in the CPU's `work` */
#define TEST_VECTOR  0xa0
#define WAIT_US      20000000
#define ABSENT       200 /* nobody's APIC id */
#define FLAT_MAX     8   /* CPUs that logical ids of the flat model have room for */
#define CLUSTER_SIZE 4
#define CLUSTER_MAX  60
#define X2_CLUSTER   16
#define DFR_FLAT     0xffffffffu
#define DFR_CLUSTER  0x0fffffffu
#define RING_HOPS    200
#define EVERYBODY    UINT64_MAX

#define MSR_APIC_BASE   0x1b
#define APIC_BASE_BOTH  0xc00u /* enabled, x2APIC */
#define MSR_X2APIC_LDR  0x80d
#define MSR_X2APIC_SELF 0x83f

struct cpu {
    void (*volatile work)(void);
    volatile uint32_t starts, tests, nmis, hold;
    uint32_t svr, timer, tpr, ldr; /* of its LAPIC as it started */
    uint64_t apic_base, tsc;
};
static struct cpu cpus[GUEST_CPUS_MAX];
static unsigned count;

static struct cpu *me(void)
{
    return &cpus[guest_cpu_id()];
}

static void on_test(struct guest_frame *frame)
{
    (void)frame;
    me()->tests++;
    guest_eoi();
}

static void on_work(struct guest_frame *frame)
{
    (void)frame;
    guest_eoi();
}

static void on_nmi(struct guest_frame *frame)
{
    (void)frame;
    me()->nmis++;
}

void guest_ap_start(uint32_t id)
{
    struct cpu *c = &cpus[id];
    guest_trap_load();
    c->apic_base = x86_rdmsr(MSR_APIC_BASE);
    c->svr = guest_lapic_read(LAPIC_SPURIOUS);
    c->timer = guest_lapic_read(LAPIC_TIMER);
    c->tpr = guest_lapic_read(LAPIC_TPR);
    c->ldr = guest_lapic_read(LAPIC_LDR);
    c->tsc = x86_rdtsc();
    guest_lapic_init();
    c->starts++;
    for (;;) {
        x86_cli();
        if (c->work) {
            c->work();
            c->work = NULL;
        } else {
            __asm__ volatile("sti; hlt" : : : "memory");
        }
    }
}

/* --- waiting -----------------------------------------------------------------------------------
 */

static void pass_time(void)
{
    volatile uint32_t never = 0;
    guest_wait(&never, 200);
}

static bool until_at_least(volatile uint32_t *value, uint32_t least)
{
    for (unsigned i = 0; i < WAIT_US / 200 && *value < least; i++) {
        pass_time();
    }
    return *value >= least;
}

static bool finished(const struct cpu *c)
{
    for (unsigned i = 0; i < WAIT_US / 200 && c->work; i++) {
        pass_time();
    }
    return !c->work;
}

static void hand_over(unsigned cpu, void (*fn)(void))
{
    cpus[cpu].work = fn;
    guest_ipi(cpu, WORK_VECTOR);
}

/* On each CPU but this one after the other, then here. */
static void on_all(void (*fn)(void))
{
    for (unsigned i = 1; i < count; i++) {
        hand_over(i, fn);
        if (!finished(&cpus[i])) {
            guest_die("a CPU does not answer");
        }
    }
    fn();
}

/* --- who gets it -------------------------------------------------------------------------------
 */

static void clear_counts(void)
{
    for (unsigned i = 0; i < count; i++) {
        cpus[i].tests = cpus[i].nmis = 0;
    }
}

/* Each CPU of the map got one, and nobody else. */
static void expect_tests(uint64_t map, const char *name)
{
    bool ok = true;
    for (unsigned i = 0; i < count; i++) {
        uint32_t expected = map >> i & 1;
        ok &= until_at_least(&cpus[i].tests, expected);
    }
    pass_time();
    for (unsigned i = 0; i < count; i++) {
        if (cpus[i].tests != (map >> i & 1)) {
            guest_printf("# CPU %u got %u\n", i, cpus[i].tests);
            ok = false;
        }
    }
    guest_check(ok, name);
    clear_counts();
}

/* Exactly one CPU of the map, and it is told which. */
static unsigned expect_one(uint64_t map, const char *name)
{
    unsigned got = 0, who = GUEST_CPUS_MAX;
    for (unsigned n = 0; n < WAIT_US / 200 && got == 0; n++) {
        pass_time();
        for (unsigned i = 0; i < count; i++) {
            got += cpus[i].tests;
        }
    }
    pass_time();
    got = 0;
    for (unsigned i = 0; i < count; i++) {
        got += cpus[i].tests;
        who = cpus[i].tests ? i : who;
    }
    guest_check(got == 1 && (map >> who & 1) != 0, name);
    clear_counts();
    return who;
}

static uint64_t all(void)
{
    return count == 64 ? EVERYBODY : (UINT64_C(1) << count) - 1;
}

/* --- start -------------------------------------------------------------------------------------
 */

static void start_others(void)
{
    guest_ap_start_others();
    bool ok = true;
    for (unsigned i = 1; i < count; i++) {
        ok &= until_at_least(&cpus[i].starts, 1);
    }
    guest_check(ok, "start: every CPU");
    if (!ok) {
        guest_die("a CPU does not start");
    }
}

static void sip(unsigned cpu)
{
    guest_ipi(cpu, LAPIC_ICR_STARTUP | GUEST_AP_START >> 12);
}

/* Spins with interrupts off until it is told. */
static void hold(void)
{
    struct cpu *c = me();
    c->hold = 1;
    while (c->hold == 1) {
        x86_pause();
    }
    c->hold = 0;
}

static bool may_hold(void)
{
    return guest_option("closed", 1) != 0;
}

/* By INIT and start-up IPI from whatever the CPU was doing. */
static void restart(const char *name)
{
    uint32_t before = cpus[1].starts;
    uint64_t tsc = x86_rdtsc();
    guest_ipi(1, LAPIC_ICR_INIT);
    guest_delay_us(1000);
    if (guest_in_vm()) { /* the bare emulator keeps it for later */
        guest_ipi(1, TEST_VECTOR);
    }
    pass_time();
    guest_check(cpus[1].tests == 0 && cpus[1].starts == before, "start: after INIT it waits");
    cpus[1].work = NULL;
    sip(1);
    sip(1);
    guest_check(until_at_least(&cpus[1].starts, before + 1), name);
    guest_delay_us(1000);
    guest_check_equal(cpus[1].starts, before + 1, "start: a second start-up IPI is ignored");
    guest_check(cpus[1].tsc > tsc, "start: INIT leaves the TSC alone");
    guest_ipi(1, TEST_VECTOR);
    expect_tests(2, "start: it takes interrupts again");
}

static void set_marks(void)
{
    guest_lapic_write(LAPIC_TPR, 0x10);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_PERIODIC | TEST_VECTOR);
}

static void check_starts(void)
{
    uint32_t before = cpus[1].starts;
    sip(1);
    pass_time();
    guest_ipi(1, TEST_VECTOR);
    expect_tests(2, "start: a start-up IPI without INIT");
    guest_check_equal(cpus[1].starts, before, "start: ... does nothing");
    guest_ipi(1, LAPIC_ICR_INIT & ~0x4000u); /* edge, de-assert: as assert on these processors */
    sip(1);
    until_at_least(&cpus[1].starts, before + 1);

    hand_over(1, set_marks);
    finished(&cpus[1]);
    restart("start: INIT and start-up IPI of a halted CPU");
    guest_check_equal(cpus[1].svr, 0xff, "start: INIT disables the LAPIC");
    guest_check_equal(cpus[1].timer, LAPIC_MASKED, "start: ... masks its timer");
    guest_check_equal(cpus[1].tpr, 0, "start: ... clears its TPR");

    if (!may_hold()) {
        return;
    }
    hand_over(1, hold);
    until_at_least(&cpus[1].hold, 1);
    restart("start: INIT of a CPU that runs with interrupts off");
}

/* --- destinations that both modes have -------------------------------------------------------- */

static void check_physical(void)
{
    for (unsigned i = 0; i<count; i += count> FLAT_MAX ? 9 : 1) {
        guest_ipi(i, TEST_VECTOR);
        expect_tests(UINT64_C(1) << i, "physical: one CPU");
    }
    guest_ipi(ABSENT, TEST_VECTOR);
    expect_tests(0, "physical: nobody's id");
    guest_ipi(guest_x2apic_enabled() ? 0xffffffff : 0xff, TEST_VECTOR);
    expect_tests(all(), "physical: broadcast");
    guest_ipi(1, TEST_VECTOR | 1u << 15 | 1u << 14); /* level assert: as edge */
    expect_tests(2, "physical: level");
}

static void check_shorthands(void)
{
    guest_ipi(ABSENT, LAPIC_ICR_SELF | TEST_VECTOR);
    expect_tests(1, "shorthand: self");
    guest_ipi(ABSENT, LAPIC_ICR_ALL | TEST_VECTOR);
    expect_tests(all(), "shorthand: all");
    guest_ipi(ABSENT, LAPIC_ICR_OTHERS | TEST_VECTOR);
    expect_tests(all() & ~UINT64_C(1), "shorthand: all others");
    guest_check_equal(guest_lapic_read(LAPIC_ICR_LOW), LAPIC_ICR_OTHERS | TEST_VECTOR,
                      "icr: reads back, idle");
}

static bool nmis_are(uint64_t map)
{
    bool ok = true;
    for (unsigned i = 0; i < count; i++) {
        ok &= until_at_least(&cpus[i].nmis, map >> i & 1);
    }
    pass_time();
    for (unsigned i = 0; i < count; i++) {
        ok &= cpus[i].nmis == (map >> i & 1);
    }
    clear_counts();
    return ok;
}

static void check_nmis(void)
{
    guest_ipi(1, LAPIC_DELIVER_NMI | 0x33);
    guest_check(nmis_are(2), "nmi: to one, its vector is ignored");
    guest_ipi(0, LAPIC_ICR_OTHERS | LAPIC_DELIVER_NMI);
    guest_check(nmis_are(all() & ~UINT64_C(1)), "nmi: to all others");
    if (!may_hold()) {
        return;
    }
    hand_over(1, hold);
    until_at_least(&cpus[1].hold, 1);
    guest_ipi(1, LAPIC_DELIVER_NMI);
    guest_check(nmis_are(2), "nmi: to one with interrupts off");
    cpus[1].hold = 2;
    finished(&cpus[1]);
}

/* Each CPU sends to the next one, which answers by sending on. */
static volatile uint32_t ring_hops;

static void on_ring(struct guest_frame *frame)
{
    (void)frame;
    guest_eoi();
    if (__atomic_add_fetch(&ring_hops, 1, __ATOMIC_SEQ_CST) < RING_HOPS) {
        guest_ipi((guest_cpu_id() + 1) % count, TEST_VECTOR);
    }
}

static void check_ring(void)
{
    guest_set_handler(TEST_VECTOR, on_ring);
    ring_hops = 0;
    guest_ipi(1, TEST_VECTOR);
    guest_check(until_at_least(&ring_hops, RING_HOPS), "ring: none is lost");
    guest_set_handler(TEST_VECTOR, on_test);
}

/* --- logical destinations -----------------------------------------------------------------------
 */

static void set_tpr_by_id(void)
{
    uint32_t id = guest_cpu_id();
    guest_lapic_write(LAPIC_TPR, id == 1 ? 0x10 : 0x80 - (id & 3) * 0x10);
    guest_cpu_id(); /* an exit: the processor's own registers are looked at then */
}

static void clear_tpr(void)
{
    guest_lapic_write(LAPIC_TPR, 0);
}

/* The bare emulator takes the first; hardware and we the one with the lowest priority. */
static void check_lowest(uint32_t destination, uint64_t map)
{
    guest_ipi(destination, LAPIC_LOGICAL | LAPIC_DELIVER_LOWEST | TEST_VECTOR);
    expect_one(map, "lowest priority: one of those named");
    on_all(set_tpr_by_id);
    guest_ipi(destination, LAPIC_LOGICAL | LAPIC_DELIVER_LOWEST | TEST_VECTOR);
    unsigned who = expect_one(map, "lowest priority: one, with task priorities");
    if (guest_in_vm()) {
        guest_check_equal(who, 1, "lowest priority: the one with the lowest");
    }
    on_all(clear_tpr);
}

static void set_flat(void)
{
    guest_lapic_write(LAPIC_DFR, DFR_FLAT);
    guest_lapic_write(LAPIC_LDR, UINT32_C(1) << (24 + guest_cpu_id()));
}

static void set_cluster(void)
{
    uint32_t id = guest_cpu_id();
    guest_lapic_write(LAPIC_DFR, DFR_CLUSTER);
    if (id < CLUSTER_MAX) {
        guest_lapic_write(LAPIC_LDR, (id / CLUSTER_SIZE << 4 | 1u << id % CLUSTER_SIZE) << 24);
    }
}

static void check_flat(void)
{
    on_all(set_flat);
    guest_ipi(2, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(2, "flat: one");
    guest_ipi(3, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(3, "flat: two");
    guest_ipi(0xfe, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all() & 0xfe, "flat: all but one");
    guest_ipi(0xff, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all(), "flat: broadcast");
    guest_ipi(0, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(0, "flat: none");
    check_lowest(0xff, all());
    check_lowest(3, 3);
}

static void check_cluster(void)
{
    uint64_t first = all() & 0xf;
    on_all(set_cluster);
    guest_ipi(2, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(2, "cluster: one");
    guest_ipi(0xf, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(first, "cluster: all of one cluster");
    guest_ipi(0x13, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all() & 0x30, "cluster: two of the second one");
    guest_ipi(0xe1, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(count > 56 ? UINT64_C(1) << 56 : 0, "cluster: one of the last one");
    if (guest_in_vm()) { /* to the bare emulator that is cluster 15 */
        guest_ipi(0xff, LAPIC_LOGICAL | TEST_VECTOR);
        expect_tests(all(), "cluster: broadcast");
    }
    check_lowest(0xf, first);
}

/* --- by the IOAPIC -------------------------------------------------------------------------------
 */

static void by_ioapic(uint32_t destination, uint32_t flags)
{
    guest_ioapic_route(GUEST_COM1_IRQ, TEST_VECTOR, IOAPIC_MASKED);
    guest_ioapic_write(0x11 + 2 * GUEST_COM1_IRQ, destination << 24);
    guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, TEST_VECTOR | flags);
    guest_com1_raise();
    guest_com1_lower();
}

/* The CPUs are in the flat model. */
static void check_ioapic(void)
{
    by_ioapic(1, 0);
    expect_tests(2, "ioapic: physical");
    by_ioapic(3, IOAPIC_LOGICAL);
    expect_tests(3, "ioapic: logical");
    by_ioapic(3, IOAPIC_LOGICAL | LAPIC_DELIVER_LOWEST);
    expect_one(3, "ioapic: lowest priority");
    by_ioapic(0xff, 0);
    expect_tests(all(), "ioapic: broadcast");
    by_ioapic(2, IOAPIC_LOGICAL | LAPIC_DELIVER_NMI);
    guest_check(nmis_are(2), "ioapic: NMI");
    guest_ioapic_route(GUEST_COM1_IRQ, TEST_VECTOR, IOAPIC_MASKED);
}

/* --- x2APIC --------------------------------------------------------------------------------------
 */

static void enable_x2apic(void)
{
    x86_wrmsr(MSR_APIC_BASE, x86_rdmsr(MSR_APIC_BASE) | APIC_BASE_BOTH);
}

static bool ldr_is_right;

static void look_at_ldr(void)
{
    uint32_t id = guest_cpu_id();
    ldr_is_right &= x86_rdmsr(MSR_X2APIC_LDR) == ((id / X2_CLUSTER) << 16 | 1u << id % X2_CLUSTER);
}

static void check_x2apic(void)
{
    on_all(enable_x2apic);
    guest_x2apic_enable();
    guest_printf("# x2APIC\n");
    check_physical();
    check_shorthands();
    check_nmis();
    check_ring();

    ldr_is_right = true;
    on_all(look_at_ldr);
    guest_check(ldr_is_right, "x2apic: logical ids");
    guest_ipi(2, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(2, "x2apic: logical, one");
    guest_ipi(0xffff, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all() & 0xffff, "x2apic: logical, a cluster");
    guest_ipi(1 << 16 | 5, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all() & 0x50000, "x2apic: logical, two of the second cluster");
    guest_ipi(0xffffffff, LAPIC_LOGICAL | TEST_VECTOR);
    expect_tests(all(), "x2apic: logical, broadcast");
    guest_check_equal(x86_rdmsr(MSR_X2APIC_ICR),
                      UINT64_C(0xffffffff) << 32 | LAPIC_LOGICAL | TEST_VECTOR,
                      "x2apic: the ICR's halves");
    check_lowest(3, 3);
    x86_wrmsr(MSR_X2APIC_SELF, TEST_VECTOR);
    expect_tests(1, "x2apic: SELF IPI");

    restart("x2apic: INIT and start-up IPI");
    guest_check_equal(cpus[1].apic_base & APIC_BASE_BOTH, APIC_BASE_BOTH,
                      "x2apic: INIT keeps the mode");
    guest_check_equal(cpus[1].ldr, 2, "x2apic: ... and the logical id");
}

void guest_main(void)
{
    count = (unsigned)guest_option("cpus", 2);
    guest_set_handler(WORK_VECTOR, on_work);
    guest_set_handler(TEST_VECTOR, on_test);
    guest_set_handler(GUEST_NMI, on_nmi);
    start_others();
    check_starts();
    check_physical();
    check_shorthands();
    check_nmis();
    check_ring();
    check_cluster();
    if (count <= FLAT_MAX) {
        check_flat();
        check_ioapic();
    }
    if (guest_x2apic_available()) {
        check_x2apic();
    } else {
        guest_skip("x2apic", "not offered");
    }
    guest_check_summary();
}
