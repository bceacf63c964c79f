/* What the ACPI parsers make of tables, good and malformed. The node's own facts are put back. */
#include <string.h>

#include "kernel/acpi.h"
#include "tests/kernel/ktest.h"

static struct acpi_info saved;
static union {
    struct acpi_header header;
    uint8_t byte[512];
} table;

static void begin(void)
{
    saved = acpi;
    memset(&acpi, 0, sizeof(acpi));
}

static void end(void)
{
    acpi = saved;
}

static void new_table(uint32_t length)
{
    memset(&table, 0, sizeof(table));
    table.header.length = length;
}

static void put(uint32_t at, uint64_t value, uint32_t size)
{
    memcpy(table.byte + at, &value, size);
}

static void append(const void *bytes, uint32_t size)
{
    memcpy(table.byte + table.header.length, bytes, size);
    table.header.length += size;
}

static const uint8_t lapic_entry[8] = {0, 8, 1, 7, 1};
static const uint8_t x2apic_entry[16] = {9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0, 3};
static const uint8_t ioapic_entry[12] = {1, 12, 2, 0, 0, 0, 0xc0, 0xfe, 24};
static const uint8_t override_entry[10] = {2, 10, 0, 9, 20, 0, 0, 0, 0x0f, 0};

KTEST(acpi_madt)
{
    begin();
    new_table(44);
    put(36, 0xfee00000, 4);
    put(40, 1, 4);
    append(lapic_entry, sizeof(lapic_entry));
    append(lapic_entry, sizeof(lapic_entry)); /* listed twice: one CPU */
    append(x2apic_entry, sizeof(x2apic_entry));
    append(ioapic_entry, sizeof(ioapic_entry));
    append(override_entry, sizeof(override_entry));
    acpi_read_madt(&table.header);
    EXPECT_EQ(acpi.cpu_count, 2);
    EXPECT_EQ(acpi.cpu[0].apic_id, 7);
    EXPECT(acpi.cpu[0].enabled);
    EXPECT_EQ(acpi.cpu[1].apic_id, 0x12c);
    EXPECT_EQ(acpi.ioapic_count, 1);
    EXPECT_EQ(acpi.ioapic[0].address, 0xfec00000);
    EXPECT_EQ(acpi.ioapic[0].gsi_base, 24);
    EXPECT_EQ(acpi.isa[9].gsi, 20);
    EXPECT(acpi.isa[9].present && acpi.isa[9].level && acpi.isa[9].active_low);
    EXPECT(!acpi.isa[8].present);
    EXPECT_EQ(acpi.lapic_address, 0xfee00000);
    EXPECT(acpi.has_8259);
    end();
}

KTEST(acpi_madt_malformed)
{
    static const uint8_t no_size[2] = {0, 0};
    static const uint8_t too_small[4] = {0, 4, 1, 7};
    static const uint8_t other_bus[10] = {2, 10, 5, 9, 20};
    static const uint8_t no_line[10] = {2, 10, 0, 200, 20};
    begin();
    new_table(44);
    append(too_small, sizeof(too_small));
    append(other_bus, sizeof(other_bus));
    append(no_line, sizeof(no_line));
    append(lapic_entry, sizeof(lapic_entry));
    append(no_size, sizeof(no_size)); /* the walk ends here */
    append(ioapic_entry, sizeof(ioapic_entry));
    acpi_read_madt(&table.header);
    EXPECT_EQ(acpi.cpu_count, 1);
    EXPECT_EQ(acpi.ioapic_count, 0);
    for (unsigned i = 0; i < ACPI_ISA_LINES; i++) {
        EXPECT(!acpi.isa[i].present);
    }

    new_table(44);
    append(lapic_entry, sizeof(lapic_entry));
    append(ioapic_entry, sizeof(ioapic_entry) - 1); /* leaves the table */
    acpi_read_madt(&table.header);
    EXPECT_EQ(acpi.ioapic_count, 0);

    new_table(38); /* ends within its fixed part */
    acpi_read_madt(&table.header);
    EXPECT_EQ(acpi.lapic_address, 0);

    memset(&acpi, 0, sizeof(acpi));
    for (unsigned i = 0; i < ACPI_IOAPICS_MAX + 2; i++) {
        new_table(44);
        append(ioapic_entry, sizeof(ioapic_entry));
        acpi_read_madt(&table.header);
    }
    EXPECT_EQ(acpi.ioapic_count, ACPI_IOAPICS_MAX);
    end();
}

KTEST(acpi_fadt)
{
    begin();
    new_table(244);
    put(40, 0x1000, 4);
    put(64, 0x604, 4);
    put(76, 0x608, 4);
    put(91, 4, 1);
    put(112, 1u << 8 | 1u << 10, 4);
    put(116, 1, 1);
    put(120, 0xcf9, 8);
    put(128, 0x0f, 1);
    acpi_read_fadt(&table.header);
    EXPECT_EQ(acpi.pm1a_control, 0x604);
    EXPECT_EQ(acpi.pm_timer_port, 0x608);
    EXPECT(acpi.pm_timer_32bit);
    EXPECT(acpi.reset.present);
    EXPECT_EQ(acpi.reset.address, 0xcf9);
    EXPECT_EQ(acpi_dsdt_address(&table.header), 0x1000);
    put(140, 0x200001000, 8);
    EXPECT_EQ(acpi_dsdt_address(&table.header), 0x200001000);

    memset(&acpi, 0, sizeof(acpi));
    table.header.length = 116; /* ACPI 1: no reset register, no 64-bit fields */
    acpi_read_fadt(&table.header);
    EXPECT_EQ(acpi.pm1a_control, 0x604);
    EXPECT(!acpi.reset.present);
    EXPECT_EQ(acpi_dsdt_address(&table.header), 0x1000);
    end();
}

static const uint8_t s5_package[] = {8, '_', 'S', '5', '_', 0x12, 8, 4, 0x0a, 5, 0x0a, 7, 0, 0};
static const uint8_t s5_words[] = {8, '\\', '_', 'S', '5', '_', 0x12, 0x40, 1, 4, 0x0b, 3, 0, 1};
static const uint8_t s5_method[] = {0x14, 6, '_', 'S', '5', '_', 0x12, 8, 4, 0, 0, 0, 0};

KTEST(acpi_s5)
{
    begin();
    new_table(36);
    append("filler_S5_", 10); /* the name alone is no definition */
    append(s5_method, sizeof(s5_method));
    acpi_read_s5(&table.header);
    EXPECT(!acpi.has_s5);
    append(s5_package, sizeof(s5_package));
    acpi_read_s5(&table.header);
    EXPECT(acpi.has_s5);
    EXPECT_EQ(acpi.s5_type_a, 5);
    EXPECT_EQ(acpi.s5_type_b, 7);

    memset(&acpi, 0, sizeof(acpi));
    new_table(36);
    append(s5_words, sizeof(s5_words));
    acpi_read_s5(&table.header);
    EXPECT(acpi.has_s5);
    EXPECT_EQ(acpi.s5_type_a, 3);
    EXPECT_EQ(acpi.s5_type_b, 1);

    memset(&acpi, 0, sizeof(acpi));
    for (uint32_t cut = 1; cut < 6; cut++) { /* a table that ends within the package */
        new_table(36);
        append(s5_package, sizeof(s5_package) - 2 - cut);
        acpi_read_s5(&table.header);
        EXPECT(!acpi.has_s5);
    }
    end();
}

KTEST(acpi_node)
{
    const struct acpi_header *madt = acpi_find_table("APIC");
    KTEST_SKIP_UNLESS(madt != NULL, "needs a machine with ACPI");
    EXPECT_EQ(memcmp(madt->signature, "APIC", 4), 0);
    EXPECT(acpi_find_table("NONE") == NULL);
    EXPECT_GE(acpi.cpu_count, 1);
    EXPECT(acpi.has_s5);
}
