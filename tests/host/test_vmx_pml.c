/* Page-modification logging of VMX: who has which buffer. The processor's part is not played. */
#include "fixture.h"
#include "vmx/vmx.h"

static struct fixture *f;
static struct vmx vmx;
static struct vmx_vm arch;
static struct vmx_vcpu x[2];
static void *mock[2];

static int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(1), 2);
    vmx = (struct vmx){.caps.proc2_offered = PROC2_PML};
    arch = (struct vmx_vm){0};
    f->vmm->arch = &vmx;
    f->vm->arch = &arch;
    for (unsigned i = 0; i < 2; i++) {
        x[i] = (struct vmx_vcpu){.vmx = &vmx, .vm = &arch};
        mock[i] = f->vm->vcpu[i]->arch;
        f->vm->vcpu[i]->arch = &x[i];
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        f->vm->vcpu[i]->arch = mock[i];
    }
    f->vmm->arch = f->vm->arch = NULL;
    fixture_destroy(f);
    return 0;
}

/* What vmx_run() does at an entry, as far as it is no VMCS's. */
static bool finds_a_change(unsigned vcpu)
{
    bool changed = x[vcpu].logging != arch.logging;

    x[vcpu].logging = arch.logging;
    return changed;
}

static void who_slept_takes_up_the_new_buffer(void **state)
{
    (void)state;
    assert_false(finds_a_change(0));
    assert_true(vmx_log_writes(f->vm, true));
    assert_non_null(x[0].pml);
    assert_non_null(x[1].pml);
    assert_true(finds_a_change(0));
    assert_true(finds_a_change(1));
    assert_false(finds_a_change(1));
    assert_true(vmx_log_writes(f->vm, false));
    assert_null(x[1].pml);
    assert_true(finds_a_change(1)); /* vCPU 0 is in HLT */
    assert_true(vmx_log_writes(f->vm, true));
    assert_true(finds_a_change(0));
    assert_true(finds_a_change(1));
    assert_true(vmx_log_writes(f->vm, false));
}

static void without_memory_there_is_no_log(void **state)
{
    (void)state;
    for (long n = 0; n < 2; n++) {
        uint64_t pages = posix_host_pages_used(f->host);

        posix_host_fail_alloc(f->host, n);
        assert_false(vmx_log_writes(f->vm, true));
        posix_host_fail_alloc(f->host, -1);
        assert_int_equal(posix_host_pages_used(f->host), pages);
        assert_false(finds_a_change(0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_slept_takes_up_the_new_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_there_is_no_log, setup, teardown),
    };

    return cmocka_run_group_tests_name("vmx_pml", tests, NULL, NULL);
}
