/* Modules that are containers (boot/pack/pack.h): roads that carry one file only, such as PVH's
 * single initrd, bring all files of a node in one. Its parts must be stored, not packed: they are
 * used where they lie, before there is memory to unpack them to. */

#include <string.h>

#include "base/platform.h"
#include "boot/pack/pack.h"
#include "boot/record.h"

static const char *part_error(const struct pack *p, const struct pack_entry *e)
{
    return e->method == PACK_STORED ? pack_check(p, e) : "it is packed, not stored";
}

static void unfold_part(struct bootinfo *info, const struct pack *p, const struct pack_entry *e,
                        uint64_t base)
{
    const char *error = part_error(p, e);
    if (error != NULL) {
        nk_error("boot: container: %s: %s; it is left out", e->name, error);
    } else if (e->kind == PACK_MODULE) {
        record_add_module(info, base + e->offset, base + e->offset + e->stored, e->name,
                          sizeof(e->name));
    } else if (e->kind == PACK_CMDLINE && info->cmdline[0] == '\0') {
        record_copy_text(info->cmdline, (const char *)p->base + e->offset, e->stored,
                         "the command line");
    }
}

void record_unfold(struct bootinfo *info)
{
    uint32_t count = info->module_count;
    for (uint32_t i = 0; i < count; i++) {
        struct bootinfo_module m = info->module[i];
        const void *base = record_at(m.base, m.length);
        if (base == NULL || m.length < PACK_PAGE ||
            memcmp(base, PACK_MAGIC, sizeof(PACK_MAGIC) - 1) != 0) {
            continue;
        }
        struct pack pack;
        const char *error = pack_open(&pack, base, m.length, 0);
        if (error != NULL) {
            nk_error("boot: container %s: %s; it is left out", m.name, error);
            continue;
        }
        for (uint32_t k = 0; k < pack.header->count; k++) {
            unfold_part(info, &pack, &pack.entry[k], m.base);
        }
    }
}
