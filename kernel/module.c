#include "kernel/module.h"

#include <string.h>

#include "base/layout.h"
#include "kernel/kernel.h"

bool nk_module_get(unsigned i, struct nk_module *out)
{
    if (i >= nk_bootinfo.module_count) {
        return false;
    }
    const struct bootinfo_module *m = &nk_bootinfo.module[i];
    *out = (struct nk_module){m->name, m->args, nk_pa_to_va(NK_PA(m->base)), m->length};
    return true;
}

/* Loaders differ in what they call a module: some give the whole path, some what the user wrote. */
static bool is_tail_of_path(const char *tail, const char *path)
{
    size_t path_length = strlen(path), tail_length = strlen(tail);
    if (tail_length > path_length || strcmp(path + path_length - tail_length, tail) != 0) {
        return false;
    }
    return tail_length == path_length || tail[0] == '/' ||
           path[path_length - tail_length - 1] == '/';
}

bool nk_module_find(const char *name, struct nk_module *out)
{
    for (unsigned i = 0; nk_module_get(i, out); i++) {
        if (strcmp(out->name, name) == 0) {
            return true;
        }
    }
    for (unsigned i = 0; *name && nk_module_get(i, out); i++) {
        if (is_tail_of_path(name, out->name)) {
            return true;
        }
    }
    return false;
}
