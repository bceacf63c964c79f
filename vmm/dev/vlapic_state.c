/* The local APIC's state in a stream. What cannot be is refused: a stream comes from outside. */
#include "core/vm.h"
#include "dev/platform.h"
#include "dev/vlapic.h"

static int transfer(struct vlapic *a, struct vdev_stream *s)
{
    const struct {
        void *at;
        size_t size;
    } field_table[] = {
        {&a->base, sizeof(a->base)},
        {a->irr, sizeof(a->irr)},
        {a->tmr, sizeof(a->tmr)},
        {&a->errors, sizeof(a->errors)},
        {a->nested, sizeof(a->nested)},
        {&a->nested_count, sizeof(a->nested_count)},
        {&a->tpr, sizeof(a->tpr)},
        {&a->ldr, sizeof(a->ldr)},
        {&a->dfr, sizeof(a->dfr)},
        {&a->svr, sizeof(a->svr)},
        {&a->esr, sizeof(a->esr)},
        {&a->icr, sizeof(a->icr)},
        {a->lvt, sizeof(a->lvt)},
        {&a->initial_count, sizeof(a->initial_count)},
        {&a->divide, sizeof(a->divide)},
        {&a->expiry_ns, sizeof(a->expiry_ns)},
        {&a->deadline, sizeof(a->deadline)},
        {&a->pv_eoi, sizeof(a->pv_eoi)},
        {&a->vcpu->pv_eoi_armed, sizeof(a->vcpu->pv_eoi_armed)},
    };
    int error = 0;

    for (unsigned i = 0; error == 0 && i < VMM_ARRAY_COUNT(field_table); i++) {
        error = s->transfer(s, field_table[i].at, field_table[i].size);
    }
    return error;
}

int vlapic_save(struct vdev *dev, struct vdev_stream *out)
{
    return transfer(vdev_state(dev), out);
}

static bool pv_eoi_is_sane(const struct vlapic *a)
{
    return (a->pv_eoi == 0 && a->vcpu->pv_eoi_armed == 0) ||
           ((a->pv_eoi & 3) == 1 && a->vcpu->pv_eoi_armed <= 1);
}

static bool nesting_is_sane(const struct vlapic *a)
{
    for (unsigned i = 1; i <= a->nested_count && i < sizeof(a->nested); i++) {
        if (a->nested[i] / 16 <= a->nested[i - 1] / 16) {
            return false;
        }
    }
    return a->nested_count < sizeof(a->nested) && a->nested[0] == 0;
}

/* Modes as vlapic_base_write() lets them be. */
static bool registers_are_sane(const struct vlapic *a)
{
    const uint64_t free = VLAPIC_BASE_MODE | VLAPIC_BASE_BSP;

    return (a->base & ~free) == PLATFORM_LAPIC_BASE &&
           (a->base & VLAPIC_BASE_MODE) != VLAPIC_BASE_X2APIC && a->tpr <= 0xff;
}

int vlapic_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vlapic *a = vdev_state(dev);
    int error = transfer(a, in);

    if (error == 0 && !(nesting_is_sane(a) && pv_eoi_is_sane(a) && registers_are_sane(a))) {
        error = -VMM_EINVAL;
    }
    if (error == 0) {
        a->page_stale = true;
        a->vcpu->pv_eoi = a->pv_eoi != 0;
        vlapic_renew(a);
        vlapic_timer_update(a);
        vlapic_notice(a);
    }
    return error;
}
