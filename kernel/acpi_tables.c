/* What single ACPI tables say. Their headers are checked (acpi.c); every offset within is checked
 * here, since a length that covers the header may still end before a field. */

#include <string.h>

#include "base/platform.h"
#include "kernel/acpi.h"

uint64_t acpi_field(const struct acpi_header *t, uint32_t offset, uint32_t size)
{
    uint64_t value = 0;
    if (offset + size <= t->length) {
        memcpy(&value, (const uint8_t *)t + offset, size);
    }
    return value;
}

/* ---- MADT, section 5.2.12 */

enum madt_entry_type {
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_ADDRESS = 5,
    MADT_X2APIC = 9,
};

#define MADT_ENTRIES          44
#define MADT_FLAG_PCAT_COMPAT 1u
#define MADT_CPU_ENABLED      1u

static void add_cpu(uint32_t apic_id, uint32_t uid, uint32_t flags)
{
    for (unsigned i = 0; i < acpi.cpu_count; i++) {
        if (acpi.cpu[i].apic_id == apic_id) {
            return; /* listed as LAPIC and as x2APIC */
        }
    }
    if (acpi.cpu_count == ACPI_CPUS_MAX) {
        nk_warn("acpi: CPU with APIC id %u is one too many and was left out", apic_id);
        return;
    }
    acpi.cpu[acpi.cpu_count++] = (struct acpi_cpu){
        .apic_id = apic_id,
        .acpi_uid = uid,
        .enabled = (flags & MADT_CPU_ENABLED) != 0,
    };
}

static void add_ioapic(uint32_t id, uint32_t address, uint32_t gsi_base)
{
    if (acpi.ioapic_count == ACPI_IOAPICS_MAX) {
        nk_warn("acpi: IOAPIC %u is one too many and was left out", id);
        return;
    }
    acpi.ioapic[acpi.ioapic_count++] = (struct acpi_ioapic){address, gsi_base, id};
}

/* Flags are those of the MPS: 0 conforms to the bus, which for ISA is edge and active high. */
static void add_override(uint32_t bus, uint32_t line, uint32_t gsi, uint32_t flags)
{
    if (bus != 0 || line >= ACPI_ISA_LINES) {
        nk_warn("acpi: override of bus %u line %u was left out", bus, line);
        return;
    }
    acpi.isa[line] = (struct acpi_override){
        .gsi = gsi,
        .present = true,
        .level = (flags >> 2 & 3) == 3,
        .active_low = (flags & 3) == 3,
    };
}

static void read_madt_entry(const struct acpi_header *m, uint32_t at, uint32_t type, uint32_t size)
{
    static const uint8_t size_table[] = {
        [MADT_LAPIC] = 8,          [MADT_IOAPIC] = 12, [MADT_OVERRIDE] = 10,
        [MADT_LAPIC_ADDRESS] = 12, [MADT_X2APIC] = 16,
    };
    if (type < sizeof(size_table) && size < size_table[type]) {
        nk_warn("acpi: MADT entry %u of %u bytes was left out", type, size);
        return;
    }
    switch (type) {
    case MADT_LAPIC:
        add_cpu((uint32_t)acpi_field(m, at + 3, 1), (uint32_t)acpi_field(m, at + 2, 1),
                (uint32_t)acpi_field(m, at + 4, 4));
        break;
    case MADT_IOAPIC:
        add_ioapic((uint32_t)acpi_field(m, at + 2, 1), (uint32_t)acpi_field(m, at + 4, 4),
                   (uint32_t)acpi_field(m, at + 8, 4));
        break;
    case MADT_OVERRIDE:
        add_override((uint32_t)acpi_field(m, at + 2, 1), (uint32_t)acpi_field(m, at + 3, 1),
                     (uint32_t)acpi_field(m, at + 4, 4), (uint32_t)acpi_field(m, at + 8, 2));
        break;
    case MADT_LAPIC_ADDRESS:
        acpi.lapic_address = acpi_field(m, at + 4, 8);
        break;
    case MADT_X2APIC:
        add_cpu((uint32_t)acpi_field(m, at + 4, 4), (uint32_t)acpi_field(m, at + 12, 4),
                (uint32_t)acpi_field(m, at + 8, 4));
        break;
    default:
        break;
    }
}

void acpi_read_madt(const struct acpi_header *madt)
{
    acpi.lapic_address = acpi_field(madt, 36, 4);
    acpi.has_8259 = (acpi_field(madt, 40, 4) & MADT_FLAG_PCAT_COMPAT) != 0;
    uint32_t at = MADT_ENTRIES;
    while (at + 2 <= madt->length) {
        uint32_t size = (uint32_t)acpi_field(madt, at + 1, 1);
        if (size < 2 || at + size > madt->length) {
            nk_warn("acpi: MADT entry at %u has the bad size %u; the rest was left out", at, size);
            return;
        }
        read_madt_entry(madt, at, (uint32_t)acpi_field(madt, at, 1), size);
        at += size;
    }
}

/* ---- FADT, section 5.2.9 */

#define FADT_FLAG_TIMER_32BIT (1u << 8)
#define FADT_FLAG_RESET       (1u << 10)

void acpi_read_fadt(const struct acpi_header *fadt)
{
    uint32_t flags = (uint32_t)acpi_field(fadt, 112, 4);
    acpi.smi_command = (uint32_t)acpi_field(fadt, 48, 4);
    acpi.acpi_enable = (uint8_t)acpi_field(fadt, 52, 1);
    acpi.pm1a_control = (uint32_t)acpi_field(fadt, 64, 4);
    acpi.pm1b_control = (uint32_t)acpi_field(fadt, 68, 4);
    if (acpi_field(fadt, 91, 1) == 4) {
        acpi.pm_timer_port = (uint32_t)acpi_field(fadt, 76, 4);
        acpi.pm_timer_32bit = (flags & FADT_FLAG_TIMER_32BIT) != 0;
    }
    acpi.cmos_century = (uint8_t)acpi_field(fadt, 108, 1);
    acpi.reset.present = (flags & FADT_FLAG_RESET) != 0 && acpi_field(fadt, 120, 8) != 0;
    acpi.reset.space = (uint8_t)acpi_field(fadt, 116, 1);
    acpi.reset.address = acpi_field(fadt, 120, 8);
    acpi.reset.value = (uint8_t)acpi_field(fadt, 128, 1);
}

uint64_t acpi_dsdt_address(const struct acpi_header *fadt)
{
    uint64_t extended = acpi_field(fadt, 140, 8);
    return extended != 0 ? extended : acpi_field(fadt, 40, 4);
}

/* ---- HPET, IA-PC HPET 1.0a section 3.2.4 */

void acpi_read_hpet(const struct acpi_header *hpet)
{
    if (acpi_field(hpet, 40, 1) == 0) { /* in memory */
        acpi.hpet_address = acpi_field(hpet, 44, 8);
    }
}

/* ---- \_S5, sections 7.4.2 and 20.2: Name(_S5_, Package(){a, b, ...}) as it is in the bytes */

#define AML_NAME    0x08
#define AML_PACKAGE 0x12
#define AML_ZERO    0x00
#define AML_ONE     0x01
#define AML_BYTE    0x0a
#define AML_WORD    0x0b

/* One integer constant at *at; false when there is something else. */
static bool read_constant(const struct acpi_header *t, uint32_t *at, uint16_t *out)
{
    uint8_t op = (uint8_t)acpi_field(t, *at, 1);
    uint32_t size = op == AML_BYTE ? 1 : op == AML_WORD ? 2 : 0;
    if (*at + 1 + size > t->length || (size == 0 && op != AML_ZERO && op != AML_ONE)) {
        return false;
    }
    *out = (uint16_t)(size == 0 ? op : acpi_field(t, *at + 1, size));
    *at += 1 + size;
    return true;
}

static bool read_package(const struct acpi_header *t, uint32_t at)
{
    if (acpi_field(t, at, 1) != AML_PACKAGE) {
        return false;
    }
    at += 1;
    at += 1 +
          ((uint32_t)acpi_field(t, at, 1) >> 6); /* PkgLength says in its top bits how long it is */
    at += 1;                                     /* the number of elements */
    uint16_t a, b;
    if (!read_constant(t, &at, &a) || !read_constant(t, &at, &b)) {
        return false;
    }
    acpi.s5_type_a = a;
    acpi.s5_type_b = b;
    return true;
}

void acpi_read_s5(const struct acpi_header *dsdt)
{
    const uint8_t *byte = (const uint8_t *)dsdt;
    for (uint32_t at = sizeof(*dsdt) + 1; at + 8 < dsdt->length; at++) {
        bool named = byte[at - 1] == AML_NAME || (byte[at - 1] == '\\' && byte[at - 2] == AML_NAME);
        if (named && memcmp(byte + at, "_S5_", 4) == 0 && read_package(dsdt, at + 4)) {
            acpi.has_s5 = true;
            return;
        }
    }
}
