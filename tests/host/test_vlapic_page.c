/* The local APIC's registers in the page that hardware works on: what is handed over, what comes
 * back. */
#include "core/lapic_page.h"
#include "mock_backend.h"
#include "pc.h"

#include <string.h>

enum { TPR = 0x80, ISR = 0x100, TMR = 0x180, IRR = 0x200, ICR = 0x300, LVT_TIMER = 0x320 };

static _Alignas(8) uint8_t page[4096];

static uint32_t *word(unsigned offset)
{
    return (uint32_t *)(page + offset);
}

/* The bit of a vector in one of the bitmaps. */
static bool test(unsigned bitmap, uint8_t vector)
{
    return (*word(bitmap + vector / 32 * 16) >> vector % 32 & 1) != 0;
}

static void change(unsigned bitmap, uint8_t vector)
{
    *word(bitmap + vector / 32 * 16) ^= 1u << vector % 32;
}

static struct fixture *create(void)
{
    struct fixture *f = pc_create(1);

    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    memset(page, 0, sizeof(page));
    return f;
}

static void registers_are_copied_when_written(void **state)
{
    struct fixture *f = create();
    struct vlapic_given given;

    (void)state;
    assert_true(vlapic_must_give(vlapic_of(f->vcpu)));
    assert_false(vlapic_give(f->vcpu, page, &given));
    assert_int_equal(*word(0x30), 0x50014);
    assert_int_equal(*word(0xf0), 0x1ff);
    assert_false(vlapic_must_give(vlapic_of(f->vcpu)));
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + LVT_TIMER, 4, 0x20041);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + TPR, 4, 0x35);
    assert_true(vlapic_must_give(vlapic_of(f->vcpu)));
    assert_false(vlapic_give(f->vcpu, page, &given));
    assert_int_equal(*word(LVT_TIMER), 0x20041);
    assert_int_equal(*word(TPR), 0x35);
    fixture_destroy(f);
}

static void requests_go_and_come_back(void **state)
{
    struct fixture *f = create();
    struct vlapic *a = vlapic_of(f->vcpu);
    struct vlapic_given given;

    (void)state;
    vlapic_accept(a, 0x41, false);
    vlapic_accept(a, 0x92, true);
    assert_true(vlapic_give(f->vcpu, page, &given));
    assert_int_equal(given.requested, 0x92);
    assert_int_equal(given.in_service, 0);
    assert_int_equal(given.level[2], UINT64_C(1) << 0x12);
    assert_true(test(IRR, 0x41) && test(IRR, 0x92));
    assert_false(vlapic_requested(a));
    /* One that comes again meanwhile is a second one, and is announced. */
    __atomic_store_n(&f->vcpu->requests, 0, __ATOMIC_RELAXED);
    vlapic_accept(a, 0x92, true);
    assert_true((f->vcpu->requests & VMM_REQ_INTR) != 0);
    /* The hardware delivers the first. */
    change(IRR, 0x92);
    change(ISR, 0x92);
    vlapic_take_back(f->vcpu, page);
    assert_int_equal(vlapic_in_service(a), 0x92);
    assert_true(vlapic_test(a->irr, 0x92) && vlapic_test(a->irr, 0x41));
    assert_int_equal(a->ppr, 0x90);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    assert_false(test(IRR, 0x41) || test(ISR, 0x92));
    fixture_destroy(f);
}

static void nested_interrupts_keep_their_order(void **state)
{
    struct fixture *f = create();
    struct vlapic *a = vlapic_of(f->vcpu);
    struct vlapic_given given;

    (void)state;
    change(ISR, 0x31);
    change(ISR, 0x7f);
    change(ISR, 0xe0);
    *word(TPR) = 0x40;
    vlapic_take_back(f->vcpu, page);
    assert_int_equal(a->nested_count, 3);
    assert_int_equal(a->nested[1], 0x31);
    assert_int_equal(a->nested[2], 0x7f);
    assert_int_equal(a->nested[3], 0xe0);
    assert_int_equal(a->tpr, 0x40);
    assert_int_equal(a->ppr, 0xe0);
    assert_true(vlapic_give(f->vcpu, page, &given));
    assert_int_equal(given.in_service, 0xe0);
    assert_true(test(ISR, 0x31) && test(ISR, 0x7f) && test(ISR, 0xe0));
    fixture_destroy(f);
}

static void tpr_is_followed(void **state)
{
    struct fixture *f = create();
    struct vlapic *a = vlapic_of(f->vcpu);

    (void)state;
    vlapic_accept(a, 0x41, false);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x41);
    *word(TPR) = 0x5a;
    vlapic_follow_tpr(a, page);
    assert_int_equal(a->tpr, 0x5a);
    assert_int_equal(vmm_irq_pending(f->vcpu), -1);
    fixture_destroy(f);
}

/* A LAPIC that software has off delivers nothing: its requests wait. */
static void disabled_gives_nothing(void **state)
{
    struct fixture *f = create();
    struct vlapic_given given;

    (void)state;
    vlapic_accept(vlapic_of(f->vcpu), 0x41, false);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0xff);
    assert_true(vlapic_give(f->vcpu, page, &given));
    assert_int_equal(given.requested, 0);
    assert_false(test(IRR, 0x41));
    assert_true(vlapic_test(vlapic_of(f->vcpu)->irr, 0x41));
    fixture_destroy(f);
}

static void written_registers_take_effect(void **state)
{
    struct fixture *f = create();
    struct vlapic *a = vlapic_of(f->vcpu);

    (void)state;
    vlapic_page_written(f->vcpu, LVT_TIMER, 0x40055);
    assert_int_equal(a->lvt[VLAPIC_LVT_TIMER], 0x40055);
    /* To itself, logically: the destination is in the other half. */
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xd0, 4, 0x2000000);
    vlapic_page_written(f->vcpu, ICR, UINT64_C(0x2000000) << 32 | 0x861);
    assert_true(vlapic_test(a->irr, 0x61));
    assert_true(vlapic_base_write(f->vcpu, vlapic_base_read(f->vcpu) | 0x400));
    vlapic_page_written(f->vcpu, 0x3f0, 0x5); /* a self-IPI with an illegal vector */
    assert_int_equal(a->errors, VLAPIC_ERROR_SEND_VECTOR);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_are_copied_when_written),
        cmocka_unit_test(requests_go_and_come_back),
        cmocka_unit_test(nested_interrupts_keep_their_order),
        cmocka_unit_test(tpr_is_followed),
        cmocka_unit_test(disabled_gives_nothing),
        cmocka_unit_test(written_registers_take_effect),
    };

    return cmocka_run_group_tests_name("vlapic_page", tests, NULL, NULL);
}
