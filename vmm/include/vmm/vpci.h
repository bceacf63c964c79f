/* Functions on the guest's PCI bus that are devices of their own.
 *
 * Lock order: the PCI device's lock > the function's device > the function's messages, the bus's
 * lines. A device calls vpci_interrupt() and vpci_message() with its own lock held or without;
 * nothing else here with it.
 * Spec: PCI Local Bus 3.0, sections 6.2 (configuration space) and 6.8 (messages). */
#pragma once

#include <vmm/host.h>
#include <vmm/vdev.h>
#include <vmm/vm.h>

#define VPCI_BARS 6

#define VPCI_CONFIG_SIZE  256
#define VPCI_CAPABILITIES 0x40 /* where a function's own configuration space begins */
#define VPCI_VECTORS      32   /* of a function, at most */
#define VPCI_VECTOR_SIZE  16   /* an entry of MSI-X's table: address, data, control */

/* dev/vpci_message.c */
struct vpci_messages {
    struct vmm_lock lock;    /* protects: the rest, and the capabilities' bytes in `config` */
    uint32_t signal;         /* enum vpci_signal, atomic to read */
    uint8_t msi_at, msix_at; /* capabilities, 0: none */
    uint8_t table[VPCI_VECTORS][VPCI_VECTOR_SIZE];
    uint32_t pending; /* vectors that were raised while they could not be sent */
    uint64_t sent;
};

/* Part of the device's state; the device fills what is above the line before vpci_add(). */
struct vpci_function {
    struct vdev *dev;
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class; /* and revision */
    struct {
        uint32_t size; /* of a memory range below 4 GiB, a power of two from 4 KiB; 0: none */
        vdev_access_fn fn;
    } bar[VPCI_BARS];
    /* Vectors of MSI-X and of MSI, the latter a power of two; 0: without. MSI-X's table and pending
     * bits fill a memory range of their own, which the device leaves alone. A VM without messages
     * (vm_config.no_msi) has neither, and 0 stands here after vpci_add(). */
    uint8_t msix_vectors, msix_bar, msi_vectors;
    /* Each access to the upper part of the configuration space, from VPCI_CAPABILITIES: before the
     * bytes in `config` are read, or after they were written. NULL: none. PCI device's lock held.
     */
    void (*config_access)(struct vpci_function *f, unsigned at, unsigned size, bool write);
    /* ------ */
    uint16_t devfn;
    uint8_t config[VPCI_CONFIG_SIZE], writable[VPCI_CONFIG_SIZE]; /* the latter: which bits */
    uint16_t capability_last, capability_end;                     /* in config; 0: none yet */
    uint64_t mapped[VPCI_BARS]; /* where on the bus a range answers now; 0: nowhere */
    uint32_t asserted;          /* atomic: its interrupt pin */
    struct vpci_messages messages;
};

/* Append a capability of `size` bytes (a multiple of 4) to the list, before vpci_add(): its place
 * in `config`, 0: there is no room. All have 192 bytes, of which MSI takes 24 and MSI-X 12. */
unsigned vpci_add_capability(struct vpci_function *f, uint8_t id, unsigned size);
/* Put the function into the next free slot, with pin INTA. Context: control, from the device's
 * create; the PCI device is there. A device has one function at most.
 * Errors: -VMM_ENOSPC, -VMM_EINVAL vectors that cannot be. */
int vpci_add(struct vpci_function *f) VMM_MUST_CHECK;
void vpci_remove(struct vpci_function *f); /* from the device's destroy */

/* The level of its interrupt pin, which counts while messages are off. Context: any thread. */
void vpci_interrupt(struct vpci_function *f, bool asserted);
/* Has the guest switched MSI or MSI-X on? */
static inline bool vpci_messages_on(const struct vpci_function *f)
{
    return __atomic_load_n(&f->messages.signal, __ATOMIC_ACQUIRE) != VPCI_PIN;
}
/* Raise a vector: the message is sent now or, while the guest masks it, stays pending. Nothing
 * happens while messages are off, or if there is no such vector. With MSI, the vectors that the
 * guest did not grant fold onto those that it did. Context: any thread. */
void vpci_message(struct vpci_function *f, unsigned vector);

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
