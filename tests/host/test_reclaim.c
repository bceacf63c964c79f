/* Pages taken from a guest: by its balloon, to the host's store; and a long random run against a
 * model that knows what every page holds. */
#include <stdlib.h>
#include <string.h>
#include "core/dirty.h"
#include "core/reclaim.h"
#include "fixture.h"
#include "mock_backend.h"
#include "posix_inner.h"

#define RAM VMM_MIB(4)

static struct fixture *f;
static struct vm *vm;

static int setup(void **state)
{
    (void)state;
    f = fixture_create(RAM, 1);
    vm = f->vm;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

static uint64_t get(uint64_t gpa)
{
    uint64_t value;

    assert_int_equal(vmm_memory_read(vm, VMM_GPA(gpa), &value, sizeof(value)), 0);
    return value;
}

static void set(uint64_t gpa, uint64_t value)
{
    assert_int_equal(vmm_memory_write(vm, VMM_GPA(gpa), &value, sizeof(value)), 0);
}

/* --- balloon ---------------------------------------------------------------------------------- */

static void discarded_pages_go_back_and_come_as_zeros(void **state)
{
    const uint32_t page[] = {3, 700, 701, 3, 0xfffff, UINT32_MAX};
    uint64_t used = posix_host_pages_used(f->host);

    (void)state;
    set(0x3010, 7);
    set(700 << 12, 8);
    set(702 << 12, 9);
    assert_int_equal(fixture_translate(vm, 700 << 12).size, VMM_MIB(2));
    assert_int_equal(vmm_memory_discard(vm, page, VMM_ARRAY_COUNT(page)), 3);
    /* Two tables of 512 small pages each were made. */
    assert_int_equal(posix_host_pages_used(f->host), used - 3 + 2);
    assert_int_equal(vm->nested.page_count, RAM / 4096 - 3);
    assert_false(fixture_translate(vm, 0x3000).present);
    assert_int_equal(fixture_translate(vm, 702 << 12).size, 4096);
    assert_int_equal(get(0x3010), 0);
    assert_int_equal(vm->nested.page_count, RAM / 4096 - 3); /* reading took none */
    set(700 << 12, 1);
    assert_int_equal(vm->nested.page_count, RAM / 4096 - 2);
    assert_int_equal(get(702 << 12), 9);
}

static void rom_is_not_discarded(void **state)
{
    const uint32_t page[] = {0x1000};

    (void)state;
    assert_int_equal(vmm_memory_add(vm, VMM_GPA(VMM_MIB(16)), 4096, VMM_REGION_ROM), 0);
    assert_int_equal(vmm_memory_discard(vm, page, 1), 0);
}

static void without_memory_the_guest_keeps_its_pages(void **state)
{
    const uint32_t page[] = {1};

    (void)state;
    set(0x1000, 5);
    for (long n = 0; n < 2; n++) { /* the list of pages; the table of small ones */
        posix_host_fail_alloc(f->host, n);
        assert_int_equal(vmm_memory_discard(vm, page, 1), 0);
        posix_host_fail_alloc(f->host, -1);
        assert_int_equal(get(0x1000), 5);
    }
    assert_int_equal(vmm_memory_discard(vm, page, 1), 1);
}

/* --- the store -------------------------------------------------------------------------------- */

static uint64_t swap(uint64_t bytes, int expected)
{
    uint64_t taken;

    assert_int_equal(vmm_vm_swap_out(vm, bytes, &taken), expected);
    return taken;
}

static void fill(void)
{
    for (uint64_t gpa = 0; gpa < RAM; gpa += 4096) {
        set(gpa + 8, gpa + 1);
    }
}

static void check_filled(void)
{
    for (uint64_t gpa = 0; gpa < RAM; gpa += 4096) {
        assert_int_equal(get(gpa + 8), gpa + 1);
    }
}

static void stored_pages_come_back_as_they_were(void **state)
{
    struct vm_memory m;

    (void)state;
    fill();
    assert_int_equal(swap(VMM_MIB(1), 0), VMM_MIB(1));
    assert_int_equal(posix_host_stored(f->host), 256);
    vmm_vm_memory(vm, &m);
    assert_int_equal(m.stored, VMM_MIB(1));
    assert_int_equal(m.backed, RAM - VMM_MIB(1));
    assert_int_equal(swap(RAM, 0), RAM - VMM_MIB(1));
    assert_int_equal(vm->nested.page_count, 0);
    check_filled();
    assert_int_equal(posix_host_stored(f->host), 0);
    assert_int_equal(vm->nested.page_count, RAM / 4096);
}

static void pages_of_zeros_need_no_store(void **state)
{
    (void)state;
    assert_int_equal(swap(RAM, 0), RAM);
    assert_int_equal(posix_host_stored(f->host), 0);
    assert_int_equal(vm->nested.page_count, 0);
    assert_int_equal(get(0x5000), 0);
}

static void stored_pages_come_back_to_their_node(void **state)
{
    struct vm_config *c = &vm->config;

    (void)state;
    c->mem_bytes = RAM;
    c->ram_node_count = 2;
    memcpy(c->ram_node, "\2\1", 2);
    fill();
    assert_int_equal(swap(RAM, 0), RAM);
    check_filled();
    for (uint64_t gpa = 0; gpa < RAM; gpa += 4096) {
        assert_int_equal(
            posix_host_node_asked(f->host, fixture_translate(vm, gpa).hpa & -VMM_PAGE_SIZE),
            gpa < RAM / 2 ? 2 : 1);
    }
}

static void a_full_store_leaves_the_rest(void **state)
{
    (void)state;
    fill();
    posix_host_store_limit(f->host, 10);
    assert_int_equal(swap(RAM, -VMM_ENOSPC), 10 * 4096);
    assert_int_equal(vm->nested.page_count, RAM / 4096 - 10);
    check_filled();
}

static void pages_the_store_does_not_want_stay(void **state)
{
    (void)state;
    fill();
    set(0x7000, POSIX_UNWANTED);
    assert_int_equal(swap(RAM, 0), RAM - 4096);
    assert_true(fixture_translate(vm, 0x7000).present);
    assert_true((fixture_translate(vm, 0x7000).flags & 2) != 0);
    check_filled();
}

static void a_store_that_loses_pages_is_an_error(void **state)
{
    uint64_t value;

    (void)state;
    fill();
    swap(RAM, 0);
    posix_host_store_lose(f->host, true);
    assert_int_equal(vmm_memory_read(vm, VMM_GPA(8), &value, 8), -VMM_EIO);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(8), false), -VMM_EIO);
    assert_null(vmm_memory_ptr(vm, VMM_GPA(8), 8));
    posix_host_store_lose(f->host, false);
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(8), false), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    check_filled();
}

static void without_a_store_nothing_is_moved(void **state)
{
    (void)state;
    posix_host_ops(f->host)->store = NULL;
    assert_int_equal(swap(RAM, -VMM_ENOTSUP), 0);
    posix_host_ops(f->host)->store = &posix_store;
}

static void stored_pages_can_be_discarded_or_destroyed(void **state)
{
    const uint32_t page[] = {0, 1, 2};

    (void)state;
    fill();
    swap(RAM, 0);
    assert_int_equal(vmm_memory_discard(vm, page, 3), 3);
    assert_int_equal(posix_host_stored(f->host), RAM / 4096 - 3);
    assert_int_equal(get(0x1008), 0);
    assert_int_equal(vmm_memory_remove(vm, VMM_GPA(0)), 0);
    assert_int_equal(posix_host_stored(f->host), 0);
}

static void pages_in_use_go_last(void **state)
{
    uint64_t taken = 0;

    (void)state;
    fill();
    swap(RAM, 0);
    check_filled(); /* small pages now */
    for (uint64_t gpa = 0; gpa < RAM / 2; gpa += 4096) {
        unsigned level;
        uint64_t value, *entry = vmm_nested_look(vm, VMM_GPA(gpa), &level, &value);

        *entry |= mock_nested_format.accessed; /* as the processor does */
    }
    taken = swap(RAM / 2, 0);
    assert_int_equal(taken, RAM / 2);
    for (uint64_t gpa = 0; gpa < RAM; gpa += 4096) {
        assert_int_equal(fixture_translate(vm, gpa).present, gpa < RAM / 2);
    }
}

static void allocation_failures_move_nothing_half(void **state)
{
    uint64_t moved;
    int error;
    long n = 0;

    (void)state;
    fill();
    do {
        posix_host_fail_alloc(f->host, n);
        error = vmm_vm_swap_out(vm, VMM_MIB(3), &moved);
        posix_host_fail_alloc(f->host, -1);
        n += 1 + n / 8;
        assert_true(error == 0 || error == -VMM_ENOMEM || error == -VMM_ENOSPC);
        check_filled();
    } while (moved < VMM_MIB(3));
    assert_int_equal(error, 0);
    assert_true(n > 700); /* a slot for each page, and little else */
}

/* --- against a model ---------------------------------------------------------------------------
 */

#define PAGES  (RAM / 4096)
#define EXTRA  VMM_MIB(32) /* where a region comes and goes */
#define ROUNDS 40000

static uint64_t model[PAGES + 16];
static bool changed[PAGES + 16]; /* since the last fetch */
static bool logging, extra;

static uint64_t gpa_of(unsigned page)
{
    return page < PAGES ? (uint64_t)page << 12 : EXTRA + ((uint64_t)(page - PAGES) << 12);
}

static unsigned some_page(void)
{
    return (unsigned)rand() % (extra ? PAGES + 16 : PAGES);
}

static void step_write(void)
{
    unsigned page = some_page();

    model[page] = (uint64_t)rand();
    changed[page] = true;
    set(gpa_of(page) + 128, model[page]);
}

/* As the guest does: through the tables, faults included. */
static void step_guest_write(void)
{
    unsigned page = some_page();
    struct fixture_page p = fixture_translate(vm, gpa_of(page));

    while (!p.present || (p.flags & 2) == 0) {
        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa_of(page)), true), 0);
        p = fixture_translate(vm, gpa_of(page));
    }
    model[page] = (uint64_t)rand();
    changed[page] = true;
    *(uint64_t *)((uint8_t *)vm->ops->hpa_to_va(vm->host, VMM_HPA(p.hpa)) + 128) = model[page];
}

static void step_read(void)
{
    unsigned page = some_page();

    if (page % 2 == 0) {
        assert_int_equal(vmm_memory_fault(f->vcpu, VMM_GPA(gpa_of(page)), false), 0);
    }
    assert_int_equal(get(gpa_of(page) + 128), model[page]);
}

static void step_discard(void)
{
    unsigned page = some_page();
    const uint32_t number = (uint32_t)(gpa_of(page) >> 12);

    vmm_memory_discard(vm, &number, 1);
    model[page] = 0;
    changed[page] = true;
}

static void step_swap(void)
{
    uint64_t moved;

    assert_int_equal(vmm_vm_swap_out(vm, (uint64_t)(rand() % 64) << 12, &moved), 0);
}

static void check_log(const struct vmm_region *r, unsigned first)
{
    static uint64_t bits[PAGES / 64];

    assert_int_equal(vmm_dirty_fetch(vm, r, bits), 0);
    for (unsigned i = 0; i < r->size / 4096; i++) {
        assert_int_equal(bits[i / 64] >> i % 64 & 1, changed[first + i]);
    }
    memset(changed + first, 0, r->size / 4096);
}

static void step_log(void)
{
    vmm_control_enter(vm);
    if (!logging) {
        assert_int_equal(vmm_dirty_start(vm), 0);
        memset(changed, 0, sizeof(changed));
        logging = true;
    } else {
        check_log(vmm_memory_region(vm, 0), 0);
        if (extra) {
            check_log(vmm_memory_region(vm, 1), PAGES);
        }
        if (rand() % 4 == 0) {
            vmm_dirty_stop(vm);
            logging = false;
        }
    }
    (void)vmm_control_leave(vm, 0);
}

static void step_region(void)
{
    if (extra) {
        assert_int_equal(vmm_vm_remove_memory(vm, EXTRA), 0);
    } else {
        assert_int_equal(vmm_vm_add_memory(vm, EXTRA, 16 * 4096, NULL), 0);
        assert_int_equal(vmm_memory_zero(vm, VMM_GPA(EXTRA), 16 * 4096), 0);
        memset(model + PAGES, 0, 16 * sizeof(model[0]));
        memset(changed + PAGES, true, 16);
    }
    extra = !extra;
}

static void random_steps_agree_with_a_model(void **state)
{
    (void)state;
    srand(4);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned what = (unsigned)rand() % 1000;

        if (what < 5) {
            step_region();
        } else if (what < 15) {
            step_log();
        } else if (what < 40) {
            step_swap();
        } else if (what < 140) {
            step_discard();
        } else if (what < 400) {
            step_read();
        } else if (what < 700) {
            step_guest_write();
        } else {
            step_write();
        }
    }
    for (unsigned page = 0; page < PAGES; page++) {
        assert_int_equal(get(gpa_of(page) + 128), model[page]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(discarded_pages_go_back_and_come_as_zeros),
        TEST(rom_is_not_discarded),
        TEST(without_memory_the_guest_keeps_its_pages),
        TEST(stored_pages_come_back_as_they_were),
        TEST(pages_of_zeros_need_no_store),
        TEST(stored_pages_come_back_to_their_node),
        TEST(a_full_store_leaves_the_rest),
        TEST(pages_the_store_does_not_want_stay),
        TEST(a_store_that_loses_pages_is_an_error),
        TEST(without_a_store_nothing_is_moved),
        TEST(stored_pages_can_be_discarded_or_destroyed),
        TEST(pages_in_use_go_last),
        TEST(allocation_failures_move_nothing_half),
        TEST(random_steps_agree_with_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
