/* KVM's paravirtual EOI: for an interrupt whose end nobody but the LAPIC has to hear of, a bit in
 * the guest's memory is set; the guest clears it instead of writing EOI, without an exit. It is
 * looked at when the LAPIC's state matters again. Spec: Linux Documentation/virt/kvm/x86/msr.rst,
 * MSR_KVM_PV_EOI_EN. Context: the vCPU's thread. */
#include "core/irq.h"
#include "core/vm.h"
#include "dev/vlapic.h"

#define PV_EOI_ENABLE   UINT64_C(1)
#define PV_EOI_RESERVED UINT64_C(2) /* the record is aligned to four bytes */

static uint32_t *word_of(const struct vlapic *a, uint64_t msr)
{
    return vmm_memory_ptr_write(a->vcpu->vm, VMM_GPA(msr & ~(PV_EOI_ENABLE | PV_EOI_RESERVED)),
                                sizeof(uint32_t));
}

/* What is pending in the LAPIC needs a real EOI to be seen; a level interrupt's goes on to the
 * IOAPIC. */
void vlapic_pv_eoi_arm(struct vlapic *a)
{
    uint32_t *word;

    if (vlapic_requested(a) || vlapic_test(a->tmr, vlapic_in_service(a))) {
        return;
    }
    word = word_of(a, a->pv_eoi);
    if (word != NULL) {
        __atomic_fetch_or(word, 1, __ATOMIC_SEQ_CST);
        a->vcpu->pv_eoi_armed = true;
    }
}

/* The guest is out, so the bit does not change meanwhile. */
void vlapic_pv_eoi_settle(struct vlapic *a)
{
    uint32_t *word = word_of(a, a->pv_eoi);

    a->vcpu->pv_eoi_armed = false;
    if (word == NULL || (__atomic_fetch_and(word, ~UINT32_C(1), __ATOMIC_SEQ_CST) & 1) == 0) {
        vlapic_end_innermost(a);
    }
}

bool vlapic_pv_eoi_set(struct vcpu *v, uint64_t value)
{
    struct vlapic *a = vlapic_of(v);

    if ((value & PV_EOI_RESERVED) != 0 ||
        ((value & PV_EOI_ENABLE) != 0 && word_of(a, value) == NULL)) {
        return false;
    }
    if (a->vcpu->pv_eoi_armed) {
        vlapic_pv_eoi_settle(a);
    }
    a->pv_eoi = (value & PV_EOI_ENABLE) != 0 ? value : 0;
    v->pv_eoi = a->pv_eoi != 0;
    return true;
}

uint64_t vlapic_pv_eoi_get(const struct vcpu *v)
{
    return vlapic_of(v)->pv_eoi;
}
