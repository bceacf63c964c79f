/* Images: checkpoints of VMs, kept in the node's memory or on a block device. An image says which
 * manifest its VM came from, so that it can be restored after the VM is gone.
 *
 * `where` is an image's name, or "block:<device>": the whole device is the image then.
 * Threading: thread context, the VMs' lock held (kernel/vms.h). */
#pragma once

#include <vmm/vm.h>
#include "base/types.h"

#define VM_IMAGE_NAME_MAX     32
#define VM_IMAGE_MANIFEST_MAX 128

struct vm_image_info {
    char vm[VMM_NAME_MAX];
    char manifest[VM_IMAGE_MANIFEST_MAX];
    uint64_t bytes;
    uint64_t taken_ns; /* UTC since 1970 */
};

/* Write a VM there; an image of that name gives way when the new one is complete. What is on a
 * device is worth nothing from the first byte on. err has the line. */
int vm_image_save(struct vm *vm, const char *manifest, const char *where,
                  struct vmm_error *err) NK_MUST_CHECK;
/* What is there? err has the line. */
int vm_image_find(const char *where, struct vm_image_info *out,
                  struct vmm_error *err) NK_MUST_CHECK;
/* Into a VM that does not run; it is paused then. err has the line. */
int vm_image_restore(struct vm *vm, const char *where, struct vmm_error *err) NK_MUST_CHECK;
int vm_image_drop(const char *name) NK_MUST_CHECK; /* -ENOENT; of those in memory */

/* The i-th in memory; false past the last. */
bool vm_image_get(unsigned i, const char **name, struct vm_image_info *out);
