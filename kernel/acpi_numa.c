/* Which CPUs and which memory belong together: SRAT, and how far apart they are: SLIT.
 * Spec: ACPI 6.4 sections 5.2.16 and 5.2.17. */

#include "base/platform.h"
#include "kernel/acpi.h"

enum srat_entry_type {
    SRAT_LAPIC = 0,
    SRAT_MEMORY = 1,
    SRAT_X2APIC = 2,
};

#define SRAT_ENTRIES 48
#define SRAT_ENABLED 1u

#define SLIT_COUNT  36
#define SLIT_MATRIX 44

/* Proximity domains are any numbers; nodes are counted from 0 in the order of their first mention.
 * False: one too many. */
static bool node_of_domain(uint32_t domain, unsigned *node)
{
    struct acpi_numa *numa = &acpi.numa;
    for (unsigned i = 0; i < numa->node_count; i++) {
        if (numa->domain[i] == domain) {
            *node = i;
            return true;
        }
    }
    if (numa->node_count == ACPI_NODES_MAX) {
        nk_warn("acpi: proximity domain %u is one too many and was left out", domain);
        return false;
    }
    *node = numa->node_count;
    numa->domain[numa->node_count++] = domain;
    return true;
}

static void add_cpu(uint32_t apic_id, uint32_t domain)
{
    struct acpi_numa *numa = &acpi.numa;
    unsigned node;
    if (numa->cpu_count < ACPI_CPUS_MAX && node_of_domain(domain, &node)) {
        numa->cpu[numa->cpu_count].apic_id = apic_id;
        numa->cpu[numa->cpu_count++].node = node;
    }
}

static void add_memory(uint64_t base, uint64_t length, uint32_t domain)
{
    struct acpi_numa *numa = &acpi.numa;
    unsigned node;
    if (length == 0 || base + length < base || !node_of_domain(domain, &node)) {
        return;
    }
    if (numa->memory_count == ACPI_MEMORY_MAX) {
        nk_warn("acpi: memory at 0x%lx is one range too many; its node was left out", base);
        return;
    }
    numa->memory[numa->memory_count++] = (struct acpi_memory){base, length, node};
}

static void read_entry(const struct acpi_header *t, uint32_t at, uint32_t type, uint32_t size)
{
    static const uint8_t size_table[] = {[SRAT_LAPIC] = 16, [SRAT_MEMORY] = 40, [SRAT_X2APIC] = 24};
    static const uint8_t flags_table[] = {[SRAT_LAPIC] = 4, [SRAT_MEMORY] = 28, [SRAT_X2APIC] = 12};
    if (type >= sizeof(size_table)) {
        return;
    }
    if (size < size_table[type]) {
        nk_warn("acpi: SRAT entry %u of %u bytes was left out", type, size);
        return;
    }
    if (!(acpi_field(t, at + flags_table[type], 4) & SRAT_ENABLED)) {
        return;
    }
    switch (type) {
    case SRAT_LAPIC: /* bits 7:0 of the domain here, 31:8 there */
        add_cpu((uint32_t)acpi_field(t, at + 3, 1),
                (uint32_t)(acpi_field(t, at + 2, 1) | acpi_field(t, at + 9, 3) << 8));
        break;
    case SRAT_MEMORY:
        add_memory(acpi_field(t, at + 8, 8), acpi_field(t, at + 16, 8),
                   (uint32_t)acpi_field(t, at + 2, 4));
        break;
    default:
        add_cpu((uint32_t)acpi_field(t, at + 8, 4), (uint32_t)acpi_field(t, at + 4, 4));
        break;
    }
}

void acpi_read_srat(const struct acpi_header *srat)
{
    uint32_t at = SRAT_ENTRIES;
    while (at + 2 <= srat->length) {
        uint32_t size = (uint32_t)acpi_field(srat, at + 1, 1);
        if (size < 2 || at + size > srat->length) {
            nk_warn("acpi: SRAT entry at %u has the bad size %u; the rest was left out", at, size);
            return;
        }
        read_entry(srat, at, (uint32_t)acpi_field(srat, at, 1), size);
        at += size;
    }
}

void acpi_read_slit(const struct acpi_header *slit)
{
    struct acpi_numa *numa = &acpi.numa;
    uint64_t count = acpi_field(slit, SLIT_COUNT, 8);
    if (count > UINT8_MAX || SLIT_MATRIX + count * count > slit->length) {
        nk_warn("acpi: SLIT of %lu domains does not fit its length; it was left out", count);
        return;
    }
    for (unsigned from = 0; from < numa->node_count; from++) {
        for (unsigned to = 0; to < numa->node_count; to++) {
            uint64_t row = numa->domain[from], column = numa->domain[to];
            if (row < count && column < count) {
                numa->distance[from][to] =
                    (uint8_t)acpi_field(slit, (uint32_t)(SLIT_MATRIX + row * count + column), 1);
            }
        }
    }
}

unsigned acpi_node_of_apic(uint32_t apic_id)
{
    for (unsigned i = 0; i < acpi.numa.cpu_count; i++) {
        if (acpi.numa.cpu[i].apic_id == apic_id) {
            return acpi.numa.cpu[i].node;
        }
    }
    return 0;
}
