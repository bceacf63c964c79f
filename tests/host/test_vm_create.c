/* The instance, and the making of VMs: what is refused, what failures leave, what is there then. */
#include "scripted.h"

#include <pthread.h>
#include <string.h>
#include "core/x86.h"

static struct scripted *m;

static int setup(void **state)
{
    (void)state;
    m = scripted_host(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scripted_destroy(m);
    return 0;
}

static void create_fails(int error, const char *text)
{
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), -error);
    assert_non_null(strstr(m->err.text, text));
    assert_null(m->vm);
    assert_null(vmm_vm_next(m->vmm, NULL));
}

static void bad_configurations_are_refused(void **state)
{
    struct vm_config good = m->config;

    (void)state;
    m->config.name[0] = '\0';
    create_fails(VMM_EINVAL, "name");
    m->config = good;
    m->config.vcpu_count = 0;
    create_fails(VMM_EINVAL, "vCPUs");
    m->config.vcpu_count = VMM_VCPUS_MAX + 1;
    create_fails(VMM_EINVAL, "65 vCPUs");
    m->config = good;
    m->config.mem_bytes = VMM_MIB(4) + 1;
    create_fails(VMM_EINVAL, "memory");
    m->config.mem_bytes = VMM_GIB(64);
    create_fails(VMM_ENOMEM, "65536 MiB");
    m->config = good;
    m->config.cpu[1] = 4;
    create_fails(VMM_EINVAL, "CPU 4");
    m->config.cpu[1] = -2;
    create_fails(VMM_EINVAL, "CPU -2");
    m->config = good;
    m->config.module_count = VMM_MODULES_MAX + 1;
    create_fails(VMM_EINVAL, "no end");
    m->config = good;
    m->config.ram_node_count = VMM_RAM_NODES_MAX + 1;
    create_fails(VMM_EINVAL, "no end");
    m->config = good;
    memset(m->config.boot_args, 'x', sizeof(m->config.boot_args));
    create_fails(VMM_EINVAL, "no end");
    m->config = good;
    m->config.module_count = 1;
    memset(m->config.module[0], 'x', sizeof(m->config.module[0]));
    create_fails(VMM_EINVAL, "no end");
    m->config = good;
    m->config.balloon_bytes = m->config.mem_bytes;
    create_fails(VMM_EINVAL, "balloon");
    m->config = good;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &(struct vm *){NULL}, &m->err), -VMM_EEXIST);
}

static void a_console_that_is_taken_is_named(void **state)
{
    const struct vmm_char_receiver nobody = {.input = NULL};
    void *stream;

    (void)state;
    assert_int_equal(m->vmm->ops->chars->open(m->host, "test", &nobody, &stream), 0);
    create_fails(VMM_EEXIST, "test: the host refuses it a console: one of this name is open");
    m->vmm->ops->chars->close(m->host, stream);
}

static void *creates(void *out)
{
    struct vmm_error err;

    (void)!vmm_vm_create(m->vmm, &m->config, out, &err);
    return NULL;
}

static void one_of_two_gets_the_name(void **state)
{
    struct vmm_host_ops ops = *m->vmm->ops;

    (void)state;
    ops.chars = NULL; /* consoles would tell the two apart */
    m->vmm->ops = &ops;
    for (unsigned i = 0; i < 50; i++) {
        struct vm *a = NULL, *b = NULL;
        pthread_t other;

        assert_int_equal(pthread_create(&other, NULL, creates, &a), 0);
        creates(&b);
        pthread_join(other, NULL);
        assert_true((a == NULL) != (b == NULL));
        assert_int_equal(vmm_vm_destroy(a != NULL ? a : b), 0);
    }
    m->vmm->ops = posix_host_ops(m->host);
}

static void every_failure_of_creation_is_undone(void **state)
{
    uint64_t pages = posix_host_pages_used(m->host);
    uint64_t small = posix_host_small_used(m->host);
    int error;
    long n = 0;

    (void)state;
    m->config.mem_bytes = VMM_MIB(4);
    do {
        posix_host_fail_alloc(m->host, n++);
        error = vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err);
        if (error != 0) {
            assert_null(vmm_vm_next(m->vmm, NULL));
            assert_int_equal(posix_host_pages_used(m->host), pages);
            assert_int_equal(posix_host_small_used(m->host), small);
        }
    } while (error != 0);
    posix_host_fail_alloc(m->host, -1);
    assert_true(n > 20);
}

static void memory_has_the_pcs_holes(void **state)
{
    (void)state;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    assert_non_null(vmm_memory_ptr(m->vm, VMM_GPA(0x9f000), 0x1000));
    assert_null(vmm_memory_ptr(m->vm, VMM_GPA(0xa0000), 1));
    assert_null(vmm_memory_ptr(m->vm, VMM_GPA(0xbffff), 1));
    assert_non_null(vmm_memory_ptr(m->vm, VMM_GPA(0xc0000), 1));
    assert_non_null(vmm_memory_ptr(m->vm, VMM_GPA(m->config.mem_bytes - 1), 1));
    assert_null(vmm_memory_ptr(m->vm, VMM_GPA(m->config.mem_bytes), 1));
}

/* --- the instance ------------------------------------------------------------------------------
 */

static void hook_tables_are_validated(void **state)
{
    struct vmm_host_ops ops = *posix_host_ops(m->host);
    struct vmm *vmm = NULL;

    (void)state;
    ops.abi_size--;
    assert_int_equal(vmm_create(&ops, m->host, &vmm, &m->err), -VMM_EINVAL);
    ops.abi_size++;
    ops.cpu_kick = NULL;
    assert_int_equal(vmm_create(&ops, m->host, &vmm, &m->err), -VMM_EINVAL);
    assert_non_null(strstr(m->err.text, "cpu_kick"));
    assert_int_equal(vmm_create(NULL, m->host, &vmm, &m->err), -VMM_EINVAL);
    ops = *posix_host_ops(m->host);
    ops.cycles_khz = 0;
    assert_int_equal(vmm_create(&ops, m->host, &vmm, &m->err), -VMM_EINVAL);
    ops = *posix_host_ops(m->host);
    ops.option = NULL;
    ops.files = NULL;
    ops.chars = NULL;
    assert_int_equal(vmm_create(&ops, m->host, &vmm, &m->err), 0);
    assert_string_equal(vmm_describe(vmm), "mock");
    assert_int_equal(vmm_destroy(vmm), 0);
}

static const char *features;

static const char *host_option(void *host, const char *name)
{
    (void)host;
    return strcmp(name, "x.features") == 0 ? features : NULL;
}

static void words_of_options_are_known_ones(void **state)
{
    struct vmm_host_ops ops = *posix_host_ops(m->host);
    struct vmm *vmm = NULL;

    (void)state;
    ops.option = host_option;
    assert_int_equal(vmm_create(&ops, m->host, &vmm, &m->err), 0);
    posix_host_clear_log(m->host);
    features = "-a,+bc,-1g";
    vmm_option_check(vmm, "x.features", "-1g,+bc,-a,-d");
    assert_string_equal(posix_host_log(m->host), "");
    assert_true(vmm_option_takes_away(features, "a") && vmm_option_takes_away(features, "1g"));
    assert_true(vmm_option_adds(features, "bc"));
    assert_false(vmm_option_takes_away(features, "bc") || vmm_option_takes_away(features, "1"));
    features = "-a,-bc,,d";
    vmm_option_check(vmm, "x.features", "-1g,+bc,-a,-d");
    assert_null(strstr(posix_host_log(m->host), "\"-a\""));
    assert_non_null(
        strstr(posix_host_log(m->host), "x.features: \"-bc\" is none of -1g,+bc,-a,-d"));
    assert_non_null(strstr(posix_host_log(m->host), "x.features: \"\" is none"));
    assert_non_null(strstr(posix_host_log(m->host), "x.features: \"d\" is none"));
    features = NULL;
    vmm_option_check(vmm, "x.features", "-a");
    assert_int_equal(vmm_destroy(vmm), 0);
}

static void a_machine_without_virtualisation_is_told_why(void **state)
{
    struct vmm *vmm = NULL;

    (void)state;
    mock_set_absent(VMM_ENODEV, "Mock VM");
    assert_int_equal(vmm_create(posix_host_ops(m->host), m->host, &vmm, &m->err), -VMM_ENODEV);
    assert_string_equal(m->err.text, "no hardware virtualisation: the processor has no Mock VM");
    mock_set_absent(VMM_EPERM, "Mock VM is disabled by firmware");
    assert_int_equal(vmm_create(posix_host_ops(m->host), m->host, &vmm, &m->err), -VMM_ENODEV);
    assert_string_equal(m->err.text, "no hardware virtualisation: Mock VM is disabled by firmware");
    mock_set_absent(0, NULL);
    posix_host_fail_alloc(m->host, 0);
    assert_int_equal(vmm_create(posix_host_ops(m->host), m->host, &vmm, &m->err), -VMM_ENOMEM);
    posix_host_fail_alloc(m->host, 1);
    assert_int_equal(vmm_create(posix_host_ops(m->host), m->host, &vmm, &m->err), -VMM_ENOMEM);
    posix_host_fail_alloc(m->host, -1);
}

static void states_and_reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(vmm_state_name(VM_PAUSED), "paused");
    assert_string_equal(vmm_state_name((enum vm_state)99), "?");
    assert_string_equal(vmm_reason_name(VM_REASON_TRIPLE_FAULT), "triple fault");
    assert_string_equal(vmm_reason_name((enum vm_reason)99), "?");
    assert_string_equal(vmm_exit_name(VMM_EXIT_cpuid), "cpuid");
    assert_string_equal(vmm_exit_name(VMM_EXIT_COUNT), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bad_configurations_are_refused),  TEST(a_console_that_is_taken_is_named),
        TEST(one_of_two_gets_the_name),        TEST(every_failure_of_creation_is_undone),
        TEST(memory_has_the_pcs_holes),        TEST(hook_tables_are_validated),
        TEST(words_of_options_are_known_ones), TEST(a_machine_without_virtualisation_is_told_why),
        TEST(states_and_reasons_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
