/* Flat images: no header, the manifest says where they go. They are entered at their first byte, in
 * 32-bit protected mode with flat segments, or in real mode with a BIOS' services, as a boot sector
 * is. */
#include "load/boot.h"

#include "core/vcpu.h"

#define ABOVE_BOOT_DATA (BOOT_ARGS + BOOT_ARGS_MAX)
#define LOW_END         UINT64_C(0x9fc00) /* conventional memory */
#define FLAT16_LOWEST   UINT64_C(0x500)   /* above the vectors and the BIOS data area */
#define FLAT16_STACK    0x7c00            /* downwards: where a BIOS leaves it */
#define FIRST_DISK      0x80

static int place_image(const struct boot *b, uint64_t lowest, uint64_t end)
{
    uint64_t at = b->vm->config.load_address;

    if (at < lowest || at > end || end - at < b->kernel.size) {
        return vmm_fail(b->vm->vmm, b->err, VMM_EINVAL,
                        "%s: %s: %llu bytes at %#llx do not fit between %#llx and %#llx",
                        b->vm->config.name, b->kernel.name, (unsigned long long)b->kernel.size,
                        (unsigned long long)at, (unsigned long long)lowest,
                        (unsigned long long)end);
    }
    if (vmm_memory_write(b->vm, VMM_GPA(at), b->kernel.data, b->kernel.size) != 0) {
        return boot_refuse(b, "no RAM at its address");
    }
    return 0;
}

/* The module, and what the image is told: EBX its command line, ESI and ECX the module. */
static int tell(const struct boot *b)
{
    uint64_t *gpr = b->vm->vcpu[0]->gpr;
    uint64_t floor = b->vm->config.load_address + b->kernel.size;
    uint64_t module = 0;
    gpa_t rsdp; /* found by its signature below 1 MiB */
    int error = 0;

    if (b->module.size != 0) {
        error =
            boot_place_module(b, floor < BOOT_LOWEST ? BOOT_LOWEST : floor, UINT32_MAX, &module);
    }
    if (error == 0) {
        error = vmm_acpi_build(b->vm, &rsdp, b->err);
    }
    gpr[VMM_RBX] = BOOT_ARGS;
    gpr[VMM_RSI] = module;
    gpr[VMM_RCX] = b->module.size;
    return error;
}

int boot_load_flat32(const struct boot *b)
{
    uint64_t at = b->vm->config.load_address;
    uint64_t end = at < BOOT_LOWEST ? LOW_END : boot_ram_end(b->vm);
    int error = place_image(b, ABOVE_BOOT_DATA, end);

    if (error == 0) {
        error = boot_write_args(b, false);
    }
    if (error == 0) {
        error = boot_enter_protected(b, (uint32_t)at, 0, 0);
    }
    return error == 0 ? tell(b) : error;
}

int boot_load_flat16(const struct boot *b)
{
    uint32_t at = (uint32_t)b->vm->config.load_address;
    /* In the first segment if it is reached from there, as a boot sector expects. */
    uint16_t segment = at <= UINT16_MAX ? 0 : (uint16_t)(at >> 4);
    int error;

    if (b->args[0] != '\0') {
        return boot_refuse(b, "boot_args: an image entered in real mode takes none");
    }
    error = place_image(b, FLAT16_LOWEST, LOW_END);
    if (error == 0) {
        error =
            boot_enter_real(b, segment, (uint16_t)(at - ((uint32_t)segment << 4)), 0, FLAT16_STACK);
    }
    if (error == 0) {
        error = tell(b);
        b->vm->vcpu[0]->gpr[VMM_RBX] = 0;
        b->vm->vcpu[0]->gpr[VMM_RDX] = FIRST_DISK;
    }
    return error;
}
