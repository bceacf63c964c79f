/* ACPI fixed hardware: PM1 event and control blocks, PM timer, the command port that switches ACPI
 * mode on. Places are those of the PIIX4.
 * Spec: ACPI 6.4 section 4.8.3; Intel 82371AB (PIIX4) data sheet, power management. */
#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/platform.h"

#define PM_HZ          3579545
#define PM_LENGTH      0x10
#define OFFSET_STATUS  (PLATFORM_PM_EVENT - PLATFORM_PM_BASE)
#define OFFSET_ENABLE  (PLATFORM_PM_EVENT + 2 - PLATFORM_PM_BASE)
#define OFFSET_CONTROL (PLATFORM_PM_CONTROL - PLATFORM_PM_BASE)
#define OFFSET_TIMER   (PLATFORM_PM_TIMER - PLATFORM_PM_BASE)
#define TIMER_WRAP_BIT 31 /* of the 32-bit timer: its change sets TMR_STS */

#define STATUS_TIMER  0x0001
#define STATUS_VALID  0x8d31 /* timer, bus master, global, buttons, RTC, PCIe, wake */
#define ENABLE_VALID  0x0721
#define CONTROL_SCI   0x0001
#define CONTROL_VALID 0x1c07 /* SCI_EN, BM_RLD, GBL_RLS, SLP_TYP */
#define CONTROL_SLEEP 0x2000 /* SLP_EN: reads as zero */
#define SLEEP_TYPE(c) ((c) >> 10 & 7)

struct vpm {
    uint16_t status, enable, control;
    uint8_t command, command_data; /* ports b2, b3 */
    uint64_t seen_wraps;           /* changes of the timer's top bit that status tells of */
    struct vmm_timer *timer;
};

static uint64_t pm_ticks(struct vdev *dev)
{
    return vmm_clock_ticks(dev->vm, PM_HZ);
}

static void update(struct vdev *dev)
{
    struct vpm *p = dev->state;
    uint64_t wraps = pm_ticks(dev) >> TIMER_WRAP_BIT;
    bool sci;

    if (wraps != p->seen_wraps) {
        p->seen_wraps = wraps;
        p->status |= STATUS_TIMER;
    }
    sci = (p->control & CONTROL_SCI) != 0;
    vmm_irq_set(dev->vm, PLATFORM_SCI_IRQ, sci && (p->status & p->enable & ENABLE_VALID) != 0);
    if (sci && (p->enable & ~p->status & STATUS_TIMER) != 0) {
        vmm_timer_arm(p->timer, vmm_ticks_to_ns((wraps + 1) << TIMER_WRAP_BIT, PM_HZ));
    } else {
        vmm_timer_cancel(p->timer);
    }
}

static void vpm_timer(struct vdev *dev, void *arg)
{
    (void)arg;
    update(dev);
}

static void write_control(struct vdev *dev, uint16_t value)
{
    struct vpm *p = dev->state;

    /* SCI_EN follows the command port alone. */
    p->control = (uint16_t)((value & CONTROL_VALID & ~CONTROL_SCI) | (p->control & CONTROL_SCI));
    if ((value & CONTROL_SLEEP) != 0 && SLEEP_TYPE(value) == PLATFORM_S5_TYPE) {
        vmm_request_power_off(dev->vm);
    }
}

static uint16_t read_half(struct vdev *dev, unsigned offset)
{
    struct vpm *p = dev->state;

    switch (offset) {
    case OFFSET_STATUS:
        update(dev);
        return p->status;
    case OFFSET_ENABLE:
        return p->enable;
    case OFFSET_CONTROL:
        return p->control;
    case OFFSET_TIMER:
        return (uint16_t)pm_ticks(dev);
    case OFFSET_TIMER + 2:
        return (uint16_t)(pm_ticks(dev) >> 16);
    default:
        return 0;
    }
}

/* Bytes that are not written are given as mask = 0. */
static void write_half(struct vdev *dev, unsigned offset, uint16_t value, uint16_t mask)
{
    struct vpm *p = dev->state;

    switch (offset) {
    case OFFSET_STATUS: /* ones clear */
        update(dev);
        p->status &= (uint16_t) ~(value & mask & STATUS_VALID);
        break;
    case OFFSET_ENABLE:
        p->enable = (uint16_t)((p->enable & ~mask) | (value & mask & ENABLE_VALID));
        break;
    case OFFSET_CONTROL:
        write_control(dev, (uint16_t)((p->control & ~mask) | (value & mask)));
        break;
    default: /* the timer is read only */
        break;
    }
    update(dev);
}

/* Any part of any registers. */
static void access_halves(struct vdev *dev, struct vdev_access *a)
{
    unsigned offset = (unsigned)a->offset, end = offset + a->size;
    uint64_t value = 0;

    for (unsigned half = offset & ~1u; half < end; half += 2) {
        /* The part of the access that falls into this 16-bit register. */
        unsigned first = half < offset ? 1 : 0, last = half + 1 < end ? 1 : 0;
        uint16_t mask = (uint16_t)((first == 0 ? 0x00ff : 0) | (last == 1 ? 0xff00 : 0));
        unsigned at = (half + first - offset) * 8;

        if (a->write) {
            write_half(dev, half, (uint16_t)(a->value >> at << (first * 8)), mask);
        } else {
            value |= (uint64_t)((read_half(dev, half) & mask) >> (first * 8)) << at;
        }
    }
    a->value = value;
}

static void vpm_access(struct vdev *dev, struct vdev_access *a)
{
    if (vmm_likely(a->offset == OFFSET_TIMER && a->size == 4 && !a->write)) {
        a->value = (uint32_t)pm_ticks(dev);
    } else {
        access_halves(dev, a);
    }
}

static void vpm_command(struct vdev *dev, struct vdev_access *a)
{
    struct vpm *p = dev->state;
    uint8_t *port = a->offset == 0 ? &p->command : &p->command_data;

    if (!a->write) {
        a->value = *port;
        return;
    }
    *port = (uint8_t)a->value;
    if (a->offset == 0 && *port == PLATFORM_ACPI_ENABLE) {
        p->control |= CONTROL_SCI;
    } else if (a->offset == 0 && *port == PLATFORM_ACPI_DISABLE) {
        p->control &= (uint16_t)~CONTROL_SCI;
    }
    update(dev);
}

static void vpm_reset(struct vdev *dev)
{
    struct vpm *p = dev->state;

    p->status = 0;
    p->enable = 0;
    p->control = 0;
    p->command = 0;
    p->command_data = 0;
    p->seen_wraps = pm_ticks(dev) >> TIMER_WRAP_BIT;
    update(dev);
}

static int vpm_create(struct vdev *dev)
{
    struct vpm *p = dev->state;
    int error = vmm_timer_create(dev, vpm_timer, NULL, &p->timer);

    if (error == 0) {
        error = vdev_claim(dev, VDEV_PIO, PLATFORM_PM_BASE, PM_LENGTH, vpm_access);
    }
    if (error == 0) {
        error = vdev_claim(dev, VDEV_PIO, PLATFORM_PM_ALIAS, PM_LENGTH, vpm_access);
    }
    if (error == 0) {
        error = vdev_claim_bytes(dev, PLATFORM_SMI_COMMAND, 2, vpm_command);
    }
    return error;
}

static void vpm_destroy(struct vdev *dev)
{
    struct vpm *p = dev->state;

    vmm_timer_destroy(p->timer);
}

static int vpm_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), offsetof(struct vpm, timer));
}

static int vpm_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vpm *p = dev->state;
    int error = in->transfer(in, p, offsetof(struct vpm, timer));

    if (error == 0) {
        vmm_timer_run_soon(p->timer); /* when everything is loaded */
    }
    return error;
}

const struct vdev_class vpm_class = {
    .name = "vpm",
    .state_size = sizeof(struct vpm),
    .version = 1,
    .create = vpm_create,
    .reset = vpm_reset,
    .destroy = vpm_destroy,
    .save = vpm_save,
    .load = vpm_load,
};
