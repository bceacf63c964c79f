/* The local APIC as a device: its modes (IA32_APIC_BASE), RESET and INIT, creation.
 * Spec: Intel SDM vol. 3 sections 10.4 and 10.12. */
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/platform.h"
#include "dev/vlapic.h"

#define DFR_FLAT UINT32_MAX

/* Cluster of 16 and place in it. */
static uint32_t x2apic_ldr(unsigned id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

/* What RESET and INIT have in common: SDM vol. 3 section 10.4.7. */
static void reset_registers(struct vlapic *a)
{
    for (unsigned i = 0; i < 4; i++) {
        a->irr[i] = 0;
        a->tmr[i] = 0;
    }
    a->nested_count = 0;
    __builtin_memset(a->nested, 0, sizeof(a->nested)); /* none is 0, whatever a refused state had */
    a->pv_eoi = 0;
    a->vcpu->pv_eoi = false;
    a->vcpu->pv_eoi_armed = false;
    a->page_stale = true;
    a->tpr = 0;
    a->ldr = vlapic_x2apic(a) ? x2apic_ldr(a->vcpu->id) : 0;
    a->dfr = DFR_FLAT;
    a->svr = 0xff;
    a->esr = 0;
    a->errors = 0;
    a->icr = 0;
    for (unsigned i = 0; i < VLAPIC_LVT_COUNT; i++) {
        a->lvt[i] = VLAPIC_LVT_MASKED;
    }
    vlapic_renew(a);
    vlapic_timer_reset(a);
}

void vlapic_init(struct vcpu *v)
{
    reset_registers(vlapic_of(v));
}

uint64_t vlapic_base_read(struct vcpu *v)
{
    return vlapic_of(v)->base;
}

/* The window cannot be moved: a write that tries faults. Transitions: SDM vol. 3 figure 10-27. */
bool vlapic_base_write(struct vcpu *v, uint64_t value)
{
    struct vlapic *a = vlapic_of(v);
    uint64_t old = a->base;

    if ((value & ~(uint64_t)(VLAPIC_BASE_MODE | VLAPIC_BASE_BSP)) != PLATFORM_LAPIC_BASE ||
        (value & VLAPIC_BASE_MODE) == VLAPIC_BASE_X2APIC) {
        return false;
    }
    if ((old & VLAPIC_BASE_X2APIC) != 0 && (value & VLAPIC_BASE_MODE) == VLAPIC_BASE_ENABLED) {
        return false; /* back to xAPIC only through off */
    }
    if ((old & VLAPIC_BASE_ENABLED) == 0 && (value & VLAPIC_BASE_X2APIC) != 0) {
        return false; /* to x2APIC only from xAPIC */
    }
    a->base = value;
    a->page_stale = true;
    if ((value & VLAPIC_BASE_ENABLED) == 0) {
        if ((old & VLAPIC_BASE_ENABLED) != 0) {
            reset_registers(a);
            vmm_irq_line0_unmasked(v->vm);
            vlapic_notice(a);
        }
    } else if (((old ^ value) & VLAPIC_BASE_X2APIC) != 0) {
        a->ldr = x2apic_ldr(v->id);
        a->icr = 0;
    }
    return true;
}

static void vlapic_reset(struct vdev *dev)
{
    struct vlapic *a = vdev_state(dev);

    a->base = PLATFORM_LAPIC_BASE | VLAPIC_BASE_ENABLED | (a->vcpu->id == 0 ? VLAPIC_BASE_BSP : 0);
    reset_registers(a);
    if (a->vcpu->id == 0) {
        /* As firmware leaves it for systems that know no APIC: virtual wire mode (MP
         * specification 1.4 section 3.6.2.2). */
        a->svr |= VLAPIC_SVR_ENABLED;
        a->lvt[VLAPIC_LVT_LINT0] = VLAPIC_EXTINT << 8;
        a->lvt[VLAPIC_LVT_LINT1] = VLAPIC_NMI << 8;
    }
}

static int vlapic_create_device(struct vdev *dev)
{
    /* One window for all: the access knows its vCPU. The first LAPIC's device holds the claim. */
    return dev->vm->vcpu[0]->lapic != NULL
               ? 0
               : vdev_claim_lockless(dev, VDEV_MMIO, PLATFORM_LAPIC_BASE, VMM_PAGE_SIZE,
                                     vlapic_access);
}

static void vlapic_destroy(struct vdev *dev)
{
    struct vlapic *a = vdev_state(dev);

    if (a->vcpu != NULL) {
        vmm_timer_destroy(a->timer);
        a->vcpu->lapic = NULL;
    }
}

const struct vdev_class vlapic_class = {
    .name = "vlapic",
    .state_size = sizeof(struct vlapic),
    .version = 2,
    .create = vlapic_create_device,
    .reset = vlapic_reset,
    .destroy = vlapic_destroy,
    .save = vlapic_save,
    .load = vlapic_load,
};

int vlapic_create(struct vcpu *v)
{
    struct vlapic *a;
    int error = vdev_create(v->vm, &vlapic_class, &v->lapic);

    if (error != 0) {
        return error;
    }
    a = vlapic_of(v);
    a->vcpu = v;
    error = vlapic_timer_create(a);
    if (error != 0) {
        vdev_destroy(v->lapic);
        return error;
    }
    return 0;
}
