/* The SVM back end's events: encoded, windows for them, and what a delivery that was cut off
 * leaves. */
#include "svm_fixture.h"

#include "core/x86.h"

static struct fixture *f;
static struct svm_vcpu *s;

static int setup(void **state)
{
    (void)state;
    f = svm_fixture_create();
    s = svm_vcpu(f->vcpu);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    svm_fixture_destroy(f);
    return 0;
}

static void events_are_encoded(void **state)
{
    const struct vmm_event fault = {
        .valid = true, .type = VMM_EVENT_EXCEPTION, .has_error = true, .vector = 14, .error = 6};
    struct vcpu *v = f->vcpu;

    (void)state;
    v->rflags |= X86_RFLAGS_IF;
    assert_true(svm_intr_allowed(v));
    svm_inject_intr(v, 0x31);
    assert_int_equal(vmcb_event_inj(s->vmcb), 0x80000031);
    assert_false(svm_intr_allowed(v)); /* taken */
    svm_inject_event(v, &fault);
    assert_int_equal(vmcb_event_inj(s->vmcb), UINT64_C(6) << 32 | 0x80000b0e);
    vmcb_set_event_inj(s->vmcb, 0);
    assert_true(svm_nmi_allowed(v));
    svm_inject_nmi(v);
    assert_int_equal(vmcb_event_inj(s->vmcb), 0x80000202);
    vmcb_set_event_inj(s->vmcb, 0);
    assert_false(svm_nmi_allowed(v)); /* until IRET */
    assert_true((vmcb_intercept_misc1(s->vmcb) & 1 << 20) != 0);
    svm_fixture_exit(f, 0x74, 0, 0);
    assert_int_equal(vmcb_intercept_misc1(s->vmcb) & 1 << 20, 0);
    assert_false(svm_nmi_allowed(v)); /* the IRET has not run yet */
    v->nmi_pending = true;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_IRET), SVM_RARE_IRET); /* a page was in its way */
    assert_false(svm_nmi_allowed(v));
    v->rip += 100;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_IRET), 0);
    assert_true(svm_nmi_allowed(v));
    assert_true((v->requests & VMM_REQ_NMI) != 0);
    v->intr_shadow = true;
    assert_false(svm_intr_allowed(v) || svm_nmi_allowed(v));
    v->intr_shadow = false;
    v->rflags &= ~X86_RFLAGS_IF;
    assert_false(svm_intr_allowed(v));
}

/* An exit is made where the guest can take one. */
static void nmis_get_their_exit(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    v->nmi_pending = true;
    s->rare = 0;
    v->intr_shadow = true;
    svm_set_nmi_window(v); /* a step */
    assert_int_equal(s->rare, SVM_RARE_STEP);
    svm_nmi_entry(v);
    assert_true((v->rflags & X86_RFLAGS_TF) != 0);
    v->rip++;
    vmcb_set_exit_code(s->vmcb, 0x41);
    vmcb_set_dr6(s->vmcb, X86_DR6_BS);
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_STEP), 0);
    assert_int_equal(v->rflags & X86_RFLAGS_TF, 0);
    assert_true(svm_nmi_step_done(v)); /* not the guest's */
    assert_int_equal(vmcb_dr6(s->vmcb) & X86_DR6_BS, 0);
    assert_false(svm_nmi_step_done(v));

    s->rare = 0;
    v->intr_shadow = false;
    svm_inject_intr(v, 0x31); /* the entry brings something else */
    svm_set_nmi_window(v);
    assert_int_equal(s->rare & SVM_RARE_SOON, SVM_RARE_SOON);
    v->requests = 0;
    assert_int_equal(svm_nmi_exit(v, SVM_RARE_SOON), 0);
    assert_true((v->requests & VMM_REQ_NMI) != 0);
    vmcb_set_event_inj(s->vmcb, 0);
}

static void an_iret_is_stepped_over_for_the_next_nmi(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    s->nmi_blocked = v->nmi_pending = true;
    s->rare = 0;
    svm_fixture_exit(f, 0x74, 0, 0);
    assert_int_equal(s->rare, SVM_RARE_IRET | SVM_RARE_STEP);
    svm_nmi_entry(v);
    vmcb_set_exit_code(s->vmcb, 0x400); /* a page was in its way */
    assert_int_equal(svm_nmi_exit(v, s->rare), SVM_RARE_IRET | SVM_RARE_STEP);
    assert_true(s->nmi_blocked);
    assert_int_equal(v->rflags & X86_RFLAGS_TF, 0);
    svm_nmi_entry(v);
    v->rip += 0x100; /* into a handler: the IRET has faulted, and saved the flag */
    assert_int_equal(svm_nmi_exit(v, s->rare), 0);
    assert_false(s->nmi_blocked);
    vmcb_set_dr6(s->vmcb, X86_DR6_BS);
    assert_true(svm_nmi_step_done(v)); /* when that handler comes back */
    assert_false(svm_nmi_step_done(v));
}

static void interrupted_deliveries_come_again(void **state)
{
    struct vcpu *v = f->vcpu;

    (void)state;
    svm_event_again(v, UINT64_C(2) << 32 | 0x80000b0e);
    assert_true(v->event.valid && v->event.has_error);
    assert_int_equal(v->event.type, VMM_EVENT_EXCEPTION);
    assert_int_equal(v->event.vector, 14);
    assert_int_equal(v->event.error, 2);
    svm_event_again(v, 0x80000330); /* an interrupt that is called an exception */
    assert_int_equal(v->event.type, VMM_EVENT_INTR);
    assert_int_equal(v->event.vector, 0x30);
    v->event.valid = false;
    svm_event_again(v, 0x80000480); /* INTn, INT3, INTO run again by themselves */
    svm_event_again(v, 0x80000303);
    svm_event_again(v, 0x80000304);
    assert_false(v->event.valid);
}

/* CR8 may not be written without an exit while V_IRQ is set. */
static void windows_and_cr8_share_an_intercept(void **state)
{
    struct vcpu *v = f->vcpu;
    const struct vmcb *b = s->vmcb;

    (void)state;
    svm_set_sysreg(v, VMM_CR8, 3);
    svm_set_intr_window(v, true);
    assert_true((vmcb_v_intr(b) & VMCB_V_IRQ) != 0);
    assert_true((vmcb_v_intr(b) & VMCB_V_IGN_TPR) != 0);
    assert_int_equal(svm_get_sysreg(v, VMM_CR8), 3);
    assert_true((vmcb_intercept_misc1(b) & VMCB_VINTR) != 0);
    assert_int_equal(vmcb_intercept_cr(b), VMCB_WRITE(8));
    svm_set_cr8_exits(v, true);
    svm_set_intr_window(v, false);
    assert_int_equal(vmcb_v_intr(b) & VMCB_V_IRQ, 0);
    assert_int_equal(vmcb_intercept_misc1(b) & VMCB_VINTR, 0);
    assert_int_equal(vmcb_intercept_cr(b), VMCB_WRITE(8));
    svm_set_cr8_exits(v, false);
    assert_int_equal(vmcb_intercept_cr(b), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_are_encoded),
        TEST(interrupted_deliveries_come_again),
        TEST(nmis_get_their_exit),
        TEST(an_iret_is_stepped_over_for_the_next_nmi),
        TEST(windows_and_cr8_share_an_intercept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
