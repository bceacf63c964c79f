/* The device: registers, features, interrupts. */

#include "drivers/virtio/virtio.h"

#include "base/errno.h"
#include "base/platform.h"
#include "sched/thread.h"
#include "sched/timer.h"

enum common_register { /* section 4.1.4.3 */
                       COMMON_DEVICE_FEATURE_SELECT = 0,
                       COMMON_DEVICE_FEATURE = 4,
                       COMMON_DRIVER_FEATURE_SELECT = 8,
                       COMMON_DRIVER_FEATURE = 12,
                       COMMON_CONFIG_VECTOR = 16,
                       COMMON_STATUS = 20,
                       COMMON_SIZE = 56,
};

enum virtio_capability { /* section 4.1.4 */
                         CAP_COMMON = 1,
                         CAP_NOTIFY = 2,
                         CAP_ISR = 3,
                         CAP_CONFIG = 4,
};
#define CAP_TYPE       3
#define CAP_BAR        4
#define CAP_OFFSET     8
#define CAP_LENGTH     12
#define CAP_MULTIPLIER 16

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_FAILED      128

#define NO_VECTOR         0xffff
#define RESET_TRIES       100
#define RESET_INTERVAL_NS 1000000

static volatile uint8_t *map_capability(struct virtio_device *v, unsigned cap, uint32_t *length)
{
    unsigned bar = pci_read(v->f, cap + CAP_BAR, 1);
    uint32_t offset = pci_read(v->f, cap + CAP_OFFSET, 4);
    *length = pci_read(v->f, cap + CAP_LENGTH, 4);
    if (bar >= PCI_BARS || v->f->bar[bar].size < (uint64_t)offset + *length) {
        return NULL;
    }
    volatile uint8_t *registers = pci_map_bar(v->f, bar);
    return registers != NULL ? registers + offset : NULL;
}

/* The first capability of each type is the one to use. */
static void map_all(struct virtio_device *v)
{
    uint32_t length;
    unsigned cap = 0;
    while ((cap = pci_find_capability(v->f, PCI_CAP_VENDOR, cap)) != 0) {
        unsigned type = pci_read(v->f, cap + CAP_TYPE, 1);
        if (type == CAP_COMMON && v->common == NULL) {
            v->common = map_capability(v, cap, &length);
            v->common = length < COMMON_SIZE ? NULL : v->common;
        } else if (type == CAP_NOTIFY && v->notify == NULL) {
            v->notify = map_capability(v, cap, &v->notify_length);
            v->notify_multiplier = pci_read(v->f, cap + CAP_MULTIPLIER, 4);
        } else if (type == CAP_ISR && v->isr == NULL) {
            v->isr = map_capability(v, cap, &length);
        } else if (type == CAP_CONFIG && v->config == NULL) {
            v->config = map_capability(v, cap, &v->config_length);
        }
    }
}

int virtio_open(struct virtio_device *v, struct pci_function *f)
{
    *v = (struct virtio_device){.f = f};
    map_all(v);
    if (v->common == NULL || v->notify == NULL || v->isr == NULL) {
        return -ENOTSUP;
    }
    pci_enable(f, PCI_COMMAND_MEMORY);
    return 0;
}

static uint8_t read_status(const struct virtio_device *v)
{
    return v->common[COMMON_STATUS];
}

static void add_status(struct virtio_device *v, uint8_t bits)
{
    v->common[COMMON_STATUS] = (uint8_t)(read_status(v) | bits);
}

static volatile uint32_t *common32(const struct virtio_device *v, enum common_register r)
{
    return (volatile uint32_t *)(v->common + r);
}

static int reset(struct virtio_device *v)
{
    v->common[COMMON_STATUS] = 0;
    for (unsigned i = 0; i < RESET_TRIES; i++) {
        if (read_status(v) == 0) {
            return 0;
        }
        nk_thread_sleep_ns(RESET_INTERVAL_NS);
    }
    return -EIO;
}

int virtio_negotiate(struct virtio_device *v, uint64_t wanted)
{
    /* A function that is not there reads as all ones, or as zeros; its id tells. */
    if (pci_read(v->f, PCI_VENDOR, 2) != VIRTIO_VENDOR || reset(v) != 0) {
        return -EIO;
    }
    pci_enable(v->f, PCI_COMMAND_MASTER);
    add_status(v, STATUS_ACKNOWLEDGE);
    add_status(v, STATUS_DRIVER);
    uint64_t offered = 0;
    for (uint32_t i = 0; i < 2; i++) {
        *common32(v, COMMON_DEVICE_FEATURE_SELECT) = i;
        offered |= (uint64_t)*common32(v, COMMON_DEVICE_FEATURE) << (32 * i);
    }
    v->features = offered & (wanted | VIRTIO_VERSION_1);
    for (uint32_t i = 0; i < 2; i++) {
        *common32(v, COMMON_DRIVER_FEATURE_SELECT) = i;
        *common32(v, COMMON_DRIVER_FEATURE) = (uint32_t)(v->features >> (32 * i));
    }
    add_status(v, STATUS_FEATURES_OK);
    if (!(v->features & VIRTIO_VERSION_1) || !(read_status(v) & STATUS_FEATURES_OK)) {
        virtio_fail(v);
        return -ENOTSUP;
    }
    *(volatile uint16_t *)(v->common + COMMON_CONFIG_VECTOR) = NO_VECTOR;
    return 0;
}

void virtio_start(struct virtio_device *v)
{
    add_status(v, STATUS_DRIVER_OK);
}

void virtio_fail(struct virtio_device *v)
{
    if (reset(v) == 0) {
        add_status(v, STATUS_FAILED);
    }
    pci_disable(v->f, PCI_COMMAND_MASTER);
}

int virtio_attach(struct virtio_device *v, const char *name, nk_irq_handler fn, void *arg)
{
    int err = pci_irq_open(v->f, 1, PCI_IRQ_MSIX | PCI_IRQ_INTX);
    if (err != 0) {
        return err;
    }
    err = nk_irq_attach(v->f->irq[0], name, fn, arg);
    if (err != 0) {
        pci_irq_close(v->f);
    }
    return err;
}

void virtio_detach(struct virtio_device *v, nk_irq_handler fn, void *arg)
{
    nk_irq_detach(v->f->irq[0], fn, arg);
    pci_irq_close(v->f);
}

bool virtio_interrupted(const struct virtio_device *v)
{
    if (v->f->irq_kind != PCI_IRQ_INTX) {
        return true;
    }
    uint8_t causes = *v->isr;                  /* reading it drops the line */
    return causes != 0 && causes != UINT8_MAX; /* all ones: the device is not there any more */
}

uint32_t virtio_config_read(const struct virtio_device *v, unsigned offset, unsigned bytes)
{
    if (v->config == NULL || offset + bytes > v->config_length) {
        return 0;
    }
    volatile uint8_t *at = v->config + offset;
    return bytes == 1 ? *at : bytes == 2 ? *(volatile uint16_t *)at : *(volatile uint32_t *)at;
}
