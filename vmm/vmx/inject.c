/* Events into the guest. Spec: Intel SDM vol. 3 sections 25.8.3 (injection), 27.2.4 (IDT-vectoring
 * information), 26.2 (windows), 32.2.2 (virtual NMIs). */
#include "core/irq.h"
#include "core/x86.h"
#include "vmx/vmx.h"

static uint64_t encode(uint8_t vector, enum vmx_intr_type type)
{
    return vector | (uint32_t)type << INTR_INFO_TYPE_SHIFT | INTR_INFO_VALID;
}

/* A trap of the last instruction that the entry delivers goes first; one that brings an event would
 * forget it (section 27.7.3). The guest's TF or breakpoints are behind each. */
static bool trap_pending(struct vcpu *v)
{
    const struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags, pending;

    if ((v->rflags & X86_RFLAGS_TF) == 0 && !x->dr_loaded) {
        return false;
    }
    flags = vmx_acquire(v);
    pending = vmcs_readn(VMCS_GUEST_PENDING_DEBUG);
    vmx_release(flags);
    return pending != 0;
}

/* The VMCS gets it at the next entry. What is the LAPIC's, the hardware delivers itself: apicv.c.
 */
bool vmx_intr_allowed(struct vcpu *v)
{
    if (vmx_vcpu(v)->apicv && !vmm_irq_is_external(v)) {
        return false;
    }
    return (v->rflags & X86_RFLAGS_IF) != 0 && !v->intr_shadow && vmx_vcpu(v)->event == 0 &&
           !trap_pending(v);
}

bool vmx_nmi_allowed(struct vcpu *v)
{
    const struct vmx_vcpu *x = vmx_vcpu(v);

    return (x->blocked & BLOCKED_NMI) == 0 && !v->intr_shadow && x->event == 0 && !trap_pending(v);
}

void vmx_inject_intr(struct vcpu *v, uint8_t vector)
{
    vmx_vcpu(v)->event = encode(vector, INTR_TYPE_EXTERNAL);
}

/* The processor blocks NMIs until the handler's IRET ("virtual NMIs"). */
void vmx_inject_nmi(struct vcpu *v)
{
    vmx_vcpu(v)->event = encode(2, INTR_TYPE_NMI);
}

/* Real mode has no error codes, and an entry that brings one is refused; vmx_run() sees to it. */
void vmx_inject_event(struct vcpu *v, const struct vmm_event *event)
{
    uint64_t info = encode(event->vector, (enum vmx_intr_type)event->type);

    if (event->has_error) {
        info |= INTR_INFO_HAS_ERROR | (uint64_t)event->error << 32;
    }
    vmx_vcpu(v)->event = info;
}

void vmx_set_proc(struct vmx_vcpu *x, uint32_t proc)
{
    if (x->proc != proc) {
        x->proc = proc;
        vmcs_write32(VMCS_PROC_CONTROLS, proc);
    }
}

void vmx_set_proc2(struct vmx_vcpu *x, uint32_t proc2)
{
    if (x->proc2 != proc2) {
        x->proc2 = proc2;
        vmcs_write32(VMCS_PROC2_CONTROLS, proc2);
    }
}

static void change_proc(struct vcpu *v, uint32_t bit, bool on)
{
    struct vmx_vcpu *x = vmx_vcpu(v);

    if (((x->proc & bit) != 0) != on) {
        uint64_t flags = vmx_acquire(v);

        vmx_set_proc(x, on ? x->proc | bit : x->proc & ~bit);
        vmx_release(flags);
    }
}

void vmx_set_intr_window(struct vcpu *v, bool on)
{
    if (!vmx_vcpu(v)->apicv) {
        change_proc(v, PROC_INTR_WINDOW, on);
    }
}

void vmx_set_nmi_window(struct vcpu *v)
{
    change_proc(v, PROC_NMI_WINDOW, true);
}

void vmx_set_cr8_exits(struct vcpu *v, bool on)
{
    if (vmx_vcpu(v)->virtual_apic != NULL && !vmx_vcpu(v)->apicv) {
        change_proc(v, PROC_CR8_LOAD, on);
    }
}

void vmx_event_again(struct vcpu *v, uint32_t info, uint32_t error)
{
    enum vmx_intr_type type = (enum vmx_intr_type)(info >> INTR_INFO_TYPE_SHIFT & 7);

    /* INTn, INT1, INT3 and INTO run again: RIP is still on them. */
    if (type >= INTR_TYPE_SOFTWARE) {
        return;
    }
    if (type == INTR_TYPE_NMI) {
        struct vmx_vcpu *x = vmx_vcpu(v);

        x->blocked &= ~BLOCKED_NMI; /* or it could not be injected again */
        vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, x->blocked);
    }
    v->event = (struct vmm_event){
        .valid = true,
        .type = (uint8_t)type,
        .vector = (uint8_t)info,
        .has_error = (info & INTR_INFO_HAS_ERROR) != 0,
        .error = error,
    };
    vmm_vcpu_event(v);
}

void vmx_withdraw_event(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);

    if (x->event != 0) {
        uint64_t flags = vmx_acquire(v);

        vmx_event_again(v, (uint32_t)x->event, (uint32_t)(x->event >> 32));
        x->event = 0;
        vmx_release(flags);
    }
}
