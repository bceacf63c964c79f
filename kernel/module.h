/* Files that came with the kernel: boot modules by name. */
#pragma once

#include "base/types.h"

struct nk_module {
    const char *name, *args;
    const void *data;
    uint64_t size;
};
bool nk_module_get(unsigned i, struct nk_module *out);

/* By the whole name, or else by its last path components: "vms/a.json" finds "/boot/vms/a.json". */
bool nk_module_find(const char *name, struct nk_module *out);
