/* Static ACPI tables of the node: found, checked, kept. A table that fails a check is reported and
 * left out; what depends on it then counts as absent. Spec: ACPI 6.4 chapter 5.
 * Threading: written by acpi_init() on the boot CPU, constant afterwards. */
#pragma once

#include "base/types.h"
#include "boot/bootinfo.h"

#define ACPI_CPUS_MAX    64
#define ACPI_IOAPICS_MAX 8
#define ACPI_ISA_LINES   16

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

#define ACPI_NODES_MAX  8
#define ACPI_MEMORY_MAX 64

struct acpi_memory {
    uint64_t base, length;
    unsigned node;
};

struct acpi_numa { /* all counts 0: the machine says nothing of it */
    unsigned node_count, cpu_count, memory_count;
    uint32_t domain[ACPI_NODES_MAX]; /* ACPI's number of each node */
    struct {
        uint32_t apic_id;
        unsigned node;
    } cpu[ACPI_CPUS_MAX];
    struct acpi_memory memory[ACPI_MEMORY_MAX];
    uint8_t distance[ACPI_NODES_MAX][ACPI_NODES_MAX]; /* 0: not said */
};

struct acpi_info {
    unsigned cpu_count, ioapic_count;
    struct acpi_cpu cpu[ACPI_CPUS_MAX];
    struct acpi_ioapic ioapic[ACPI_IOAPICS_MAX];
    struct acpi_override isa[ACPI_ISA_LINES];
    uint64_t lapic_address; /* 0: no MADT */
    bool has_8259;
    uint64_t hpet_address;  /* 0: none */
    uint32_t pm_timer_port; /* 0: none */
    bool pm_timer_32bit;
    uint32_t pm1a_control, pm1b_control; /* ports; 0: none */
    uint32_t smi_command;                /* port; 0: the machine is always in ACPI mode */
    uint8_t acpi_enable;                 /* what to write there */
    uint8_t cmos_century;                /* RTC register with the century; 0: none */
    uint16_t s5_type_a, s5_type_b;       /* SLP_TYP values from the DSDT's \_S5 package */
    bool has_s5;
    struct acpi_numa numa;
    struct {
        uint8_t space; /* 0 memory, 1 port */
        uint64_t address;
        volatile uint8_t *mapped; /* of one in memory, mapped at boot: a panic may not allocate */
        uint8_t value;
        bool present;
    } reset;
};

extern struct acpi_info acpi;

void acpi_init(const struct bootinfo *info);

struct acpi_header { /* ACPI 6.4 section 5.2.6 */
    char signature[4];
    uint32_t length; /* header included */
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision, creator_id, creator_revision;
};
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI table header layout");

unsigned acpi_node_of_apic(uint32_t apic_id); /* 0 when the machine does not say */

/* Mapped and checksummed, or NULL. */
const struct acpi_header *acpi_find_table(const char signature[4]);

/* Inside kernel/acpi*.c: what the tables say (acpi_tables.c, acpi_numa.c). */

/* The little-endian number of `size` bytes at `offset`; 0 when the table ends before it. */
uint64_t acpi_field(const struct acpi_header *t, uint32_t offset, uint32_t size);
void acpi_read_srat(const struct acpi_header *srat);
void acpi_read_slit(const struct acpi_header *slit); /* after the SRAT */
void acpi_read_madt(const struct acpi_header *madt);
void acpi_read_fadt(const struct acpi_header *fadt);
void acpi_read_hpet(const struct acpi_header *hpet);
void acpi_read_s5(const struct acpi_header *dsdt);
uint64_t acpi_dsdt_address(const struct acpi_header *fadt); /* 0: none */
