/* A Linux kernel file, and an initial RAM disk cut from it. */
#include <string.h>
#include "fuzz.h"
#include "dev/platform.h"
#include "guest_cpu.h"
#include "load/boot.h"

void fuzz_bzimage(const uint8_t *data, size_t size)
{
    struct fixture *f = fixture_create(VMM_MIB(8), 1);
    struct vmm_error err = {""};
    size_t initrd = size > 0 ? data[size - 1] : 0;

    strcpy(f->vm->config.kernel_path, "kernel");
    guest_set_mode(f, GUEST_REAL);
    initrd = initrd < size ? initrd : 0;

    const struct boot boot = {
        .vm = f->vm,
        .kernel = {"kernel", data, size},
        .module = {"initrd", data, initrd},
        .args = "args",
        .err = &err,
    };
    assert_int_equal(vmm_platform_create(f->vm), 0);
    if (boot_load_linux(&boot) != 0) {
        assert_true(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    }
    fixture_destroy(f);
}
