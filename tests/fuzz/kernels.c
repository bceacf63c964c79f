/* A kernel file of each protocol but Linux' own (bzimage.c): multiboot 1 and 2, ELF with a PVH
 * note, flat images. The first byte says which loader gets it, whatever it is, the second where the
 * module begins. */
#include <string.h>
#include "fuzz.h"
#include "dev/platform.h"
#include "guest_cpu.h"
#include "load/boot.h"

/* As the loaders that take ELF files do it. */
static int boot_elf_load_checked(const struct boot *b)
{
    struct boot_elf elf;
    int error = boot_elf_check(b, &elf);

    return error == 0 ? boot_elf_load(b) : error;
}

static const struct {
    bool (*is)(const struct boot_file *f); /* NULL: any file will do */
    int (*load)(const struct boot *b);
} loader_table[] = {
    {boot_is_multiboot, boot_load_multiboot},
    {boot_is_multiboot2, boot_load_multiboot2},
    {boot_is_pvh, boot_load_pvh},
    {boot_is_elf, boot_elf_load_checked},
    {NULL, boot_load_flat32},
    {NULL, boot_load_flat16},
};

void fuzz_kernels(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = {data, data + size};
    unsigned which = fuzz_byte(&bytes) % VMM_ARRAY_COUNT(loader_table);
    size_t module = fuzz_byte(&bytes);
    struct fixture *f = fixture_create(VMM_MIB(8), 1);
    struct vmm_error err = {""};
    const struct boot boot = {
        .vm = f->vm,
        .kernel = {"kernel", bytes.at, (size_t)(bytes.end - bytes.at)},
        .module = {"module", data, module < size ? module : 0},
        .args = "args",
        .err = &err,
    };

    strcpy(f->vm->config.kernel_path, "kernel");
    f->vm->config.load_address = (uint64_t)module << 16;
    guest_set_mode(f, GUEST_REAL);
    assert_int_equal(vmm_platform_create(f->vm), 0);
    if ((loader_table[which].is == NULL || loader_table[which].is(&boot.kernel)) &&
        loader_table[which].load(&boot) != 0) {
        assert_true(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    }
    fixture_destroy(f);
}
