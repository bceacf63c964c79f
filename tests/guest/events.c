/* Events on their way into the guest: what is delivered once, in which order, and where the guest
 * goes on. Each delivery is tried with a stack that nobody has touched: in a VM with lazy RAM an
 * exit then interrupts it, and nothing may be lost or doubled. With "exact=1" the machine is one
 * that knows INT1 and that two faults make a double fault, whoever raised the first; QEMU's is not.
 * stale=int|interrupt names what the machine makes a mess of when an exit interrupts it. closed=0:
 * the machine lets nothing end a run of the guest with interrupts off, and a virtual interrupt
 * comes an instruction late. early=1: it comes with interrupts off, when one of the node's is
 * pending just then. */
#include "tests/guest/lib/guest.h"

#define FRESH_BASE 0x2000000u /* pages of RAM that are used once each */
#define FRESH_END  0x3f00000u
#define PAGE       4096u
#define ACROSS     24 /* bytes of a frame that do not fit into one page */

#define SOFT_VECTOR 0x70
#define LINE_VECTOR 0x61
#define UNMAPPED    (UINT64_C(1) << 40)
#define NO_MSR      0x12345678
#define ENTRIES_MAX 8

#define SHADOW_ROUNDS 200
#define SHADOW_STEP   100 /* ticks of the TSC by which a round waits longer than the one before */

extern const uint64_t guest_vectors[256];

static volatile struct entry {
    uint64_t vector, error, rip, frame, cr2;
} entries[ENTRIES_MAX];
static volatile uint32_t entry_count;
static uint64_t at, after; /* the instruction in question, and behind it */
static bool faults;        /* the handler goes on behind it */

static void on_event(struct guest_frame *frame)
{
    if (entry_count < ENTRIES_MAX) {
        entries[entry_count] = (struct entry){frame->vector, frame->error, frame->rip,
                                              (uint64_t)frame, x86_read_cr2()};
    }
    entry_count++;
    frame->rflags &= ~X86_RFLAGS_TF;
    if (faults && frame->rip == at) {
        frame->rip = after;
    }
    if (frame->vector >= 32 && frame->vector < SOFT_VECTOR) {
        guest_eoi();
    }
}

/* Instructions, of which the last is the one in question. */
#define MARKED(before, insn)                                                                       \
    "lea 1f(%%rip), %%rax; mov %%rax, %0; lea 2f(%%rip), %%rax; mov %%rax, %1; " before            \
    "\n1: " insn "\n2:"
#define RUN(before, insn)                                                                          \
    __asm__ volatile(MARKED(before, insn)                                                          \
                     : "=m"(at), "=m"(after)                                                       \
                     : "c"(NO_MSR), "D"(UNMAPPED), "S"(UINT64_C(1) << 62)                          \
                     : "rax", "rbx", "rdx", "memory", "cc")
#define STEP "pushfq; orl $0x100, (%%rsp); popfq; "

static uint64_t fresh_page(void)
{
    static uint64_t next = FRESH_BASE;
    if (next + 2 * PAGE > FRESH_END) {
        guest_die("no fresh page is left");
    }
    next += 2 * PAGE;
    return next - PAGE; /* the one before is fresh, too */
}

static void send_self(uint32_t command)
{
    guest_lapic_write(LAPIC_ICR_HIGH, guest_lapic_read(LAPIC_ID));
    guest_lapic_write(LAPIC_ICR_LOW, command);
}

static void wait_for_entries(uint32_t count)
{
    for (unsigned i = 0; i < 1000 && entry_count < count; i++) {
        guest_delay_us(100);
    }
}

/* What came since `entry_count` was cleared, in order; -1: nothing more. */
static bool came(int first, int second, int third)
{
    const int expected[] = {first, second, third, -1};
    unsigned count = 0;
    bool ok = true;
    for (; expected[count] >= 0; count++) {
        ok &= count < entry_count && entries[count].vector == (uint64_t)expected[count];
    }
    ok &= count == entry_count;
    for (unsigned i = 0; !ok && i < entry_count && i < ENTRIES_MAX; i++) {
        guest_printf("# vector %lu, error 0x%lx, rip 0x%lx (0x%lx, 0x%lx)\n", entries[i].vector,
                     entries[i].error, entries[i].rip, at, after);
    }
    return ok;
}

/* One, which the handler left for `rip`. */
static bool came_at(int vector, uint64_t rip)
{
    if (entry_count == 1 && entries[0].rip != rip) {
        guest_printf("# rip 0x%lx (0x%lx)\n", entries[0].rip, rip);
    }
    return came(vector, -1, -1) && entries[0].rip == rip;
}

/* --- deliveries that an exit interrupts ------------------------------------------------------- */

static void do_ud(void)
{
    RUN("", "ud2");
}

static void do_gp(void)
{
    RUN("", "mov (%%rsi), %%al");
}

static void do_pf(void)
{
    RUN("", "mov %%al, (%%rdi)");
}

static void do_gp_of_ours(void)
{
    RUN("", "rdmsr");
}

static void do_int(void)
{
    RUN("", "int $0x70");
}

static void do_int3(void)
{
    RUN("", "int3");
}

static void do_int1(void)
{
    RUN("", ".byte 0xf1");
}

static void do_step(void)
{
    RUN(STEP, "nop");
}

static void do_step_over_exit(void)
{
    RUN(STEP, "cpuid");
}

static void do_interrupt(void)
{
    send_self(LINE_VECTOR);
    RUN("sti", "nop"); /* behind the shadow */
    x86_cli();
}

static void do_nmi(void)
{
    volatile uint32_t *icr = (volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + LAPIC_ICR_LOW);
    guest_lapic_write(LAPIC_ICR_HIGH, guest_lapic_read(LAPIC_ID));
    __asm__ volatile(MARKED("", "movl $0x400, (%2)")
                     : "=m"(at), "=m"(after)
                     : "r"(icr)
                     : "rax", "memory");
    wait_for_entries(1);
}

static bool closed(void)
{
    return guest_option("closed", 1) != 0;
}

static bool exact(void)
{
    return guest_option("exact", 0) != 0 || !guest_in_vm();
}

enum where { EVERYWHERE, RING_0, IN_VM, EXACT, UNLESS_STALE };

static const struct delivery {
    const char *name;
    void (*run)(void);
    uint8_t vector;
    bool fault;
    uint32_t error;
    enum where where;
} delivery_table[] = {
    {"#UD", do_ud, GUEST_UD, true, 0, EVERYWHERE},
    {"#GP", do_gp, GUEST_GP, true, 0, EVERYWHERE},
    {"#PF", do_pf, GUEST_PF, true, 2, EVERYWHERE},
    {"#GP for RDMSR", do_gp_of_ours, GUEST_GP, true, 0, IN_VM},
    {"int", do_int, SOFT_VECTOR, false, 0, UNLESS_STALE},
    {"INT3", do_int3, GUEST_BP, false, 0, EVERYWHERE},
    {"INT1", do_int1, GUEST_DB, false, 0, EXACT},
    {"single step", do_step, GUEST_DB, false, 0, EVERYWHERE},
    {"single step over CPUID", do_step_over_exit, GUEST_DB, false, 0, EVERYWHERE},
    {"interrupt", do_interrupt, LINE_VECTOR, false, 0, UNLESS_STALE},
    {"NMI", do_nmi, GUEST_NMI, false, 0, RING_0},
};

static bool is_possible(const struct delivery *d, bool user)
{
    switch (d->where) {
    case UNLESS_STALE:
        return !guest_option_is("stale", d->name) && !(user && d->run == do_interrupt);
    case RING_0:
        return !user;
    case IN_VM:
        return guest_in_vm();
    case EXACT:
        return guest_option("exact", 0) != 0;
    default:
        return true;
    }
}

/* The bare emulator's NMI comes some instructions after it was sent. */
static bool is_late(const struct delivery *d)
{
    return d->vector == GUEST_NMI && !guest_in_vm();
}

/* Once, with its registers, on the stack that begins at `top`. */
static bool delivered(const struct delivery *d, uint64_t top, bool user)
{
    entry_count = 0;
    faults = d->fault;
    guest_set_handler(d->vector, on_event);
    if (user) {
        guest_kernel_stack(top);
        guest_run_in_ring_3(d->run);
    } else {
        guest_stack(1, top);
        guest_set_ist(d->vector, 1);
        d->run();
        guest_set_ist(d->vector, 0);
    }
    volatile struct entry *e = &entries[0];
    uint32_t error = d->error | (user && d->vector == GUEST_PF ? 4 : 0);
    uint64_t frame = (top & ~UINT64_C(15)) - sizeof(struct guest_frame);
    bool ok = entry_count == 1 && e->vector == d->vector && e->error == error &&
              (e->rip == (d->fault ? at : after) || is_late(d)) && e->frame == frame &&
              (d->vector != GUEST_PF || e->cr2 == UNMAPPED);
    if (!ok) {
        guest_printf("# %u times, vector %lu, error 0x%lx, rip 0x%lx (0x%lx, 0x%lx), frame 0x%lx "
                     "(0x%lx)\n",
                     entry_count, e->vector, e->error, e->rip, at, after, e->frame, frame);
    }
    return ok;
}

static void check_deliveries(bool user)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(delivery_table); i++) {
        const struct delivery *d = &delivery_table[i];
        bool ok = true;
        if (!is_possible(d, user)) {
            continue;
        }
        for (unsigned n = 0; n < 3; n++) {
            ok &= delivered(d, fresh_page() + PAGE, user);
            ok &= delivered(d, fresh_page() + ACROSS, user);
        }
        guest_printf("# %s, ring %u\n", d->name, user ? 3 : 0);
        guest_check(ok, "delivery: once, whole, and on behind it");
    }
}

/* --- order ------------------------------------------------------------------------------------ */

/* With interrupts off. The NMI is taken at the trap handler's first instruction, so its handler is
 * the first to run. */
static void check_trap_and_nmi(void)
{
    volatile uint32_t *icr = (volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + LAPIC_ICR_LOW);
    entry_count = 0;
    __asm__ volatile(MARKED(STEP, "movl $0x400, (%2)") "\nnop; nop"
                     : "=m"(at), "=m"(after)
                     : "r"(icr)
                     : "rax", "memory", "cc");
    wait_for_entries(2);
    guest_check(came(GUEST_NMI, GUEST_DB, -1), "order: the trap is first, the NMI follows at once");
    guest_check_equal(entries[0].rip, guest_vectors[GUEST_DB], "order: ... in the trap's handler");
    guest_check_equal(entries[1].rip, after, "order: the trap is behind its instruction");
}

/* A trap, an NMI and an interrupt after one instruction: each in the handler of the one before, or
 * when interrupts are on again. */
static void check_order(void)
{
    volatile uint32_t *icr = (volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + LAPIC_ICR_LOW);
    guest_set_handler(GUEST_DB, on_event);
    guest_set_handler(GUEST_NMI, on_event);
    guest_set_handler(LINE_VECTOR, on_event);
    send_self(LINE_VECTOR);
    entry_count = 0;
    faults = false;
    __asm__ volatile(MARKED("sti; " STEP, "movl $0x400, (%2)") "\nnop; nop; cli"
                     : "=m"(at), "=m"(after)
                     : "r"(icr)
                     : "rax", "memory", "cc");
    wait_for_entries(3);
    /* The interrupt comes before the instruction, which was in nobody's shadow. */
    guest_check(came(LINE_VECTOR, GUEST_NMI, GUEST_DB),
                "order: interrupt, trap and NMI, once each");

    entry_count = 0;
    send_self(LINE_VECTOR);
    __asm__ volatile(MARKED("", "movl $0x400, (%2)") "\nsti; nop; nop; cli"
                     : "=m"(at), "=m"(after)
                     : "r"(icr)
                     : "rax", "memory");
    wait_for_entries(2);
    guest_check(came(GUEST_NMI, LINE_VECTOR, -1), "order: the NMI before the interrupt");
}

/* --- interrupt shadows ------------------------------------------------------------------------ */

/* The delays differ, so that the node's own interrupts come there, too, at one time or another. */
static void check_cli_in_shadow(void)
{
    bool early = guest_option("early", 0) != 0;
    uint32_t in_shadow = 0, behind = 0;

    for (unsigned n = 0; n < SHADOW_ROUNDS; n++) {
        entry_count = 0;
        send_self(LINE_VECTOR);
        for (uint64_t start = x86_rdtsc(); x86_rdtsc() - start < n * SHADOW_STEP;) {
        }
        if (!early) {
            RUN("sti", "cli");
            in_shadow += entry_count;
        }
        RUN("sti", "nop");
        x86_cli();
        behind += came_at(LINE_VECTOR, after);
    }
    if (!early) {
        guest_check_equal(in_shadow, 0, "shadow: STI, CLI lets nothing in");
    }
    guest_check_equal(behind, SHADOW_ROUNDS, "shadow: ... until another STI");
}

static void check_shadows(void)
{
    faults = false;
    if (closed()) {
        entry_count = 0;
        send_self(LINE_VECTOR);
        RUN("sti", "cpuid");
        x86_cli();
        guest_check(came_at(LINE_VECTOR, after), "shadow: STI, over an instruction that exits");
    }
    check_cli_in_shadow();
    entry_count = 0;
    RUN("mov %%ss, %%eax; " STEP "mov %%eax, %%ss", "nop");
    guest_check(came_at(GUEST_DB, after), "shadow: MOV SS holds back a trap");
    entry_count = 0;
    RUN("mov %%ss, %%ebx; xor %%eax, %%eax; " STEP "mov %%ebx, %%ss", "cpuid");
    guest_check(came_at(GUEST_DB, after), "shadow: ... over an instruction that exits");
}

/* --- NMIs and IRET ---------------------------------------------------------------------------- */

static volatile uint32_t nmis, depth, deepest;
static volatile uint64_t nmi_rip[4];
static void (*nmi_work)(void);

static void on_nmi(struct guest_frame *frame)
{
    uint32_t n = nmis++;
    nmi_rip[n & 3] = frame->rip;
    depth++;
    deepest = depth > deepest ? depth : deepest;
    if (n == 0) {
        nmi_work();
    }
    depth--;
}

/* An NMI to itself, and then nothing that exits until as many have come, for a limited time. */
static void nmi_and_wait(void (*work)(void), uint32_t count)
{
    volatile uint32_t *icr = (volatile uint32_t *)(uint64_t)(GUEST_LAPIC_BASE + LAPIC_ICR_LOW);
    uint64_t turns = UINT64_C(20000000);
    guest_set_handler(GUEST_NMI, on_nmi);
    nmis = deepest = 0;
    nmi_work = work;
    guest_lapic_write(LAPIC_ICR_HIGH, guest_lapic_read(LAPIC_ID));
    __asm__ volatile("movl $0x400, (%2)\n"
                     "1: cmp %3, %1\n"
                     "jae 2f\n"
                     "dec %0\n"
                     "jnz 1b\n"
                     "2:"
                     : "+r"(turns)
                     : "m"(nmis), "r"(icr), "r"(count)
                     : "memory", "cc");
    guest_delay_us(1000);
}

static void send_two(void)
{
    send_self(LAPIC_DELIVER_NMI);
    send_self(LAPIC_DELIVER_NMI);
    guest_delay_us(1000);
}

static void send_and_trap(void)
{
    send_self(LAPIC_DELIVER_NMI);
    guest_delay_us(1000);
    if (nmis == 1) {
        __asm__ volatile("int3"); /* its IRET ends the blocking */
        guest_delay_us(1000);
    }
}

static void count_trap(struct guest_frame *frame)
{
    (void)frame;
}

/* Leaves its handler by an IRET that faults, for its code segment; #GP's handler mends it. */
static void on_bad_iret(struct guest_frame *frame)
{
    *(uint64_t *)(frame->rsp + 8) = GUEST_CODE64;
}

static void on_nmi_bad_iret(struct guest_frame *frame)
{
    if (nmis++ == 0) {
        send_self(LAPIC_DELIVER_NMI);
        guest_delay_us(1000);
        frame->cs = 0x78; /* beyond the table */
    }
}

static void check_nmi_blocking(void)
{
    nmi_and_wait(send_two, 2);
    guest_check_equal(nmis, 2, "nmi: two in its handler are one");
    guest_check_equal(deepest, 1, "nmi: not in its handler");
    guest_check_equal(nmi_rip[1], nmi_rip[0], "nmi: but right behind its IRET");

    guest_set_handler(GUEST_BP, count_trap);
    nmi_and_wait(send_and_trap, 2);
    guest_check_equal(nmis, 2, "nmi: another one behind a trap's IRET in its handler");
    guest_check_equal(deepest, 2, "nmi: ... comes inside");

    guest_set_handler(GUEST_GP, on_bad_iret);
    guest_set_handler(GUEST_NMI, on_nmi_bad_iret);
    nmis = 0;
    send_self(LAPIC_DELIVER_NMI);
    for (unsigned i = 0; i < 1000 && nmis < 2; i++) {
        guest_delay_us(100);
    }
    guest_check_equal(nmis, 2, "nmi: one behind an IRET that faults");
}

static void check_halt_and_nmi(void)
{
    guest_set_handler(GUEST_NMI, on_event);
    guest_ioapic_route(2, 0, LAPIC_DELIVER_NMI);
    guest_pit_periodic(GUEST_PIT_HZ / 100);
    entry_count = 0; /* one may have come with the new count */
    RUN("", "hlt");
    guest_ioapic_route(2, 0, IOAPIC_MASKED);
    guest_check(came_at(GUEST_NMI, after), "nmi: ends HLT, interrupts off");
}

/* --- faults of deliveries --------------------------------------------------------------------- */

static void check_double_faults(void)
{
    guest_set_handler(GUEST_DF, on_event);
    guest_set_handler(GUEST_NP, on_event);
    guest_set_handler(GUEST_PF, on_event);
    guest_set_ist(GUEST_DF, 1);
    faults = true;

    uint64_t top = fresh_page() + PAGE;
    if (!exact()) {
        *(volatile uint8_t *)(top - 1) = 1;
    }
    guest_stack(1, top);
    guest_gate_present(GUEST_GP, false);
    entry_count = 0;
    RUN("", "mov (%%rsi), %%al");
    guest_check(came(GUEST_DF, -1, -1) && entries[0].error == 0, "#DF: a fault that has no gate");
    if (exact() && guest_in_vm()) {
        entry_count = 0;
        RUN("", "rdmsr");
        guest_check(came(GUEST_DF, -1, -1),
                    "#DF: the same, for a fault of an instruction that exits");
    }
    guest_gate_present(GUEST_GP, true);

    guest_stack(1, fresh_page() + PAGE);
    guest_stack(2, UNMAPPED);
    guest_set_ist(GUEST_PF, 2);
    entry_count = 0;
    RUN("", "mov %%al, (%%rdi)");
    guest_set_ist(GUEST_PF, 0);
    guest_check(came(GUEST_DF, -1, -1), "#DF: #PF in #PF");

    guest_set_ist(GUEST_UD, 2);
    entry_count = 0;
    RUN("", "ud2");
    guest_set_ist(GUEST_UD, 0);
    guest_check(came(GUEST_PF, -1, -1), "#PF: in #UD it is no #DF");

    guest_gate_present(LINE_VECTOR, false);
    entry_count = 0;
    send_self(LINE_VECTOR);
    RUN("sti", "nop");
    x86_cli();
    guest_eoi();
    guest_gate_present(LINE_VECTOR, true);
    guest_check(came(GUEST_NP, -1, -1) && (entries[0].error & 2) != 0,
                "#NP: for an interrupt that has no gate");
}

void guest_main(void)
{
    guest_open_to_ring_3();
    guest_gate_for_all(SOFT_VECTOR);
    guest_gate_for_all(GUEST_BP);
    guest_tsc_hz();
    check_deliveries(false);
    check_deliveries(true);
    check_order();
    if (closed()) {
        check_trap_and_nmi();
    }
    check_shadows();
    check_halt_and_nmi();
    check_nmi_blocking();
    check_double_faults();
    guest_check_summary();
}
