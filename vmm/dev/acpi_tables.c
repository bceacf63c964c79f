/* ACPI tables in guest RAM: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, HPET, an SSDT with the
 * processors, and WAET.
 * Spec: ACPI 6.4 chapter 5; "Windows ACPI Emulated Devices Table" (WAET) 1.0. */
#include "core/vm.h"
#include "dev/platform.h"
#include "dsdt_aml.h"
#include "load/load.h"

#define ROOM         0x8000
#define TABLES_MAX   8
#define OEM_ID       "ORTHO "
#define OEM_TABLE_ID "ORTHOPC "
#define CREATOR_ID   "ORTH"

#define FADT_SIZE          276 /* revision 6 */
#define FADT_REVISION      6
#define FADT_MINOR         4
#define FLAG_WBINVD        (1u << 0)
#define FLAG_C1            (1u << 2)
#define FLAG_NO_PWR_BUTTON (1u << 4)
#define FLAG_NO_SLP_BUTTON (1u << 5)
#define FLAG_NO_RTC_WAKE   (1u << 6)
#define FLAG_TIMER_32BIT   (1u << 8)
#define FLAG_RESET         (1u << 10)
#define BOOT_LEGACY        (1u << 0) /* there are devices on the ISA bus */
#define BOOT_NO_VGA        (1u << 2)
#define BOOT_NO_MSI        (1u << 3)
#define BOOT_NO_ASPM       (1u << 4)
#define RESET_VALUE        0x06 /* hard reset through the reset control register */
#define PROFILE_SERVER     4
#define NO_C2              0xfff
#define NO_C3              0xffff
#define CMOS_CENTURY       0x32
#define SPACE_MEMORY       0
#define SPACE_IO           1

#define FACS_SIZE       64
#define FACS_ALIGN      64
#define MADT_PCAT       1 /* the two 8259s are there */
#define MADT_LAPIC      0
#define MADT_IOAPIC     1
#define MADT_OVERRIDE   2
#define MADT_LAPIC_NMI  4
#define OVERRIDE_LEVEL  0x0d /* active high, level */
#define WAET_RTC_GOOD   1    /* no need to read twice */
#define WAET_TIMER_GOOD 2

struct acpi_writer {
    uint8_t *bytes; /* will lie at PLATFORM_ACPI_BASE */
    unsigned used;
    bool overflow;
    uint32_t table[TABLES_MAX]; /* guest-physical, what the XSDT lists */
    unsigned table_count;
};

/* --- pieces ----------------------------------------------------------------------------------- */

static void put(struct acpi_writer *w, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        if (w->used < ROOM) {
            w->bytes[w->used++] = (uint8_t)value;
            value >>= 8;
        } else {
            w->overflow = true;
        }
    }
}

static void put_text(struct acpi_writer *w, const char *text, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        put(w, (uint8_t)text[i], 1);
    }
}

static void align(struct acpi_writer *w, unsigned to)
{
    while (w->used % to != 0) {
        put(w, 0, 1);
    }
}

static uint32_t address(unsigned offset)
{
    return (uint32_t)PLATFORM_ACPI_BASE + offset;
}

static void set_checksum(struct acpi_writer *w, unsigned start, unsigned length, unsigned at)
{
    uint8_t sum = 0;

    if (w->overflow) {
        return;
    }
    for (unsigned i = 0; i < length; i++) {
        sum = (uint8_t)(sum + w->bytes[start + i]);
    }
    w->bytes[start + at] = (uint8_t)(w->bytes[start + at] - sum);
}

/* Generic address structure. */
static void put_address(struct acpi_writer *w, uint64_t port, unsigned bytes)
{
    put(w, SPACE_IO, 1);
    put(w, bytes * 8, 1);
    put(w, 0, 1);
    put(w, bytes == 1 ? 1 : bytes == 2 ? 2 : bytes == 4 ? 3 : 0, 1); /* access size */
    put(w, port, 8);
}

/* Begins a table; returns its offset. Length and checksum follow in end_table(). */
static unsigned begin_table(struct acpi_writer *w, const char *signature, unsigned revision)
{
    unsigned start;

    align(w, 16);
    start = w->used;
    put_text(w, signature, 4);
    put(w, 0, 4);
    put(w, revision, 1);
    put(w, 0, 1);
    put_text(w, OEM_ID, 6);
    put_text(w, OEM_TABLE_ID, 8);
    put(w, 1, 4);
    put_text(w, CREATOR_ID, 4);
    put(w, 1, 4);
    return start;
}

static void end_table(struct acpi_writer *w, unsigned start)
{
    unsigned length = w->used - start;

    if (!w->overflow) {
        w->bytes[start + 4] = (uint8_t)length;
        w->bytes[start + 5] = (uint8_t)(length >> 8);
    }
    set_checksum(w, start, length, 9);
}

static void list_table(struct acpi_writer *w, unsigned start)
{
    w->table[w->table_count++] = address(start);
}

/* --- tables ----------------------------------------------------------------------------------- */

static unsigned put_facs(struct acpi_writer *w)
{
    unsigned start;

    align(w, FACS_ALIGN);
    start = w->used;
    put_text(w, "FACS", 4);
    put(w, FACS_SIZE, 4);
    put(w, 0, 8 * 3); /* hardware signature, waking vector, lock, flags, 64-bit vector */
    put(w, 2, 1);     /* version */
    while (w->used < start + FACS_SIZE && !w->overflow) {
        put(w, 0, 1);
    }
    return start;
}

static unsigned put_dsdt(struct acpi_writer *w)
{
    unsigned start;

    align(w, 16);
    start = w->used;
    for (unsigned i = 0; i < sizeof(dsdt_aml); i++) {
        put(w, dsdt_aml[i], 1);
    }
    return start;
}

static void put_fadt(struct acpi_writer *w, unsigned facs, unsigned dsdt, bool no_msi)
{
    unsigned start = begin_table(w, "FACP", FADT_REVISION);

    list_table(w, start);
    put(w, address(facs), 4);
    put(w, address(dsdt), 4);
    put(w, 0, 1); /* was INT_MODEL */
    put(w, PROFILE_SERVER, 1);
    put(w, PLATFORM_SCI_IRQ, 2);
    put(w, PLATFORM_SMI_COMMAND, 4);
    put(w, PLATFORM_ACPI_ENABLE, 1);
    put(w, PLATFORM_ACPI_DISABLE, 1);
    put(w, 0, 2); /* S4BIOS, P-state control */
    put(w, PLATFORM_PM_EVENT, 4);
    put(w, 0, 4);
    put(w, PLATFORM_PM_CONTROL, 4);
    put(w, 0, 4);
    put(w, 0, 4); /* no PM2 control */
    put(w, PLATFORM_PM_TIMER, 4);
    put(w, 0, 4 + 4); /* no general-purpose events */
    put(w, 4, 1);     /* lengths: PM1 event, PM1 control, PM2, timer, events */
    put(w, 2, 1);
    put(w, 0, 1);
    put(w, 4, 1);
    put(w, 0, 3);
    put(w, 0, 1); /* C-state control */
    put(w, NO_C2, 2);
    put(w, NO_C3, 2);
    put(w, 0, 2 + 2 + 1 + 1); /* flush size and stride, duty cycle */
    put(w, 0, 1 + 1);         /* day and month alarm */
    put(w, CMOS_CENTURY, 1);
    put(w, BOOT_LEGACY | BOOT_NO_VGA | (no_msi ? BOOT_NO_MSI : 0) | BOOT_NO_ASPM, 2);
    put(w, 0, 1);
    put(w,
        FLAG_WBINVD | FLAG_C1 | FLAG_NO_PWR_BUTTON | FLAG_NO_SLP_BUTTON | FLAG_NO_RTC_WAKE |
            FLAG_TIMER_32BIT | FLAG_RESET,
        4);
    put_address(w, PLATFORM_RESET_PORT, 1);
    put(w, RESET_VALUE, 1);
    put(w, 0, 2); /* ARM boot flags */
    put(w, FADT_MINOR, 1);
    put(w, 0, 8); /* X_FIRMWARE_CTRL: one of the two may be set */
    put(w, address(dsdt), 8);
    put_address(w, PLATFORM_PM_EVENT, 4);
    put(w, 0, 12);
    put_address(w, PLATFORM_PM_CONTROL, 2);
    put(w, 0, 12);
    put(w, 0, 12);
    put_address(w, PLATFORM_PM_TIMER, 4);
    while (w->used < start + FADT_SIZE && !w->overflow) {
        put(w, 0, 1); /* events, sleep registers, hypervisor identity: none */
    }
    end_table(w, start);
}

static void put_override(struct acpi_writer *w, unsigned irq, unsigned gsi, unsigned flags)
{
    put(w, MADT_OVERRIDE, 1);
    put(w, 10, 1);
    put(w, 0, 1); /* ISA */
    put(w, irq, 1);
    put(w, gsi, 4);
    put(w, flags, 2);
}

static void put_madt(struct acpi_writer *w, unsigned vcpu_count)
{
    unsigned start = begin_table(w, "APIC", 5);

    list_table(w, start);
    put(w, PLATFORM_LAPIC_BASE, 4);
    put(w, MADT_PCAT, 4);
    for (unsigned i = 0; i < vcpu_count; i++) {
        put(w, MADT_LAPIC, 1);
        put(w, 8, 1);
        put(w, i, 1); /* _UID of the processor in the SSDT */
        put(w, i, 1);
        put(w, 1, 4); /* enabled */
    }
    put(w, MADT_IOAPIC, 1);
    put(w, 12, 1);
    put(w, 0, 2);
    put(w, PLATFORM_IOAPIC_BASE, 4);
    put(w, 0, 4);
    put_override(w, 0, 2, 0);
    put_override(w, PLATFORM_SCI_IRQ, PLATFORM_SCI_IRQ, OVERRIDE_LEVEL);
    put(w, MADT_LAPIC_NMI, 1);
    put(w, 6, 1);
    put(w, 0xff, 1); /* all processors */
    put(w, 0, 2);
    put(w, 1, 1); /* LINT1 */
    end_table(w, start);
}

/* AML package length in two bytes; it counts itself. */
static void put_package_length(struct acpi_writer *w, unsigned content)
{
    unsigned length = content + 2;

    put(w, 0x40 | (length & 15), 1);
    put(w, length >> 4, 1);
}

/* Scope (\_SB) { Device (Cxxx) { Name (_HID, "ACPI0007") Name (_UID, n) } ... } */
static void put_processors(struct acpi_writer *w, unsigned vcpu_count)
{
    static const char hex_table[] = "0123456789ABCDEF";
    unsigned start = begin_table(w, "SSDT", 2);
    const unsigned inside = 4 + 15 + 7, device = 2 + 2 + inside;

    list_table(w, start);
    put(w, 0x10, 1); /* ScopeOp */
    put_package_length(w, 5 + vcpu_count * device);
    put_text(w, "\\_SB_", 5);
    for (unsigned i = 0; i < vcpu_count; i++) {
        put(w, 0x825b, 2); /* DeviceOp */
        put_package_length(w, inside);
        put_text(w, "C0", 2);
        put(w, (uint8_t)hex_table[i >> 4], 1);
        put(w, (uint8_t)hex_table[i & 15], 1);
        put(w, 0x08, 1); /* NameOp, a string */
        put_text(w, "_HID", 4);
        put(w, 0x0d, 1);
        put_text(w, "ACPI0007", 9);
        put(w, 0x08, 1); /* NameOp, a byte */
        put_text(w, "_UID", 4);
        put(w, 0x0a, 1);
        put(w, i, 1);
    }
    end_table(w, start);
}

static void put_hpet(struct acpi_writer *w)
{
    unsigned start = begin_table(w, "HPET", 1);

    list_table(w, start);
    put(w, PLATFORM_HPET_ID, 4);
    put(w, SPACE_MEMORY | 64 << 8, 4); /* generic address: 64 bits wide */
    put(w, PLATFORM_HPET_BASE, 8);
    put(w, 0, 1); /* the first one */
    put(w, PLATFORM_HPET_MIN_TICKS, 2);
    put(w, 0, 1);
    end_table(w, start);
}

static void put_waet(struct acpi_writer *w)
{
    unsigned start = begin_table(w, "WAET", 1);

    list_table(w, start);
    put(w, WAET_RTC_GOOD | WAET_TIMER_GOOD, 4);
    end_table(w, start);
}

/* The lists of tables, with addresses of 4 or 8 bytes. */
static unsigned put_root(struct acpi_writer *w, const char *signature, unsigned bytes)
{
    unsigned start = begin_table(w, signature, 1);

    for (unsigned i = 0; i < w->table_count; i++) {
        put(w, w->table[i], bytes);
    }
    end_table(w, start);
    return start;
}

static void put_rsdp(struct acpi_writer *w, unsigned at, unsigned rsdt, unsigned xsdt)
{
    unsigned end = w->used;

    w->used = at;
    put_text(w, "RSD PTR ", 8);
    put(w, 0, 1);
    put_text(w, OEM_ID, 6);
    put(w, 2, 1);
    put(w, address(rsdt), 4);
    put(w, 36, 4);
    put(w, address(xsdt), 8);
    put(w, 0, 4);
    set_checksum(w, at, 20, 8);
    set_checksum(w, at, 36, 32);
    w->used = end;
}

static void put_tables(struct acpi_writer *w, const struct vm *vm)
{
    unsigned facs, dsdt, rsdt, xsdt;

    w->used = 48; /* the RSDP, first, is written last */
    facs = put_facs(w);
    dsdt = put_dsdt(w);
    put_fadt(w, facs, dsdt, vm->config.no_msi);
    put_madt(w, vm->vcpu_count);
    put_hpet(w);
    put_processors(w, vm->vcpu_count);
    put_waet(w);
    rsdt = put_root(w, "RSDT", 4);
    xsdt = put_root(w, "XSDT", 8);
    put_rsdp(w, 0, rsdt, xsdt);
}

int vmm_acpi_build(struct vm *vm, gpa_t *rsdp, struct vmm_error *err)
{
    struct acpi_writer w = {.bytes = vmm_vm_alloc(vm, ROOM)};
    int error;

    if (w.bytes == NULL) {
        return vmm_fail(vm->vmm, err, VMM_ENOMEM, "%s: no memory for ACPI tables", vm->config.name);
    }
    put_tables(&w, vm);
    vmm_assert(vm->vmm, !w.overflow);
    *rsdp = VMM_GPA(PLATFORM_ACPI_BASE);
    error = vmm_memory_write(vm, *rsdp, w.bytes, w.used);
    vmm_vm_free(vm, w.bytes, ROOM);
    if (error != 0) {
        return vmm_fail(vm->vmm, err, -error, "%s: no %s at %llx for ACPI tables", vm->config.name,
                        error == -VMM_EFAULT ? "RAM" : "memory behind the guest's RAM",
                        (unsigned long long)PLATFORM_ACPI_BASE);
    }
    return 0;
}
