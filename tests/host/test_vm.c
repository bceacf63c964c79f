/* A VM's life through the public calls, with real threads: every transition, every failure.
 * Its creation: test_vm_create.c. */
#include "scripted.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include "core/irq.h"
#include "core/x86.h"

static struct scripted *m;

static int setup(void **state)
{
    (void)state;
    m = scripted_create(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scripted_destroy(m);
    return 0;
}

/* A guest that never exits by itself: only a kick ends its run. */
static void spins(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)arg;
    while (__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) == 0) {
        sched_yield();
    }
    e->kind = VMM_EXIT_intr;
}

static void crashes(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)v;
    (void)arg;
    e->kind = VMM_EXIT_shutdown;
}

static void powers_off(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)arg;
    vmm_request_power_off(v->vm);
    e->kind = VMM_EXIT_intr;
}

static void start(mock_script_fn script)
{
    mock_set_script(m->vm->vcpu[0], script, m);
    assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
}

static void wait_for_state(enum vm_state state)
{
    while (vmm_vm_state(m->vm) != state) {
        sched_yield();
    }
}

static void a_vm_is_found_by_name(void **state)
{
    (void)state;
    assert_int_equal(vmm_vm_state(m->vm), VM_CREATED);
    assert_ptr_equal(vmm_vm_find(m->vmm, "test"), m->vm);
    assert_null(vmm_vm_find(m->vmm, "tes"));
    assert_ptr_equal(vmm_vm_next(m->vmm, NULL), m->vm);
    assert_null(vmm_vm_next(m->vmm, m->vm));
    assert_string_equal(vmm_vm_config(m->vm)->name, "test");
    assert_true(vmm_vm_memory_held(m->vm) > 0);
    assert_int_equal(vmm_destroy(m->vmm), -VMM_EBUSY);
}

static void stop_works_on_a_guest_that_never_exits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        start(spins);
        assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
        assert_int_equal(vmm_vm_start(m->vm, &m->err), -VMM_EBUSY);
        assert_int_equal(vmm_vm_destroy(m->vm), -VMM_EBUSY);
        assert_int_equal(vmm_vm_stop(m->vm), 0);
        assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
        assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_STOPPED);
        assert_int_equal(vmm_vm_stop(m->vm), -VMM_EINVAL);
        assert_int_equal(posix_host_event(m->host).state, VM_STOPPED);
    }
}

static void a_halted_guest_stops_too(void **state)
{
    (void)state;
    start(NULL); /* HLT */
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    start(NULL);
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_STOPPED);
}

static void the_guests_clock_does_not_see_a_pause(void **state)
{
    struct vcpu *v = m->vm->vcpu[0];
    uint64_t before, tsc;

    (void)state;
    start(spins);
    posix_host_advance_ns(m->host, 1000000);
    assert_int_equal(vmm_vm_resume(m->vm), -VMM_EINVAL);
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_PAUSED);
    assert_int_equal(vmm_vm_pause(m->vm), -VMM_EINVAL);
    before = vmm_clock_ns(m->vm);
    tsc = m->vm->ops->cycles(m->host) + v->tsc_offset;
    posix_host_advance_ns(m->host, 50000000);
    assert_int_equal(vmm_clock_ns(m->vm), before);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    assert_int_equal(vmm_clock_ns(m->vm), before);
    assert_int_equal(m->vm->ops->cycles(m->host) + v->tsc_offset, tsc);
    assert_int_equal(mock_vcpu(v)->tsc_offset, v->tsc_offset);
    posix_host_advance_ns(m->host, 1000);
    assert_int_equal(vmm_clock_ns(m->vm), before + 1000);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void the_guest_ends_itself(void **state)
{
    (void)state;
    start(powers_off);
    wait_for_state(VM_STOPPED);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_POWER_OFF);
    start(crashes);
    wait_for_state(VM_CRASHED);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_TRIPLE_FAULT);
    assert_int_equal(vmm_vm_pause(m->vm), -VMM_EINVAL);
    assert_int_equal(vmm_vm_reset(m->vm), -VMM_EINVAL);
    strcpy(m->vm->config.kernel_path, "gone");
    assert_int_equal(vmm_vm_start(m->vm, &m->err), -VMM_ENOENT);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_TRIPLE_FAULT); /* still why it ended */
    strcpy(m->vm->config.kernel_path, SCRIPTED_KERNEL);
    start(spins); /* and can be started again */
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void wait_for_resets(unsigned count)
{
    while (__atomic_load_n(&mock_vcpu(m->vm->vcpu[0])->resets, __ATOMIC_SEQ_CST) < count ||
           __atomic_load_n(&m->vm->reset_wanted, __ATOMIC_SEQ_CST) != 0) {
        sched_yield();
    }
}

static void reset_restarts_the_guest(void **state)
{
    const char *said;
    unsigned resets;

    (void)state;
    start(spins);
    resets = mock_vcpu(m->vm->vcpu[0])->resets;
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(vmm_vm_reset(m->vm), 0);
        wait_for_resets(resets + i);
    }
    said = strstr(posix_host_log(m->host), "test: reset");
    assert_non_null(said); /* once, and then for the other nineteen */
    assert_null(strstr(said + 1, "test: reset"));
    posix_host_advance_ns(m->host, 1000000000);
    assert_int_equal(vmm_vm_reset(m->vm), 0);
    wait_for_resets(resets + 21);
    assert_non_null(strstr(posix_host_log(m->host), "test: reset, 20 times"));
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void a_paused_guest_is_reset_and_stays_paused(void **state)
{
    struct vcpu *v = m->vm->vcpu[0];
    unsigned resets;

    (void)state;
    start(spins);
    posix_host_advance_ns(m->host, 1000000);
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    resets = mock_vcpu(v)->resets;
    assert_int_equal(vmm_vm_reset(m->vm), 0);
    assert_int_equal(mock_vcpu(v)->resets, resets + 1); /* it is done, not under way */
    assert_int_equal(vmm_vm_state(m->vm), VM_PAUSED);
    assert_int_equal(vmm_clock_ns(m->vm), 0);
    posix_host_advance_ns(m->host, 50000000);
    assert_int_equal(vmm_clock_ns(m->vm), 0);
    assert_int_equal(vmm_vm_resume(m->vm), 0);
    assert_int_equal(vmm_clock_ns(m->vm), 0);
    assert_int_equal(m->vm->ops->cycles(m->host) + v->tsc_offset, 0);
    posix_host_advance_ns(m->host, 1000);
    assert_int_equal(vmm_clock_ns(m->vm), 1000);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void a_reset_that_cannot_load_ends_the_vm(void **state)
{
    (void)state;
    start(spins);
    strcpy(m->vm->config.kernel_path, "gone");
    assert_int_equal(vmm_vm_reset(m->vm), 0);
    wait_for_state(VM_CRASHED);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_HOST_ERROR);
    assert_non_null(strstr(posix_host_log(m->host), "gone"));
}

/* INIT and SIPI from the first vCPU start the second where the vector says. */
static void starts_the_other(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    static const struct vmm_irq_message init = {.destination = 1, .delivery_mode = 5};
    static const struct vmm_irq_message startup = {
        .destination = 1, .delivery_mode = 6, .vector = 0x9a};

    (void)arg;
    if (mock_vcpu(v)->entries == 1) {
        vmm_irq_deliver(v->vm, &init);
        vmm_irq_deliver(v->vm, &startup);
        e->kind = VMM_EXIT_intr;
        return;
    }
    spins(v, e, arg);
}

static void the_other(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    (void)arg;
    assert_int_equal(mock_vcpu(v)->segment[VMM_SEG_CS].base, 0x9a000);
    assert_int_equal(mock_vcpu(v)->segment[VMM_SEG_CS].selector, 0x9a00);
    assert_int_equal(v->rip, 0);
    vmm_request_power_off(v->vm);
    e->kind = VMM_EXIT_intr;
}

static void startup_ipis_start_vcpus(void **state)
{
    (void)state;
    mock_set_script(m->vm->vcpu[1], the_other, NULL);
    start(starts_the_other);
    wait_for_state(VM_STOPPED);
    assert_int_equal(vmm_vm_reason(m->vm), VM_REASON_POWER_OFF);
}

static void a_running_guest_is_looked_into(void **state)
{
    const struct mock_vcpu *first = mock_vcpu(m->vm->vcpu[0]);

    (void)state;
    start(spins);
    for (unsigned i = 1; i <= 20; i++) {
        while (__atomic_load_n(&first->entries, __ATOMIC_SEQ_CST) < i) {
            sched_yield();
        }
        vmm_vm_dump(m->vm, VM_DUMP_ALL);
    }
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    assert_non_null(strstr(posix_host_log(m->host), "vCPU 1: rip"));
    assert_non_null(strstr(posix_host_log(m->host), "mock back end: 20 entries, away"));
    assert_null(strstr(posix_host_log(m->host), ", here")); /* no thread ran meanwhile */
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    vmm_vm_dump(m->vm, VM_DUMP_ALL);
}

/* What a vCPU remembers of memory that went away while it stood is not used to look into it. */
static void a_paused_guest_is_looked_into_after_a_swap(void **state)
{
    uint64_t moved;

    (void)state;
    start(spins);
    assert_int_equal(vmm_vm_pause(m->vm), 0);
    m->vcpu->rip = 0x200000;
    mock_vcpu(m->vcpu)->segment[VMM_SEG_CS].base = 0;
    vmm_vm_dump(m->vm, VM_DUMP_ALL);
    assert_int_equal(vmm_vm_swap_out(m->vm, m->config.mem_bytes, &moved), 0);
    assert_int_equal(vmm_vm_swap_out(m->vm, m->config.mem_bytes, &moved), 0);
    vmm_vm_dump(m->vm, VM_DUMP_ALL);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

/* A checkpoint's stream that waits until the test lets it go on. */
struct slow_stream {
    struct vdev_stream stream;
    uint32_t begun, go_on;
};

static int slow_transfer(struct vdev_stream *stream, void *bytes, size_t count)
{
    struct slow_stream *s = (struct slow_stream *)stream;

    (void)bytes;
    (void)count;
    __atomic_store_n(&s->begun, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&s->go_on, __ATOMIC_SEQ_CST) == 0) {
        sched_yield();
    }
    return 0;
}

static void *checkpoints(void *stream)
{
    struct vmm_error err;

    assert_int_equal(vmm_vm_checkpoint(m->vm, stream, &err), 0);
    return NULL;
}

static uint32_t pauses;

static void *pauses_and_resumes(void *arg)
{
    (void)arg;
    (void)!vmm_vm_pause(m->vm);
    __atomic_add_fetch(&pauses, 1, __ATOMIC_SEQ_CST);
    (void)!vmm_vm_resume(m->vm);
    return NULL;
}

static void never_yields(void *host)
{
    (void)host;
    fail();
}

/* They sleep meanwhile: a host's scheduler may never run the one that has the turn while another
 * of higher priority asks again and again. */
static void control_calls_wait_their_turn(void **state)
{
    struct slow_stream s = {.stream.transfer = slow_transfer};
    struct vmm_host_ops ops = *m->vm->ops;
    pthread_t first, others[4];

    (void)state;
    ops.thread_yield = never_yields;
    m->vm->ops = &ops;
    pauses = 0;
    start(spins);
    assert_int_equal(pthread_create(&first, NULL, checkpoints, &s.stream), 0);
    while (__atomic_load_n(&s.begun, __ATOMIC_SEQ_CST) == 0) {
        sched_yield();
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(others); i++) {
        assert_int_equal(pthread_create(&others[i], NULL, pauses_and_resumes, NULL), 0);
    }
    posix_host_advance_ns(m->host, 1000);
    assert_int_equal(__atomic_load_n(&pauses, __ATOMIC_SEQ_CST), 0);
    __atomic_store_n(&s.go_on, 1, __ATOMIC_SEQ_CST);
    pthread_join(first, NULL);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(others); i++) {
        pthread_join(others[i], NULL);
    }
    assert_int_equal(pauses, VMM_ARRAY_COUNT(others));
    assert_int_equal(vmm_vm_state(m->vm), VM_RUNNING);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
    m->vm->ops = m->vmm->ops;
}

static uint32_t nmis;

static void counts_nmis(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    const struct vmm_event *event = &mock_vcpu(v)->injected;

    if (event->valid && event->type == VMM_EVENT_NMI) {
        __atomic_add_fetch(&nmis, 1, __ATOMIC_SEQ_CST);
    }
    spins(v, e, arg);
}

static void the_nmi_button_works(void **state)
{
    (void)state;
    assert_int_equal(vmm_vm_inject_nmi(m->vm, 0), -VMM_EINVAL); /* not running */
    nmis = 0;
    start(counts_nmis);
    assert_int_equal(vmm_vm_inject_nmi(m->vm, 2), -VMM_EINVAL);
    assert_int_equal(vmm_vm_inject_nmi(m->vm, 0), 0);
    while (__atomic_load_n(&nmis, __ATOMIC_SEQ_CST) == 0) {
        sched_yield();
    }
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

static void memory_can_be_read(void **state)
{
    uint32_t word;

    (void)state;
    assert_int_equal(vmm_memory_write(m->vm, VMM_GPA(0x5000), "abcd", 4), 0);
    assert_int_equal(vmm_vm_read_memory(m->vm, 0x5000, &word, 4), 0);
    assert_memory_equal(&word, "abcd", 4);
    assert_int_equal(vmm_vm_read_memory(m->vm, 0xa0000, &word, 4), -VMM_EFAULT);
}

static void start_without_a_kernel_says_so(void **state)
{
    (void)state;
    strcpy(m->vm->config.kernel_path, "absent");
    assert_int_equal(vmm_vm_start(m->vm, &m->err), -VMM_ENOENT);
    assert_non_null(strstr(m->err.text, "absent"));
    assert_int_equal(vmm_vm_state(m->vm), VM_CREATED);
}

static void a_failed_start_leaves_nothing(void **state)
{
    long n = 0;
    int error;

    (void)state;
    do {
        posix_host_fail_alloc(m->host, n++);
        error = vmm_vm_start(m->vm, &m->err);
        if (error != 0) {
            assert_int_equal(error, -VMM_ENOMEM);
            assert_int_equal(vmm_vm_state(m->vm), VM_CREATED);
            assert_int_equal(vmm_vm_stop(m->vm), -VMM_EINVAL);
        }
    } while (error != 0);
    posix_host_fail_alloc(m->host, -1);
    assert_true(n >= 2);
    assert_int_equal(vmm_vm_stop(m->vm), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_vm_is_found_by_name),
        TEST(stop_works_on_a_guest_that_never_exits),
        TEST(a_halted_guest_stops_too),
        TEST(the_guests_clock_does_not_see_a_pause),
        TEST(the_guest_ends_itself),
        TEST(reset_restarts_the_guest),
        TEST(a_paused_guest_is_reset_and_stays_paused),
        TEST(a_reset_that_cannot_load_ends_the_vm),
        TEST(startup_ipis_start_vcpus),
        TEST(a_running_guest_is_looked_into),
        TEST(control_calls_wait_their_turn),
        TEST(a_paused_guest_is_looked_into_after_a_swap),
        TEST(the_nmi_button_works),
        TEST(memory_can_be_read),
        TEST(start_without_a_kernel_says_so),
        TEST(a_failed_start_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
