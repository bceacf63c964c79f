/* The ACPI tables that a guest gets: found, whole, and saying what the platform has. Where iasl is
 * installed it has to be able to read them too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "load/load.h"
#include "pc.h"

#define RAM VMM_MIB(2)

struct tables {
    uint8_t *ram; /* all of it */
    uint64_t rsdp;
};

static uint64_t get(const struct tables *t, uint64_t at, unsigned bytes)
{
    uint64_t value = 0;

    assert_true(at + bytes <= RAM);
    memcpy(&value, t->ram + at, bytes);
    return value;
}

static uint8_t sum(const struct tables *t, uint64_t at, uint64_t length)
{
    uint8_t total = 0;

    assert_true(at < RAM && length <= RAM - at);
    for (uint64_t i = 0; i < length; i++) {
        total = (uint8_t)(total + t->ram[at + i]);
    }
    return total;
}

static void read_tables(struct tables *t, struct fixture *f)
{
    struct vmm_error err;
    gpa_t rsdp;

    assert_int_equal(vmm_acpi_build(f->vm, &rsdp, &err), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0), t->ram, RAM), 0);
    t->rsdp = rsdp.v;
}

static struct fixture *make_tables(struct tables *t, unsigned vcpus)
{
    struct fixture *f = fixture_create(RAM, vcpus);

    t->ram = malloc(RAM);
    assert_non_null(t->ram);
    read_tables(t, f);
    return f;
}

/* The address of a table in the XSDT; every table met is checked. */
static uint64_t find(const struct tables *t, const char *signature)
{
    uint64_t xsdt = get(t, t->rsdp + 24, 8), found = 0;
    uint64_t length = get(t, xsdt + 4, 4);

    assert_memory_equal(t->ram + xsdt, "XSDT", 4);
    assert_int_equal(sum(t, xsdt, length), 0);
    for (uint64_t at = xsdt + 36; at < xsdt + length; at += 8) {
        uint64_t table = get(t, at, 8);

        assert_int_equal(table % 16, 0);
        assert_int_equal(sum(t, table, get(t, table + 4, 4)), 0);
        if (memcmp(t->ram + table, signature, 4) == 0) {
            assert_int_equal(found, 0);
            found = table;
        }
    }
    return found;
}

static void the_rsdp_is_where_systems_look(void **state)
{
    struct tables t;
    struct fixture *f = make_tables(&t, 1);
    uint64_t rsdt;

    (void)state;
    assert_in_range(t.rsdp, 0xe0000, 0xffff0);
    assert_int_equal(t.rsdp % 16, 0);
    assert_memory_equal(t.ram + t.rsdp, "RSD PTR ", 8);
    assert_int_equal(get(&t, t.rsdp + 15, 1), 2);
    assert_int_equal(get(&t, t.rsdp + 20, 4), 36);
    assert_int_equal(sum(&t, t.rsdp, 20), 0);
    assert_int_equal(sum(&t, t.rsdp, 36), 0);
    rsdt = get(&t, t.rsdp + 16, 4);
    assert_memory_equal(t.ram + rsdt, "RSDT", 4);
    assert_int_equal(sum(&t, rsdt, get(&t, rsdt + 4, 4)), 0);
    assert_int_equal(get(&t, rsdt + 36, 4), find(&t, "FACP"));
    free(t.ram);
    fixture_destroy(f);
}

static void the_fadt_names_the_hardware(void **state)
{
    struct tables t;
    struct fixture *f = make_tables(&t, 1);
    uint64_t fadt = find(&t, "FACP"), dsdt, facs;

    (void)state;
    assert_int_equal(get(&t, fadt + 4, 4), 276);
    assert_int_equal(get(&t, fadt + 8, 1), 6);
    facs = get(&t, fadt + 36, 4);
    assert_int_equal(facs % 64, 0);
    assert_memory_equal(t.ram + facs, "FACS", 4);
    assert_int_equal(get(&t, facs + 4, 4), 64);
    dsdt = get(&t, fadt + 40, 4);
    assert_memory_equal(t.ram + dsdt, "DSDT", 4);
    assert_int_equal(sum(&t, dsdt, get(&t, dsdt + 4, 4)), 0);
    assert_int_equal(get(&t, fadt + 140, 8), dsdt);
    assert_int_equal(get(&t, fadt + 46, 2), PLATFORM_SCI_IRQ);
    assert_int_equal(get(&t, fadt + 48, 4), PLATFORM_SMI_COMMAND);
    assert_int_equal(get(&t, fadt + 52, 1), PLATFORM_ACPI_ENABLE);
    assert_int_equal(get(&t, fadt + 53, 1), PLATFORM_ACPI_DISABLE);
    assert_int_equal(get(&t, fadt + 56, 4), PLATFORM_PM_EVENT);
    assert_int_equal(get(&t, fadt + 64, 4), PLATFORM_PM_CONTROL);
    assert_int_equal(get(&t, fadt + 76, 4), PLATFORM_PM_TIMER);
    assert_int_equal(get(&t, fadt + 88, 4), 0x04000204);        /* lengths of the blocks */
    assert_int_equal(get(&t, fadt + 108, 1), 0x32);             /* century */
    assert_int_equal(get(&t, fadt + 109, 2) & 0x0f, 0x05);      /* there are messages */
    assert_int_equal(get(&t, fadt + 112, 4) & 0x100500, 0x500); /* 32-bit timer, reset, full */
    assert_int_equal(get(&t, fadt + 116, 4), 0x01000801);
    assert_int_equal(get(&t, fadt + 120, 8), PLATFORM_RESET_PORT);
    assert_int_equal(get(&t, fadt + 128, 1), 0x06);
    assert_int_equal(get(&t, fadt + 148 + 4, 8), PLATFORM_PM_EVENT);
    assert_int_equal(get(&t, fadt + 172 + 4, 8), PLATFORM_PM_CONTROL);
    assert_int_equal(get(&t, fadt + 208 + 4, 8), PLATFORM_PM_TIMER);
    f->vm->config.no_msi = true;
    read_tables(&t, f);
    assert_int_equal(get(&t, fadt + 109, 2) & 0x0f, 0x0d);
    free(t.ram);
    fixture_destroy(f);
}

static void the_madt_lists_processors_and_wires(void **state)
{
    struct tables t;
    struct fixture *f = make_tables(&t, 5);
    uint64_t madt = find(&t, "APIC"), end = madt + get(&t, madt + 4, 4);
    unsigned lapics = 0, ioapics = 0, overrides = 0, nmis = 0;

    (void)state;
    assert_int_equal(get(&t, madt + 36, 4), PLATFORM_LAPIC_BASE);
    assert_int_equal(get(&t, madt + 40, 4), 1);
    for (uint64_t at = madt + 44; at < end; at += get(&t, at + 1, 1)) {
        assert_true(get(&t, at + 1, 1) >= 2 && at + get(&t, at + 1, 1) <= end);
        switch (get(&t, at, 1)) {
        case 0:
            assert_int_equal(get(&t, at + 3, 1), lapics++);
            assert_int_equal(get(&t, at + 4, 4), 1);
            break;
        case 1:
            assert_int_equal(get(&t, at + 4, 4), PLATFORM_IOAPIC_BASE);
            assert_int_equal(get(&t, at + 8, 4), 0);
            ioapics++;
            break;
        case 2:
            assert_int_equal(get(&t, at + 4, 4), get(&t, at + 3, 1) == 0 ? 2 : PLATFORM_SCI_IRQ);
            overrides++;
            break;
        default:
            assert_int_equal(get(&t, at, 1), 4);
            nmis++;
            break;
        }
    }
    assert_int_equal(lapics, 5);
    assert_int_equal(ioapics, 1);
    assert_int_equal(overrides, 2);
    assert_int_equal(nmis, 1);
    free(t.ram);
    fixture_destroy(f);
}

/* Disassemble a table as iasl's user would; its verdict is whether the AML makes sense. */
static void check_by_iasl(const struct tables *t, uint64_t table, const char *must_contain)
{
    const char *scratch = getenv("SCRATCH"); /* tests/run gives each test its own */
    char directory[256], command[1200];
    size_t length = get(t, table + 4, 4);
    FILE *file;

    snprintf(directory, sizeof(directory), "%s/acpi.%d", scratch ? scratch : "/tmp", (int)getpid());
    assert_int_equal(mkdir(directory, 0700), 0);
    snprintf(command, sizeof(command), "%s/table.aml", directory);
    file = fopen(command, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(t->ram + table, 1, length, file), length);
    fclose(file);
    snprintf(command, sizeof(command),
             "cd %s && iasl -d table.aml >log 2>&1 && ! grep -iE 'error|invalid' log table.dsl && "
             "grep -q '%s' table.dsl && iasl table.dsl >log 2>&1 && grep -q ' 0 Errors' log; r=$?; "
             "rm -r %s; exit $r",
             directory, must_contain, directory);
    assert_int_equal(system(command), 0);
}

static void aml_can_be_read(void **state)
{
    struct tables t;
    struct fixture *f = make_tables(&t, 64);

    (void)state;
    assert_true(system("command -v iasl >/dev/null") == 0);
    check_by_iasl(&t, find(&t, "SSDT"), "Device (C03F)");
    check_by_iasl(&t, get(&t, find(&t, "FACP") + 40, 4), "PNP0501");
    assert_int_equal(get(&t, find(&t, "WAET") + 36, 4), 3);
    assert_int_equal(get(&t, find(&t, "HPET") + 36, 4), PLATFORM_HPET_ID);
    assert_int_equal(get(&t, find(&t, "HPET") + 44, 8), PLATFORM_HPET_BASE);
    free(t.ram);
    fixture_destroy(f);
}

static void no_ram_is_an_error(void **state)
{
    struct fixture *f = fixture_create(VMM_KIB(512), 1);
    struct vmm_error err = {""};
    gpa_t rsdp;

    (void)state;
    assert_int_equal(vmm_acpi_build(f->vm, &rsdp, &err), -VMM_EFAULT);
    assert_string_equal(err.text, "test: no RAM at e0000 for ACPI tables");
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_acpi_build(f->vm, &rsdp, &err), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_rsdp_is_where_systems_look),
             cmocka_unit_test(the_fadt_names_the_hardware),
             cmocka_unit_test(the_madt_lists_processors_and_wires),
             cmocka_unit_test(aml_can_be_read), cmocka_unit_test(no_ram_is_an_error))
