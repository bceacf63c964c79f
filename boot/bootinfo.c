/* The common half of the roads into the kernel: which record it is, and what they all add.
 * The records themselves: multiboot1.c, multiboot2.c, pvh.c, coreboot.c. */

#include "boot/bootinfo.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "boot/record.h"

const void *record_at(uint64_t physical, uint64_t size)
{
    if (physical == 0 || size > RECORD_LIMIT || physical > RECORD_LIMIT - size) {
        return NULL;
    }
    return nk_pa_to_va(NK_PA(physical));
}

void record_copy_text(char out[BOOTINFO_TEXT_MAX], const char *text, size_t max, const char *what)
{
    size_t len = strnlen(text, max);
    if (len >= BOOTINFO_TEXT_MAX) {
        nk_warn("boot: %s is longer than %d bytes and was cut", what, BOOTINFO_TEXT_MAX - 1);
        len = BOOTINFO_TEXT_MAX - 1;
    }
    memcpy(out, text, len);
    out[len] = '\0';
}

void record_add_range(struct bootinfo *info, uint64_t base, uint64_t length, uint32_t kind)
{
    if (length == 0) {
        return;
    }
    if (base + length < base) {
        nk_warn("boot: memory range 0x%lx+0x%lx wraps and was left out", base, length);
        return;
    }
    if (kind < BOOTINFO_RAM || kind > BOOTINFO_BAD) {
        kind = BOOTINFO_RESERVED; /* kinds of later standards are not ours to use */
    }
    if (info->range_count > 0) {
        struct bootinfo_range *last = &info->range[info->range_count - 1];
        if (last->kind == kind && last->base + last->length == base) {
            last->length += length;
            return;
        }
    }
    if (info->range_count == BOOTINFO_RANGES_MAX) {
        nk_warn("boot: memory range 0x%lx+0x%lx is one too many and was left out", base, length);
        return;
    }
    info->range[info->range_count++] = (struct bootinfo_range){base, length, kind};
}

/* "name rest of the line" -> name and args. */
static void split_module_line(struct bootinfo_module *m, const char *line, size_t max)
{
    size_t len = strnlen(line, max);
    size_t start = 0;
    while (start < len && line[start] == ' ') {
        start++;
    }
    size_t end = start;
    while (end < len && line[end] != ' ') {
        end++;
    }
    record_copy_text(m->name, line + start, end - start, "a module's name");
    while (end < len && line[end] == ' ') {
        end++;
    }
    record_copy_text(m->args, line + end, len - end, "a module's command line");
}

void record_add_module(struct bootinfo *info, uint64_t start, uint64_t end, const char *line,
                       size_t max)
{
    if (end <= start) {
        nk_warn("boot: module %u is empty and was left out", info->module_count);
        return;
    }
    if (info->module_count == BOOTINFO_MODULES_MAX) {
        if (!info->modules_left_out) {
            nk_warn("boot: more than %d modules; the rest was left out", BOOTINFO_MODULES_MAX);
        }
        info->modules_left_out = true;
        return;
    }
    struct bootinfo_module *m = &info->module[info->module_count++];
    m->base = start;
    m->length = end - start;
    split_module_line(m, line, max);
}

static bool has_ram(const struct bootinfo *info)
{
    for (uint32_t i = 0; i < info->range_count; i++) {
        if (info->range[i].kind == BOOTINFO_RAM) {
            return true;
        }
    }
    return false;
}

int bootinfo_parse(struct bootinfo *info, uint32_t magic, uint32_t record)
{
    memset(info, 0, sizeof(*info));
    bool found = true;
    int err;
    if (magic == MULTIBOOT1_LOADER_MAGIC) {
        info->road = "multiboot1";
        err = multiboot1_parse(info, record);
    } else if (magic == MULTIBOOT2_LOADER_MAGIC) {
        info->road = "multiboot2";
        err = multiboot2_parse(info, record);
    } else if (magic == PVH_MAGIC) {
        info->road = "pvh";
        err = pvh_parse(info, record);
    } else {
        info->road = "coreboot";
        err = coreboot_parse(info, &found);
    }
    if (!found) {
        nk_error("boot: no known loader: magic 0x%x, and no tables of coreboot's", magic);
        return -EINVAL;
    }
    if (err == 0 && !has_ram(info)) {
        nk_error("boot: the %s record has no usable memory in it", info->road);
        err = -EINVAL;
    }
    if (err == 0) {
        record_unfold(info);
    }
    return err;
}

bool bootinfo_option(const struct bootinfo *info, const char *key, char *out, size_t out_size)
{
    size_t key_len = strlen(key);
    const char *p = info->cmdline;
    while (*p != '\0') {
        while (*p == ' ') {
            p++;
        }
        size_t len = 0;
        while (p[len] != '\0' && p[len] != ' ') {
            len++;
        }
        bool bare = len == key_len;
        if (len >= key_len && strncmp(p, key, key_len) == 0 && (bare || p[key_len] == '=')) {
            const char *value = p + key_len + (bare ? 0 : 1);
            size_t value_len = (size_t)(p + len - value);
            if (out_size > 0) {
                size_t n = value_len < out_size ? value_len : out_size - 1;
                memcpy(out, value, n);
                out[n] = '\0';
            }
            return true;
        }
        p += len;
    }
    return false;
}
