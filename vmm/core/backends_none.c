/* A library without a back end: vmm_create() says so, and the host goes on without VMs. */
#include "core/backend.h"

const struct vmm_backend *const vmm_backend_table[] = {NULL};
