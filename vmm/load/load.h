/* Guest loaders: put the guest's image and boot data into RAM, set vCPU 0's registers. */
#pragma once

#include <vmm/types.h>
#include "core/vm.h"

/* Load what the VM's configuration names; vCPUs have just been reset. Errors with one line in err.
 */
int vmm_load(struct vm *vm, struct vmm_error *err) VMM_MUST_CHECK;

/* What stands before the first blank of a module's line. path: as long as the line. */
void vmm_module_path(const char *module, char *path);

/* A firmware image at the top of 4 GiB; the vCPUs stay as RESET left them. */
int vmm_load_firmware(struct vm *vm, const void *data, uint64_t size,
                      struct vmm_error *err) VMM_MUST_CHECK;

/* E820 map of the VM's regions: entries of {u64 base, u64 size, u32 type}. Returns the count. */
struct vmm_e820 {
    uint64_t base, size;
    uint32_t type;
} __attribute__((packed));
unsigned vmm_e820_build(struct vm *vm, struct vmm_e820 *out, unsigned room);

/* ACPI tables written into guest RAM below 1 MiB (dev/acpi_tables.c). rsdp: where the RSDP lies. */
int vmm_acpi_build(struct vm *vm, gpa_t *rsdp, struct vmm_error *err) VMM_MUST_CHECK;
