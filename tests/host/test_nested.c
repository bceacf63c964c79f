/* Nested page tables: what the hardware's walk finds, failures undone. In long mode's form. */
#include "fixture.h"

#include "core/vm.h"

#define RWX (VMM_MAP_READ | VMM_MAP_WRITE | VMM_MAP_EXEC)

static const struct vmm_nested_format format = {
    .table = 0x27,
    .page = 0x65,
    .write = 2,
    .no_exec = UINT64_C(1) << 63,
};

static struct fixture *f;

static int setup(void **state)
{
    (void)state;
    f = fixture_create(0, 1);
    vmm_nested_destroy(f->vm); /* the fixture's own */
    assert_int_equal(vmm_nested_create(f->vm, &format, 4, true), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

struct translation {
    bool present;
    uint64_t hpa, page, flags;
};

/* What the hardware's walk would find. */
static struct translation translate(uint64_t gpa)
{
    uint64_t table = f->vm->nested.root.v;
    struct translation t = {.present = false};

    for (int level = (int)f->vm->nested.levels - 1; level >= 0; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        const uint64_t *entries = f->vm->ops->hpa_to_va(f->host, VMM_HPA(table));
        uint64_t entry = entries[gpa >> shift & 511];

        if ((entry & 1) == 0) {
            return t;
        }
        assert_true((entry & 4) != 0); /* nested walks are user accesses */
        if (level == 0 || (entry & 0x80) != 0) {
            t.present = true;
            t.page = UINT64_C(1) << shift;
            t.hpa = (entry & UINT64_C(0x000ffffffffff000)) + (gpa & (t.page - 1));
            t.flags = entry;
            assert_int_equal(entry & (t.page - 1) & UINT64_C(0x000ffffffffff000), 0);
            return t;
        }
        table = entry & UINT64_C(0x000ffffffffff000);
    }
    return t;
}

static void the_largest_pages_are_used(void **state)
{
    (void)state;
    /* From 4 KiB below 1 GiB to 2 MiB and 4 KiB above 2 GiB. */
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(VMM_GIB(1) - 4096), VMM_HPA(VMM_GIB(5) - 4096),
                                    4096 + VMM_GIB(1) + VMM_MIB(2) + 4096, RWX),
                     0);
    assert_int_equal(translate(VMM_GIB(1) - 1).page, 4096);
    assert_int_equal(translate(VMM_GIB(1)).page, VMM_GIB(1));
    assert_int_equal(translate(VMM_GIB(2)).page, VMM_MIB(2));
    assert_int_equal(translate(VMM_GIB(2) + VMM_MIB(2)).page, 4096);
    assert_false(translate(VMM_GIB(1) - 4097).present);
    assert_false(translate(VMM_GIB(2) + VMM_MIB(2) + 4096).present);
    for (uint64_t gpa = VMM_GIB(1) - 4096; gpa < VMM_GIB(2) + VMM_MIB(2); gpa += 0x76543) {
        assert_int_equal(translate(gpa).hpa, gpa + VMM_GIB(4));
    }
    /* Root, one level 2, level 1 and 0 below 1 GiB, level 1 and 0 above 2 GiB. */
    assert_int_equal(vmm_nested_bytes(f->vm), 6 * VMM_PAGE_SIZE);
}

static void alignment_and_features_limit_the_page(void **state)
{
    (void)state;
    f->vm->nested.page_1g = false;
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0), VMM_HPA(VMM_GIB(4)), VMM_GIB(1), RWX), 0);
    assert_int_equal(translate(0).page, VMM_MIB(2));
    assert_int_equal(
        vmm_nested_map(f->vm, VMM_GPA(VMM_GIB(8)), VMM_HPA(VMM_GIB(9) + 4096), VMM_MIB(2), RWX), 0);
    assert_int_equal(translate(VMM_GIB(8)).page, 4096);
    assert_int_equal(translate(VMM_GIB(8) + VMM_MIB(1)).hpa, VMM_GIB(9) + 4096 + VMM_MIB(1));
}

static void protection_is_kept(void **state)
{
    (void)state;
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0), VMM_HPA(0x100000), 4096, VMM_MAP_READ), 0);
    assert_int_equal(translate(0).flags & 2, 0);
    assert_true(translate(0).flags >> 63 != 0);
    assert_int_equal(
        vmm_nested_map(f->vm, VMM_GPA(4096), VMM_HPA(0x100000), 4096, VMM_MAP_READ | VMM_MAP_EXEC),
        0);
    assert_int_equal(translate(4096).flags & 2, 0);
    assert_int_equal(translate(4096).flags >> 63, 0);
}

static void overlaps_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(VMM_MIB(2)), VMM_HPA(0), VMM_MIB(2), RWX), 0);
    assert_int_equal(
        vmm_nested_map(f->vm, VMM_GPA(VMM_MIB(2) - 8192), VMM_HPA(VMM_GIB(1)), 12288, RWX),
        -VMM_EEXIST);
    assert_false(translate(VMM_MIB(2) - 8192).present);
    assert_int_equal(translate(VMM_MIB(2)).hpa, 0);
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0), VMM_HPA(0), VMM_GIB(1), RWX), -VMM_EEXIST);
    assert_true(translate(VMM_MIB(2)).present);
}

static void a_failed_map_leaves_nothing_mapped(void **state)
{
    int error;
    long n = 0;

    (void)state;
    do {
        posix_host_fail_alloc(f->host, n++);
        error = vmm_nested_map(f->vm, VMM_GPA(VMM_GIB(3) - 4096), VMM_HPA(4096), 8192, RWX);
        if (error != 0) {
            assert_int_equal(error, -VMM_ENOMEM);
            assert_false(translate(VMM_GIB(3) - 4096).present);
            assert_false(translate(VMM_GIB(3)).present);
        }
    } while (error != 0);
    posix_host_fail_alloc(f->host, -1);
    assert_true(n > 2);
}

static void unmapping_makes_every_vcpu_flush(void **state)
{
    uint64_t generation = f->vm->nested.flush_generation;

    (void)state;
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0), VMM_HPA(0), VMM_MIB(4) + 4096, RWX), 0);
    f->vcpu->requests = 0;
    vmm_nested_unmap(f->vm, VMM_GPA(0), VMM_MIB(4) + 4096);
    for (uint64_t gpa = 0; gpa <= VMM_MIB(4); gpa += 4096) {
        assert_false(translate(gpa).present);
    }
    assert_int_equal(f->vm->nested.flush_generation, generation + 1);
    assert_true(f->vcpu->requests != 0);
    vmm_nested_unmap(f->vm, VMM_GPA(VMM_GIB(7)), 4096); /* nothing there */
}

static void five_levels_work_too(void **state)
{
    (void)state;
    vmm_nested_destroy(f->vm);
    assert_int_equal(vmm_nested_create(f->vm, &format, 5, true), 0);
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0x1000), VMM_HPA(0x2000), 4096, RWX), 0);
    assert_int_equal(translate(0x1000).hpa, 0x2000);
    assert_int_equal(vmm_nested_bytes(f->vm), 5 * VMM_PAGE_SIZE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_largest_pages_are_used),
        TEST(alignment_and_features_limit_the_page),
        TEST(protection_is_kept),
        TEST(overlaps_are_refused_and_leave_nothing),
        TEST(a_failed_map_leaves_nothing_mapped),
        TEST(unmapping_makes_every_vcpu_flush),
        TEST(five_levels_work_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
