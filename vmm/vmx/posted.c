/* Posted interrupts: a request for a vCPU that is in the guest goes into a descriptor in memory,
 * and an interrupt that causes no exit makes the processor take it from there. Off unless the
 * option vmx.features=+posted asks for it. Spec: Intel SDM vol. 3 section 30.6; for interrupts that
 * exits acknowledge, section 28.2.2. */
#include "core/irq.h"
#include "core/lapic_page.h"
#include "vmx/vmx.h"

#define CONTROL_ON UINT32_C(1) /* outstanding notification */

int vmx_posted_create(struct vcpu *v, struct vmx_vcpu *x)
{
    if (!x->vmx->posted) {
        return 0;
    }
    x->posted = vmx_alloc_page(v->vm, &x->posted_pa);
    return x->posted == NULL ? -VMM_ENOMEM : 0;
}

void vmx_posted_collect(struct vcpu *v, struct vmx_posted *p)
{
    uint64_t bits[4];

    if ((__atomic_load_n(&p->control, __ATOMIC_SEQ_CST) & CONTROL_ON) == 0) {
        return;
    }
    __atomic_and_fetch(&p->control, ~CONTROL_ON, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 4; i++) {
        bits[i] = __atomic_exchange_n(&p->requests[i], 0, __ATOMIC_SEQ_CST);
    }
    vlapic_request(vlapic_of(v), bits);
}

/* An EOI that has to exit needs the VMCS changed first, and the 8259s an injection: those kick. */
static bool can_post(struct vcpu *v, const struct vmx_vcpu *x)
{
    const struct vlapic *a = vlapic_of(v);

    for (unsigned i = 0; i < 4; i++) {
        if ((__atomic_load_n(&a->irr[i], __ATOMIC_SEQ_CST) &
             __atomic_load_n(&a->tmr[i], __ATOMIC_SEQ_CST)) != 0) {
            return false;
        }
    }
    return x->posted != NULL && x->apicv && !vmm_irq_is_external(v) &&
           (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) & ~(uint32_t)VMM_REQ_INTR) == 0;
}

/* Any thread. The vCPU says that it has left the guest first and looks at the descriptor then, this
 * the other way round: what it does not find there goes back, and is announced as any request. */
bool vmx_posted_post(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    struct vlapic *a = vlapic_of(v);
    uint32_t old;

    if (!can_post(v, x)) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t bits = __atomic_exchange_n(&a->irr[i], 0, __ATOMIC_SEQ_CST);

        __atomic_or_fetch(&x->posted->requests[i], bits, __ATOMIC_SEQ_CST);
    }
    old = __atomic_fetch_or(&x->posted->control, CONTROL_ON, __ATOMIC_SEQ_CST);
    if ((old & CONTROL_ON) == 0) {
        int cpu = __atomic_load_n(&v->running_cpu, __ATOMIC_RELAXED);

        v->ops->cpu_post(v->host, (unsigned)cpu);
    }
    if (__atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST) == 0) {
        vmx_posted_collect(v, x->posted);
    }
    return true;
}
