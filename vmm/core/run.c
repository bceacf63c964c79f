/* The run loop of a vCPU's thread: requests, events, entry, handler. */
#include "core/emulate.h"
#include "core/irq.h"
#include "core/vm.h"
#include "core/x86.h"
#include "para/para.h"

static const vmm_exit_handler handler_table[VMM_EXIT_COUNT] = {
#define X(name) [VMM_EXIT_##name] = vmm_handle_##name,
    VMM_EXIT_LIST(X)
#undef X
};

/* Not every (emulated) processor loads the interrupt shadow that VMRUN is given: an interrupt
 * injected between STI and HLT would be taken before the HLT, which then sleeps through it. So the
 * HLT is carried out here, and the interrupt finds the guest behind it, as it should. */
static void finish_halt_in_shadow(struct vcpu *v)
{
    unsigned length;

    if ((v->rflags & X86_RFLAGS_IF) == 0 || v->event.valid || v->backend->cpl(v) != 0) {
        return;
    }
    length = vmm_halt_length(v);
    if (length != 0) {
        v->rip += length;
        v->intr_shadow = false;
    }
}

/* For what has to wait: a vector, or one that only TPR holds back. */
static void ask_for_exits(struct vcpu *v, int vector)
{
    bool blocked = vector < 0 && vmm_irq_tpr_blocked(v);

    if (v->intr_window != (vector >= 0)) {
        v->intr_window = vector >= 0;
        v->backend->set_intr_window(v, v->intr_window);
    }
    if (v->cr8_exits != blocked) {
        v->cr8_exits = blocked;
        v->backend->set_cr8_exits(v, blocked);
    }
}

/* One event per entry, the most urgent first; for what has to wait, ask for an exit in time. */
static void inject(struct vcpu *v)
{
    const struct vmm_backend *b = v->backend;
    int vector = vmm_irq_pending(v);

    if (vector >= 0 && v->intr_shadow) {
        finish_halt_in_shadow(v);
    }
    if (v->event.valid) {
        b->inject_event(v, &v->event);
        v->event.valid = false;
    }
    if (v->nmi_pending) {
        if (b->nmi_allowed(v)) {
            b->inject_nmi(v);
            v->nmi_pending = false;
        } else {
            b->set_nmi_window(v);
        }
    }
    if (vector >= 0 && b->intr_allowed(v)) {
        vector = vmm_irq_acknowledge(v);
        if (vector >= 0) {
            b->inject_intr(v, (uint8_t)vector);
        }
        vector = vmm_irq_pending(v);
    }
    ask_for_exits(v, vector);
}

static void start_at(struct vcpu *v, uint8_t vector)
{
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_CS, &cs);
    cs.selector = (uint16_t)(vector << 8);
    cs.base = (uint64_t)vector << 12;
    v->backend->set_segment(v, VMM_SEG_CS, &cs);
    v->rip = 0;
    v->wait_sipi = false;
    v->halted = 0;
}

/* An NMI's handler that halts is not woken by the next one, which waits for its IRET. */
static bool nmi_wakes(struct vcpu *v)
{
    return v->nmi_pending && (v->backend->get_sysreg(v, VMM_BLOCKING) & VMM_BLOCKED_NMI) == 0;
}

/* Has what it waits for come? */
static bool wakes(struct vcpu *v)
{
    if (v->wait_sipi) {
        return false;
    }
    return nmi_wakes(v) || ((v->rflags & X86_RFLAGS_IF) != 0 && vmm_irq_pending(v) >= 0) ||
           __atomic_exchange_n(&v->kicked, false, __ATOMIC_SEQ_CST);
}

/* False: leave the run loop. */
static bool handle_rare(struct vcpu *v, uint32_t requests)
{
    if ((requests & VMM_REQ_FLUSH) != 0) {
        vmm_vcpu_pass(v);
    }
    if ((requests & VMM_REQ_STOP) != 0) {
        return false;
    }
    if ((requests & VMM_REQ_PAUSE) != 0) {
        /* The others wait behind the gate, where a reset forgets and a checkpoint keeps them. */
        __atomic_or_fetch(&v->requests, requests & ~(uint32_t)VMM_REQ_PAUSE, __ATOMIC_SEQ_CST);
        return vmm_vm_gate(v);
    }
    if ((requests & VMM_REQ_INIT) != 0) {
        vlapic_init(v);
        vmm_vcpu_init(v);
    }
    if ((requests & VMM_REQ_SIPI) != 0 && v->wait_sipi) {
        start_at(v, v->sipi_vector);
    }
    if ((requests & VMM_REQ_NMI) != 0) {
        v->nmi_pending = true;
    }
    return true;
}

/* False: leave the run loop. */
static bool handle_requests(struct vcpu *v)
{
    const uint32_t frequent = VMM_REQ_INTR | VMM_REQ_EVENT | VMM_REQ_TIMER;
    uint32_t requests = __atomic_exchange_n(&v->requests, 0, __ATOMIC_SEQ_CST);

    if (vmm_unlikely((requests & ~frequent) != 0) && !handle_rare(v, requests)) {
        return false;
    }
    if ((requests & VMM_REQ_TIMER) != 0) {
        if (vmm_unlikely((v->park_work & VMM_PARK_STEAL) != 0)) {
            vmm_steal_reckon(v); /* guests look at it at their ticks */
        }
        vmm_timers_run(v);
        /* Interrupts that it made are looked for now. */
        __atomic_and_fetch(&v->requests, ~(uint32_t)VMM_REQ_INTR, __ATOMIC_SEQ_CST);
    }
    return true;
}

/* Asleep it must not touch guest memory, and the record is there. */
static void awake_for(struct vcpu *v, void (*fn)(struct vcpu *v))
{
    __atomic_store_n(&v->parked, VMM_ACTIVE, __ATOMIC_SEQ_CST);
    fn(v);
    __atomic_store_n(&v->parked, VMM_ASLEEP, __ATOMIC_SEQ_CST);
}

static void park(struct vcpu *v)
{
    const uint32_t work = v->park_work;

    if (vmm_likely(work == 0)) {
        v->ops->thread_park(v->host);
        return;
    }
    if ((work & VMM_PARK_STEAL) != 0) {
        awake_for(v, vmm_steal_sleep);
    }
    if ((work & VMM_PARK_TIMER) != 0) {
        vmm_timers_sleep(v);
    }
    /* What was asked for meanwhile has not woken it. */
    if (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) == 0) {
        v->ops->thread_park(v->host);
    }
    if ((work & VMM_PARK_TIMER) != 0) {
        vmm_timers_awake(v);
    }
    if ((work & VMM_PARK_STEAL) != 0) {
        awake_for(v, vmm_steal_awake);
    }
}

/* Until the guest can be entered, or the thread must go. A wake that comes after the look at the
 * requests finds `parked` set and makes the park return at once. */
static bool prepare(struct vcpu *v)
{
    for (;;) {
        if (!handle_requests(v)) {
            return false;
        }
        if (v->halted == 0 || wakes(v)) {
            __atomic_store_n(&v->halted, 0, __ATOMIC_RELAXED);
            inject(v);
            return true;
        }
        __atomic_store_n(&v->parked, VMM_ASLEEP, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) == 0) {
            park(v);
        }
        __atomic_store_n(&v->parked, VMM_ACTIVE, __ATOMIC_RELAXED);
    }
}

void vmm_vcpu_thread(void *vcpu)
{
    struct vcpu *v = vcpu;
    struct vmm_exit *e = v->exit;
    enum vmm_action action = VMM_CONTINUE;

    vmm_vcpu_return(v);
    for (;;) {
        struct vmm_exit_stat *stat;
        uint32_t start; /* what takes longer than it lasts is not the handler, but other threads */

        if (vmm_unlikely((__atomic_load_n(&v->requests, __ATOMIC_RELAXED) | action) != 0) &&
            (action == VMM_LEAVE || !prepare(v))) {
            break;
        }
        v->backend->run(v, e);
        start = (uint32_t)__builtin_ia32_rdtsc();
        v->exit_last = e;
        stat = &v->stat[e->kind];
        action = handler_table[e->kind](v, e);
        if (++e == &v->exit[VMM_EXITS_KEPT]) {
            e = v->exit;
        }
        stat->count++;
        stat->cycles += (uint32_t)__builtin_ia32_rdtsc() - start;
    }
    vmm_vm_thread_done(v);
}
