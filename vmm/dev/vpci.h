/* Functions on the guest's PCI bus that are devices of their own.
 *
 * Lock order: the PCI device's lock > the function's device > the bus's interrupt lock. A device
 * calls vpci_interrupt() with its own lock held; nothing else here. */
#pragma once

#include <vmm/vdev.h>

#define VPCI_BARS 6

#define VPCI_CONFIG_SIZE  256
#define VPCI_CAPABILITIES 0x40 /* where a function's own configuration space begins */

/* Part of the device's state; the device fills what is above the line before vpci_add(). */
struct vpci_function {
    struct vdev *dev;
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class; /* and revision */
    struct {
        uint32_t size; /* of a memory range below 4 GiB, a power of two from 4 KiB; 0: none */
        vdev_access_fn fn;
    } bar[VPCI_BARS];
    /* Each access to the upper part of the configuration space, from VPCI_CAPABILITIES: before the
     * bytes in `config` are read, or after they were written. NULL: none. PCI device's lock held.
     */
    void (*config_access)(struct vpci_function *f, unsigned at, unsigned size, bool write);
    /* ------ */
    uint16_t devfn;
    uint8_t config[VPCI_CONFIG_SIZE], writable[VPCI_CONFIG_SIZE]; /* the latter: which bits */
    uint64_t mapped[VPCI_BARS]; /* where on the bus a range answers now; 0: nowhere */
    uint32_t asserted;          /* atomic: its interrupt pin */
};

/* Put the function into the next free slot, with pin INTA. Context: control, from the device's
 * create; the PCI device is there. Errors: -VMM_ENOSPC. */
int vpci_add(struct vpci_function *f) VMM_MUST_CHECK;
void vpci_remove(struct vpci_function *f); /* from the device's destroy */
void vpci_function_reset(struct vpci_function *f);
/* The level of its interrupt pin. Context: any thread. */
void vpci_interrupt(struct vpci_function *f, bool asserted);

static inline void vpci_put(uint8_t *config, unsigned at, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        config[at + i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint32_t vpci_get(const uint8_t *config, unsigned at, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint32_t)config[at + i] << (8 * i);
    }
    return value;
}
