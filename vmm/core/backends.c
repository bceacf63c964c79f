/* The back ends built into the library, in the order in which they are tried. */
#include "core/backend.h"

const struct vmm_backend *const vmm_backend_table[] = {&svm_backend, &vmx_backend, NULL};
