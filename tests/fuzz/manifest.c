/* A manifest: it is refused with one line, or gives a configuration that holds together. */
#include <string.h>
#include "fixture.h"
#include "fuzz.h"

void fuzz_manifest(const uint8_t *data, size_t size)
{
    struct fixture *f = fixture_create(0, 1);
    struct vm_config config;
    struct vmm_error err = {""};

    posix_host_add_file(f->host, "linux/vmlinuz", "kernel", 6);
    posix_host_add_file(f->host, "linux/initrd", "initrd", 6);
    if (vmm_manifest_parse(f->vmm, "fuzz.json", (const char *)data, size, &config, &err) != 0) {
        assert_true(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    } else {
        assert_in_range(config.vcpu_count, 1, VMM_VCPUS_MAX);
        assert_true(config.name[0] != '\0');
        assert_true((config.kernel_path[0] != '\0') != (config.firmware_path[0] != '\0'));
    }
    fixture_destroy(f);
}
