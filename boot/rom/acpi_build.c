/* ACPI tables of what the loader has found: CPUs, IOAPIC, HPET, power management block.
 * Spec: ACPI 6.4 section 5.2; IA-PC HPET 1.0a section 3.2.4. */

#include "boot/rom/acpi.h"

#include "boot/rom/cpus.h"
#include "boot/rom/pci.h"
#include "boot/rom/rom.h"

#define ACPI_RECLAIM 3
#define ROOM         NK_KIB(8) /* 256 CPUs take 2 KiB */

#define IOAPIC_AT       0xfec00000u
#define IOAPIC_VERSION  1
#define IOAPIC_INPUTS   24
#define HPET_AT         0xfed00000u
#define HPET_PERIOD_MAX 100000000u /* femtoseconds; section 2.3.4: at least 10 MHz */
#define LAPIC_AT        0xfee00000u

#define PORT_RESET 0xcf9 /* ICH9 13.7.5, PIIX3's copy of it */
#define RESET_HARD 0x06
#define SCI_LINE   9

#define MADT_PCAT     1 /* there are 8259s */
#define MADT_CPU      0
#define MADT_IOAPIC   1
#define MADT_OVERRIDE 2
#define LEVEL_HIGH    0x0d /* trigger mode 3, polarity 1 */
#define FADT_LENGTH   244  /* revision 3 */
#define FADT_WBINVD   (1u << 0)
#define FADT_RESET    (1u << 10)

struct table {
    uint8_t *start, *at;
};

static uint8_t *next; /* the first free byte of our block */

static void put(struct table *t, uint64_t value, unsigned bytes)
{
    __builtin_memcpy(t->at, &value, bytes);
    t->at += bytes;
}

static void put_text(struct table *t, const char *text)
{
    while (*text != '\0') {
        *t->at++ = (uint8_t)*text++;
    }
}

/* Section 5.2.6. */
static struct table begin(const char *signature, unsigned revision)
{
    struct table t = {next, next};
    put_text(&t, signature);
    put(&t, 0, 4); /* length and checksum: end() */
    put(&t, revision, 1);
    put(&t, 0, 1);
    put_text(&t, "OCONE ORTHOROM");
    put(&t, 1, 4);
    put_text(&t, "OROM");
    put(&t, 1, 4);
    return t;
}

static uint64_t end(struct table *t)
{
    uint32_t length = (uint32_t)(t->at - t->start);
    __builtin_memcpy(t->start + 4, &length, sizeof(length));
    t->start[9] = acpi_checksum(t->start, length);
    next = (uint8_t *)nk_align_up((uint64_t)t->at, 16);
    return (uint64_t)t->start;
}

static bool has_ioapic(void)
{
    volatile uint32_t *io = (volatile uint32_t *)(uint64_t)IOAPIC_AT;
    io[0] = IOAPIC_VERSION;
    return (io[4] >> 16 & 0xff) == IOAPIC_INPUTS - 1;
}

static void put_override(struct table *t, unsigned line, unsigned gsi, unsigned flags)
{
    put(t, MADT_OVERRIDE | 10 << 8, 2);
    put(t, line << 8, 2); /* bus 0: ISA */
    put(t, gsi, 4);
    put(t, flags, 2);
}

static uint64_t build_madt(void)
{
    struct table t = begin("APIC", 1);
    put(&t, LAPIC_AT, 4);
    put(&t, MADT_PCAT, 4);
    for (unsigned i = 0; i < cpus_count(); i++) {
        put(&t, MADT_CPU | 8 << 8, 2);
        put(&t, i | cpus_apic_id(i) << 8, 2);
        put(&t, 1, 4);
    }
    if (has_ioapic()) {
        put(&t, MADT_IOAPIC | 12 << 8, 2);
        put(&t, 0, 2);
        put(&t, IOAPIC_AT, 4);
        put(&t, 0, 4);
        put_override(&t, 0, 2, 0); /* the PIT is on input 2 of every PC's IOAPIC */
        for (unsigned line = SCI_LINE; line <= 11; line++) {
            put_override(&t, line, line, LEVEL_HIGH);
        }
    }
    return end(&t);
}

/* Name(_S5_, Package(4){0, 0, 0, 0}): PIIX4's and ICH9's emulations power off by SLP_TYP 0. */
static uint64_t build_dsdt(void)
{
    static const uint8_t s5[] = {0x08, '_', 'S', '5', '_', 0x12, 6, 4, 0, 0, 0, 0};
    struct table t = begin("DSDT", 1);
    __builtin_memcpy(t.at, s5, sizeof(s5));
    t.at += sizeof(s5);
    return end(&t);
}

static uint64_t build_fadt(void)
{
    uint64_t dsdt = build_dsdt();
    struct table t = begin("FACP", 3);
    uint8_t *f = t.start;
    __builtin_memset(t.at, 0, (size_t)(FADT_LENGTH - (t.at - f)));
    t.at = f + FADT_LENGTH;
    *(uint32_t *)(f + 40) = (uint32_t)dsdt;
    *(uint16_t *)(f + 46) = SCI_LINE;
    if (chipset_has_pm()) { /* SMI command 0: the machine is in ACPI mode */
        *(uint32_t *)(f + 56) = CHIPSET_PM_BASE;
        *(uint32_t *)(f + 64) = CHIPSET_PM_BASE + 4;
        *(uint32_t *)(f + 76) = CHIPSET_PM_BASE + 8;
        f[88] = 4; /* bytes of event block, control block, timer */
        f[89] = 2;
        f[91] = 4;
    }
    *(uint32_t *)(f + 112) = FADT_WBINVD | FADT_RESET;
    f[116] = 1; /* the reset register is a port, 8 bits wide */
    f[117] = 8;
    *(uint64_t *)(f + 120) = PORT_RESET;
    f[128] = RESET_HARD;
    *(uint64_t *)(f + 140) = dsdt;
    return end(&t);
}

static uint64_t build_hpet(void)
{
    const volatile uint32_t *hpet = (const volatile uint32_t *)(uint64_t)HPET_AT;
    if (hpet[1] == 0 || hpet[1] > HPET_PERIOD_MAX) {
        return 0;
    }
    struct table t = begin("HPET", 1);
    put(&t, hpet[0], 4);
    put(&t, 0, 4); /* in memory */
    put(&t, HPET_AT, 8);
    put(&t, 0, 4);
    return end(&t);
}

const void *acpi_build(void)
{
    uint8_t *rsdp = memory_take_as(ROOM, NK_PAGE_SIZE, ACPI_RECLAIM);
    if (rsdp == NULL) {
        return NULL;
    }
    next = rsdp + 64;
    uint64_t table[] = {build_fadt(), build_madt(), build_hpet()};
    struct table x = begin("XSDT", 1);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(table); i++) {
        if (table[i] != 0) {
            put(&x, table[i], 8);
        }
    }
    uint64_t xsdt = end(&x);
    struct table t = {rsdp, rsdp};
    put_text(&t, "RSD PTR ");
    put(&t, 0, 1);
    put_text(&t, "OCONE ");
    put(&t, 2, 1);
    put(&t, 0, 4);
    put(&t, ACPI_RSDP_2, 4);
    put(&t, xsdt, 8);
    put(&t, 0, 4);
    rsdp[8] = acpi_checksum(rsdp, ACPI_RSDP_1);
    rsdp[32] = acpi_checksum(rsdp, ACPI_RSDP_2);
    return rsdp;
}
