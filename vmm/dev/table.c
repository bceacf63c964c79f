/* The devices of the PC, in the order of their making: the interrupt controllers first. */
#include "dev/platform.h"

#include "core/bus.h"
#include "core/irq.h"
#include "core/vm.h"

extern const struct vdev_class vpic_class, vioapic_class, vpit_class, vrtc_class, vhpet_class,
    vpm_class, vuart_class, vi8042_class, vpci_class, vreset_class, vcrtc_class, vdebug_class,
    vexit_class, vfwcfg_class, vballoon_class;

static const struct vdev_class *const device_table[] = {
    &vpic_class,  &vioapic_class, &vpit_class,   &vrtc_class,   &vhpet_class,
    &vpm_class,   &vuart_class,   &vi8042_class, &vpci_class,   &vreset_class,
    &vcrtc_class, &vdebug_class,  &vexit_class,  &vfwcfg_class, &vballoon_class,
};

int vmm_platform_create(struct vm *vm)
{
    int error = vmm_irq_create(vm);

    for (unsigned i = 0; error == 0 && i < vm->vcpu_count; i++) {
        error = vlapic_create(vm->vcpu[i]);
    }
    for (unsigned i = 0; error == 0 && i < VMM_ARRAY_COUNT(device_table); i++) {
        error = vdev_create(vm, device_table[i], NULL);
    }
    if (error != 0) {
        vmm_devices_destroy(vm);
        return error;
    }
    vmm_devices_reset(vm);
    return 0;
}
