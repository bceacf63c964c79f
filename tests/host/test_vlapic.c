/* The local APIC, register by register as memory; random accesses to all of it. */
#include "apic.h"

#include <stdlib.h>
#include "tape.h"

/* --- registers -------------------------------------------------------------------------------- */

static void values_after_reset(void **state)
{
    struct fixture *f = pc_create(2);

    (void)state;
    assert_int_equal(apic_get(f, ID), 0);
    assert_int_equal(apic_get(f, VERSION), 0x00050014);
    assert_int_equal(apic_get(f, LVT_LINT0), 0x700); /* virtual wire */
    assert_int_equal(apic_get(f, LVT_LINT1), 0x400);
    apic_choose(f, 1);
    assert_int_equal(apic_get(f, ID), 1 << 24);
    assert_int_equal(apic_get(f, SVR), 0xff);
    assert_int_equal(apic_get(f, DFR), UINT32_MAX);
    assert_int_equal(apic_get(f, LVT_LINT0), 0x10000);
    assert_int_equal(apic_get(f, LVT_TIMER), 0x10000);
    assert_int_equal(apic_get(f, LVT_ERROR), 0x10000);
    assert_int_equal(vlapic_base_read(f->vcpu), BASE | 0x800);
    assert_int_equal(vlapic_base_read(f->vm->vcpu[0]), BASE | 0x900);
    for (unsigned r = TPR; r <= LDR; r += 16) {
        assert_true(r == EOI || apic_get(f, r) == 0);
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
    assert_int_equal(apic_get(f, TPR), 0);
    fixture_mmio_write(f, BASE + TPR + 4, 4, 0x55);
    assert_int_equal(apic_get(f, TPR), 0);
    fixture_mmio_write(f, BASE + TPR, 8, 0xffffffff00000055);
    assert_int_equal(apic_get(f, TPR), 0x55);
    fixture_destroy(f);
}

static void id_is_fixed(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, ID, 0x07000000);
    assert_int_equal(apic_get(f, ID), 0);
    fixture_destroy(f);
}

static void tpr_and_cr8_are_one(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, TPR, 0xffffff35);
    assert_int_equal(apic_get(f, TPR), 0x35);
    assert_int_equal(apic_get(f, PPR), 0x35);
    assert_int_equal(vlapic_cr8_read(f->vcpu), 3);
    assert_int_equal(mock_vcpu(f->vcpu)->sysreg[VMM_CR8], 3);
    vlapic_cr8_write(f->vcpu, 9);
    assert_int_equal(apic_get(f, TPR), 0x90);
    assert_int_equal(vlapic_cr8_read(f->vcpu), 9);
    fixture_destroy(f);
}

static void tpr_holds_back(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, TPR, 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x55, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_true(vmm_irq_tpr_blocked(f->vcpu));
    vlapic_accept(vlapic_of(f->vcpu), 0x60, false);
    assert_int_equal(pc_serve(f, f->vcpu), 0x60);
    assert_int_equal(pc_take(f->vcpu), -1);
    f->vcpu->requests = 0;
    vlapic_cr8_write(f->vcpu, 4);
    assert_int_equal(f->vcpu->requests & VMM_REQ_INTR, VMM_REQ_INTR);
    assert_false(vmm_irq_tpr_blocked(f->vcpu));
    assert_int_equal(pc_take(f->vcpu), 0x55);
    fixture_destroy(f);
}

/* Its end must not be the end of the watch for CR8. */
static void tpr_holds_back_what_service_does_too(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, TPR, 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x55, false);
    vlapic_accept(vlapic_of(f->vcpu), 0x60, false);
    assert_int_equal(pc_take(f->vcpu), 0x60);
    assert_true(vmm_irq_tpr_blocked(f->vcpu));
    apic_set(f, EOI, 0);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_true(vmm_irq_tpr_blocked(f->vcpu));
    fixture_destroy(f);
}

static void ppr_is_of_the_higher(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x73, false);
    assert_int_equal(pc_take(f->vcpu), 0x73);
    assert_int_equal(apic_get(f, PPR), 0x70);
    apic_set(f, TPR, 0x75);
    assert_int_equal(apic_get(f, PPR), 0x75);
    apic_set(f, TPR, 0x65);
    assert_int_equal(apic_get(f, PPR), 0x70);
    apic_set(f, EOI, 0);
    assert_int_equal(apic_get(f, PPR), 0x65);
    fixture_destroy(f);
}

static void irr_isr_and_eoi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x31, false);
    vlapic_accept(vlapic_of(f->vcpu), 0xfe, false);
    assert_int_equal(apic_get(f, IRR + 0x10), 1u << 0x11);
    assert_int_equal(apic_get(f, IRR + 0x70), 1u << 0x1e);
    assert_int_equal(pc_take(f->vcpu), 0xfe);
    assert_int_equal(pc_take(f->vcpu), -1);
    assert_int_equal(apic_get(f, IRR + 0x70), 0);
    assert_int_equal(apic_get(f, ISR + 0x70), 1u << 0x1e);
    f->vcpu->requests = 0;
    apic_set(f, EOI, 0);
    assert_int_equal(f->vcpu->requests & VMM_REQ_INTR, VMM_REQ_INTR);
    assert_int_equal(apic_get(f, ISR + 0x70), 0);
    assert_int_equal(pc_take(f->vcpu), 0x31);
    assert_int_equal(apic_get(f, ISR + 0x10), 1u << 0x11);
    apic_set(f, EOI, 0);
    apic_set(f, EOI, 0); /* nothing in service: nothing happens */
    assert_int_equal(apic_get(f, ISR + 0x10), 0);
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
        assert_int_equal(apic_get(f, PPR), vector_table[i] & 0xf0);
        apic_set(f, EOI, 0);
    }
    assert_int_equal(apic_get(f, PPR), 0);
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
    assert_false(vmm_irq_tpr_blocked(f->vcpu));
    apic_set(f, EOI, 0);
    assert_int_equal(pc_take(f->vcpu), 0x4f);
    fixture_destroy(f);
}

static void tmr_tells_level(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x50, true);
    assert_int_equal(apic_get(f, TMR + 0x20), 1u << 0x10);
    assert_int_equal(pc_serve(f, f->vcpu), 0x50);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(apic_get(f, TMR + 0x20), 0);
    fixture_destroy(f);
}

static void svr_disables(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, LVT_TIMER, 0x31);
    apic_set(f, SVR, 0xff);
    assert_int_equal(apic_get(f, LVT_TIMER), 0x10031); /* masked, and stays so */
    apic_set(f, LVT_TIMER, 0x32);
    assert_int_equal(apic_get(f, LVT_TIMER), 0x10032);
    vlapic_accept(vlapic_of(f->vcpu), 0x50, false);
    assert_int_equal(apic_get(f, IRR + 0x20), 0);
    apic_set(f, SVR, UINT32_MAX);
    assert_int_equal(apic_get(f, SVR), 0x3ff);
    apic_set(f, LVT_TIMER, 0x32);
    assert_int_equal(apic_get(f, LVT_TIMER), 0x32);
    fixture_destroy(f);
}

static void lvt_bits_that_exist(void **state)
{
    struct fixture *f = apic_create(1);
    static const uint32_t valid_table[] = {0x700ff, 0x107ff, 0x107ff, 0x1e7ff, 0x1e7ff, 0x100ff};

    (void)state;
    for (unsigned i = 0; i < VLAPIC_LVT_COUNT; i++) {
        apic_set(f, LVT_TIMER + 16 * i, UINT32_MAX);
        assert_int_equal(apic_get(f, LVT_TIMER + 16 * i), valid_table[i]);
    }
    fixture_destroy(f);
}

static void esr_gathers_until_written(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, LVT_ERROR, 0x44);
    apic_set(f, ICR, 0x4000 | 0x05); /* to itself: an illegal vector */
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    assert_int_equal(apic_get(f, ESR), 0);
    apic_set(f, ESR, 0);
    assert_int_equal(apic_get(f, ESR), VLAPIC_ERROR_SEND_VECTOR);
    vlapic_accept(vlapic_of(f->vcpu), 0x0f, false);
    assert_int_equal(pc_serve(f, f->vcpu), 0x44);
    apic_get(f, 0x3a0); /* no such register */
    apic_set(f, ESR, 0);
    assert_int_equal(apic_get(f, ESR), VLAPIC_ERROR_RECEIVE_VECTOR | VLAPIC_ERROR_REGISTER);
    apic_set(f, ESR, 0);
    assert_int_equal(apic_get(f, ESR), 0);
    fixture_destroy(f);
}

static void ldr_and_dfr_keep_their_bits(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_set(f, LDR, UINT32_MAX);
    assert_int_equal(apic_get(f, LDR), 0xff000000);
    apic_set(f, DFR, 0);
    assert_int_equal(apic_get(f, DFR), 0x0fffffff);
    fixture_destroy(f);
}

static void icr_can_be_read_back(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    apic_send(f, 0x55, 0xc0030 | 0x1000);
    assert_int_equal(apic_get(f, ICR), 0xc0030); /* delivery status: idle */
    assert_int_equal(apic_get(f, ICR_HIGH), 0x55000000);
    fixture_destroy(f);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void lint0_as_fixed_and_nmi(void **state)
{
    struct fixture *f = apic_create(1);

    (void)state;
    pc_init_pics(f);
    apic_set(f, LVT_LINT0, 0x45);
    vmm_irq_set(f->vm, 4, true);
    assert_int_equal(pc_serve(f, f->vcpu), 0x45);
    vmm_irq_set(f->vm, 4, false);
    apic_set(f, LVT_LINT0, 0x400);
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
    apic_set(f, EOI, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x50);
    vlapic_cr8_write(f->vcpu, 5); /* what was found is held back now */
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), -1);
    vlapic_cr8_write(f->vcpu, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x50);
    apic_set(f, SVR, 0xff); /* and now the LAPIC is off */
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), -1);
    apic_set(f, SVR, 0x1ff);
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

/* KVM's EOI: the guest clears a bit instead, unless something waits for the end. */
static void paravirtual_eoi(void **state)
{
    struct fixture *f = apic_create(1);
    struct vlapic *a = vlapic_of(f->vcpu);
    uint32_t *word = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3000), 4);

    (void)state;
    assert_false(vlapic_pv_eoi_set(f->vcpu, 0x3003));
    assert_false(vlapic_pv_eoi_set(f->vcpu, BASE | 1));
    assert_true(vlapic_pv_eoi_set(f->vcpu, 0x3001));
    assert_int_equal(vlapic_pv_eoi_get(f->vcpu), 0x3001);

    vlapic_accept(a, 0x61, false);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x61);
    assert_int_equal(*word, 1);
    *word = 0; /* the guest's EOI */
    vlapic_accept(a, 0x41, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x41);
    assert_int_equal(apic_get(f, PPR), 0);

    /* One that waits for the end: it has to be a real one. */
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x41);
    assert_int_equal(*word, 1);
    vlapic_accept(a, 0x42, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_int_equal(*word, 0);
    apic_set(f, EOI, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x42);

    /* Two at once: none is offered while the other is requested. */
    vlapic_accept(a, 0x71, false);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x71);
    assert_int_equal(*word, 0);
    apic_set(f, EOI, 0);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x42);
    assert_int_equal(*word, 1);
    apic_set(f, EOI, 0); /* by a guest that does not look at the bit */
    assert_int_equal(*word, 0);
    assert_int_equal(apic_get(f, ISR + 0x20), 0);

    vlapic_accept(a, 0x51, true); /* the IOAPIC waits for this one */
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x51);
    assert_int_equal(*word, 0);
    apic_set(f, EOI, 0);

    vlapic_accept(a, 0x52, false);
    assert_int_equal(vmm_irq_acknowledge(f->vcpu), 0x52);
    assert_true(vlapic_pv_eoi_set(f->vcpu, 0)); /* switched off with one in service */
    assert_int_equal(*word, 0);
    assert_int_equal(apic_get(f, ISR + 0x20), 1u << (0x52 % 32));
    fixture_destroy(f);
}

/* Modes and priorities that no guest can bring about. */
static void impossible_registers_are_refused(void **state)
{
    static const struct {
        uint64_t base;
        uint32_t tpr;
    } wrong_table[] = {{PLATFORM_LAPIC_BASE | 1 << 10, 0},
                       {PLATFORM_LAPIC_BASE + 0x1000 + (1 << 11), 0},
                       {PLATFORM_LAPIC_BASE | 1 << 11 | 1, 0},
                       {PLATFORM_LAPIC_BASE | 1 << 11, 0x100}};
    struct fixture *f = pc_create(1);
    struct tape tape = tape_create(VMM_KIB(1));
    struct vlapic *a = vlapic_of(f->vcpu);
    const struct vdev_class *class = f->vcpu->lapic->class;

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(wrong_table); i++) {
        a->base = wrong_table[i].base;
        a->tpr = wrong_table[i].tpr;
        assert_int_equal(class->save(f->vcpu->lapic, tape_record(&tape)), 0);
        assert_int_equal(class->load(f->vcpu->lapic, tape_play(&tape)), -VMM_EINVAL);
        class->reset(f->vcpu->lapic);
    }
    free(tape.bytes);
    fixture_destroy(f);
}

/* Nothing of it is left when the device has been reset. */
static void a_state_that_is_refused_does_no_harm(void **state)
{
    struct fixture *f = pc_create(1);
    struct tape tape = tape_create(VMM_KIB(1));
    struct vlapic *a = vlapic_of(f->vcpu);
    const struct vdev_class *class = f->vcpu->lapic->class;

    (void)state;
    a->nested[0] = 0x51; /* no vector can be there */
    assert_int_equal(class->save(f->vcpu->lapic, tape_record(&tape)), 0);
    assert_int_equal(class->load(f->vcpu->lapic, tape_play(&tape)), -VMM_EINVAL);
    class->reset(f->vcpu->lapic);
    apic_set(f, SVR, 0x1ff);
    apic_set(f, EOI, 0);
    assert_int_equal(a->nested_count, 0);
    free(tape.bytes);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(a_state_that_is_refused_does_no_harm),
             cmocka_unit_test(impossible_registers_are_refused),
             cmocka_unit_test(values_after_reset), cmocka_unit_test(accesses_of_other_sizes),
             cmocka_unit_test(id_is_fixed), cmocka_unit_test(tpr_and_cr8_are_one),
             cmocka_unit_test(tpr_holds_back),
             cmocka_unit_test(tpr_holds_back_what_service_does_too),
             cmocka_unit_test(ppr_is_of_the_higher), cmocka_unit_test(irr_isr_and_eoi),
             cmocka_unit_test(nesting_unwinds_in_order), cmocka_unit_test(the_same_class_waits),
             cmocka_unit_test(tmr_tells_level), cmocka_unit_test(svr_disables),
             cmocka_unit_test(lvt_bits_that_exist), cmocka_unit_test(esr_gathers_until_written),
             cmocka_unit_test(ldr_and_dfr_keep_their_bits), cmocka_unit_test(icr_can_be_read_back),

             cmocka_unit_test(lint0_as_fixed_and_nmi),
             cmocka_unit_test(a_lapic_that_is_off_passes_the_pic),
             cmocka_unit_test(a_question_costs_one_load), cmocka_unit_test(random_accesses),
             cmocka_unit_test(paravirtual_eoi))
