/* The local APIC, register by register: xAPIC memory, x2APIC MSRs, messages, timer. */
#include "dev/vlapic.h"
#include "mock_backend.h"
#include "pc.h"

#define BASE PLATFORM_LAPIC_BASE

enum { /* memory offsets */
       ID = 0x20,
       VERSION = 0x30,
       TPR = 0x80,
       APR = 0x90,
       PPR = 0xa0,
       EOI = 0xb0,
       RRD = 0xc0,
       LDR = 0xd0,
       DFR = 0xe0,
       SVR = 0xf0,
       ISR = 0x100,
       TMR = 0x180,
       IRR = 0x200,
       ESR = 0x280,
       ICR = 0x300,
       ICR_HIGH = 0x310,
       LVT_TIMER = 0x320,
       LVT_LINT0 = 0x350,
       LVT_LINT1 = 0x360,
       LVT_ERROR = 0x370,
       INITIAL = 0x380,
       CURRENT = 0x390,
       DIVIDE = 0x3e0,
       SELF_IPI = 0x3f0,
};

static uint32_t get(struct fixture *f, unsigned offset)
{
    return (uint32_t)fixture_mmio_read(f, BASE + offset, 4);
}

static void set(struct fixture *f, unsigned offset, uint32_t value)
{
    fixture_mmio_write(f, BASE + offset, 4, value);
}

static void choose(struct fixture *f, unsigned vcpu)
{
    f->vcpu = f->vm->vcpu[vcpu];
}

/* All LAPICs enabled by software. */
static struct fixture *apic_create(unsigned vcpus)
{
    struct fixture *f = pc_create(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        choose(f, i);
        set(f, SVR, 0x1ff);
    }
    choose(f, 0);
    return f;
}

static void enable_x2apic(struct fixture *f)
{
    assert_true(vlapic_base_write(f->vcpu, vlapic_base_read(f->vcpu) | 0x400));
}

static uint64_t rdmsr(struct fixture *f, uint32_t offset)
{
    uint64_t value = 0;

    assert_true(vlapic_msr_read(f->vcpu, 0x800 + offset / 16, &value));
    return value;
}

static bool wrmsr(struct fixture *f, uint32_t offset, uint64_t value)
{
    return vlapic_msr_write(f->vcpu, 0x800 + offset / 16, value);
}

static void send(struct fixture *f, uint8_t destination, uint32_t icr)
{
    set(f, ICR_HIGH, (uint32_t)destination << 24);
    set(f, ICR, icr);
}

/* --- registers -------------------------------------------------------------------------------- */

static void values_after_reset(void **state)
{
    struct fixture *f = pc_create(2);

    (void)state;
    assert_int_equal(get(f, ID), 0);
    assert_int_equal(get(f, VERSION), 0x00050014);
    assert_int_equal(get(f, LVT_LINT0), 0x700); /* virtual wire */
    assert_int_equal(get(f, LVT_LINT1), 0x400);
    choose(f, 1);
    assert_int_equal(get(f, ID), 1 << 24);
    assert_int_equal(get(f, SVR), 0xff);
    assert_int_equal(get(f, DFR), UINT32_MAX);
    assert_int_equal(get(f, LVT_LINT0), 0x10000);
    assert_int_equal(get(f, LVT_TIMER), 0x10000);
    assert_int_equal(get(f, LVT_ERROR), 0x10000);
    assert_int_equal(vlapic_base_read(f->vcpu), BASE | 0x800);
    assert_int_equal(vlapic_base_read(f->vm->vcpu[0]), BASE | 0x900);
    for (unsigned r = TPR; r <= LDR; r += 16) {
        assert_true(r == EOI || get(f, r) == 0);
    }
    fixture_destroy(f);
}

static void accesses_of_other_sizes(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    assert_int_equal(fixture_mmio_read(f, BASE + VERSION, 1), 0x14);
    assert_int_equal(fixture_mmio_read(f, BASE + VERSION + 2, 2), 5);
    assert_int_equal(fixture_mmio_read(f, BASE + VERSION, 8), 0x50014);
    assert_int_equal(fixture_mmio_read(f, BASE + VERSION + 4, 4), 0);
    fixture_mmio_write(f, BASE + TPR, 1, 0x55); /* not a register access */
    assert_int_equal(get(f, TPR), 0);
    fixture_mmio_write(f, BASE + TPR + 4, 4, 0x55);
    assert_int_equal(get(f, TPR), 0);
    fixture_mmio_write(f, BASE + TPR, 8, 0xffffffff00000055);
    assert_int_equal(get(f, TPR), 0x55);
    fixture_destroy(f);
}

static void id_is_fixed(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, ID, 0x07000000);
    assert_int_equal(get(f, ID), 0);
    fixture_destroy(f);
}

static void tpr_and_cr8_are_one(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, TPR, 0xffffff35);
    assert_int_equal(get(f, TPR), 0x35);
    assert_int_equal(get(f, PPR), 0x35);
    assert_int_equal(vlapic_cr8_read(f->vcpu), 3);
    assert_int_equal(mock_vcpu(f->vcpu)->sysreg[VMM_CR8], 3);
    vlapic_cr8_write(f->vcpu, 9);
    assert_int_equal(get(f, TPR), 0x90);
    assert_int_equal(vlapic_cr8_read(f->vcpu), 9);
    fixture_destroy(f);
}

static void tpr_holds_back(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, TPR, 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x55, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(vmm_irq_tpr_blocked(f->vcpu), 0x55);
    vlapic_accept(vlapic_of(f->vcpu), 0x60, false);
    assert_int_equal(pc_serve(f, f->vcpu), 0x60);
    assert_int_equal(pc_take(f->vcpu), -1);
    f->vcpu->requests = 0;
    vlapic_cr8_write(f->vcpu, 4);
    assert_int_equal(f->vcpu->requests & VMM_REQ_INTR, VMM_REQ_INTR);
    assert_int_equal(vmm_irq_tpr_blocked(f->vcpu), -1);
    assert_int_equal(pc_take(f->vcpu), 0x55);
    fixture_destroy(f);
}

static void ppr_is_of_the_higher(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x73, false);
    assert_int_equal(pc_take(f->vcpu), 0x73);
    assert_int_equal(get(f, PPR), 0x70);
    set(f, TPR, 0x75);
    assert_int_equal(get(f, PPR), 0x75);
    set(f, TPR, 0x65);
    assert_int_equal(get(f, PPR), 0x70);
    set(f, EOI, 0);
    assert_int_equal(get(f, PPR), 0x65);
    fixture_destroy(f);
}

static void irr_isr_and_eoi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x31, false);
    vlapic_accept(vlapic_of(f->vcpu), 0xfe, false);
    assert_int_equal(get(f, IRR + 0x10), 1u << 0x11);
    assert_int_equal(get(f, IRR + 0x70), 1u << 0x1e);
    assert_int_equal(pc_take(f->vcpu), 0xfe);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(get(f, IRR + 0x70), 0);
    assert_int_equal(get(f, ISR + 0x70), 1u << 0x1e);
    f->vcpu->requests = 0;
    set(f, EOI, 0);
    assert_int_equal(f->vcpu->requests & VMM_REQ_INTR, VMM_REQ_INTR);
    assert_int_equal(get(f, ISR + 0x70), 0);
    assert_int_equal(pc_take(f->vcpu), 0x31);
    assert_int_equal(get(f, ISR + 0x10), 1u << 0x11);
    set(f, EOI, 0);
    set(f, EOI, 0); /* nothing in service: nothing happens */
    assert_int_equal(get(f, ISR + 0x10), 0);
    fixture_destroy(f);
}

static void nesting_unwinds_in_order(void **state)
{
    struct fixture *f = apic_create(1);
    static const uint8_t vector_table[] = {0x20, 0x45, 0x8f, 0xc0};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        vlapic_accept(vlapic_of(f->vcpu), vector_table[i], false);
        assert_int_equal(pc_take(f->vcpu), vector_table[i]);
    }
    for (int i = 3; i >= 0; i--) {
        assert_int_equal(get(f, PPR), vector_table[i] & 0xf0);
        set(f, EOI, 0);
    }
    assert_int_equal(get(f, PPR), 0);
    fixture_destroy(f);
}

static void the_same_class_waits(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x41, false);
    assert_int_equal(pc_take(f->vcpu), 0x41);
    vlapic_accept(vlapic_of(f->vcpu), 0x4f, false);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(vmm_irq_tpr_blocked(f->vcpu), -1);
    set(f, EOI, 0);
    assert_int_equal(pc_take(f->vcpu), 0x4f);
    fixture_destroy(f);
}

static void tmr_tells_level(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x50, true);
    assert_int_equal(get(f, TMR + 0x20), 1u << 0x10);
    assert_int_equal(pc_serve(f, f->vcpu), 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(get(f, TMR + 0x20), 0);
    fixture_destroy(f);
}

static void svr_disables(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, LVT_TIMER, 0x31);
    set(f, SVR, 0xff);
    assert_int_equal(get(f, LVT_TIMER), 0x10031); /* masked, and stays so */
    set(f, LVT_TIMER, 0x32);
    assert_int_equal(get(f, LVT_TIMER), 0x10032);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(get(f, IRR + 0x20), 0);
    set(f, SVR, UINT32_MAX);
    assert_int_equal(get(f, SVR), 0x3ff);
    set(f, LVT_TIMER, 0x32);
    assert_int_equal(get(f, LVT_TIMER), 0x32);
    fixture_destroy(f);
}

static void lvt_bits_that_exist(void **state)
{
    struct fixture *f = apic_create(1);
    static const uint32_t valid_table[] = {0x700ff, 0x107ff, 0x107ff, 0x1e7ff, 0x1e7ff, 0x100ff};

    (void)state;
    for (unsigned i = 0; i < VLAPIC_LVT_COUNT; i++) {
        set(f, LVT_TIMER + 16 * i, UINT32_MAX);
        assert_int_equal(get(f, LVT_TIMER + 16 * i), valid_table[i]);
    }
    fixture_destroy(f);
}

static void esr_gathers_until_written(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, LVT_ERROR, 0x44);
    set(f, ICR, 0x4000 | 0x05); /* to itself: an illegal vector */
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    assert_int_equal(get(f, ESR), 0);
    set(f, ESR, 0);
    assert_int_equal(get(f, ESR), VLAPIC_ERROR_SEND_VECTOR);
    vlapic_accept(vlapic_of(f->vcpu), 0x0f, false);
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    get(f, 0x3a0); /* no such register */
    set(f, ESR, 0);
    assert_int_equal(get(f, ESR), VLAPIC_ERROR_RECEIVE_VECTOR | VLAPIC_ERROR_REGISTER);
    set(f, ESR, 0);
    assert_int_equal(get(f, ESR), 0);
    fixture_destroy(f);
}

static void ldr_and_dfr_keep_their_bits(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, LDR, UINT32_MAX);
    assert_int_equal(get(f, LDR), 0xff000000);
    set(f, DFR, 0);
    assert_int_equal(get(f, DFR), 0x0fffffff);
    fixture_destroy(f);
}

static void icr_can_be_read_back(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    send(f, 0x55, 0xc0030 | 0x1000);
    assert_int_equal(get(f, ICR), 0xc0030); /* delivery status: idle */
    assert_int_equal(get(f, ICR_HIGH), 0x55000000);
    fixture_destroy(f);
}

/* --- messages --------------------------------------------------------------------------------- */

static unsigned pending_set(struct fixture *f, uint8_t vector)
{
    unsigned set_bits = 0;

    for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
        int taken = pc_serve(f, f->vm->vcpu[i]);

        assert_true(taken == -1 || taken == vector);
        set_bits |= (unsigned)(taken >= 0) << i;
    }
    return set_bits;
}

static void physical_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    send(f, 2, 0x51);
    assert_int_equal(pending_set(f, 0x51), 0x4);
    send(f, 0xff, 0x52);
    assert_int_equal(pending_set(f, 0x52), 0xf);
    send(f, 9, 0x53); /* nobody */
    assert_int_equal(pending_set(f, 0x53), 0);
    fixture_destroy(f);
}

static void shorthands(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    choose(f, 1);
    set(f, ICR, 0x40000 | 0x61);
    assert_int_equal(pending_set(f, 0x61), 0x2);
    set(f, ICR, 0x80000 | 0x62);
    assert_int_equal(pending_set(f, 0x62), 0xf);
    set(f, ICR, 0xc0000 | 0x63);
    assert_int_equal(pending_set(f, 0x63), 0xd);
    fixture_destroy(f);
}

static void logical_flat_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        choose(f, i);
        set(f, LDR, 0x01000000u << i);
    }
    send(f, 0x0a, 0x800 | 0x71);
    assert_int_equal(pending_set(f, 0x71), 0xa);
    send(f, 0xff, 0x800 | 0x72);
    assert_int_equal(pending_set(f, 0x72), 0xf);
    fixture_destroy(f);
}

static void logical_cluster_destinations(void **state)
{
    struct fixture *f = apic_create(4);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        choose(f, i);
        set(f, DFR, 0x0fffffff);
        set(f, LDR, (i / 2) << 28 | 0x01000000u << (i % 2));
    }
    send(f, 0x12, 0x800 | 0x71);
    assert_int_equal(pending_set(f, 0x71), 0x8);
    send(f, 0x03, 0x800 | 0x72);
    assert_int_equal(pending_set(f, 0x72), 0x3);
    send(f, 0xff, 0x800 | 0x73);
    assert_int_equal(pending_set(f, 0x73), 0xf);
    fixture_destroy(f);
}

static void lowest_priority_takes_turns(void **state)
{
    struct fixture *f = apic_create(3);
    unsigned seen = 0;

    (void)state;
    choose(f, 1);
    set(f, TPR, 0x40); /* busier than the others */
    for (unsigned i = 0; i < 4; i++) {
        unsigned who;

        send(f, 0xff, 0x100 | 0x81);
        who = pending_set(f, 0x81);
        assert_true(who == 1 || who == 4);
        seen |= who;
    }
    assert_int_equal(seen, 5);
    fixture_destroy(f);
}

static void nmi_init_and_startup(void **state)
{
    struct fixture *f = apic_create(2);
    struct vcpu *target = f->vm->vcpu[1];

    (void)state;
    target->requests = 0;
    send(f, 1, 0x4400);
    assert_int_equal(target->requests, VMM_REQ_NMI);
    target->requests = 0;
    send(f, 1, 0x8500); /* INIT, level de-assert: nothing */
    assert_int_equal(target->requests, 0);
    send(f, 1, 0xc500);
    assert_int_equal(target->requests, VMM_REQ_INIT);
    target->requests = 0;
    send(f, 1, 0x4600 | 0x9f);
    assert_int_equal(target->requests, VMM_REQ_SIPI);
    assert_int_equal(target->sipi_vector, 0x9f);
    assert_int_equal(f->vcpu->requests & (VMM_REQ_NMI | VMM_REQ_INIT), 0);
    target->requests = 0;
    send(f, 1, 0x4200); /* SMI: there is no SMM */
    assert_int_equal(target->requests, 0);
    fixture_destroy(f);
}

static void init_resets_all_but_identity(void **state)
{
    struct fixture *f = apic_create(2);

    (void)state;
    choose(f, 1);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    set(f, TPR, 0x80);
    vlapic_init(f->vcpu);
    assert_int_equal(get(f, ID), 1 << 24);
    assert_int_equal(get(f, TPR), 0);
    assert_int_equal(get(f, SVR), 0xff);
    assert_int_equal(get(f, IRR + 0x20), 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_destroy(f);
}

/* --- x2APIC ----------------------------------------------------------------------------------- */

static void x2apic_mode_changes(void **state)
{
    struct fixture *f = apic_create(2);
    uint64_t base = BASE | 0x100, value;

    (void)state;
    assert_false(vlapic_msr_read(f->vcpu, 0x802, &value));           /* still xAPIC */
    assert_false(vlapic_base_write(f->vcpu, base | 0x400));          /* x2APIC while off */
    assert_false(vlapic_base_write(f->vcpu, base + 0x1000 + 0x800)); /* cannot move */
    assert_false(vlapic_base_write(f->vcpu, base | 0x801));          /* reserved bit */
    assert_true(vlapic_base_write(f->vcpu, base | 0xc00));
    assert_int_equal(get(f, ID), UINT32_MAX); /* no window any more */
    assert_int_equal(rdmsr(f, ID), 0);
    assert_false(vlapic_base_write(f->vcpu, base | 0x800)); /* not straight back */
    assert_true(vlapic_base_write(f->vcpu, base));
    assert_int_equal(get(f, ID), UINT32_MAX);
    assert_false(vlapic_base_write(f->vcpu, base | 0xc00)); /* not straight up either */
    assert_true(vlapic_base_write(f->vcpu, base | 0x800));
    assert_int_equal(get(f, SVR), 0xff);
    fixture_destroy(f);
}

static void x2apic_identity(void **state)
{
    struct fixture *f = apic_create(20);

    (void)state;
    choose(f, 18);
    enable_x2apic(f);
    assert_int_equal(rdmsr(f, ID), 18);
    assert_int_equal(rdmsr(f, LDR), 0x10004);
    assert_int_equal(rdmsr(f, VERSION), 0x50014);
    fixture_destroy(f);
}

static void x2apic_registers_that_fault(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t value;

    (void)state;
    enable_x2apic(f);
    assert_false(vlapic_msr_read(f->vcpu, 0x80b, &value)); /* EOI: write only */
    assert_false(vlapic_msr_read(f->vcpu, 0x80e, &value)); /* DFR: gone */
    assert_false(vlapic_msr_read(f->vcpu, 0x831, &value)); /* ICR high: gone */
    assert_false(vlapic_msr_read(f->vcpu, 0x83f, &value)); /* SELF IPI: write only */
    assert_false(vlapic_msr_read(f->vcpu, 0x8ff, &value));
    assert_false(wrmsr(f, ID, 0));
    assert_false(wrmsr(f, VERSION, 0));
    assert_false(wrmsr(f, LDR, 0));
    assert_false(wrmsr(f, PPR, 0));
    assert_false(wrmsr(f, EOI, 1));
    assert_false(wrmsr(f, ESR, 1));
    assert_false(wrmsr(f, TPR, 0x100));
    assert_false(wrmsr(f, TPR, UINT64_C(1) << 32));
    assert_false(wrmsr(f, SVR, 0x1400));
    assert_false(wrmsr(f, CURRENT, 0));
    assert_false(wrmsr(f, DIVIDE, 4));
    assert_false(wrmsr(f, ICR, 0x2000));
    assert_false(wrmsr(f, SELF_IPI, 0x100));
    assert_true(wrmsr(f, TPR, 0x20));
    assert_int_equal(rdmsr(f, TPR), 0x20);
    assert_true(wrmsr(f, ESR, 0));
    fixture_destroy(f);
}

static void x2apic_eoi_and_self_ipi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    enable_x2apic(f);
    assert_true(wrmsr(f, SELF_IPI, 0x91));
    assert_int_equal(pc_take(f->vcpu), 0x91);
    assert_int_equal(rdmsr(f, ISR + 0x40), 1u << 0x11);
    assert_true(wrmsr(f, EOI, 0));
    assert_int_equal(rdmsr(f, ISR + 0x40), 0);
    fixture_destroy(f);
}

static void x2apic_messages(void **state)
{
    struct fixture *f = apic_create(20);
    uint64_t others = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        choose(f, i);
        enable_x2apic(f);
    }
    assert_true(wrmsr(f, ICR, UINT64_C(17) << 32 | 0x55));
    assert_int_equal(rdmsr(f, ICR), UINT64_C(17) << 32 | 0x55);
    assert_true(wrmsr(f, ICR, UINT64_C(0x10006) << 32 | 0x800 | 0x55)); /* 17 and 18, logically */
    assert_true(wrmsr(f, ICR, UINT64_C(0x00001) << 32 | 0x800 | 0x55)); /* 0 */
    for (unsigned i = 0; i < 20; i++) {
        others |= (uint64_t)(pc_take(f->vm->vcpu[i]) == 0x55) << i;
    }
    assert_int_equal(others, 0x60001);
    assert_true(wrmsr(f, ICR, UINT64_C(0xffffffff) << 32 | 0x65));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(pc_take(f->vm->vcpu[i]), 0x65);
    }
    fixture_destroy(f);
}

/* --- timer ------------------------------------------------------------------------------------ */

static void one_shot(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, DIVIDE, 0xb); /* by 1 */
    set(f, LVT_TIMER, 0x40);
    set(f, INITIAL, 100000);
    assert_int_equal(get(f, INITIAL), 100000);
    pc_advance_ns(f, 40000);
    assert_int_equal(get(f, CURRENT), 60000);
    pc_advance_ns(f, 59999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    assert_int_equal(get(f, CURRENT), 0);
    pc_advance_ns(f, 1000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void every_divisor(void **state)
{
    struct fixture *f = apic_create(1);
    static const uint8_t code_table[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};

    (void)state;
    set(f, LVT_TIMER, 0x10040);
    for (unsigned i = 0; i < 8; i++) {
        set(f, DIVIDE, code_table[i]);
        assert_int_equal(get(f, DIVIDE), code_table[i]);
        set(f, INITIAL, 1000);
        pc_advance_ns(f, 400ull << i);
        assert_int_equal(get(f, CURRENT), 600);
    }
    set(f, DIVIDE, UINT32_MAX);
    assert_int_equal(get(f, DIVIDE), 0xb);
    fixture_destroy(f);
}

static void a_new_divisor_counts_on(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, DIVIDE, 0xb);
    set(f, LVT_TIMER, 0x40);
    set(f, INITIAL, 100000);
    pc_advance_ns(f, 50000);
    set(f, DIVIDE, 0x0); /* by 2 */
    assert_int_equal(get(f, CURRENT), 50000);
    pc_advance_ns(f, 99999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void periodic_does_not_drift(void **state)
{
    struct fixture *f = apic_create(1);
    unsigned ticks = 0;

    (void)state;
    set(f, DIVIDE, 0xb);
    set(f, LVT_TIMER, 0x20040);
    set(f, INITIAL, 1000003);
    for (unsigned i = 0; i < 3000; i++) { /* looked at off the beat */
        pc_advance_ns(f, 777777);
        ticks += pc_serve(f, f->vcpu) == 0x40;
    }
    assert_int_equal(ticks, 3000u * 777777 / 1000003);
    set(f, INITIAL, 0);
    pc_advance_ns(f, 5000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void a_masked_timer_wakes_nobody(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t next;

    (void)state;
    set(f, DIVIDE, 0xb);
    set(f, LVT_TIMER, 0x30040);
    set(f, INITIAL, 1000000);
    assert_false(posix_host_next_timer_ns(f->host, &next));
    pc_advance_ns(f, 2500000);
    assert_int_equal(get(f, CURRENT), 500000); /* it counts all the same */
    set(f, LVT_TIMER, 0x20040);
    pc_advance_ns(f, 499999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void tsc_deadline(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t cycles_per_us = POSIX_CYCLES_KHZ / 1000, tsc;

    (void)state;
    f->vcpu->tsc_offset = 12345;
    vlapic_deadline_write(f->vcpu, 1); /* not in this mode: ignored */
    assert_int_equal(vlapic_deadline_read(f->vcpu), 0);
    set(f, LVT_TIMER, 0x40040);
    set(f, INITIAL, 1000); /* ignored now */
    assert_int_equal(get(f, INITIAL), 0);
    tsc = f->vm->ops->cycles(f->host) + f->vcpu->tsc_offset;
    vlapic_deadline_write(f->vcpu, tsc + 100 * cycles_per_us);
    assert_int_equal(vlapic_deadline_read(f->vcpu), tsc + 100 * cycles_per_us);
    pc_advance_ns(f, 99999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    assert_int_equal(vlapic_deadline_read(f->vcpu), 0);
    vlapic_deadline_write(f->vcpu, 1); /* long past: at once */
    pc_advance_ns(f, 0);
    assert_int_equal(pc_serve(f, f->vcpu), 0x40);
    vlapic_deadline_write(f->vcpu, tsc + 1000 * cycles_per_us);
    vlapic_deadline_write(f->vcpu, 0); /* disarms */
    pc_advance_ns(f, 10000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void deadline_follows_the_tsc(void **state)
{
    struct fixture *f = apic_create(1);
    uint64_t cycles_per_us = POSIX_CYCLES_KHZ / 1000;

    (void)state;
    set(f, LVT_TIMER, 0x40040);
    vlapic_deadline_write(f->vcpu, f->vm->ops->cycles(f->host) + 100 * cycles_per_us);
    f->vcpu->tsc_offset += 50 * cycles_per_us; /* the guest's TSC jumps ahead */
    vlapic_tsc_changed(f->vcpu);
    pc_advance_ns(f, 49999);
    assert_int_equal(pc_take(f->vcpu), -1);
    pc_advance_ns(f, 1);
    assert_int_equal(pc_take(f->vcpu), 0x40);
    fixture_destroy(f);
}

static void a_change_of_mode_disarms(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    set(f, DIVIDE, 0xb);
    set(f, LVT_TIMER, 0x40);
    set(f, INITIAL, 100000);
    set(f, LVT_TIMER, 0x40040);
    set(f, LVT_TIMER, 0x40);
    pc_advance_ns(f, 1000000);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(get(f, CURRENT), 0);
    fixture_destroy(f);
}

static void timers_are_of_their_vcpu(void **state)
{
    struct fixture *f = apic_create(2);

    (void)state;
    choose(f, 1);
    set(f, DIVIDE, 0xb);
    set(f, LVT_TIMER, 0x40);
    set(f, INITIAL, 1000);
    pc_advance_ns(f, 1000);
    assert_int_equal(pc_take(f->vm->vcpu[0]), -1);
    assert_int_equal(pc_take(f->vm->vcpu[1]), 0x40);
    fixture_destroy(f);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void lint0_as_fixed_and_nmi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    pc_init_pics(f);
    set(f, LVT_LINT0, 0x45);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_serve(f, f->vcpu), 0x45);
    vmm_irq_set(f->vm, 4, false);
    set(f, LVT_LINT0, 0x400);
    f->vcpu->requests = 0;
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(f->vcpu->requests & VMM_REQ_NMI, VMM_REQ_NMI);
    fixture_destroy(f);
}

static void a_lapic_that_is_off_passes_the_pic(void **state)
{
    struct fixture *f = apic_create(2);

    (void)state;
    pc_init_pics(f);
    assert_true(vlapic_base_write(f->vcpu, BASE | 0x100));
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_take(f->vm->vcpu[1]), -1);
    assert_int_equal(pc_take(f->vcpu), 0x24);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

static void a_question_costs_one_load(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vmm_irq_pending(f->vcpu);
    assert_int_equal(f->vcpu->irq_look, VMM_IRQ_QUIET);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(f->vcpu->irq_look, VMM_IRQ_LOOK);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x50);
    assert_int_equal(f->vcpu->irq_look, VMM_IRQ_FOUND | 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x60, false); /* overtaken */
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x60);
    assert_int_equal(pc_take(f->vcpu), 0x60);
    assert_int_equal(f->vcpu->irq_look, VMM_IRQ_QUIET);
    set(f, EOI, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x50);
    vlapic_cr8_write(f->vcpu, 5); /* what was found is held back now */
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), -1);
    vlapic_cr8_write(f->vcpu, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x50);
    set(f, SVR, 0xff); /* and now the LAPIC is off */
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), -1);
    set(f, SVR, 0x1ff);
    assert_int_equal(pc_take(f->vcpu), 0x50);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = apic_create(3);

    (void)state;
    pc_fuzz_mmio(f, BASE, 0x1000, 40000);
    pc_fuzz_mmio(f, BASE, 0x400, 40000);
    pc_check_save(f);
    fixture_destroy(f);
}

static void random_msrs(void **state)
{
    struct fixture *f = apic_create(3);
    uint64_t r = 88172645463325252;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        uint64_t value;

        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        choose(f, r % 3);
        switch (r >> 8 & 15) {
        case 0:
            vlapic_base_write(f->vcpu, BASE | (r >> 16 & 0xd00));
            break;
        case 1 ... 4:
            vlapic_msr_read(f->vcpu, 0x800 + (r >> 16 & 0xff), &value);
            break;
        case 5:
            pc_advance_ns(f, r >> 16 & 0xfffff);
            break;
        case 6 ... 7:
            pc_serve(f, f->vcpu);
            break;
        case 8:
            vlapic_deadline_write(f->vcpu, r);
            break;
        default:
            vlapic_msr_write(f->vcpu, 0x800 + (r >> 16 & 0x3f), r >> 24 & 0xc8fff);
            break;
        }
    }
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(values_after_reset), cmocka_unit_test(accesses_of_other_sizes),
             cmocka_unit_test(id_is_fixed), cmocka_unit_test(tpr_and_cr8_are_one),
             cmocka_unit_test(tpr_holds_back), cmocka_unit_test(ppr_is_of_the_higher),
             cmocka_unit_test(irr_isr_and_eoi), cmocka_unit_test(nesting_unwinds_in_order),
             cmocka_unit_test(the_same_class_waits), cmocka_unit_test(tmr_tells_level),
             cmocka_unit_test(svr_disables), cmocka_unit_test(lvt_bits_that_exist),
             cmocka_unit_test(esr_gathers_until_written),
             cmocka_unit_test(ldr_and_dfr_keep_their_bits), cmocka_unit_test(icr_can_be_read_back),
             cmocka_unit_test(physical_destinations), cmocka_unit_test(shorthands),
             cmocka_unit_test(logical_flat_destinations),
             cmocka_unit_test(logical_cluster_destinations),
             cmocka_unit_test(lowest_priority_takes_turns), cmocka_unit_test(nmi_init_and_startup),
             cmocka_unit_test(init_resets_all_but_identity), cmocka_unit_test(x2apic_mode_changes),
             cmocka_unit_test(x2apic_identity), cmocka_unit_test(x2apic_registers_that_fault),
             cmocka_unit_test(x2apic_eoi_and_self_ipi), cmocka_unit_test(x2apic_messages),
             cmocka_unit_test(one_shot), cmocka_unit_test(every_divisor),
             cmocka_unit_test(a_new_divisor_counts_on), cmocka_unit_test(periodic_does_not_drift),
             cmocka_unit_test(a_masked_timer_wakes_nobody), cmocka_unit_test(tsc_deadline),
             cmocka_unit_test(deadline_follows_the_tsc), cmocka_unit_test(a_change_of_mode_disarms),
             cmocka_unit_test(timers_are_of_their_vcpu), cmocka_unit_test(lint0_as_fixed_and_nmi),
             cmocka_unit_test(a_lapic_that_is_off_passes_the_pic),
             cmocka_unit_test(a_question_costs_one_load), cmocka_unit_test(random_accesses),
             cmocka_unit_test(random_msrs))
