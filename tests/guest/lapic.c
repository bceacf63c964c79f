/* One CPU's LAPIC and the IOAPIC before it: priorities, what is masked, errors, level-triggered
 * interrupts and their ends. With x2APIC, priorities once more by its registers. */
#include "tests/guest/lib/guest.h"

#define LINE_VECTOR  0x61
#define ERROR_VECTOR 0x45
#define MODE_NMI     LAPIC_DELIVER_NMI
#define DIRECTED_EOI (1u << 24)
#define WAIT_US      1000000
#define LINES_MAX    16

#define ERROR_SEND     (1u << 5)
#define ERROR_RECEIVE  (1u << 6)
#define ERROR_REGISTER (1u << 7)

/* Vectors in the order in which their handlers began, and ended. */
static volatile uint8_t begun[LINES_MAX], ended[LINES_MAX];
static volatile uint32_t begun_count, ended_count, nmis;
static bool nest; /* handlers let others in */

static void on_vector(struct guest_frame *frame)
{
    begun[begun_count++ % LINES_MAX] = (uint8_t)frame->vector;
    if (nest) {
        __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    }
    ended[ended_count++ % LINES_MAX] = (uint8_t)frame->vector;
    guest_eoi();
}

static void on_nmi(struct guest_frame *frame)
{
    (void)frame;
    nmis++;
}

static void let_in(void)
{
    __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

static void send_self(uint8_t vector)
{
    guest_ipi(0, LAPIC_ICR_SELF | vector);
}

static void set_cr8(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr8" : : "r"(value) : "memory");
}

static void start(void)
{
    begun_count = ended_count = nmis = 0;
    nest = false;
}

static bool order_is(const volatile uint8_t *got, uint32_t count, const char *expected)
{
    unsigned i = 0;
    for (; expected[i]; i++) {
        if (i >= count || got[i] != (uint8_t)expected[i]) {
            break;
        }
    }
    if (expected[i] || i != count) {
        guest_printf("# %u came:", count);
        for (unsigned n = 0; n < count && n < LINES_MAX; n++) {
            guest_printf(" %x", got[n]);
        }
        guest_printf("\n");
        return false;
    }
    return true;
}

/* The handlers began in this order since start(). */
static void expect(const char *vectors, const char *name)
{
    guest_check(order_is(begun, begun_count, vectors), name);
}

/* --- priorities ----------------------------------------------------------------------------------
 */

/* The vectors are characters of strings. */
static void check_priorities(void)
{
    for (unsigned v = 0x30; v < 0x80; v++) {
        guest_set_handler((uint8_t)v, on_vector);
    }
    start();
    for (const char *v = "1RBsd"; *v; v++) {
        send_self((uint8_t)*v);
    }
    let_in();
    expect("sdRB1", "priority: the highest first");

    start();
    guest_lapic_write(LAPIC_TPR, 0x50);
    for (const char *v = "1RBsd"; *v; v++) {
        send_self((uint8_t)*v);
    }
    let_in();
    expect("sd", "tpr: holds back its class and those below");
    guest_check_equal(guest_lapic_read(LAPIC_PPR), 0x50, "ppr: is the TPR when nothing is served");
    set_cr8(4);
    let_in();
    expect("sdR", "cr8: lowered to below one of them");
    guest_lapic_write(LAPIC_TPR, 0x2f);
    let_in();
    expect("sdRB1", "tpr: its low half does not count");
    guest_lapic_write(LAPIC_TPR, 0);

    start();
    set_cr8(15);
    send_self('s');
    let_in();
    expect("", "cr8: 15 holds back everything");
    __asm__ volatile("sti; mov %0, %%cr8; nop; cli" : : "r"(UINT64_C(0)) : "memory");
    expect("s", "cr8: 0 lets it in at once");
}

static uint32_t ppr_inside;

static void on_first(struct guest_frame *frame)
{
    begun[begun_count++ % LINES_MAX] = (uint8_t)frame->vector;
    send_self('B'); /* lower */
    send_self('V'); /* of the same class */
    send_self('s'); /* higher */
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    ppr_inside = guest_lapic_read(LAPIC_PPR);
    ended[ended_count++ % LINES_MAX] = (uint8_t)frame->vector;
    guest_eoi();
}

static void check_nesting(void)
{
    start();
    guest_set_handler('R', on_first);
    send_self('R');
    let_in();
    expect("RsVB", "nesting: only a higher class comes in");
    guest_check(order_is(ended, ended_count, "sRVB"), "nesting: ends in its order");
    guest_check_equal(ppr_inside, 0x50, "ppr: is the class in service");
    guest_set_handler('R', on_vector);
    guest_eoi();
    start();
    send_self('R');
    let_in();
    expect("R", "eoi: one too many does nothing");
}

/* --- local vector table --------------------------------------------------------------------------
 */

/* COM1 to the PIC, and by its output to LINT0. */
static void raise_lint0(void)
{
    guest_pic_unmask(GUEST_COM1_IRQ);
    guest_com1_raise();
    for (unsigned i = 0; i < 100 && nmis + begun_count == 0; i++) {
        let_in();
        guest_delay_us(100);
    }
    guest_com1_lower();
    guest_pic_mask_all();
    guest_pic_init(); /* forgets what it asked for */
}

static void check_lint0(void)
{
    start();
    guest_lapic_write(LAPIC_LINT0, MODE_NMI);
    raise_lint0();
    guest_check_equal(nmis, 1, "lint0: NMI");
    start();
    guest_lapic_write(LAPIC_LINT0, MODE_NMI | LAPIC_MASKED);
    raise_lint0();
    guest_check_equal(nmis, 0, "lint0: NMI, masked");
    start();
    guest_lapic_write(LAPIC_LINT0, 'R');
    raise_lint0();
    expect("R", "lint0: fixed");
    guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT);
}

static void check_lvt_bits(void)
{
    static const uint16_t registers[] = {LAPIC_THERMAL, LAPIC_PERF, LAPIC_LINT1, LAPIC_ERROR};
    bool masks = true, values = true;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(registers); i++) {
        guest_lapic_write(registers[i], LAPIC_MASKED | ERROR_VECTOR);
        masks &= (guest_lapic_read(registers[i]) & LAPIC_MASKED) != 0;
        guest_lapic_write(registers[i], ERROR_VECTOR);
        values &= guest_lapic_read(registers[i]) == ERROR_VECTOR;
        guest_lapic_write(registers[i], LAPIC_MASKED);
    }
    guest_check(masks, "lvt: entries can be masked");
    guest_check(values, "lvt: and unmasked, with a vector");
}

static void check_disabled(void)
{
    start();
    guest_lapic_write(LAPIC_PERF, ERROR_VECTOR);
    guest_lapic_write(LAPIC_SPURIOUS, 0xff);
    if (guest_in_vm()) { /* the bare emulator leaves the entries alone */
        guest_check_equal(guest_lapic_read(LAPIC_PERF), LAPIC_MASKED | ERROR_VECTOR,
                          "disabled: entries are masked");
        guest_lapic_write(LAPIC_PERF, ERROR_VECTOR);
        guest_check_equal(guest_lapic_read(LAPIC_PERF), LAPIC_MASKED | ERROR_VECTOR,
                          "disabled: and stay so");
        guest_ipi(0, 'R');
        let_in();
        expect("", "disabled: an interrupt is refused");
    }
    guest_ipi(0, MODE_NMI);
    for (unsigned i = 0; i < 100 && nmis == 0; i++) {
        guest_delay_us(100);
    }
    guest_check_equal(nmis, 1, "disabled: an NMI is not");
    guest_lapic_write(LAPIC_SPURIOUS, LAPIC_ENABLED | 0xff);
    guest_lapic_write(LAPIC_PERF, LAPIC_MASKED);
    guest_lapic_write(LAPIC_LINT0, LAPIC_DELIVER_EXTINT);
    start();
    send_self('R');
    let_in();
    expect("R", "enabled: an interrupt is taken");
}

/* --- errors --------------------------------------------------------------------------------------
 */

static uint32_t errors_now(void)
{
    guest_lapic_write(LAPIC_ESR, 0);
    return guest_lapic_read(LAPIC_ESR);
}

/* The bare emulator knows no illegal vectors, and its errors do not interrupt. */
static void check_errors(void)
{
    errors_now();
    start();
    guest_lapic_write(LAPIC_ERROR, ERROR_VECTOR);
    send_self(3);
    let_in();
    expect("E", "error: sending an illegal vector interrupts");
    guest_check_equal(guest_lapic_read(LAPIC_ESR), 0, "esr: shows nothing before a write");
    send_self(4);
    let_in();
    expect("E", "error: another one does not, before a write");
    guest_check_equal(errors_now(), ERROR_SEND, "esr: a vector that was not to be sent");
    guest_check_equal(errors_now(), 0, "esr: the next write clears it");

    start();
    guest_ioapic_route(GUEST_COM1_IRQ, 5, 0);
    guest_com1_raise();
    guest_com1_lower();
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, IOAPIC_MASKED);
    let_in();
    expect("E", "error: receiving an illegal vector interrupts");
    guest_check_equal(errors_now(), ERROR_RECEIVE, "esr: a vector that was not to be received");

    start();
    guest_lapic_write(LAPIC_ERROR, LAPIC_MASKED | ERROR_VECTOR);
    guest_lapic_read(0x3d0);
    let_in();
    expect("", "error: masked");
    guest_check_equal(errors_now(), ERROR_REGISTER, "esr: a register that there is not");
    guest_lapic_write(LAPIC_ERROR, 2); /* an illegal vector for the error itself */
    send_self(3);
    let_in();
    guest_check_equal(errors_now(), ERROR_SEND | ERROR_RECEIVE, "esr: both");
    guest_lapic_write(LAPIC_ERROR, LAPIC_MASKED);
}

/* --- level-triggered -----------------------------------------------------------------------------
 */

enum line_action { ACT_LOWER, ACT_LEAVE, ACT_MASK, ACT_END_AT_IOAPIC };
static enum line_action line_action[4];
static uint32_t entry_inside[4], tmr_inside, irr_inside;

static uint32_t entry_now(void)
{
    return guest_ioapic_read(0x10 + 2 * GUEST_COM1_IRQ);
}

static void on_line(struct guest_frame *frame)
{
    unsigned i = begun_count < 3 ? begun_count : 3;
    begun[begun_count++ % LINES_MAX] = (uint8_t)frame->vector;
    entry_inside[i] = entry_now();
    tmr_inside = guest_lapic_read(LAPIC_TMR + LINE_VECTOR / 32 * 0x10);
    switch (line_action[i]) {
    case ACT_LOWER:
        guest_com1_lower();
        break;
    case ACT_LEAVE:
        break;
    case ACT_MASK:
        guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, entry_inside[i] | IOAPIC_MASKED);
        break;
    case ACT_END_AT_IOAPIC:
        guest_ioapic_eoi(LINE_VECTOR);
        irr_inside = guest_lapic_read(LAPIC_IRR + LINE_VECTOR / 32 * 0x10);
        break;
    }
    guest_eoi();
}

static void begin_line(enum line_action first)
{
    start();
    line_action[0] = first;
    line_action[1] = line_action[2] = line_action[3] = ACT_LOWER;
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, IOAPIC_LEVEL);
    guest_com1_raise();
    let_in();
}

static void end_line(void)
{
    guest_com1_lower();
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, IOAPIC_MASKED);
    let_in();
}

static void check_level(void)
{
    const uint32_t bit = 1u << LINE_VECTOR % 32;
    guest_set_handler(LINE_VECTOR, on_line);

    begin_line(ACT_LOWER);
    guest_check_equal(begun_count, 1, "level: one interrupt");
    guest_check((entry_inside[0] & IOAPIC_REMOTE_IRR) != 0, "level: remote IRR in its handler");
    guest_check_equal(entry_now() & IOAPIC_REMOTE_IRR, 0, "level: ... not after its end");
    guest_check((tmr_inside & bit) != 0, "level: seen in TMR");
    end_line();

    begin_line(ACT_LEAVE);
    let_in();
    guest_check_equal(begun_count, 2, "level: again while the line is up");
    end_line();

    begin_line(ACT_MASK);
    let_in();
    guest_check_equal(begun_count, 1, "level: masked in its handler, not again");
    guest_check_equal(entry_now() & IOAPIC_REMOTE_IRR, 0, "level: ... but ended");
    guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, IOAPIC_LEVEL | LINE_VECTOR);
    let_in();
    guest_check_equal(begun_count, 2, "level: ... again when unmasked");
    end_line();

    begin_line(ACT_END_AT_IOAPIC);
    let_in();
    guest_check((irr_inside & bit) != 0, "level: ended at the IOAPIC, requested at once");
    guest_check_equal(begun_count, 2, "level: ... and served after this one");
    end_line();

    start();
    line_action[0] = ACT_LOWER;
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, 0);
    guest_com1_raise();
    let_in();
    guest_check((entry_inside[0] & IOAPIC_REMOTE_IRR) == 0 && (tmr_inside & bit) == 0,
                "edge: neither remote IRR nor TMR");
    end_line();
}

/* What a system does that finds an interrupt stuck: edge and back. */
static void check_level_to_edge(void)
{
    start();
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, IOAPIC_LEVEL);
    guest_com1_raise();
    guest_check((entry_now() & IOAPIC_REMOTE_IRR) != 0, "level: remote IRR while it waits");
    guest_com1_lower();
    guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, IOAPIC_MASKED | LINE_VECTOR);
    guest_check_equal(entry_now() & IOAPIC_REMOTE_IRR, 0, "level: cleared by a change to edge");
    line_action[0] = ACT_LOWER;
    let_in();
    guest_check_equal(begun_count, 1, "level: what waits is served all the same");
    end_line();
}

/* Nobody takes it: it must not be stuck when somebody does. */
static void check_level_to_nobody(void)
{
    start();
    line_action[0] = ACT_LOWER;
    guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, IOAPIC_MASKED);
    guest_ioapic_write(0x11 + 2 * GUEST_COM1_IRQ, 200u << 24);
    guest_ioapic_write(0x10 + 2 * GUEST_COM1_IRQ, IOAPIC_LEVEL | LINE_VECTOR);
    guest_com1_raise();
    let_in();
    guest_check_equal(begun_count, 0, "level: to nobody");
    guest_ioapic_write(0x11 + 2 * GUEST_COM1_IRQ, guest_x2apic_enabled()
                                                      ? guest_lapic_read(LAPIC_ID) << 24
                                                      : guest_lapic_read(LAPIC_ID));
    let_in();
    guest_check_equal(begun_count, 1, "level: redirected, it comes");
    end_line();
}

static void check_edge_while_masked(void)
{
    start();
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, IOAPIC_MASKED);
    guest_com1_raise();
    guest_ioapic_route(GUEST_COM1_IRQ, LINE_VECTOR, 0);
    let_in();
    guest_check_equal(begun_count, 0, "edge: lost while masked");
    end_line();
}

static void check_version(void)
{
    uint32_t version = guest_lapic_read(LAPIC_VERSION);
    guest_check((version >> 16 & 0xff) >= 5, "version: six local vectors or more");
    if (guest_in_vm()) {
        guest_check_equal(version & DIRECTED_EOI, 0,
                          "version: EOIs cannot be kept from the IOAPIC");
    }
}

void guest_main(void)
{
    guest_set_handler(GUEST_NMI, on_nmi);
    check_version();
    check_priorities();
    check_nesting();
    check_lvt_bits();
    if (guest_in_vm()) { /* the bare emulator takes such interrupts from the PIC all the same */
        check_lint0();
    }
    check_disabled();
    if (guest_in_vm()) {
        check_errors();
    }
    check_level();
    check_level_to_edge();
    check_edge_while_masked();
    if (guest_in_vm()) { /* the bare emulator has remote IRR set for ever */
        check_level_to_nobody();
    }
    if (guest_x2apic_available()) {
        guest_x2apic_enable();
        guest_printf("# x2APIC\n");
        check_priorities();
        check_nesting();
        check_disabled();
        check_level();
        check_level_to_nobody();
    } else {
        guest_skip("x2apic", "not offered");
    }
    guest_check_summary();
}
