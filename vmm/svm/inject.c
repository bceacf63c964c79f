/* Events into the guest. Spec: AMD APM vol. 2 sections 15.20 (injection), 15.21 (virtual
 * interrupts), 15.7.2 (EXITINTINFO). */
#include "core/x86.h"
#include "svm/svm.h"

static uint64_t encode(uint8_t vector, enum vmm_event_type type)
{
    return vector | (uint64_t)type << VMCB_EVENT_TYPE_SHIFT | VMCB_EVENT_VALID;
}

static void inject(struct svm_vcpu *s, uint64_t event)
{
    vmcb_set_event_inj(s->vmcb, event);
    s->injected = event;
    s->rare |= SVM_RARE_INJECTED;
}

/* An entry that was called off leaves its event in the VMCB. */
bool svm_event_room(const struct svm_vcpu *s)
{
    return (vmcb_event_inj(s->vmcb) & VMCB_EVENT_VALID) == 0;
}

bool svm_intr_allowed(struct vcpu *v)
{
    return (v->rflags & X86_RFLAGS_IF) != 0 && !v->intr_shadow && svm_event_room(svm_vcpu(v));
}

bool svm_nmi_allowed(struct vcpu *v)
{
    return !svm_vcpu(v)->nmi_blocked && !v->intr_shadow && svm_event_room(svm_vcpu(v));
}

void svm_inject_intr(struct vcpu *v, uint8_t vector)
{
    inject(svm_vcpu(v), encode(vector, VMM_EVENT_INTR));
}

void svm_inject_nmi(struct vcpu *v)
{
    svm_vcpu(v)->nmi_blocked = true;
    svm_set_nmi_window(v); /* an NMI that comes later waits for the IRET, too */
    inject(svm_vcpu(v), encode(2, VMM_EVENT_NMI));
}

void svm_inject_event(struct vcpu *v, const struct vmm_event *event)
{
    uint64_t info = encode(event->vector, (enum vmm_event_type)event->type);

    if (event->has_error) {
        info |= VMCB_EVENT_HAS_ERROR | (uint64_t)event->error << 32;
    }
    inject(svm_vcpu(v), info);
}

/* While V_IRQ is set a guest's write to CR8 has to exit too: QEMU's emulator cannot raise the
 * virtual interrupt from inside that instruction. */
static void update_cr8_intercept(struct svm_vcpu *s)
{
    vmcb_set_intercept_cr(s->vmcb, s->window || s->cr8_exits ? VMCB_WRITE(8) : 0);
}

/* A virtual interrupt that is intercepted: it never reaches the guest's IDT, but its VINTR exit
 * comes when IF and the shadow would let an interrupt in. The LAPIC's priorities were looked at
 * already, so V_TPR is ignored and all vectors are alike. */
void svm_set_intr_window(struct vcpu *v, bool on)
{
    const uint64_t bits = VMCB_V_IRQ | VMCB_V_PRIO_HIGHEST | VMCB_V_IGN_TPR;
    struct svm_vcpu *s = svm_vcpu(v);
    struct vmcb *b = s->vmcb;

    if (s->window == on) {
        return;
    }
    s->window = on;
    if (on) {
        vmcb_set_v_intr(b, vmcb_v_intr(b) | bits);
        vmcb_set_intercept_misc1(b, vmcb_intercept_misc1(b) | VMCB_VINTR);
    } else {
        vmcb_set_v_intr(b, vmcb_v_intr(b) & ~bits);
        vmcb_set_intercept_misc1(b, vmcb_intercept_misc1(b) & ~VMCB_VINTR);
    }
    update_cr8_intercept(s);
}

void svm_set_cr8_exits(struct vcpu *v, bool on)
{
    struct svm_vcpu *s = svm_vcpu(v);

    if (s->cr8_exits != on) {
        s->cr8_exits = on;
        update_cr8_intercept(s);
    }
}

void svm_event_again(struct vcpu *v, uint64_t info)
{
    uint8_t vector = (uint8_t)info;
    unsigned type = info >> VMCB_EVENT_TYPE_SHIFT & 7;
    /* QEMU's emulator reports interrupts of V_IRQ as exceptions. */
    if (type == VMM_EVENT_EXCEPTION && vector > 31) {
        type = VMM_EVENT_INTR;
    }
    /* INTn, INT3 and INTO run again: RIP is still on them. */
    if (type == VMCB_EVENT_SOFTWARE ||
        (type == VMM_EVENT_EXCEPTION && (vector == X86_BP || vector == X86_OF))) {
        return;
    }
    v->event = (struct vmm_event){
        .valid = true,
        .type = (uint8_t)type,
        .vector = vector,
        .has_error = (info & VMCB_EVENT_HAS_ERROR) != 0,
        .error = (uint32_t)(info >> 32),
    };
    vmm_vcpu_event(v);
}

/* An NMI stays one that is being served: its injection again blocks nothing anew. */
void svm_withdraw_event(struct vcpu *v)
{
    struct vmcb *b = svm_vcpu(v)->vmcb;

    if ((vmcb_event_inj(b) & VMCB_EVENT_VALID) != 0) {
        svm_event_again(v, vmcb_event_inj(b));
        vmcb_set_event_inj(b, 0);
    }
}
