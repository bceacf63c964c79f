/* Static ACPI tables of the node: found, checked, kept. Spec: ACPI 6.4 chapter 5. */
#pragma once

#include "base/types.h"
#include "boot/bootinfo.h"

#define ACPI_CPUS_MAX    CONFIG_NR_CPUS
#define ACPI_IOAPICS_MAX 8

struct acpi_cpu {
    uint32_t apic_id, acpi_uid;
    bool enabled;
};

struct acpi_ioapic {
    uint32_t address, gsi_base, id;
};

struct acpi_override { /* an ISA line that is wired elsewhere */
    uint32_t gsi;
    bool present, level, active_low;
};

struct acpi_info {
    unsigned cpu_count, ioapic_count;
    struct acpi_cpu cpu[64];
    struct acpi_ioapic ioapic[ACPI_IOAPICS_MAX];
    struct acpi_override isa[16];
    uint64_t lapic_address;
    bool has_8259;
    uint64_t hpet_address;         /* 0: none */
    uint32_t pm_timer_port;        /* 0: none */
    bool pm_timer_32bit;
    uint32_t pm1a_control, pm1b_control; /* ports */
    uint16_t s5_type_a, s5_type_b; /* SLP_TYP values from the DSDT's \_S5 package */
    bool has_s5;
    struct { uint8_t space; uint64_t address; uint8_t value; bool present; } reset;
};

extern struct acpi_info acpi;
void acpi_init(const struct bootinfo *info);
const void *acpi_find_table(const char signature[4]); /* mapped and checksummed, or NULL */
