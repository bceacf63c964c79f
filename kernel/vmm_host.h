/* The library's host hooks on this kernel. Spec: vmm/include/vmm/host.h, docs/porting.md. */
#pragma once

#include <vmm/host.h>

/* The table, complete; vm_event is the caller's. Context: after SMP start and time_init(). */
const struct vmm_host_ops *vmm_host_ops(void (*vm_event)(void *host, void *vm_cookie, int state,
                                                         int reason));
