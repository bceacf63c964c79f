#include "drivers/devices.h"

#include "base/errno.h"
#include "base/platform.h"
#include "drivers/ahci.h"
#include "drivers/e1000.h"
#include "drivers/pci/pci.h"
#include "drivers/virtio/drivers.h"
#include "drivers/virtio/virtio.h"
#include "kernel/kernel.h"
#include "sched/work.h"

#define INTEL_VENDOR 0x8086
#define ANY_CLASS    0
#define CLASS_AHCI   0x010601

struct nk_work_queue *devices_queue;

struct pci_driver {
    const char *name;
    uint16_t vendor, device; /* or, with vendor 0: */
    uint32_t class;
    int (*probe)(struct pci_function *f);
};

/* Virtio devices of both generations, as long as they have the modern registers. */
static const struct pci_driver driver_table[] = {
    {"virtio-net", VIRTIO_VENDOR, 0x1000, ANY_CLASS, virtio_net_probe},
    {"virtio-net", VIRTIO_VENDOR, 0x1041, ANY_CLASS, virtio_net_probe},
    {"virtio-blk", VIRTIO_VENDOR, 0x1001, ANY_CLASS, virtio_blk_probe},
    {"virtio-blk", VIRTIO_VENDOR, 0x1042, ANY_CLASS, virtio_blk_probe},
    {"virtio-console", VIRTIO_VENDOR, 0x1003, ANY_CLASS, virtio_console_probe},
    {"virtio-console", VIRTIO_VENDOR, 0x1043, ANY_CLASS, virtio_console_probe},
    {"e1000", INTEL_VENDOR, 0x100e, ANY_CLASS, e1000_probe}, /* 82540EM */
    {"e1000", INTEL_VENDOR, 0x100f, ANY_CLASS, e1000_probe}, /* 82545EM */
    {"e1000", INTEL_VENDOR, 0x10d3, ANY_CLASS, e1000_probe}, /* 82574L */
    {"ahci", 0, 0, CLASS_AHCI, ahci_probe},
};

static bool matches(const struct pci_driver *driver, const struct pci_function *f)
{
    if (driver->vendor == 0) {
        return f->class == driver->class;
    }
    return f->vendor_id == driver->vendor && f->device_id == driver->device;
}

int devices_probe(struct pci_function *f)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(driver_table); i++) {
        const struct pci_driver *driver = &driver_table[i];
        if (!matches(driver, f)) {
            continue;
        }
        int err = driver->probe(f);
        if (err == 0) {
            f->driver = driver->name;
        } else {
            nk_warn("pci: %02x:%02x.%x: %s does not take it (error %d)", f->bus, f->device,
                    f->function, driver->name, err);
        }
        return err;
    }
    return -ENOENT;
}

void devices_init(void)
{
    if (nk_work_queue_create(&devices_queue, "devices", nk_services) != 0) {
        nk_panic("devices: no memory for their work queue");
    }
    if (nk_option_is("devices", "none")) {
        nk_info("devices: none is looked for (devices=none)");
        return;
    }
    for (unsigned i = 0; i < pci_count(); i++) {
        int err = devices_probe(pci_get(i));
        (void)err; /* it has been logged */
    }
}
