/* Messages of PCI functions, as dev/vpci.c sees them. */
#pragma once

#include <vmm/vm.h>
#include <vmm/vpci.h>

/* Capabilities and the range of the table; the function is not on the bus yet.
 * Errors: -VMM_EINVAL. */
int vpci_messages_create(struct vpci_function *f) VMM_MUST_CHECK;
void vpci_messages_reset(struct vpci_function *f); /* and what can be written of `config` */
/* The guest writes to configuration space, the bits that it may: there, and nowhere else, the
 * messages' capabilities change. */
void vpci_messages_write_config(struct vpci_function *f, unsigned at, const struct vdev_access *a);
/* Before the guest reads it. */
void vpci_messages_fill_config(struct vpci_function *f);
/* Table and pending vectors; after a load, what `config` says counts. */
int vpci_messages_transfer(struct vpci_function *f, struct vdev_stream *s) VMM_MUST_CHECK;
void vpci_messages_loaded(struct vpci_function *f);
void vpci_messages_report(struct vpci_function *f, struct vm_pci_function *out);
