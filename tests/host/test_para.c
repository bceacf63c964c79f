/* The paravirtual clock and the hypercalls. */
#include "guest_cpu.h"

#include <string.h>
#include <vmm/hypercall.h>
#include "core/clock.h"
#include "para/para.h"
#include "para/para_impl.h"

/* As Linux declares them. */
struct time_info {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad[2];
} __attribute__((packed));

struct wall_clock {
    uint32_t version, sec, nsec;
} __attribute__((packed));

static struct fixture *f;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(8), 2);
    v = f->vcpu;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vmm_para_create(f->vm->vcpu[i]), 0);
    }
    guest_set_mode(f, GUEST_LONG);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        vmm_para_destroy(f->vm->vcpu[i]);
    }
    fixture_destroy(f);
    return 0;
}

static bool msr_write(struct vcpu *cpu, uint32_t msr, uint64_t value)
{
    return vmm_para_msr_write(cpu, msr, &value);
}

/* What the guest computes: pvclock_clocksource_read() in words. */
static uint64_t guest_ns(struct vcpu *cpu, const struct time_info *t)
{
    uint64_t tsc = f->vm->ops->cycles(f->host) + cpu->tsc_offset;
    uint64_t delta = tsc - t->tsc_timestamp;

    assert_int_equal(t->version & 1, 0);
    delta = t->tsc_shift >= 0 ? delta << t->tsc_shift : delta >> -t->tsc_shift;
    return t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

static void time_by_the_record(void **state)
{
    struct time_info *t = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3040), sizeof(*t));
    uint64_t value = 0;

    (void)state;
    posix_host_advance_ns(f->host, 123456789);
    assert_true(msr_write(v, MSR_SYSTEM_TIME, 0x3040 | 1));
    assert_true(vmm_para_msr_read(v, MSR_SYSTEM_TIME, &value));
    assert_int_equal(value, 0x3041);
    assert_true(t->version >= 2);
    assert_int_equal(t->flags, 1); /* stable */
    assert_in_range(guest_ns(v, t), 123456788, 123456789);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t expected;

        posix_host_advance_ns(f->host, UINT64_C(3600000000000) * 24 + 17);
        expected = vmm_clock_ns(f->vm);
        /* The scale has 31 bits: within 1 ns per second. */
        assert_in_range(guest_ns(v, t), expected - expected / 1000000000 - 1, expected);
    }
}

static void one_time_line_on_all_vcpus(void **state)
{
    struct time_info *a = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3000), sizeof(*a));
    struct time_info *b = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3040), sizeof(*b));
    struct vcpu *other = f->vm->vcpu[1];

    (void)state;
    assert_true(msr_write(v, MSR_SYSTEM_TIME, 0x3001));
    posix_host_advance_ns(f->host, 5000000);
    assert_true(msr_write(other, MSR_SYSTEM_TIME, 0x3041));
    assert_int_equal(guest_ns(v, a), guest_ns(other, b));
    posix_host_advance_ns(f->host, 777777777777);
    assert_int_equal(guest_ns(v, a), guest_ns(other, b));
}

/* A guest that sets its TSC must not see its clock jump. */
static void moved_tsc(void **state)
{
    struct time_info *t = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3000), sizeof(*t));
    uint64_t before;
    uint32_t version;

    (void)state;
    vmm_para_tsc_changed(v); /* nothing registered: nothing happens */
    assert_true(msr_write(v, MSR_SYSTEM_TIME, 0x3001));
    posix_host_advance_ns(f->host, 1000000);
    before = guest_ns(v, t);
    version = t->version;
    v->tsc_offset += 123456789012;
    vmm_para_tsc_changed(v);
    assert_int_equal(guest_ns(v, t), before);
    assert_true(t->version > version);
}

static void scale_of_any_frequency(void **state)
{
    static const uint64_t khz_table[] = {50000,   1000000, 999999, 1000001,
                                         2500000, 4000000, 5700000};
    struct time_info *t = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3000), sizeof(*t));

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(khz_table); i++) {
        uint64_t khz = khz_table[i], ns;
        uint64_t cycles = khz * 1000 * 100; /* 100 s */

        posix_host_ops(f->host)->cycles_khz = khz;
        assert_true(msr_write(v, MSR_SYSTEM_TIME, 0x3001));
        ns = (uint64_t)((unsigned __int128)(cycles << t->tsc_shift) * t->tsc_to_system_mul >> 32);
        assert_in_range(ns, UINT64_C(100000000000) - 200, UINT64_C(100000000000));
    }
    posix_host_ops(f->host)->cycles_khz = POSIX_CYCLES_KHZ;
}

static void wall_clock(void **state)
{
    struct wall_clock *w = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3100), sizeof(*w));
    uint64_t value;

    (void)state;
    posix_host_advance_ns(f->host, 2500000000);
    assert_true(msr_write(v, MSR_WALL_CLOCK, 0x3100));
    assert_int_equal(w->version & 1, 0);
    /* Plus the system time it is the time of day. */
    assert_int_equal(w->sec, POSIX_WALL_BASE_S);
    assert_int_equal(w->nsec, 0);
    assert_true(vmm_para_msr_read(v, MSR_WALL_CLOCK, &value));
    assert_int_equal(value, 0x3100);
}

struct steal_time {
    uint64_t steal;
    uint32_t version, flags;
    uint8_t preempted;
};

static void stolen_time(void **state)
{
    struct steal_time *t = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3200), 64);
    uint64_t value;

    (void)state;
    assert_false(msr_write(v, MSR_STEAL_TIME, 0x3203));     /* reserved bit */
    assert_false(msr_write(v, MSR_STEAL_TIME, 0xfee00001)); /* not RAM */
    posix_host_advance_ns(f->host, 5000);
    posix_host_steal_ns(f->host, 3000); /* before it was asked for */
    assert_true(msr_write(v, MSR_STEAL_TIME, 0x3201));
    assert_true(vmm_para_msr_read(v, MSR_STEAL_TIME, &value));
    assert_int_equal(value, 0x3201);

    posix_host_advance_ns(f->host, 1000000); /* ran all the time */
    vmm_steal_reckon(v);
    assert_int_equal(t->steal, 0);
    posix_host_advance_ns(f->host, 1000000);
    posix_host_steal_ns(f->host, 400000);
    vmm_steal_reckon(v);
    assert_in_range(t->steal, 399999, 400001);
    assert_int_equal(t->version, 2);

    /* Asleep, woken, but not run at once. */
    vmm_steal_sleep(v);
    assert_int_equal(t->preempted, 1);
    posix_host_advance_ns(f->host, 7000000);
    v->woken_at = v->ops->cycles(v->host);
    posix_host_advance_ns(f->host, 100000);
    posix_host_steal_ns(f->host, 7100000); /* the thread ran none of that */
    vmm_steal_awake(v);
    assert_int_equal(t->preempted, 0);
    vmm_steal_reckon(v);
    assert_in_range(t->steal, 499998, 500002);

    assert_true(msr_write(v, MSR_STEAL_TIME, 0));
    assert_int_equal(v->park_work & VMM_PARK_STEAL, 0);
}

/* Another vCPU wants this one's TLB flushed while it sleeps. */
static void flush_while_asleep(void **state)
{
    struct steal_time *t = vmm_memory_ptr_write(f->vm, VMM_GPA(0x3200), 64);

    (void)state;
    assert_true(msr_write(v, MSR_STEAL_TIME, 0x3201));
    vmm_steal_sleep(v);
    vmm_steal_awake(v);
    assert_int_equal(mock_vcpu(v)->tlb_flushes, 0);
    vmm_steal_sleep(v);
    t->preempted |= 2;
    vmm_steal_awake(v);
    assert_int_equal(mock_vcpu(v)->tlb_flushes, 1);
    assert_int_equal(t->preempted, 0);
}

static void refused_values(void **state)
{
    uint64_t value;

    (void)state;
    assert_false(msr_write(v, MSR_SYSTEM_TIME, 0xfee00001)); /* not RAM */
    assert_false(msr_write(v, MSR_SYSTEM_TIME, 0x3003));     /* not aligned */
    assert_false(msr_write(v, MSR_WALL_CLOCK, 0xfee00000));
    assert_false(msr_write(v, MSR_WALL_CLOCK, 0x3001));
    assert_true(vmm_para_msr_read(v, MSR_SYSTEM_TIME, &value));
    assert_int_equal(value, 0);
    assert_true(msr_write(v, MSR_SYSTEM_TIME, 0xfee00000)); /* switched off: any address */
    assert_false(vmm_para_msr_read(v, VMM_PARA_MSR_FIRST + 2, &value));
    assert_false(msr_write(v, VMM_PARA_MSR_FIRST + 0xff, 0));
    vmm_para_reset(v);
    assert_true(vmm_para_msr_read(v, MSR_SYSTEM_TIME, &value));
    assert_int_equal(value, 0);
}

static int64_t call(uint64_t number, uint64_t rdi, uint64_t rsi)
{
    struct vmm_exit e = {.kind = VMM_EXIT_hypercall, .insn_length = 3};

    v->gpr[VMM_RAX] = number;
    v->gpr[VMM_RDI] = rdi;
    v->gpr[VMM_RSI] = rsi;
    assert_int_equal(vmm_handle_hypercall(v, &e), VMM_CONTINUE);
    assert_int_equal(v->gpr[VMM_RDI], rdi);
    assert_int_equal(v->gpr[VMM_RSI], rsi);
    return (int64_t)v->gpr[VMM_RAX];
}

static void ignore_input(void *arg, const char *bytes, size_t count)
{
    (void)arg;
    (void)bytes;
    (void)count;
}

static void hypercalls(void **state)
{
    const struct vmm_char_receiver receiver = {.input = ignore_input};
    void *stream;

    (void)state;
    assert_int_equal(call(VMM_HC_VERSION, 0, 0), 1);
    assert_int_equal(call(VMM_HC_YIELD, 0, 0), 0);
    assert_int_equal(call(VMM_HC(VMM_HC_COUNT), 0, 0), VMM_HC_ENOTSUP);
    assert_int_equal(call(VMM_HC(0) - 1, 0, 0), VMM_HC_ENOTSUP);
    for (uint64_t kvm = 0; kvm < 16; kvm++) {
        if (kvm != 5 && kvm != 10 && kvm != 11) { /* those are in test_run.c */
            assert_int_equal(call(kvm, 0, 0), VMM_HC_ENOTSUP);
        }
    }
    assert_int_equal(call(~UINT64_C(0), 0, 0), VMM_HC_ENOTSUP);
    assert_int_equal(call(VMM_HC_CONSOLE_PUT, 'x', 0), VMM_HC_ENODEV);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 1), VMM_HC_ENODEV);

    assert_int_equal(f->vm->ops->chars->open(f->host, "c", &receiver, &stream), 0);
    f->vm->console_stream = stream;
    assert_int_equal(call(VMM_HC_CONSOLE_PUT, 'x', 0), 0);
    memset(vmm_memory_ptr_write(f->vm, VMM_GPA(0x3000), 300), 'y', 300);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 300), 300);
    assert_int_equal(strlen(posix_host_output(f->host, "c")), 301);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 0), 0);
    posix_host_set_room(f->host, "c", 150); /* a full console takes what it can */
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 300), 150);
    assert_int_equal(call(VMM_HC_CONSOLE_PUT, 'x', 0), VMM_HC_EAGAIN);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 300), 0);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, 0x3000, 4097), VMM_HC_EINVAL);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, VMM_MIB(8) - 1, 2), VMM_HC_EFAULT);
    assert_int_equal(call(VMM_HC_CONSOLE_WRITE, ~UINT64_C(0), 2), VMM_HC_EFAULT);
    f->vm->ops->chars->close(f->host, stream);

    posix_host_advance_ns(f->host, 1000);
    assert_int_equal(call(VMM_HC_INFO, VMM_HC_INFO_VCPU_ID, 0), 0);
    assert_int_equal(call(VMM_HC_INFO, VMM_HC_INFO_VCPU_COUNT, 0), 2);
    assert_int_equal(call(VMM_HC_INFO, VMM_HC_INFO_RAM_BYTES, 0), VMM_MIB(8));
    assert_int_equal(call(VMM_HC_INFO, VMM_HC_INFO_CLOCK_NS, 0), 1000);
    assert_int_equal(call(VMM_HC_INFO, 99, 0), VMM_HC_EINVAL);
    /* Outside 64-bit mode only the lower halves count. */
    guest_set_mode(f, GUEST_PROTECTED_32);
    assert_int_equal(call(VMM_HC_INFO, UINT64_C(0x700000001), 0), 2);
    guest_set_cpl(f, 3);
    assert_int_equal(call(VMM_HC_VERSION, 0, 0), VMM_HC_EPERM);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(time_by_the_record), TEST(one_time_line_on_all_vcpus),
        TEST(moved_tsc),          TEST(scale_of_any_frequency),
        TEST(wall_clock),         TEST(stolen_time),
        TEST(flush_while_asleep), TEST(refused_values),
        TEST(hypercalls),
    };

    return cmocka_run_group_tests_name("para", tests, NULL, NULL);
}
