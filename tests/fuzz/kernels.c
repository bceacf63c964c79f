/* A kernel or firmware file under any protocol, with modules cut from it, loaded as a VM's start
 * does it. The first byte says which protocol and how many modules, the second where the modules
 * begin, and where a flat image goes. */
#include <string.h>
#include "fuzz.h"
#include "load/load.h"
#include "scripted.h"

#define PROTOCOLS (VM_PROTOCOL_FLAT16 + 1)
#define FIRMWARE  (PROTOCOLS)

static void configure(struct vm_config *c, unsigned protocol, unsigned modules, uint8_t place)
{
    c->mem_bytes = VMM_MIB(8);
    c->lazy_memory = true;
    c->load_address = (uint64_t)place << 16;
    strcpy(c->boot_args, "args");
    if (protocol == FIRMWARE) {
        c->kernel_path[0] = '\0';
        strcpy(c->firmware_path, "kernel");
        return;
    }
    c->protocol = (enum vm_protocol)protocol;
    strcpy(c->kernel_path, "kernel");
    if (modules > 0) {
        strcpy(c->initrd_path, "module");
    }
    for (c->module_count = 0; c->module_count + 1 < modules; c->module_count++) {
        strcpy(c->module[c->module_count], "module with text");
    }
}

void fuzz_kernels(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = {data, data + size};
    uint8_t how = fuzz_byte(&bytes), place = fuzz_byte(&bytes);
    struct scripted *m = scripted_host(1);

    configure(&m->config, how % (PROTOCOLS + 1u), how >> 5, place);
    posix_host_add_file(m->host, "kernel", bytes.at, (size_t)(bytes.end - bytes.at));
    posix_host_add_file(m->host, "module", data, place < size ? place : 0);
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    vmm_vcpu_reset(m->vm->vcpu[0]);
    vmm_devices_reset(m->vm);
    m->err.text[0] = '\0';
    if (vmm_load(m->vm, &m->err) != 0) {
        assert_true(m->err.text[0] != '\0' && strchr(m->err.text, '\n') == NULL);
    }
    scripted_destroy(m);
}
