/* The host binding that all other tests stand on. */
#include "fixture.h"

#include <string.h>

static struct posix_host *h;
static struct vmm_host_ops *ops;

static void begin(enum posix_clock clock)
{
    h = posix_host_create(VMM_MIB(4), 2, clock);
    ops = posix_host_ops(h);
}

static void pages(void **state)
{
    hpa_t a, b, c;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    assert_int_equal(ops->pages_available(h), VMM_MIB(4));
    assert_int_equal(ops->pages_alloc(h, 3, VMM_PAGE_SIZE, -1, &a), 0);
    assert_int_equal(ops->pages_alloc(h, 1, VMM_MIB(2), -1, &b), 0);
    assert_int_equal(b.v % VMM_MIB(2), 0);
    assert_int_equal((uint64_t)ops->hpa_to_va(h, b) % VMM_MIB(2), 0);
    assert_int_equal(*(uint8_t *)ops->hpa_to_va(h, a), 0xa5); /* not zeroed, on purpose */
    assert_int_equal(ops->pages_alloc(h, 1024, VMM_PAGE_SIZE, -1, &c), -VMM_ENOMEM);
    assert_int_equal(posix_host_pages_used(h), 4);
    ops->pages_free(h, a, 3);
    assert_int_equal(posix_host_destroy(h), 1); /* b */
}

static void failing_allocations(void **state)
{
    struct vmm_host_timer *timer;
    hpa_t page;
    void *p;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    posix_host_fail_alloc(h, 1);
    p = ops->alloc(h, 100);
    assert_non_null(p);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(((uint8_t *)p)[i], 0);
    }
    assert_null(ops->alloc(h, 100));
    assert_int_equal(ops->pages_alloc(h, 1, VMM_PAGE_SIZE, -1, &page), -VMM_ENOMEM);
    assert_int_equal(ops->timer_create(h, NULL, NULL, &timer), -VMM_ENOMEM);
    assert_int_equal(posix_host_alloc_calls(h), 4);
    posix_host_fail_alloc(h, -1);
    assert_int_equal(posix_host_small_used(h), 1);
    ops->free(h, p);
    ops->free(h, NULL);
    assert_int_equal(posix_host_destroy(h), 0);
}

static uint64_t fired_at[4];
static unsigned fired;

static void note_time(void *arg)
{
    (void)arg;
    if (fired < 4) {
        fired_at[fired++] = posix_host_now_ns(h);
    }
}

static void virtual_time(void **state)
{
    struct vmm_host_timer *late, *early;
    uint64_t next;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    fired = 0;
    assert_int_equal(ops->timer_create(h, note_time, NULL, &late), 0);
    assert_int_equal(ops->timer_create(h, note_time, NULL, &early), 0);
    assert_false(posix_host_next_timer_ns(h, &next));
    ops->timer_arm(h, late, 2000 * POSIX_CYCLES_KHZ / 1000000);
    ops->timer_arm(h, early, 1000 * POSIX_CYCLES_KHZ / 1000000);
    assert_true(posix_host_next_timer_ns(h, &next));
    assert_int_equal(next, 1000);
    posix_host_advance_ns(h, 999);
    assert_int_equal(fired, 0);
    posix_host_advance_ns(h, 5000);
    assert_int_equal(fired, 2);
    assert_int_equal(fired_at[0], 1000); /* each at its own deadline, in order */
    assert_int_equal(fired_at[1], 2000);
    assert_int_equal(posix_host_now_ns(h), 5999);
    assert_int_equal(ops->cycles(h), 5999 * POSIX_CYCLES_KHZ / 1000000);
    assert_int_equal(ops->wall_clock_ns(h), POSIX_WALL_BASE_S * 1000000000 + 5999);
    ops->timer_arm(h, late, 100000000);
    ops->timer_cancel(h, late);
    posix_host_advance_ns(h, 1000000000);
    assert_int_equal(fired, 2);
    ops->timer_destroy(h, late);
    assert_int_equal(posix_host_destroy(h), 1); /* early */
}

static void wake(void *arg)
{
    ops->thread_wake(h, arg);
}

static void real_time(void **state)
{
    struct vmm_host_timer *timer;
    uint64_t start;

    (void)state;
    begin(POSIX_CLOCK_REAL);
    assert_int_equal(ops->timer_create(h, wake, ops->thread_current(h), &timer), 0);
    start = posix_host_now_ns(h);
    ops->timer_arm(h, timer, ops->cycles(h) + 3 * POSIX_CYCLES_KHZ);
    ops->thread_park(h);
    assert_true(posix_host_now_ns(h) - start >= 3000000);
    ops->timer_destroy(h, timer);
    assert_int_equal(posix_host_destroy(h), 0);
}

static struct vmm_lock lock;
static unsigned shared_count;
static unsigned seen_cpu;

static void count_up(void *arg)
{
    for (unsigned i = 0; i < 1000; i++) {
        ops->lock(h, &lock);
        shared_count++;
        ops->unlock(h, &lock);
    }
    seen_cpu = ops->cpu_current(h);
    ops->thread_wake(h, arg);
}

static void threads_and_locks(void **state)
{
    struct vmm_thread *t;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    shared_count = 0;
    assert_int_equal(ops->thread_create(h, "counter", 1, count_up, ops->thread_current(h), &t), 0);
    assert_int_equal(shared_count, 0); /* it runs when told to */
    assert_int_equal(ops->thread_run(h, t), 0);
    assert_int_not_equal(ops->thread_run(h, t), 0);
    count_up(ops->thread_current(h)); /* a wake before the park is not lost, two are one */
    ops->thread_park(h);
    assert_int_equal(ops->thread_join(h, t), 0);
    assert_int_equal(shared_count, 2000);
    assert_int_equal(ops->thread_create(h, "never run", -1, count_up, NULL, &t), 0);
    assert_int_equal(ops->thread_join(h, t), 0);
    assert_int_equal(posix_host_destroy(h), 0);
}

static void note_cpu(void *arg)
{
    *(unsigned *)arg = ops->cpu_current(h);
}

static void cpus(void **state)
{
    unsigned cpu = 99;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    assert_int_equal(ops->cpu_count(h), 2);
    assert_int_equal(ops->cpu_call(h, 1, note_cpu, &cpu), 0);
    assert_int_equal(cpu, 1);
    assert_int_equal(ops->cpu_call(h, 2, note_cpu, &cpu), -VMM_EINVAL);
    posix_host_set_cpu(1);
    assert_int_equal(ops->cpu_current(h), 1);
    posix_host_set_cpu(0);
    ops->cpu_kick(h, 1);
    assert_int_equal(posix_host_kicks(h, 1), 1);
    assert_int_equal(posix_host_destroy(h), 0);
}

static char typed[8];

static void take_typed(void *arg, const char *bytes, size_t count)
{
    (void)arg;
    memcpy(typed, bytes, count);
}

static void files_and_streams(void **state)
{
    const void *data;
    uint64_t size;
    void *stream, *second;
    const struct vmm_char_receiver receiver = {.input = take_typed};

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    posix_host_add_file(h, "a", "abc", 3);
    assert_int_equal(ops->files->open(h, "b", &data, &size), -VMM_ENOENT);
    assert_int_equal(ops->files->open(h, "a", &data, &size), 0);
    assert_int_equal(size, 3);
    assert_int_equal(ops->chars->open(h, "vm", &receiver, &stream), 0);
    assert_int_equal(ops->chars->open(h, "vm", &receiver, &second), -VMM_EEXIST);
    ops->chars->write(h, stream, "he", 2);
    ops->chars->write(h, stream, "llo", 3);
    assert_string_equal(posix_host_output(h, "vm"), "hello");
    posix_host_set_room(h, "vm", 1);
    assert_int_equal(ops->chars->write(h, stream, "xyz", 3), 1);
    assert_int_equal(ops->chars->write(h, stream, "yz", 2), 0);
    posix_host_set_room(h, "vm", SIZE_MAX);
    posix_host_clear_output(h, "vm");
    assert_string_equal(posix_host_output(h, "vm"), "");
    assert_string_equal(posix_host_output(h, "other"), "");
    posix_host_type(h, "vm", "yes", 3);
    assert_string_equal(typed, "yes");
    assert_int_equal(posix_host_destroy(h), 2); /* the file and the stream are open */
}

static void logs_msrs_events(void **state)
{
    uint64_t value;

    (void)state;
    begin(POSIX_CLOCK_VIRTUAL);
    ops->print(h, VMM_LOG_INFO, "one");
    ops->print(h, VMM_LOG_WARN, "two");
    assert_string_equal(posix_host_log(h), "one\ntwo\n");
    posix_host_clear_log(h);
    assert_string_equal(posix_host_log(h), "");
    assert_int_equal(ops->rdmsr_safe(h, 0x10, &value), -VMM_EINVAL);
    posix_host_set_msr(h, 0x10, 7);
    posix_host_set_msr(h, 0x10, 8);
    assert_int_equal(ops->rdmsr_safe(h, 0x10, &value), 0);
    assert_int_equal(value, 8);
    ops->vm_event(h, &value, VM_STOPPED, VM_REASON_POWER_OFF);
    assert_int_equal(posix_host_event(h).count, 1);
    assert_ptr_equal(posix_host_event(h).cookie, &value);
    assert_int_equal(posix_host_event(h).reason, VM_REASON_POWER_OFF);
    assert_int_equal(posix_host_destroy(h), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(virtual_time),
        cmocka_unit_test(real_time),
        cmocka_unit_test(threads_and_locks),
        cmocka_unit_test(cpus),
        cmocka_unit_test(files_and_streams),
        cmocka_unit_test(logs_msrs_events),
    };

    return cmocka_run_group_tests_name("posix_host", tests, NULL, NULL);
}
