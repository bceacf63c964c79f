/* Logging of writes: which pages, how, and what is undone. */
#include <string.h>
#include "core/dirty.h"
#include "core/emulate.h"
#include "core/reclaim.h"
#include "fixture.h"
#include "mock_backend.h"

#define RAM   VMM_MIB(6)
#define PAGES (RAM / 4096)

static struct fixture *f;
static struct vm *vm;
static struct vmm_backend backend; /* the mock, which may log by hardware */
static const struct vmm_backend *mock;
static uint64_t bits[PAGES / 64];

static int setup(void **state)
{
    (void)state;
    f = fixture_create(RAM, 1);
    vm = f->vm;
    mock = f->vmm->backend;
    backend = *mock;
    f->vmm->backend = &backend;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    f->vmm->backend = mock;
    fixture_destroy(f);
    return 0;
}

static unsigned fetch(void)
{
    unsigned count = 0;

    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 0), bits), 0);
    for (unsigned i = 0; i < PAGES; i++) {
        count += bits[i / 64] >> i % 64 & 1;
    }
    return count;
}

static bool is_set(uint64_t gpa)
{
    return (bits[gpa / 4096 / 64] >> gpa / 4096 % 64 & 1) != 0;
}

static void a_write_faults_once(void **state)
{
    (void)state;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(fetch(), 0);
    assert_int_equal(fixture_translate(vm, VMM_MIB(3)).size, VMM_MIB(2));
    assert_int_equal(fixture_translate(vm, VMM_MIB(3)).flags & 2, 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(VMM_MIB(3) + 5), true), 0);
    assert_int_equal(fixture_translate(vm, VMM_MIB(3)).size, 4096);
    assert_int_equal(fixture_translate(vm, VMM_MIB(3)).flags & 2, 2);
    assert_int_equal(fixture_translate(vm, VMM_MIB(3) + 4096).flags & 2, 0);
    assert_int_equal(fixture_translate(vm, 0).size, VMM_MIB(2)); /* untouched: still large */
    assert_int_equal(fetch(), 1);
    assert_true(is_set(VMM_MIB(3)));
    assert_int_equal(fixture_translate(vm, VMM_MIB(3)).flags & 2, 0); /* and it faults again */
    assert_int_equal(fetch(), 0);
    vmm_dirty_stop(vm);
}

static void reads_and_first_touches_are_told_apart(void **state)
{
    const uint32_t page[] = {5, 6};

    (void)state;
    assert_int_equal(vmm_memory_discard(vm, page, 2), 2);
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x5000), false), 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x6000), true), 0);
    assert_int_equal(fetch(), 1);
    assert_true(is_set(0x6000));
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x5000), true), 0);
    assert_int_equal(fetch(), 1);
    assert_true(is_set(0x5000));
    vmm_dirty_stop(vm);
}

static void the_librarys_own_writes_count(void **state)
{
    uint64_t value = 1;

    (void)state;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_memory_write(vm, VMM_GPA(0x2ffc), &value, 8), 0); /* two pages */
    assert_int_equal(vmm_memory_zero(vm, VMM_GPA(0x9000), 1), 0);
    assert_non_null(vmm_memory_ptr_write(vm, VMM_GPA(VMM_MIB(5)), 8));
    assert_non_null(vmm_memory_ptr(vm, VMM_GPA(VMM_MIB(4)), 8));
    assert_int_equal(fetch(), 4);
    assert_true(is_set(0x2000) && is_set(0x3000) && is_set(0x9000) && is_set(VMM_MIB(5)));
    vmm_dirty_stop(vm);
}

static void the_emulators_writes_count(void **state)
{
    struct vmm_walk_fault fault;
    uint32_t value = 7;

    (void)state;
    /* Paging off: linear is guest-physical. The walk is remembered before and used again after. */
    assert_int_equal(vmm_linear_write(f->vcpu, VMM_GVA(0x8ffe), &value, 4, &fault), 0);
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_linear_write(f->vcpu, VMM_GVA(0x8ffe), &value, 4, &fault), 0);
    assert_int_equal(fetch(), 2);
    assert_true(is_set(0x8000) && is_set(0x9000));
    vmm_dirty_stop(vm);
}

static void large_pages_come_back(void **state)
{
    uint64_t tables = vm->nested.table_count;

    (void)state;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_dirty_start(vm), -VMM_EBUSY);
    for (uint64_t gpa = 0; gpa < RAM; gpa += VMM_MIB(1)) {
        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa), true), 0);
    }
    assert_int_equal(vm->nested.table_count, tables + 3);
    vmm_dirty_stop(vm);
    assert_int_equal(vm->nested.table_count, tables);
    for (uint64_t gpa = 0; gpa < RAM; gpa += VMM_MIB(2)) {
        assert_int_equal(fixture_translate(vm, gpa).size, VMM_MIB(2));
        assert_int_equal(fixture_translate(vm, gpa).flags & 2, 2);
    }
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 0), bits), -VMM_EINVAL);
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(fetch(), 0);
    vmm_dirty_stop(vm);
}

static void what_was_discarded_meanwhile_keeps_its_place_small(void **state)
{
    const uint32_t page[] = {1};

    (void)state;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_memory_discard(vm, page, 1), 1);
    vmm_dirty_stop(vm);
    assert_int_equal(fixture_translate(vm, 0).size, 4096);
    assert_int_equal(fixture_translate(vm, 0).flags & 2, 2);
    assert_int_equal(fixture_translate(vm, VMM_MIB(2)).size, VMM_MIB(2));
}

static void a_region_added_meanwhile_is_all_news(void **state)
{
    static uint64_t more[1];

    (void)state;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(VMM_MIB(64)), 0x3000, VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(VMM_MIB(65)), 0x3000, VMM_REGION_ROM), 0);
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 1), more), 0);
    assert_int_equal(more[0], 7);
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 1), more), 0);
    assert_int_equal(more[0], 0);
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 2), more), -VMM_EINVAL);
    assert_int_equal(vmm_memory_remove(vm, VMM_GPA(VMM_MIB(64))), 0);
    vmm_dirty_stop(vm);
}

static void without_memory_no_write_is_lost(void **state)
{
    (void)state;
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_dirty_start(vm), -VMM_ENOMEM);
    assert_int_equal(fixture_translate(vm, 0).flags & 2, 2);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(vmm_dirty_start(vm), 0);
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x5000), true), 0); /* the whole 2 MiB */
    assert_int_equal(fetch(), 512);
    vmm_dirty_stop(vm);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(fixture_translate(vm, 0).flags & 2, 2);
}

/* --- hardware that logs ------------------------------------------------------------------------
 */

static bool hardware_on;

static bool log_writes(struct vm *v, bool on)
{
    (void)v;
    hardware_on = on;
    return true;
}

/* What the processor does at a write. */
static void hardware_write(uint64_t gpa)
{
    unsigned level;
    uint64_t value, *entry = vmm_nested_look(vm, VMM_GPA(gpa), &level, &value);

    assert_int_equal(level, 0);
    assert_true((*entry & 2) != 0);
    if ((*entry & mock_nested_format.dirty) == 0) {
        *entry |= mock_nested_format.dirty;
        vmm_dirty_mark_gpa(vm, VMM_GPA(gpa));
    }
}

static void hardware_logs_without_faults(void **state)
{
    (void)state;
    backend.log_writes = log_writes;
    assert_int_equal(vmm_dirty_start(vm), 0);
    assert_true(hardware_on);
    assert_int_equal(fetch(), 0);
    hardware_write(0x3000);
    hardware_write(0x3008);
    hardware_write(VMM_MIB(5));
    assert_int_equal(fetch(), 2);
    hardware_write(0x3000);
    assert_int_equal(fetch(), 1);
    vmm_dirty_stop(vm);
    assert_false(hardware_on);
    assert_int_equal(fixture_translate(vm, 0).size, VMM_MIB(2));
}

static void a_region_that_hardware_logs_has_small_pages(void **state)
{
    static uint64_t more[VMM_MIB(2) / 4096 / 64];
    uint64_t pages;

    (void)state;
    backend.log_writes = log_writes;
    assert_int_equal(vmm_dirty_start(vm), 0);
    for (long n = 0; n < 4; n++) { /* table of regions, log, page, the table that cuts it */
        pages = posix_host_pages_used(f->host);
        posix_host_fail_alloc(f->host, n);
        assert_int_equal(vmm_memory_add(vm, VMM_GPA(VMM_MIB(64)), VMM_MIB(2), VMM_REGION_RAM),
                         -VMM_ENOMEM);
        posix_host_fail_alloc(f->host, -1);
        assert_int_equal(posix_host_pages_used(f->host), pages);
    }
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(VMM_MIB(64)), VMM_MIB(2), VMM_REGION_RAM), 0);
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 1), more), 0);
    assert_int_equal(more[0], UINT64_MAX);
    hardware_write(VMM_MIB(64) + 0x3000);
    hardware_write(VMM_MIB(64) + 0x5000);
    assert_int_equal(vmm_dirty_fetch(vm, vmm_memory_region(vm, 1), more), 0);
    assert_int_equal(more[0], 1 << 3 | 1 << 5);
    vmm_dirty_stop(vm);
    assert_int_equal(fixture_translate(vm, VMM_MIB(64)).size, VMM_MIB(2));
    assert_int_equal(vmm_memory_remove(vm, VMM_GPA(VMM_MIB(64))), 0);
}

static void hardware_that_needs_memory_is_not_used(void **state)
{
    (void)state;
    backend.log_writes = log_writes;
    posix_host_fail_alloc(f->host, 2); /* the log, then the first of three tables */
    assert_int_equal(vmm_dirty_start(vm), 0);
    posix_host_fail_alloc(f->host, -1);
    assert_false(hardware_on);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x3000), true), 0);
    assert_int_equal(fetch(), 1);
    vmm_dirty_stop(vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_write_faults_once),
        TEST(reads_and_first_touches_are_told_apart),
        TEST(the_librarys_own_writes_count),
        TEST(the_emulators_writes_count),
        TEST(large_pages_come_back),
        TEST(what_was_discarded_meanwhile_keeps_its_place_small),
        TEST(a_region_added_meanwhile_is_all_news),
        TEST(without_memory_no_write_is_lost),
        TEST(hardware_logs_without_faults),
        TEST(a_region_that_hardware_logs_has_small_pages),
        TEST(hardware_that_needs_memory_is_not_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
