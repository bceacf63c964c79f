/* When the guest can take an NMI. The processor does not say, so an exit is made: at the IRET of
 * the handler that blocks it, behind an instruction that must run before it by the trap flag, or by
 * an interrupt to this CPU when the entry brings another event. Spec: AMD APM vol. 2 sections 15.9
 * (IRET), 15.20, 13.1.4 (single-step). */
#include "core/x86.h"
#include "svm/svm.h"

static void look_again(struct vcpu *v)
{
    if (v->nmi_pending) {
        __atomic_or_fetch(&v->requests, VMM_REQ_NMI, __ATOMIC_RELAXED);
    }
}

static void step(struct vcpu *v, struct svm_vcpu *s)
{
    s->step_rip = v->rip;
    s->rare |= SVM_RARE_STEP;
}

void svm_set_nmi_window(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    if (s->nmi_blocked) {
        vmcb_set_intercept_misc1(s->vmcb, vmcb_intercept_misc1(s->vmcb) | VMCB_IRET);
    } else if (!svm_event_room(s)) {
        s->rare |= SVM_RARE_SOON;
    } else { /* the shadow of STI or MOV SS */
        step(v, s);
    }
}

/* The exit comes before it has run. If an NMI waits, it comes right behind it; or with the next
 * exit, if the IRET is one to another task, whose switch would save our trap flag in this one's
 * segment.
 */
void svm_nmi_iret(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);
    bool switches = (v->rflags & X86_RFLAGS_NT) != 0;

    vmcb_set_intercept_misc1(s->vmcb, vmcb_intercept_misc1(s->vmcb) & ~VMCB_IRET);
    s->step_rip = v->rip;
    s->rare |= SVM_RARE_IRET | (v->nmi_pending && !switches ? SVM_RARE_STEP : 0u);
}

void svm_nmi_entry(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    if ((s->rare & SVM_RARE_SOON) != 0 && v->ops->cpu_post != NULL) {
        v->ops->cpu_post(v->host, (unsigned)v->running_cpu); /* held back until the entry */
    }
    /* A guest that steps itself has its exit anyway. */
    if ((s->rare & SVM_RARE_STEP) != 0 && (v->rflags & X86_RFLAGS_TF) == 0) {
        v->rflags |= X86_RFLAGS_TF;
        s->step_dr6 = vmcb_dr6(s->vmcb);
        s->stepping = true;
    }
}

/* An IRET loads the guest's own flags, others leave ours. One that faulted has saved ours. */
uint32_t svm_nmi_exit(struct vcpu *v, uint32_t rare)
{
    struct svm_vcpu *s = svm_vcpu(v);
    bool iret = (rare & SVM_RARE_IRET) != 0, stays = v->rip == s->step_rip;
    bool trap = vmcb_exit_code(s->vmcb) == VMCB_EXIT_EXCEPTION + X86_DB;

    if (s->stepping && (stays || !iret)) {
        v->rflags &= ~X86_RFLAGS_TF;
    }
    if (stays && (rare & SVM_RARE_SOON) == 0 && (iret || !trap)) { /* a REP traps where it is */
        s->stepping = false;
        return rare & (SVM_RARE_IRET | SVM_RARE_STEP); /* something was in its way */
    }
    if (iret) {
        s->nmi_blocked = false;
    }
    if (s->stepping && !trap) {
        s->stepping = false;
        s->step_left = iret;
    }
    look_again(v);
    return 0;
}

bool svm_nmi_step_done(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);
    struct vmcb *b = s->vmcb;
    uint64_t others = vmcb_dr6(b) & X86_DR6_CAUSES & ~X86_DR6_BS;

    if (!s->stepping && !s->step_left) {
        return false;
    }
    if (s->stepping) {
        others &= ~s->step_dr6;
        vmcb_set_dr6(b, s->step_dr6 | others);
    } else {
        vmcb_set_dr6(b, vmcb_dr6(b) & ~X86_DR6_BS);
    }
    s->stepping = s->step_left = false;
    return others == 0;
}
