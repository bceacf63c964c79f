#include "kernel/memory.h"

#include "base/layout.h"
#include "kernel/log_keep.h"
#include "base/percpu.h"
#include "base/x86.h"
#include "kernel/acpi.h"
#include "mm/bootmem.h"
#include "mm/numa.h"

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
    bootmem_reserve(NK_PA(LOG_KEEP_PA), LOG_KEEP_BYTES);
    bootmem_reserve(nk_va_to_pa(_text), (uint64_t)(_end - _text));
    for (uint32_t i = 0; i < info->module_count; i++) {
        /* Modules may lie in the flash. */
        bootmem_map_only(NK_PA(info->module[i].base), info->module[i].length);
        bootmem_reserve(NK_PA(info->module[i].base), info->module[i].length);
    }
}

_Static_assert(ACPI_NODES_MAX <= NUMA_NODES_MAX, "every node of ACPI is one of mm/");

void memory_init_nodes(void)
{
    const struct acpi_numa *numa = &acpi.numa;
    for (unsigned from = 0; from < numa->node_count; from++) {
        numa_add_node(from);
        for (unsigned to = 0; to < numa->node_count; to++) {
            if (numa->distance[from][to] != 0) {
                numa_set_distance(from, to, numa->distance[from][to]);
            }
        }
    }
    for (unsigned i = 0; i < numa->memory_count; i++) {
        const struct acpi_memory *m = &numa->memory[i];
        numa_add_memory(NK_PA(m->base), m->length, m->node);
    }
    /* The initial APIC id; the local APIC itself is not there yet. */
    this_cpu->node = acpi_node_of_apic(x86_cpuid(1, 0).ebx >> 24);
}
