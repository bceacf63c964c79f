/* The run loop: what reaches the guest at which entry, waiting, requests. */
#include "scripted.h"

#include <string.h>
#include "core/irq.h"
#include "core/x86.h"
#include "para/para.h"

#define VECTOR 0x51

static struct scripted *m;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    m = scripted_create(1);
    v = m->vcpu;
    assert_true(vlapic_base_write(v, 0xfee00d00));
    assert_true(vlapic_msr_write(v, 0x80f, 0x1ff)); /* the LAPIC on */
    v->rflags |= X86_RFLAGS_IF;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scripted_destroy(m);
    return 0;
}

static void interrupt_self(void)
{
    const struct vmm_irq_message message = {.vector = VECTOR};

    vmm_irq_deliver(m->vm, &message);
}

static struct mock_vcpu *mock_of(void)
{
    return mock_vcpu(v);
}

static void assert_injected(enum vmm_event_type type, uint8_t vector)
{
    assert_true(mock_of()->injected.valid);
    assert_int_equal(mock_of()->injected.type, type);
    assert_int_equal(mock_of()->injected.vector, vector);
}

static void nothing(struct vcpu *vcpu, struct vmm_exit *e)
{
    (void)vcpu;
    assert_false(mock_of()->injected.valid);
    e->kind = VMM_EXIT_intr;
}

static void raise_interrupt(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    interrupt_self();
}

static void gets_interrupt(struct vcpu *vcpu, struct vmm_exit *e)
{
    (void)vcpu;
    assert_injected(VMM_EVENT_INTR, VECTOR);
    assert_false(mock_of()->window);
    e->kind = VMM_EXIT_intr;
}

static void interrupts_are_injected_when_they_can_be(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        nothing, raise_interrupt, gets_interrupt, nothing, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void raise_with_if_clear(struct vcpu *vcpu, struct vmm_exit *e)
{
    vcpu->rflags &= ~X86_RFLAGS_IF;
    raise_interrupt(vcpu, e);
}

static void has_window(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    assert_true(mock_of()->window);
}

static void window_opens(struct vcpu *vcpu, struct vmm_exit *e)
{
    has_window(vcpu, e);
    vcpu->rflags |= X86_RFLAGS_IF;
    e->kind = VMM_EXIT_intr_window;
}

static void interrupts_wait_for_the_window(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        raise_with_if_clear, has_window, has_window, window_opens, gets_interrupt, nothing, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void raise_below_tpr(struct vcpu *vcpu, struct vmm_exit *e)
{
    vlapic_cr8_write(vcpu, 8);
    raise_interrupt(vcpu, e);
}

static void lowers_tpr(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    assert_true(mock_of()->cr8_exits);
    e->kind = VMM_EXIT_cr_access;
    e->insn_length = 4;
    e->reg.number = 8;
    e->reg.write = e->reg.gpr_valid = true;
    e->reg.gpr = VMM_RAX;
    vcpu->gpr[VMM_RAX] = 0;
}

static void interrupts_wait_for_the_task_priority(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {raise_below_tpr, lowers_tpr,
                                                                      gets_interrupt, NULL};

    (void)state;
    scripted_run(m, steps);
    assert_false(mock_of()->cr8_exits);
}

static void faults_with_interrupt(struct vcpu *vcpu, struct vmm_exit *e)
{
    raise_interrupt(vcpu, e);
    e->kind = VMM_EXIT_refused;
}

static void gets_exception(struct vcpu *vcpu, struct vmm_exit *e)
{
    (void)vcpu;
    assert_injected(VMM_EVENT_EXCEPTION, X86_UD);
    assert_true(mock_of()->window); /* and the interrupt at the next opportunity */
    e->kind = VMM_EXIT_intr_window;
}

static void exceptions_go_before_interrupts(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        faults_with_interrupt, gets_exception, gets_interrupt, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void raise_nmi(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    vmm_vcpu_request(vcpu, VMM_REQ_NMI);
}

static void gets_nmi(struct vcpu *vcpu, struct vmm_exit *e)
{
    (void)vcpu;
    assert_injected(VMM_EVENT_NMI, 2);
    e->kind = VMM_EXIT_intr;
}

static void nmi_wakes_without_if(struct vcpu *vcpu, struct vmm_exit *e)
{
    vcpu->rflags &= ~X86_RFLAGS_IF;
    raise_nmi(vcpu, e);
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static void nmis_need_no_if(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        raise_nmi, gets_nmi, nmi_wakes_without_if, gets_nmi, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void halts_with_interrupt(struct vcpu *vcpu, struct vmm_exit *e)
{
    raise_interrupt(vcpu, e);
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static void hlt_ends_at_once_when_something_is_pending(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {halts_with_interrupt,
                                                                      gets_interrupt, NULL};

    (void)state;
    scripted_run(m, steps);
    assert_int_equal(v->halted, 0);
}

/* An exit between STI and HLT: the interrupt must find the guest behind the HLT. */
static void exits_in_shadow_before_hlt(struct vcpu *vcpu, struct vmm_exit *e)
{
    static const uint8_t hlt = 0xf4;

    mock_of()->segment[VMM_SEG_CS].base = 0;
    vcpu->rip = 0x3000;
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x3000), &hlt, 1), 0);
    vcpu->intr_shadow = true;
    raise_interrupt(vcpu, e);
}

static void gets_interrupt_behind_hlt(struct vcpu *vcpu, struct vmm_exit *e)
{
    gets_interrupt(vcpu, e);
    assert_int_equal(vcpu->rip, 0x3001);
}

static void the_shadow_of_sti_covers_the_hlt(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        exits_in_shadow_before_hlt, gets_interrupt_behind_hlt, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void two_at_once(struct vcpu *vcpu, struct vmm_exit *e)
{
    const struct vmm_irq_message higher = {.vector = VECTOR + 0x20};

    raise_interrupt(vcpu, e);
    vmm_irq_deliver(m->vm, &higher);
}

static void gets_higher(struct vcpu *vcpu, struct vmm_exit *e)
{
    assert_injected(VMM_EVENT_INTR, VECTOR + 0x20);
    e->kind = VMM_EXIT_msr_write; /* EOI */
    e->insn_length = 2;
    vcpu->gpr[VMM_RCX] = 0x80b;
    vcpu->gpr[VMM_RAX] = vcpu->gpr[VMM_RDX] = 0;
}

static void the_higher_of_two_goes_first(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {two_at_once, gets_higher,
                                                                      gets_interrupt, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void wait_and_die(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    e->kind = VMM_EXIT_shutdown;
}

static void kvm_call(struct vcpu *vcpu, struct vmm_exit *e, uint64_t number, uint64_t rbx,
                     uint64_t rcx)
{
    nothing(vcpu, e);
    e->kind = VMM_EXIT_hypercall;
    e->insn_length = 3;
    mock_of()->segment[VMM_SEG_CS].attributes = 0xa9b;
    mock_of()->segment[VMM_SEG_SS].attributes = 0xc93;
    vcpu->gpr[VMM_RAX] = number;
    vcpu->gpr[VMM_RBX] = rbx;
    vcpu->gpr[VMM_RCX] = rcx;
    vcpu->gpr[VMM_RDX] = 0;
    vcpu->gpr[VMM_RSI] = VECTOR;
}

static void kicks_itself(struct vcpu *vcpu, struct vmm_exit *e)
{
    vcpu->rflags &= ~X86_RFLAGS_IF;
    kvm_call(vcpu, e, 5, 0, 0);
}

static void halts(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    assert_int_equal(vcpu->gpr[VMM_RAX], 0);
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static void a_kick_ends_the_next_hlt(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {kicks_itself, halts, nothing,
                                                                      NULL};

    (void)state;
    scripted_run(m, steps);
    assert_false(v->kicked);
}

/* A vCPU that says it sleeps is not waited for when pages are taken away: it must not touch any. */
static void *(*hpa_to_va)(void *host, hpa_t hpa);
static unsigned touches, parks, wakes_at; /* the touch of guest memory at which it is asked for */

static void *hpa_to_va_inspecting(void *host, hpa_t hpa)
{
    assert_int_equal(v->parked, VMM_ACTIVE);
    if (++touches == wakes_at) {
        __atomic_or_fetch(&v->requests, VMM_REQ_NMI, __ATOMIC_SEQ_CST);
    }
    return hpa_to_va(host, hpa);
}

static void park_until_nmi(void *host)
{
    (void)host;
    assert_int_equal(v->parked, VMM_ASLEEP);
    parks++;
    __atomic_or_fetch(&v->requests, VMM_REQ_NMI, __ATOMIC_SEQ_CST);
}

static void halts_with_steal_time(struct vcpu *vcpu, struct vmm_exit *e)
{
    const uint64_t record = 0x3001;

    nothing(vcpu, e);
    assert_true(vmm_para_msr_write(vcpu, 0x4b564d03, &record));
    touches = 0;
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static void a_sleeping_vcpu_touches_no_memory(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        halts_with_steal_time, gets_nmi, halts_with_steal_time, gets_nmi, NULL};
    struct vmm_host_ops *ops = posix_host_ops(m->host);
    void (*thread_park)(void *host) = ops->thread_park;

    (void)state;
    hpa_to_va = ops->hpa_to_va;
    ops->hpa_to_va = hpa_to_va_inspecting;
    ops->thread_park = park_until_nmi;
    scripted_run(m, steps);
    assert_int_equal(parks, 2);
    assert_true(touches > 0);
    wakes_at = 1; /* as it notes that it sleeps: then it does not */
    scripted_run(m, steps);
    assert_int_equal(parks, 2);
    ops->hpa_to_va = hpa_to_va;
    ops->thread_park = thread_park;
}

/* An NMI's handler halts, another NMI waits for its end: only an interrupt wakes it. */
static void park_until_interrupt(void *host)
{
    (void)host;
    parks++;
    v->parked = VMM_ACTIVE; /* there is no thread that could be woken */
    interrupt_self();
}

static void halts_in_nmi_handler(struct vcpu *vcpu, struct vmm_exit *e)
{
    raise_nmi(vcpu, e);
    mock_of()->sysreg[VMM_BLOCKING] = VMM_BLOCKED_NMI;
    vcpu->rflags |= X86_RFLAGS_IF;
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static void gets_interrupt_and_ends_handler(struct vcpu *vcpu, struct vmm_exit *e)
{
    gets_interrupt(vcpu, e);
    assert_true(mock_of()->nmi_window);
    mock_of()->sysreg[VMM_BLOCKING] = 0;
    vmm_vcpu_request(vcpu, VMM_REQ_NMI); /* as the window does */
}

static void an_nmi_handler_that_halts_is_not_woken_by_the_next(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        halts_in_nmi_handler, gets_interrupt_and_ends_handler, gets_nmi, NULL};
    struct vmm_host_ops *ops = posix_host_ops(m->host);
    void (*thread_park)(void *host) = ops->thread_park;

    (void)state;
    parks = 0;
    ops->thread_park = park_until_interrupt;
    scripted_run(m, steps);
    ops->thread_park = thread_park;
    assert_int_equal(parks, 1);
}

static void sends_to_all(struct vcpu *vcpu, struct vmm_exit *e)
{
    kvm_call(vcpu, e, 10, UINT64_MAX, UINT64_MAX);
}

static void gets_what_it_sent(struct vcpu *vcpu, struct vmm_exit *e)
{
    assert_int_equal(vcpu->gpr[VMM_RAX], 1); /* there is one vCPU */
    gets_interrupt(vcpu, e);
}

static void sends_smi(struct vcpu *vcpu, struct vmm_exit *e)
{
    kvm_call(vcpu, e, 10, 1, 0);
    vcpu->gpr[VMM_RSI] = 2 << 8;
}

static void was_refused(struct vcpu *vcpu, struct vmm_exit *e)
{
    nothing(vcpu, e);
    assert_int_equal(vcpu->gpr[VMM_RAX], -22);
}

static void a_map_of_ipis_is_sent(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {
        sends_to_all, gets_what_it_sent, sends_smi, was_refused, NULL};

    (void)state;
    scripted_run(m, steps);
}

static void the_loop_ends_with_the_vm(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {wait_and_die, NULL};
    struct posix_event event;

    (void)state;
    scripted_run(m, steps);
    event = posix_host_event(m->host);
    assert_int_equal(vmm_vm_state(m->vm), VM_CRASHED);
    assert_int_equal(event.state, VM_CRASHED);
    assert_int_equal(event.reason, VM_REASON_TRIPLE_FAULT);
    assert_ptr_equal(event.cookie, m);
}

static void exits_are_counted(void **state)
{
    static void (*const steps[])(struct vcpu *, struct vmm_exit *) = {nothing, nothing, NULL};
    struct vm_exit_count count;
    uint64_t intr = 0;
    unsigned i;

    (void)state;
    scripted_run(m, steps);
    for (i = 0; vmm_vm_exit_count(m->vm, -1, i, &count); i++) {
        intr = strcmp(count.name, "intr") == 0 ? count.count : intr;
    }
    assert_int_equal(i, VMM_EXIT_COUNT);
    assert_int_equal(intr, 3); /* and the script's end */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(interrupts_are_injected_when_they_can_be),
        TEST(interrupts_wait_for_the_window),
        TEST(interrupts_wait_for_the_task_priority),
        TEST(exceptions_go_before_interrupts),
        TEST(nmis_need_no_if),
        TEST(hlt_ends_at_once_when_something_is_pending),
        TEST(the_shadow_of_sti_covers_the_hlt),
        TEST(the_higher_of_two_goes_first),
        TEST(a_kick_ends_the_next_hlt),
        TEST(a_sleeping_vcpu_touches_no_memory),
        TEST(an_nmi_handler_that_halts_is_not_woken_by_the_next),
        TEST(a_map_of_ipis_is_sent),
        TEST(the_loop_ends_with_the_vm),
        TEST(exits_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
