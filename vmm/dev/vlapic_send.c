/* The local APIC's interrupt command register: messages to other processors.
 * Spec: Intel SDM vol. 3 sections 10.6.1 and 10.12.9. */
#include "core/irq.h"
#include "core/vm.h"
#include "dev/vlapic.h"

#define ICR_DELIVERY(icr)  ((icr) >> 8 & 7)
#define ICR_LOGICAL        (1u << 11)
#define ICR_ASSERT         (1u << 14)
#define ICR_LEVEL          (1u << 15)
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static void send_to_many(struct vlapic *a, struct vmm_irq_message *m, bool self_too)
{
    struct vm *vm = a->vcpu->vm;

    m->logical = false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (self_too || i != a->vcpu->id) {
            m->destination = i;
            vmm_irq_deliver(vm, m);
        }
    }
}

void vlapic_send(struct vlapic *a, uint64_t icr)
{
    struct vmm_irq_message m = {
        .destination = (uint32_t)(vlapic_x2apic(a) ? icr >> 32 : icr >> 56),
        .vector = (uint8_t)icr,
        .delivery_mode = ICR_DELIVERY(icr),
        .logical = (icr & ICR_LOGICAL) != 0,
        .wide = vlapic_x2apic(a),
    };

    a->icr = icr;
    if (m.delivery_mode == VLAPIC_INIT && (icr & ICR_ASSERT) == 0 && (icr & ICR_LEVEL) != 0) {
        return; /* INIT level de-assert: not of these processors */
    }
    if (m.delivery_mode <= VLAPIC_LOWEST && m.vector < VLAPIC_FIRST_VECTOR) {
        vlapic_error(a, VLAPIC_ERROR_SEND_VECTOR);
        return;
    }
    switch (ICR_SHORTHAND(icr)) {
    case SHORTHAND_NONE:
        vmm_irq_deliver(a->vcpu->vm, &m);
        break;
    case SHORTHAND_SELF: /* fixed only */
        if (m.delivery_mode == VLAPIC_FIXED) {
            vlapic_accept(a, m.vector, false);
        }
        break;
    default:
        send_to_many(a, &m, ICR_SHORTHAND(icr) == SHORTHAND_ALL);
        break;
    }
}
