/* Firmware in ROM: the guest begins where a PC does, at the reset vector, 16 bytes below 4 GiB. */
#include "dev/platform.h"
#include "load/load.h"

#define TOP        VMM_GIB(4)
#define ROM_MIN    VMM_KIB(64) /* real mode's segment at the reset vector */
#define ROM_MAX    VMM_MIB(16)
#define ALIAS_TOP  VMM_MIB(1)
#define ALIAS_SIZE VMM_KIB(128) /* what the PIIX decodes below 1 MiB too */

_Static_assert(PLATFORM_LAPIC_BASE + VMM_PAGE_SIZE <= TOP - ROM_MAX, "ROM lies above the LAPIC");

static int fail(struct vm *vm, struct vmm_error *err, int error, const char *why)
{
    return vmm_fail(vm->vmm, err, error, "%s: %s: %s", vm->config.name, vm->config.firmware_path,
                    why);
}

/* By pages, since a region's blocks need not be contiguous in the host. */
static int fill_rom(struct vm *vm, gpa_t base, const uint8_t *data, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += VMM_PAGE_SIZE) {
        void *page = vmm_memory_ptr_write(vm, VMM_GPA(base.v + at), VMM_PAGE_SIZE);

        if (page == NULL) {
            return -VMM_ENOMEM;
        }
        __builtin_memcpy(page, data + at, VMM_PAGE_SIZE);
    }
    return 0;
}

int vmm_load_firmware(struct vm *vm, const void *data, uint64_t size, struct vmm_error *err)
{
    gpa_t base = VMM_GPA(TOP - size);
    uint64_t alias = size < ALIAS_SIZE ? size : ALIAS_SIZE;
    int error;

    if (size < ROM_MIN || size > ROM_MAX || size % VMM_PAGE_SIZE != 0) {
        return fail(vm, err, VMM_EINVAL,
                    "a firmware image has 64 KiB to 16 MiB, in pages of 4 KiB");
    }
    if (vmm_memory_find(vm, base) == NULL) {
        /* A reset is no control call that could add it. */
        if (__atomic_load_n(&vm->reset_wanted, __ATOMIC_SEQ_CST) != 0) {
            return fail(vm, err, VMM_ENOENT, "its ROM was taken away");
        }
        error = vmm_memory_add(vm, base, size, VMM_REGION_ROM);
        if (error != 0) {
            return fail(vm, err, -error, "no memory for the ROM");
        }
    }
    error = fill_rom(vm, base, data, size);
    if (error == 0) {
        /* RAM, not ROM: a firmware that unlocks the chipset's shadow RAM finds it unlocked. */
        error = vmm_memory_write(vm, VMM_GPA(ALIAS_TOP - alias),
                                 (const uint8_t *)data + size - alias, alias);
    }
    return error == 0 ? 0 : fail(vm, err, -error, "no memory behind the ROM's addresses");
}
