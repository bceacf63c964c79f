/* ASIDs. Each CPU hands them out one after another; when none is left it flushes its whole TLB once
 * and begins a new generation, in which all earlier ones are void. So an entry costs a comparison,
 * not a flush. Spec: AMD APM vol. 2 section 15.16, "TLB Control".
 *
 * A vCPU that comes to another CPU, or back to one, takes a new ASID: what that CPU's TLB holds
 * under the old one may have been changed elsewhere meanwhile. */
#include "svm/svm.h"

void svm_flush(struct svm_vcpu *s)
{
    s->flush_generation = s->nested->flush_generation - 1;
}

void svm_asid_renew(struct svm_vcpu *s, struct svm_cpu *cpu)
{
    bool valid = s->cpu == cpu && s->asid_generation == cpu->generation;

    s->flush_generation = __atomic_load_n(&s->nested->flush_generation, __ATOMIC_ACQUIRE);
    if (valid && (s->svm->features & SVM_FEATURE_FLUSH_BY_ASID) != 0) {
        vmcb_set_tlb_control(s->vmcb, VMCB_TLB_FLUSH_ASID);
        s->rare |= SVM_RARE_FLUSH;
        return;
    }
    if (s->cpu != cpu) {
        s->cpu = cpu;
        s->vmcb->clean = 0; /* this CPU cached nothing of it, or what it was before */
    }
    if (cpu->next_asid >= s->svm->asid_count) {
        cpu->generation++;
        cpu->next_asid = 1; /* 0 is the host */
        vmcb_set_tlb_control(s->vmcb, VMCB_TLB_FLUSH_ALL);
        s->rare |= SVM_RARE_FLUSH;
    }
    s->asid_generation = cpu->generation;
    vmcb_set_asid(s->vmcb, cpu->next_asid++);
}
