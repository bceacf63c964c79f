/* Finding ACPI tables: the root pointer, the list of tables, and each table's header and checksum.
 */

#include "kernel/acpi.h"

#include <string.h>

#include "base/layout.h"
#include "base/platform.h"
#include "base/x86.h"
#include "mm/paging.h"

#define TABLES_MAX       64
#define TABLE_LENGTH_MAX NK_MIB(4)

#define RSDP_V1_LENGTH 20
#define RSDP_V2_LENGTH 36

struct acpi_rsdp { /* ACPI 6.4 section 5.2.5.3 */
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length; /* from here on: revision 2 */
    uint64_t xsdt;
    uint8_t extended_checksum, reserved[3];
} NK_PACKED;
_Static_assert(sizeof(struct acpi_rsdp) == RSDP_V2_LENGTH, "RSDP layout");

struct acpi_info acpi;

static const struct acpi_header *table[TABLES_MAX];
static unsigned table_count;

static bool sums_to_zero(const void *data, size_t size)
{
    const uint8_t *byte = data;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + byte[i]);
    }
    return sum == 0;
}

static bool in_direct_map(uint64_t pa, uint64_t size)
{
    for (uint64_t page = nk_align_down(pa, NK_PAGE_SIZE); page < pa + size; page += NK_PAGE_SIZE) {
        pa_t ignored;
        if (paging_translate((uint64_t)nk_pa_to_va(NK_PA(page)), &ignored, NULL) != 0) {
            return false;
        }
    }
    return true;
}

/* Firmware memory: in the direct map if it was RAM of some kind, else mapped for good. */
static const void *map(uint64_t pa, uint64_t size)
{
    if (pa + size < pa) {
        return NULL;
    }
    return in_direct_map(pa, size) ? nk_pa_to_va(NK_PA(pa)) : paging_map_mmio(NK_PA(pa), size);
}

static bool rsdp_valid(const struct acpi_rsdp *r)
{
    return memcmp(r->signature, "RSD PTR ", 8) == 0 && sums_to_zero(r, RSDP_V1_LENGTH);
}

/* The root pointer lies on a 16-byte boundary (ACPI 6.4 section 5.2.5.1). */
static bool search_rsdp(uint64_t pa, uint64_t size, struct acpi_rsdp *out)
{
    const uint8_t *area = map(pa, size);
    if (area == NULL) {
        return false;
    }
    for (uint64_t at = 0; at + RSDP_V1_LENGTH <= size; at += 16) {
        const struct acpi_rsdp *r = (const void *)(area + at);
        if (rsdp_valid(r)) {
            size_t length =
                r->revision >= 2 && size - at >= RSDP_V2_LENGTH ? RSDP_V2_LENGTH : RSDP_V1_LENGTH;
            memcpy(out, r, length);
            return true;
        }
    }
    return false;
}

static bool find_rsdp(const struct bootinfo *info, struct acpi_rsdp *out)
{
    if (info->rsdp_copy_length >= RSDP_V1_LENGTH) {
        size_t length = info->rsdp_copy_length;
        memcpy(out, info->rsdp_copy, length < sizeof(*out) ? length : sizeof(*out));
        if (rsdp_valid(out)) {
            return true;
        }
        nk_warn("acpi: the loader's copy of the root pointer is broken");
        memset(out, 0, sizeof(*out));
    }
    if (info->rsdp != 0 && search_rsdp(info->rsdp, sizeof(*out), out)) {
        return true;
    }
    const uint16_t *ebda_segment = map(0x40e, sizeof(*ebda_segment)); /* BIOS data area */
    uint64_t ebda = ebda_segment != NULL ? (uint64_t)*ebda_segment << 4 : 0;
    if (ebda >= NK_KIB(512) && ebda < NK_KIB(640) && search_rsdp(ebda, NK_KIB(1), out)) {
        return true;
    }
    return search_rsdp(0xe0000, NK_KIB(128), out);
}

/* The table at pa, whole and checked, or NULL with a line that says why. */
static const struct acpi_header *load(uint64_t pa)
{
    const struct acpi_header *h = pa == 0 ? NULL : map(pa, sizeof(*h));
    if (h == NULL) {
        nk_warn("acpi: no table can be at 0x%lx", pa);
        return NULL;
    }
    uint32_t length = h->length;
    if (length < sizeof(*h) || length > TABLE_LENGTH_MAX) {
        nk_warn("acpi: %.4s at 0x%lx has the bad length %u and was left out", h->signature, pa,
                length);
        return NULL;
    }
    h = map(pa, length);
    if (h == NULL || !sums_to_zero(h, length)) {
        nk_warn("acpi: table at 0x%lx fails its checksum and was left out", pa);
        return NULL;
    }
    return h;
}

static void add_table(uint64_t pa)
{
    if (table_count == TABLES_MAX) {
        nk_warn("acpi: more than %d tables; the one at 0x%lx was left out", TABLES_MAX, pa);
        return;
    }
    const struct acpi_header *h = load(pa);
    if (h != NULL) {
        table[table_count++] = h;
    }
}

static void load_tables(const struct acpi_rsdp *r)
{
    bool extended = r->revision >= 2 && r->xsdt != 0 && sums_to_zero(r, RSDP_V2_LENGTH);
    const struct acpi_header *root = extended ? load(r->xsdt) : NULL;
    if (root == NULL) {
        extended = false;
        root = load(r->rsdt);
    }
    if (root == NULL || memcmp(root->signature, extended ? "XSDT" : "RSDT", 4) != 0) {
        nk_warn("acpi: the list of tables is missing");
        return;
    }
    const uint8_t *entry = (const uint8_t *)(root + 1);
    size_t entry_size = extended ? 8 : 4;
    size_t count = (root->length - sizeof(*root)) / entry_size;
    for (size_t i = 0; i < count; i++) {
        uint64_t pa = 0; /* entries are not aligned */
        memcpy(&pa, entry + i * entry_size, entry_size);
        add_table(pa);
    }
}

const struct acpi_header *acpi_find_table(const char signature[4])
{
    for (unsigned i = 0; i < table_count; i++) {
        if (memcmp(table[i]->signature, signature, 4) == 0) {
            return table[i];
        }
    }
    return NULL;
}

static void read_numa(void)
{
    const struct acpi_header *srat = acpi_find_table("SRAT");
    const struct acpi_header *slit = acpi_find_table("SLIT");
    if (srat != NULL) {
        acpi_read_srat(srat);
    }
    if (slit != NULL) {
        acpi_read_slit(slit);
    }
}

static void read_tables(void)
{
    const struct acpi_header *madt = acpi_find_table("APIC");
    const struct acpi_header *fadt = acpi_find_table("FACP");
    const struct acpi_header *hpet = acpi_find_table("HPET");
    if (madt != NULL) {
        acpi_read_madt(madt);
    }
    if (hpet != NULL) {
        acpi_read_hpet(hpet);
    }
    read_numa();
    if (fadt == NULL) {
        return;
    }
    acpi_read_fadt(fadt);
    if (acpi.reset.present && acpi.reset.space == 0) {
        acpi.reset.mapped = paging_map_mmio(NK_PA(acpi.reset.address), 1);
    }
    uint64_t dsdt_at = acpi_dsdt_address(fadt);
    const struct acpi_header *dsdt = dsdt_at != 0 ? load(dsdt_at) : NULL;
    if (dsdt != NULL) {
        acpi_read_s5(dsdt);
    }
}

void acpi_init(const struct bootinfo *info)
{
    struct acpi_rsdp rsdp = {0};
    acpi.has_8259 = true; /* until a MADT says otherwise */
    if (find_rsdp(info, &rsdp)) {
        load_tables(&rsdp);
        read_tables();
    } else {
        nk_warn("acpi: no root pointer: one CPU, 8259 interrupts, no power-off");
    }
    if (acpi.cpu_count == 0) {
        acpi.cpu[0] = (struct acpi_cpu){.apic_id = x86_cpuid(1, 0).ebx >> 24, .enabled = true};
        acpi.cpu_count = 1;
    }
    nk_info("acpi: %u tables, %u CPUs, %u IOAPICs, HPET %s, PM timer %s, S5 %s", table_count,
            acpi.cpu_count, acpi.ioapic_count, acpi.hpet_address != 0 ? "yes" : "no",
            acpi.pm_timer_port != 0 ? "yes" : "no", acpi.has_s5 ? "yes" : "no");
}
