#include "kernel/memory.h"

#include "base/layout.h"
#include "mm/bootmem.h"

extern const uint8_t _text[], _end[];

void memory_init(const struct bootinfo *info)
{
    for (uint32_t i = 0; i < info->range_count; i++) {
        const struct bootinfo_range *r = &info->range[i];
        if (r->kind == BOOTINFO_RAM) {
            bootmem_add(NK_PA(r->base), r->length);
        } else if (r->kind == BOOTINFO_ACPI_RECLAIM || r->kind == BOOTINFO_ACPI_NVS) {
            bootmem_map_only(NK_PA(r->base), r->length);
        }
    }
    bootmem_reserve(NK_PA(0), NK_PAGE_SIZE); /* BIOS data; and 0 stays an invalid address */
    bootmem_reserve(NK_PA(NK_TRAMPOLINE_PA), NK_PAGE_SIZE);
    bootmem_reserve(nk_va_to_pa(_text), (uint64_t)(_end - _text));
    for (uint32_t i = 0; i < info->module_count; i++) {
        bootmem_reserve(NK_PA(info->module[i].base), info->module[i].length);
    }
}
