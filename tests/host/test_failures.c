/* Allocations that fail, one after another, in every step of a VM's life: a clean error each time,
 * nothing left behind, and a neighbour that notices nothing. */
#include <stdatomic.h>
#include <string.h>
#include "core/dirty.h"
#include "core/reclaim.h"
#include "scripted.h"

#define LAZY_PAGES 40
#define EXTRA      VMM_MIB(64)
#define STEPS_MAX  3000

static struct scripted *m;
static struct vm *neighbour;
static uint64_t pages, small; /* held while only the neighbour is there */

static void sleeping_guest(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)v;
    (void)arg;
    e->kind = VMM_EXIT_hlt;
    e->insn_length = 1;
}

static int setup(void **state)
{
    struct vm_config config;

    (void)state;
    m = scripted_host(2);
    config = m->config;
    strcpy(config.name, "neighbour");
    config.mem_bytes = VMM_MIB(4);
    config.vcpu_count = 1;
    assert_int_equal(vmm_vm_create(m->vmm, &config, &neighbour, &m->err), 0);
    mock_set_script(neighbour->vcpu[0], sleeping_guest, NULL);
    assert_int_equal(vmm_vm_start(neighbour, &m->err), 0);
    assert_int_equal(vmm_memory_write(neighbour, VMM_GPA(VMM_MIB(3)), "mine", 5), 0);
    pages = posix_host_pages_used(m->host);
    small = posix_host_small_used(m->host);
    return 0;
}

static void check_neighbour(void)
{
    char text[5];

    assert_int_equal(vmm_vm_state(neighbour), VM_RUNNING);
    assert_int_equal(vmm_vm_read_memory(neighbour, VMM_MIB(3), text, 5), 0);
    assert_string_equal(text, "mine");
}

static int teardown(void **state)
{
    (void)state;
    check_neighbour();
    assert_int_equal(vmm_vm_stop(neighbour), 0);
    assert_int_equal(vmm_vm_destroy(neighbour), 0);
    scripted_destroy(m);
    return 0;
}

/* Only the n-th allocation fails, or it and all after it. */
static void arm(bool only_one, long n)
{
    if (only_one) {
        posix_host_fail_one(m->host, n);
    } else {
        posix_host_fail_alloc(m->host, n);
    }
}

static void disarm(void)
{
    posix_host_fail_alloc(m->host, -1);
}

static void create(void)
{
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    for (unsigned i = 0; i < m->vm->vcpu_count; i++) {
        mock_set_script(m->vm->vcpu[i], sleeping_guest, NULL);
    }
}

static void destroy(void)
{
    if (vmm_vm_state(m->vm) == VM_RUNNING) {
        assert_int_equal(vmm_vm_stop(m->vm), 0);
    }
    assert_int_equal(vmm_vm_destroy(m->vm), 0);
    m->vm = NULL;
    assert_int_equal(posix_host_pages_used(m->host), pages);
    assert_int_equal(posix_host_small_used(m->host), small);
}

/* --- creation, loading, start --------------------------------------------------------------------
 */

static long fail_creation(bool only_one)
{
    int error;
    long n = 0;

    do {
        m->err.text[0] = '\0';
        arm(only_one, n++);
        error = vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err);
        disarm();
        if (error != 0) {
            assert_int_equal(error, -VMM_ENOMEM);
            assert_true(strlen(m->err.text) > 10);
            assert_null(vmm_vm_find(m->vmm, m->config.name));
            assert_int_equal(posix_host_pages_used(m->host), pages);
            assert_int_equal(posix_host_small_used(m->host), small);
            m->vm = NULL;
            check_neighbour();
        }
        assert_true(n < STEPS_MAX);
    } while (error != 0);
    destroy();
    return n;
}

/* A large block that is refused once is tried smaller: one failure need not be an error. */
static void creation(void **state)
{
    (void)state;
    assert_true(fail_creation(false) > 50);
    for (long n = 0; n < 200; n++) {
        arm(true, n);
        if (vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err) == 0) {
            disarm();
            destroy();
        }
        disarm();
        assert_int_equal(posix_host_pages_used(m->host), pages);
        assert_int_equal(posix_host_small_used(m->host), small);
    }
    m->vm = NULL;
}

static void creation_with_lazy_memory(void **state)
{
    (void)state;
    m->config.lazy_memory = true;
    assert_true(fail_creation(false) > 50);
    assert_true(fail_creation(true) > 50);
}

static void start_with(bool lazy, bool only_one)
{
    int error;
    long n = 0;

    m->config.lazy_memory = lazy;
    create();
    do {
        m->err.text[0] = '\0';
        arm(only_one, n++);
        error = vmm_vm_start(m->vm, &m->err);
        disarm();
        if (error != 0) {
            assert_true(error == -VMM_ENOMEM || error == -VMM_EINVAL);
            assert_true(strstr(m->err.text, "no memory") != NULL ||
                        strstr(m->err.text, "no thread") != NULL);
            assert_int_equal(vmm_vm_state(m->vm), VM_CREATED);
            check_neighbour();
        }
        assert_true(n < STEPS_MAX);
    } while (error != 0);
    assert_true(n > 2); /* a thread for each vCPU */
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    destroy();
}

static void loading_and_starting(void **state)
{
    (void)state;
    start_with(false, false);
    start_with(false, true);
    start_with(true, false);
    start_with(true, true);
}

/* --- while it runs -------------------------------------------------------------------------------
 */

static unsigned touched;
static _Atomic bool armed;

static void touching_guest(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    struct fixture_page p;

    (void)arg;
    if (!armed) {
        e->kind = VMM_EXIT_intr;
        return;
    }
    e->kind = VMM_EXIT_nested_fault;
    e->fault.gpa = VMM_GPA(VMM_MIB(8) + (uint64_t)touched * VMM_MIB(1) / 4);
    e->fault.write = true;
    p = fixture_translate(v->vm, e->fault.gpa.v);
    if (p.present && ++touched == LAZY_PAGES) {
        vmm_request_power_off(v->vm);
        e->kind = VMM_EXIT_intr;
    }
}

/* Only the VM that has no memory any more ends, with a reason. */
static void first_touches(void **state)
{
    enum vm_reason reason;
    long n = 0;

    (void)state;
    m->config.lazy_memory = true;
    m->config.mem_bytes = VMM_MIB(32);
    do {
        create();
        mock_set_script(m->vm->vcpu[0], touching_guest, NULL);
        touched = 0;
        armed = false;
        assert_int_equal(vmm_vm_pause(neighbour), 0); /* it allocates nothing, but who knows */
        assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
        posix_host_fail_alloc(m->host, n);
        armed = true;
        while (vmm_vm_state(m->vm) == VM_RUNNING) {
            m->vm->ops->thread_yield(m->host);
        }
        disarm();
        assert_int_equal(vmm_vm_resume(neighbour), 0);
        reason = vmm_vm_reason(m->vm);
        assert_true(reason == VM_REASON_HOST_ERROR || reason == VM_REASON_POWER_OFF);
        destroy();
        check_neighbour();
        n += 1 + n / 4;
    } while (reason != VM_REASON_POWER_OFF);
    assert_true(n > 2);
}

/* Adding and removing a region, the log, the balloon, the store: what fails leaves the VM as it
 * was, and the same works afterwards. */
static int add_and_remove(void)
{
    int error = vmm_vm_add_memory(m->vm, EXTRA, VMM_MIB(1) + 0x3000, NULL);

    if (error != 0) {
        return error;
    }
    error = vmm_vm_remove_memory(m->vm, EXTRA);
    if (error != 0) { /* it stays until there is memory for the smaller table */
        disarm();
        assert_int_equal(vmm_vm_remove_memory(m->vm, EXTRA), 0);
    }
    return error;
}

static int add_rom(void)
{
    static const uint8_t rom[0x3000] = {1};
    int error = vmm_vm_add_memory(m->vm, EXTRA, sizeof(rom), rom);

    disarm();
    assert_int_equal(vmm_vm_remove_memory(m->vm, EXTRA), error == 0 ? 0 : -VMM_ENOENT);
    return error;
}

static int log_and_stop(void)
{
    int error;

    vmm_control_enter(m->vm);
    error = vmm_dirty_start(m->vm);
    if (error == 0) {
        error = vmm_memory_write(m->vm, VMM_GPA(VMM_MIB(8)), "data", 4);
        vmm_dirty_stop(m->vm);
    }
    return vmm_control_leave(m->vm, error);
}

static int swap_out_and_in(void)
{
    uint64_t moved;
    int error = vmm_vm_swap_out(m->vm, VMM_MIB(1), &moved);
    uint8_t bytes[64];

    if (error == 0 && moved < VMM_MIB(1)) {
        error = -VMM_ENOMEM; /* large pages could not be cut */
    }
    for (uint64_t at = VMM_MIB(8); error == 0 && at < VMM_MIB(9); at += VMM_PAGE_SIZE) {
        error = vmm_vm_read_memory(m->vm, at, bytes, sizeof(bytes));
    }
    return error == -VMM_ENOSPC ? -VMM_ENOMEM : error;
}

static int discard(void)
{
    uint32_t page[] = {VMM_MIB(10) / 4096, VMM_MIB(12) / 4096};

    return vmm_memory_discard(m->vm, page, 2) == 2 ? 0 : -VMM_ENOMEM;
}

static void at_run_time(void **state)
{
    static const struct {
        int (*step)(void);
        long at_least;
    } step_table[] = {
        {add_and_remove, 5}, {add_rom, 4}, {log_and_stop, 2}, {discard, 3}, {swap_out_and_in, 10}};

    (void)state;
    create();
    assert_int_equal(vmm_memory_zero(m->vm, VMM_GPA(VMM_MIB(8)), VMM_MIB(8)), 0);
    assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
    for (unsigned i = 0; i < 2 * VMM_ARRAY_COUNT(step_table); i++) {
        int error;
        long n = 0;

        do {
            uint64_t at = VMM_MIB(8) + (uint64_t)n % 256 * VMM_PAGE_SIZE;
            uint64_t value = (uint64_t)n;

            assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(at), &value, 8), 0);
            assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(VMM_MIB(10)), "here", 4), 0);
            assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(VMM_MIB(12)), "here", 4), 0);
            arm(i % 2 == 1, n++);
            error = step_table[i / 2].step();
            disarm();
            assert_true(error == 0 || error == -VMM_ENOMEM);
            assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
            assert_int_equal(vmm_vm_read_memory(m->vm, at, &value, 8), 0);
            assert_int_equal(value, n - 1);
            check_neighbour();
            assert_true(n < STEPS_MAX);
        } while (error != 0);
        assert_true(i % 2 == 1 || n >= step_table[i / 2].at_least);
    }
    destroy();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creation),
        TEST(creation_with_lazy_memory),
        TEST(loading_and_starting),
        TEST(first_touches),
        TEST(at_run_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
