/* The library's host hooks on this kernel. Spec: vmm/include/vmm/host.h, docs/porting.md. */
#pragma once

#include <vmm/host.h>

#include "base/types.h"

/* The table, complete; vm_event is the caller's. Context: after SMP start and time_init(). */
const struct vmm_host_ops *vmm_host_ops(void (*vm_event)(void *host, void *vm_cookie, int state,
                                                         int reason));

/* The `host` of a VM's hooks (vm_config.host): what it holds is counted under a tag of its own. */
struct vmm_host_vm {
    uint8_t tag;
};

/* A host that counts for "vm <name>". */
void vmm_host_vm_open(struct vmm_host_vm *vm, const char *name);

/* The VM is destroyed. Errors: -EBUSY something of it was not given back; a line in the log says
 * how much, and `mem` goes on showing it. */
int vmm_host_vm_close(struct vmm_host_vm *vm);
