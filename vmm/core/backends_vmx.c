/* VMX is the only back end of this library. */
#include "core/backend.h"

const struct vmm_backend *const vmm_backend_table[] = {&vmx_backend, NULL};
