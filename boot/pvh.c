/* The PVH start record: QEMU's -kernel, Firecracker, Cloud Hypervisor and Xen give it to a kernel
 * that names its 32-bit entry in a note. Spec: Xen's public/arch-x86/hvm/start_info.h. */

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "boot/record.h"

#define WITH_MAP 1 /* version from which on there is a memory map */

struct pvh_record {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp;
    uint64_t map; /* version 1 */
    uint32_t map_count, reserved;
};
_Static_assert(sizeof(struct pvh_record) == 56, "PVH start record layout");

struct pvh_module {
    uint64_t base, length, cmdline, reserved;
};

struct pvh_range {
    uint64_t base, length;
    uint32_t kind, reserved;
};

static const char *text_at(uint64_t physical, size_t *max)
{
    const char *text = record_at(physical, 1);
    *max = text == NULL ? 0 : RECORD_LIMIT - physical;
    return text == NULL ? "" : text;
}

static int read_map(struct bootinfo *info, const struct pvh_record *r)
{
    const struct pvh_range *range = record_at(r->map, (uint64_t)r->map_count * sizeof(*range));
    if (range == NULL) {
        nk_error("boot: PVH memory map at 0x%lx is out of reach", r->map);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < r->map_count; i++) {
        record_add_range(info, range[i].base, range[i].length, range[i].kind);
    }
    return 0;
}

static int read_modules(struct bootinfo *info, const struct pvh_record *r)
{
    const struct pvh_module *module =
        record_at(r->modules, (uint64_t)r->module_count * sizeof(*module));
    if (module == NULL && r->module_count > 0) {
        nk_error("boot: PVH module list at 0x%lx is out of reach", r->modules);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < r->module_count; i++) {
        size_t max;
        const char *line = text_at(module[i].cmdline, &max);
        uint64_t end = module[i].base + module[i].length;
        record_add_module(info, module[i].base, end, line, max);
    }
    return 0;
}

int pvh_parse(struct bootinfo *info, uint32_t record)
{
    const struct pvh_record *r = record_at(record, sizeof(*r));
    if (r == NULL || r->magic != PVH_MAGIC || r->version < WITH_MAP) {
        nk_error("boot: PVH record at 0x%x is out of reach, malformed or without memory map",
                 record);
        return -EINVAL;
    }
    size_t max;
    const char *text = text_at(r->cmdline, &max);
    record_copy_text(info->cmdline, text, max, "the command line");
    record_copy_text(info->loader, "PVH", sizeof("PVH"), "the loader's name");
    info->rsdp = r->rsdp;
    int err = read_map(info, r);
    return err == 0 ? read_modules(info, r) : err;
}
