/* Guest memory: what is backed how, copies, first touch, and every failure undone. */
#include "core/dirty.h"
#include "core/reclaim.h"
#include "fixture.h"
#include "mock_backend.h"

#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    *state = fixture_create(0, 1);
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void pages_are_as_large_as_alignment_allows(void **state)
{
    struct fixture *f = *state;
    uint64_t at = 0xc0000;

    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0xc0000), VMM_MIB(8) - 0xc0000, VMM_REGION_RAM),
                     0);
    while (at < VMM_MIB(8)) {
        struct fixture_page p = fixture_translate(f->vm, at);

        assert_true(p.present);
        assert_int_equal(p.size, at < VMM_MIB(2) ? 4096 : VMM_MIB(2));
        assert_int_equal(p.flags & 2, 2);
        assert_int_equal(p.flags >> 63, 0);
        at += p.size;
    }
    assert_int_equal(at, VMM_MIB(8));
    assert_int_equal(f->vm->nested.page_count, (VMM_MIB(8) - 0xc0000) / 4096);
    assert_false(fixture_translate(f->vm, 0xbf000).present);
    assert_false(fixture_translate(f->vm, VMM_MIB(8)).present);
}

static void bad_ranges_are_refused(void **state)
{
    struct fixture *f = *state;
    struct vm *vm = f->vm;

    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0x10), 0x1000, VMM_REGION_RAM), -VMM_EINVAL);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0), 0x1001, VMM_REGION_RAM), -VMM_EINVAL);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0), 0, VMM_REGION_RAM), -VMM_EINVAL);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(-VMM_PAGE_SIZE), 0x2000, VMM_REGION_RAM),
                     -VMM_EINVAL);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0x4000), 0x4000, VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0x7000), 0x1000, VMM_REGION_RAM), -VMM_EEXIST);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0x1000), 0x4000, VMM_REGION_RAM), -VMM_EEXIST);
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0), 0x10000, VMM_REGION_RAM), -VMM_EEXIST);
    for (unsigned i = 1; i < VMM_REGIONS_MAX; i++) {
        assert_int_equal(vmm_memory_add(vm, VMM_GPA(i * 0x10000), 0x1000, VMM_REGION_RAM), 0);
    }
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(0x900000), 0x1000, VMM_REGION_RAM), -VMM_ENOSPC);
}

static void a_page_of_the_back_ends_is_in_the_way(void **state)
{
    struct fixture *f = *state;
    hpa_t page;

    assert_int_equal(f->vm->ops->pages_alloc(f->host, 1, 4096, -1, &page), 0);
    assert_int_equal(vmm_nested_map(f->vm, VMM_GPA(0x5000), page, 4096, VMM_MAP_READ), 0);
    for (unsigned lazy = 0; lazy < 2; lazy++) {
        f->vm->config.lazy_memory = lazy;
        assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), 0x10000, VMM_REGION_RAM), -VMM_EEXIST);
        assert_int_equal(fixture_translate(f->vm, 0x5000).hpa, page.v);
        assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), 0x5000, VMM_REGION_RAM), 0);
        assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(0)), 0);
        assert_int_equal(fixture_translate(f->vm, 0x5000).hpa, page.v);
    }
    f->vm->ops->pages_free(f->host, page, 1);
}

static void every_allocation_failure_is_undone(void **state)
{
    struct fixture *f = *state;
    uint64_t pages = posix_host_pages_used(f->host);
    uint64_t small = posix_host_small_used(f->host);
    uint64_t tables = f->vm->nested.table_count;
    int error;
    long n = 0;

    do {
        posix_host_fail_alloc(f->host, n++);
        error = vmm_memory_add(f->vm, VMM_GPA(0xc0000), VMM_MIB(4), VMM_REGION_RAM);
        if (error != 0) {
            assert_int_equal(error, -VMM_ENOMEM);
            /* Tables may stay: they serve the next attempt. */
            assert_int_equal(posix_host_pages_used(f->host) - f->vm->nested.table_count,
                             pages - tables);
            assert_int_equal(posix_host_small_used(f->host), small);
            assert_null(vmm_memory_region(f->vm, 0));
            assert_int_equal(f->vm->nested.page_count, 0);
            assert_false(fixture_translate(f->vm, 0xc0000).present);
        }
    } while (error != 0);
    posix_host_fail_alloc(f->host, -1);
    assert_true(n > 3);
}

/* Of a region whose large pages were cut, and of an attempt that got no further than small ones. */
static void tables_do_not_outlive_their_region(void **state)
{
    struct fixture *f = *state;
    const uint32_t page[] = {VMM_GIB(1) / 4096 + 1, VMM_GIB(1) / 4096 + 700};
    uint64_t tables = f->vm->nested.table_count;
    int error = -VMM_ENOMEM;

    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(
            vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(1) - 4096), VMM_MIB(4) + 8192, VMM_REGION_RAM),
            0);
        assert_int_equal(fixture_translate(f->vm, VMM_GIB(1)).size, VMM_MIB(2));
        assert_int_equal(vmm_memory_discard(f->vm, page, 2), 2);
        assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(VMM_GIB(1) - 4096)), 0);
        /* Those stay that reach beyond: two of each end, and one above both. */
        assert_int_equal(f->vm->nested.table_count, tables + 5);
    }
    f->vm->config.huge_pages = VM_HUGE_PAGES_NONE;
    posix_host_fail_alloc(f->host, 300);
    error = vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(1)), VMM_MIB(4), VMM_REGION_RAM);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(error, -VMM_ENOMEM);
    f->vm->config.huge_pages = VM_HUGE_PAGES_ANY;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(1)), VMM_MIB(4), VMM_REGION_RAM), 0);
    assert_int_equal(fixture_translate(f->vm, VMM_GIB(1)).size, VMM_MIB(2));
}

static uint64_t largest;
static int (*pages_alloc)(void *host, uint64_t count, uint64_t align, int node, hpa_t *out);

static int pages_alloc_fragmented(void *host, uint64_t count, uint64_t align, int node, hpa_t *out)
{
    return count > largest ? -VMM_ENOMEM : pages_alloc(host, count, align, node, out);
}

static void a_fragmented_host_gives_smaller_blocks(void **state)
{
    struct fixture *f = *state;
    struct vmm_host_ops *ops = posix_host_ops(f->host);

    pages_alloc = ops->pages_alloc;
    ops->pages_alloc = pages_alloc_fragmented;
    largest = 16;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(1), VMM_REGION_RAM), 0);
    ops->pages_alloc = pages_alloc;
    assert_int_equal(f->vm->nested.page_count, 256);
    assert_int_equal(vmm_memory_zero(f->vm, VMM_GPA(0), VMM_MIB(1)), 0);
}

static void copies_cross_blocks(void **state)
{
    struct fixture *f = *state;
    uint8_t in[0x3000], out[0x3000];

    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0x1000), 0x7000, VMM_REGION_RAM), 0);
    for (unsigned i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)(i * 7);
    }
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x1801), in, sizeof(in)), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x1801), out, sizeof(out)), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(vmm_memory_zero(f->vm, VMM_GPA(0x1ffe), 4), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x1801), out, sizeof(out)), 0);
    memset(in + 0x7fd, 0, 4);
    assert_memory_equal(in, out, sizeof(in));

    assert_non_null(vmm_memory_ptr(f->vm, VMM_GPA(0x1000), 0x1000));
    assert_null(vmm_memory_ptr(f->vm, VMM_GPA(0x1000), 0x1001)); /* the next page is elsewhere */
    assert_null(vmm_memory_ptr(f->vm, VMM_GPA(0x8000), 1));
}

static void copies_beyond_ram_write_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[0x2000];

    memset(bytes, 0xaa, sizeof(bytes));
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), 0x4000, VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_zero(f->vm, VMM_GPA(0), 0x4000), 0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x3000), bytes, sizeof(bytes)), -VMM_EFAULT);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(UINT64_MAX), bytes, 2), -VMM_EFAULT);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x3000), bytes, 0x1000), 0);
    for (unsigned i = 0; i < 0x1000; i++) {
        assert_int_equal(bytes[i], 0);
    }
}

static void lazy_pages_come_zeroed_on_first_touch(void **state)
{
    struct fixture *f = *state;
    uint64_t word = 1;

    f->vm->config.lazy_memory = true;
    f->vm->config.huge_pages = VM_HUGE_PAGES_NONE;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(64), VMM_REGION_RAM), 0);
    assert_int_equal(f->vm->nested.page_count, 0);
    /* Out of order, so that blocks are inserted before others. */
    for (unsigned i = 0; i < 64; i++) {
        uint64_t gpa = (uint64_t)(i * 37 % 64) << 12;

        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa + 5), true), 0);
        assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(gpa), &word, 8), 0);
        assert_int_equal(word, 0);
        word = gpa + 1;
        assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(gpa), &word, 8), 0);
    }
    assert_int_equal(f->vm->nested.page_count, 64);
    for (uint64_t gpa = 0; gpa < 64 << 12; gpa += 1 << 12) {
        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa), false), 0);
        assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(gpa), &word, 8), 0);
        assert_int_equal(word, gpa + 1);
    }
    assert_int_equal(f->vm->nested.page_count, 64);

    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(VMM_MIB(32)), true), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(VMM_MIB(32)), true), 0);
}

/* Of the page at gpa, after a touch. */
static uint64_t touched_size(struct fixture *f, uint64_t gpa)
{
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa), true), 0);
    assert_true(fixture_translate(f->vm, gpa).present);
    return fixture_translate(f->vm, gpa).size;
}

static void lazy_pages_are_large_where_the_region_allows(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[VMM_MIB(2)];

    f->vm->config.lazy_memory = true;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0xc0000), VMM_MIB(7) - 0xc0000, VMM_REGION_RAM),
                     0);
    assert_int_equal(touched_size(f, VMM_MIB(1)), 4096);
    assert_int_equal(touched_size(f, VMM_MIB(3) + 7), VMM_MIB(2));
    assert_int_equal(touched_size(f, VMM_MIB(6)), 4096);
    assert_int_equal(f->vm->nested.page_count, 512 + 2);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(VMM_MIB(2)), bytes, sizeof(bytes)), 0);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(bytes[i], 0);
    }
    /* By the library's own hand, too. */
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(VMM_MIB(5)), "x", 1), 0);
    assert_int_equal(fixture_translate(f->vm, VMM_MIB(4)).size, VMM_MIB(2));
}

static void the_largest_page_can_be_chosen(void **state)
{
    struct fixture *f = *state;

    for (unsigned lazy = 0; lazy < 2; lazy++) {
        f->vm->config.lazy_memory = lazy;
        f->vm->config.huge_pages = VM_HUGE_PAGES_NONE;
        assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(4), VMM_REGION_RAM), 0);
        assert_int_equal(touched_size(f, VMM_MIB(3)), 4096);
        assert_int_equal(vmm_dirty_start(f->vm), 0);
        vmm_dirty_stop(f->vm); /* joins what may be large, and lies together */
        assert_int_equal(fixture_translate(f->vm, VMM_MIB(3)).size, 4096);
        assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(0)), 0);
        vmm_vcpu_pass(f->vcpu); /* as its thread would */
        f->vm->config.huge_pages = VM_HUGE_PAGES_2M;
        assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(1)), VMM_MIB(4), VMM_REGION_RAM), 0);
        assert_int_equal(touched_size(f, VMM_GIB(1) + VMM_MIB(3)), VMM_MIB(2));
        assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(VMM_GIB(1))), 0);
    }
}

static unsigned large_asked;

static int pages_alloc_small(void *host, uint64_t count, uint64_t align, int node, hpa_t *out)
{
    large_asked += count > 1;
    return count > 1 ? -VMM_ENOMEM : pages_alloc(host, count, align, node, out);
}

static void a_fragmented_host_is_asked_once_for_a_large_page(void **state)
{
    struct fixture *f = *state;
    struct vmm_host_ops *ops = posix_host_ops(f->host);

    f->vm->config.lazy_memory = true;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(8), VMM_REGION_RAM), 0);
    pages_alloc = ops->pages_alloc;
    ops->pages_alloc = pages_alloc_small;
    for (uint64_t gpa = 0; gpa < VMM_MIB(2); gpa += 4096) {
        assert_int_equal(touched_size(f, gpa), 4096);
    }
    assert_int_equal(large_asked, 1);
    assert_int_equal(touched_size(f, VMM_MIB(2)), 4096);
    assert_int_equal(large_asked, 2);
    ops->pages_alloc = pages_alloc;
    assert_int_equal(touched_size(f, VMM_MIB(3)), 4096); /* there is a table of small ones */
    assert_int_equal(touched_size(f, VMM_MIB(4)), VMM_MIB(2));
}

static void pages_touched_while_writes_are_logged_are_small(void **state)
{
    struct fixture *f = *state;
    uint64_t bits[VMM_MIB(4) / 4096 / 64];

    f->vm->config.lazy_memory = true;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(4), VMM_REGION_RAM), 0);
    assert_int_equal(touched_size(f, VMM_MIB(1)), VMM_MIB(2));
    assert_int_equal(vmm_dirty_start(f->vm), 0);
    assert_int_equal(touched_size(f, VMM_MIB(1)), 4096);
    assert_int_equal(touched_size(f, VMM_MIB(3)), 4096);
    assert_int_equal(vmm_dirty_fetch(f->vm, vmm_memory_region(f->vm, 0), bits), 0);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(bits); i++) {
        assert_int_equal(bits[i], i == 4 || i == 12);
    }
    vmm_dirty_stop(f->vm);
    assert_int_equal(fixture_translate(f->vm, VMM_MIB(1)).size, VMM_MIB(2));
}

static void faults_outside_ram_say_what_is_there(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), 0x4000, VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0xf0000), 0x10000, VMM_REGION_ROM), 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0x4000), false), -VMM_ENOENT);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0xf1000), true), -VMM_EPERM);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(0xf1000), false), 0);
    assert_int_equal(fixture_translate(f->vm, 0x3000).flags & 2, 2);
    assert_int_equal(fixture_translate(f->vm, 0xf1000).flags & 2, 0);
}

static void ram_is_divided_among_nodes(void **state)
{
    struct fixture *f = *state;
    struct vm_config *c = &f->vm->config;

    c->mem_bytes = VMM_MIB(12);
    c->ram_node_count = 3;
    memcpy(c->ram_node, "\2\0\1", 3);
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(8), VMM_REGION_RAM), 0);
    f->vm->config.lazy_memory = true;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(VMM_MIB(8)), VMM_MIB(5), VMM_REGION_RAM), 0);
    for (uint64_t gpa = 0; gpa < VMM_MIB(13); gpa += 0x1000) {
        uint64_t share = gpa / VMM_MIB(4);

        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa), true), 0);
        assert_int_equal(
            posix_host_node_asked(f->host, fixture_translate(f->vm, gpa).hpa & -VMM_PAGE_SIZE),
            c->ram_node[share < 2 ? share : 2]);
    }
    assert_int_equal(fixture_translate(f->vm, VMM_MIB(2)).size, VMM_MIB(2));
    assert_int_equal(fixture_translate(f->vm, VMM_MIB(10)).size, VMM_MIB(2));
}

/* 2 MiB that two nodes have a share of are not one page. */
static void shares_need_not_be_aligned(void **state)
{
    struct fixture *f = *state;
    struct vm_config *c = &f->vm->config;

    c->mem_bytes = VMM_MIB(10);
    c->ram_node_count = 2;
    memcpy(c->ram_node, "\2\1", 2);
    c->lazy_memory = true;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(10), VMM_REGION_RAM), 0);
    for (uint64_t gpa = 0; gpa < VMM_MIB(10); gpa += VMM_MIB(1)) {
        uint64_t size = touched_size(f, gpa);

        assert_int_equal(size, gpa >> 21 == 2 ? 4096 : VMM_MIB(2));
        assert_int_equal(posix_host_node_asked(f->host, fixture_translate(f->vm, gpa).hpa & -size),
                         gpa < VMM_MIB(5) ? 2 : 1);
    }
}

static void (*pages_free)(void *host, hpa_t base, uint64_t count);
static uint64_t freed_pages, freed_bytes_set;

static void pages_free_inspecting(void *host, hpa_t base, uint64_t count)
{
    const uint8_t *p = posix_host_ops(host)->hpa_to_va(host, base);

    freed_pages += count;
    for (uint64_t i = 0; i < count * VMM_PAGE_SIZE; i++) {
        freed_bytes_set += p[i] != 0;
    }
    pages_free(host, base, count);
}

static void pages_are_scrubbed_before_they_go_back(void **state)
{
    struct fixture *f = *state;
    struct vmm_host_ops *ops = posix_host_ops(f->host);

    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), 0x3000, VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(0x1ffc), "secret", 7), 0);
    pages_free = ops->pages_free;
    ops->pages_free = pages_free_inspecting;
    vmm_memory_destroy(f->vm);
    ops->pages_free = pages_free;
    assert_int_equal(freed_pages, 3);
    assert_int_equal(freed_bytes_set, 0);
}

/* Another guest may get them next: RAM, and tables that say where RAM is in the host. */
static void nothing_is_left_in_what_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct vmm_host_ops *ops = posix_host_ops(f->host);
    int error;

    pages_free = ops->pages_free;
    ops->pages_free = pages_free_inspecting;
    freed_pages = freed_bytes_set = 0;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(8), VMM_REGION_RAM), 0);
    assert_int_equal(vmm_dirty_start(f->vm), 0);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(VMM_MIB(4)), "left", 5), 0);
    vmm_dirty_stop(f->vm); /* the small pages' tables go */
    assert_int_equal(freed_pages, 1);
    assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(0)), 0);
    for (long n = 0;; n++) { /* a block that was taken and cannot be mapped */
        posix_host_fail_one(f->host, n);
        error = vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(1)), VMM_MIB(8), VMM_REGION_RAM);
        if (error == 0) {
            break;
        }
    }
    posix_host_fail_one(f->host, -1);
    assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(VMM_GIB(1))), 0);
    ops->pages_free = pages_free;
    assert_true(freed_pages > 8);
    assert_int_equal(freed_bytes_set, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pages_are_as_large_as_alignment_allows),
        TEST(bad_ranges_are_refused),
        TEST(a_page_of_the_back_ends_is_in_the_way),
        TEST(every_allocation_failure_is_undone),
        TEST(tables_do_not_outlive_their_region),
        TEST(a_fragmented_host_gives_smaller_blocks),
        TEST(copies_cross_blocks),
        TEST(copies_beyond_ram_write_nothing),
        TEST(lazy_pages_come_zeroed_on_first_touch),
        TEST(lazy_pages_are_large_where_the_region_allows),
        TEST(the_largest_page_can_be_chosen),
        TEST(a_fragmented_host_is_asked_once_for_a_large_page),
        TEST(pages_touched_while_writes_are_logged_are_small),
        TEST(faults_outside_ram_say_what_is_there),
        TEST(ram_is_divided_among_nodes),
        TEST(shares_need_not_be_aligned),
        TEST(pages_are_scrubbed_before_they_go_back),
        TEST(nothing_is_left_in_what_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
