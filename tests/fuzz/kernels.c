/* A kernel or firmware file under any protocol, with modules cut from it, loaded as a VM's start
 * does it. The first byte says which protocol and how many modules, the second where the modules
 * begin, and where a flat image goes. */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "load/load.h"
#include "scripted.h"

#define PROTOCOLS (VM_PROTOCOL_FLAT16 + 1)
#define FIRMWARE  PROTOCOLS
#define ROM_UNIT  VMM_KIB(64)

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

/* A firmware has a size that no input has: what is behind it is zero. */
static uint8_t *make_rom(const struct fuzz_bytes *b, uint8_t place, size_t *size)
{
    size_t given = (size_t)(b->end - b->at);
    uint8_t *rom;

    *size = (place % 4 + 1u) * ROM_UNIT;
    rom = calloc(1, *size);
    assert_non_null(rom);
    memcpy(rom, b->at, given < *size ? given : *size);
    return rom;
}

void fuzz_kernels(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = {data, data + size};
    uint8_t how = fuzz_byte(&bytes), place = fuzz_byte(&bytes);
    struct scripted *m = scripted_host(1);
    uint8_t *rom = NULL;
    size_t rom_size;

    configure(&m->config, how % (PROTOCOLS + 1u), how >> 5, place);
    if (m->config.firmware_path[0] != '\0' && place < 0x80) {
        rom = make_rom(&bytes, place, &rom_size);
        posix_host_add_file(m->host, "kernel", rom, rom_size);
    } else {
        posix_host_add_file(m->host, "kernel", bytes.at, (size_t)(bytes.end - bytes.at));
    }
    posix_host_add_file(m->host, "module", data, place < size ? place : 0);
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    vmm_vcpu_reset(m->vm->vcpu[0]);
    vmm_devices_reset(m->vm);
    m->err.text[0] = '\0';
    if (vmm_load(m->vm, &m->err) != 0) {
        assert_true(m->err.text[0] != '\0' && strchr(m->err.text, '\n') == NULL);
    }
    scripted_destroy(m);
    free(rom);
}
