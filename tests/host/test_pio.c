/* IN, OUT and their string forms. */
#include "guest_cpu.h"
#include "test_device.h"

#include <string.h>

static struct fixture *f;
static struct test_device *device;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(8), 1);
    device = test_device_create(f);
    v = f->vcpu;
    guest_set_mode(f, GUEST_LONG);
    for (unsigned i = 0; i < sizeof(device->input); i++) {
        device->input[i] = (uint8_t)(i * 7 + 1);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

#define CODE(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void run(bool in, bool string, unsigned size, uint16_t port, const uint8_t *code,
                size_t length)
{
    struct vmm_exit e = {.kind = VMM_EXIT_pio,
                         .insn_length = string ? 0 : (uint8_t)length,
                         .pio = {.port = port, .size = (uint8_t)size, .in = in, .string = string}};

    guest_set_code(f, code, length);
    assert_int_equal(vmm_emulate_pio(v, &e), VMM_CONTINUE);
}

static void in_changes_as_much_as_it_reads(void **state)
{
    (void)state;
    v->gpr[VMM_RAX] = 0x1122334455667788;
    run(true, false, 1, TEST_PORT, CODE(0xec));
    assert_int_equal(v->gpr[VMM_RAX], 0x1122334455667701);
    assert_int_equal(v->rip, 0x1001);
    v->gpr[VMM_RAX] = 0x1122334455667788;
    run(true, false, 2, TEST_PORT, CODE(0x66, 0xed));
    assert_int_equal(v->gpr[VMM_RAX], 0x1122334455660f08);
    v->gpr[VMM_RAX] = 0x1122334455667788;
    run(true, false, 4, TEST_PORT, CODE(0xed));
    assert_int_equal(v->gpr[VMM_RAX], 0x2b241d16); /* upper half cleared */
}

static void unclaimed_ports_read_all_ones(void **state)
{
    (void)state;
    run(true, false, 1, 0x80, CODE(0xe4, 0x80));
    assert_int_equal(v->gpr[VMM_RAX], 0xff);
    assert_int_equal(v->rip, 0x1002);
    run(true, false, 4, 0xfff0, CODE(0xed));
    assert_int_equal(v->gpr[VMM_RAX], 0xffffffff);
    run(false, false, 4, 0xfff0, CODE(0xef));
}

static void out_writes_the_low_part(void **state)
{
    (void)state;
    v->gpr[VMM_RAX] = 0x1122334455667788;
    run(false, false, 1, TEST_PORT, CODE(0xee));
    run(false, false, 2, TEST_PORT, CODE(0x66, 0xef));
    run(false, false, 4, TEST_PORT, CODE(0xef));
    assert_int_equal(device->put, 7);
    assert_memory_equal(device->output, "\x88\x88\x77\x88\x77\x66\x55", 7);
}

static void length_is_decoded_when_unknown(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_pio, .pio = {.port = TEST_PORT, .size = 2}};

    (void)state;
    guest_set_code(f, CODE(0x66, 0xe7, 0x00));
    assert_int_equal(vmm_emulate_pio(v, &e), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1003);
}

static void ins_and_outs(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = 0x5000;
    run(true, true, 1, TEST_PORT, CODE(0x6c));
    assert_int_equal(v->gpr[VMM_RDI], 0x5001);
    assert_int_equal(v->rip, 0x1001);
    v->gpr[VMM_RCX] = 3;
    v->rip = 0x1000;
    run(true, true, 2, TEST_PORT, CODE(0xf3, 0x66, 0x6d));
    assert_int_equal(v->rip, 0x1003);
    assert_int_equal(v->gpr[VMM_RCX], 0);
    assert_int_equal(v->gpr[VMM_RDI], 0x5007);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x5000), 7), device->input, 7);
    v->rip = 0x1000;
    v->gpr[VMM_RSI] = 0x5003;
    v->gpr[VMM_RCX] = 4;
    v->rflags |= 0x400; /* DF */
    run(false, true, 1, TEST_PORT, CODE(0xf3, 0x6e));
    assert_int_equal(v->gpr[VMM_RSI], 0x4fff);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(device->output[i], device->input[3 - i]);
    }
    /* RCX is zero: nothing happens but the step. */
    v->rip = 0x1000;
    run(false, true, 1, TEST_PORT, CODE(0xf3, 0x6e));
    assert_int_equal(v->rip, 0x1002);
    assert_int_equal(device->put, 4);
}

static void long_repetitions_give_turns(void **state)
{
    unsigned exits = 0;

    (void)state;
    v->gpr[VMM_RDI] = 0x5000;
    v->gpr[VMM_RCX] = 1500;
    v->rip = 0x1000;
    while (v->rip == 0x1000) {
        run(true, true, 2, TEST_PORT, CODE(0xf3, 0x66, 0x6d));
        exits++;
    }
    assert_in_range(exits, 2, 100);
    assert_int_equal(v->gpr[VMM_RCX], 0);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x5000), 3000), device->input, 3000);
}

static void faults_leave_the_port_alone(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = 0x40000000;
    v->rip = 0x1000;
    run(true, true, 4, TEST_PORT, CODE(0x6d));
    assert_true(v->event.valid);
    assert_int_equal(v->event.vector, 14);
    assert_int_equal(v->event.error, 2);
    assert_int_equal(device->taken, 0);
    assert_int_equal(v->rip, 0x1000);
    v->event.valid = false;
    v->gpr[VMM_RSI] = 0x40000000;
    run(false, true, 4, TEST_PORT, CODE(0x6f));
    assert_int_equal(v->event.vector, 14);
    assert_int_equal(v->event.error, 0);
    assert_int_equal(device->put, 0);
}

static void segments_and_address_sizes(void **state)
{
    struct vmm_segment_state *segment = mock_vcpu(v)->segment;

    (void)state;
    v->gpr[VMM_RDI] = UINT64_C(0xffffffff00005000);
    v->gpr[VMM_RCX] = UINT64_C(0xffffffff00000002);
    v->rip = 0x1000;
    run(true, true, 1, TEST_PORT, CODE(0xf3, 0x67, 0x6c));
    assert_int_equal(v->gpr[VMM_RDI], 0x5002);
    assert_int_equal(v->gpr[VMM_RCX], 0);

    guest_set_mode(f, GUEST_REAL);
    segment[VMM_SEG_ES].base = 0x10000;
    v->gpr[VMM_RDI] = 0x7fffffff; /* DI wraps at 64 KiB */
    v->gpr[VMM_RCX] = 2;
    run(true, true, 1, TEST_PORT, CODE(0xf3, 0x6c));
    assert_int_equal(v->gpr[VMM_RDI], 0x7fff0001);
    assert_int_equal(*(uint8_t *)vmm_memory_ptr(f->vm, VMM_GPA(0x1ffff), 1), device->input[2]);
    assert_int_equal(*(uint8_t *)vmm_memory_ptr(f->vm, VMM_GPA(0x10000), 1), device->input[3]);
    /* OUTS takes an override, here FS. */
    segment[VMM_SEG_FS].base = 0x20000;
    v->gpr[VMM_RSI] = 0x34;
    *(uint8_t *)vmm_memory_ptr(f->vm, VMM_GPA(0x20034), 1) = 0x9c;
    v->rip = 0x1000;
    run(false, true, 1, TEST_PORT, CODE(0x64, 0x6e));
    assert_int_equal(device->output[0], 0x9c);

    guest_set_mode(f, GUEST_PROTECTED_32);
    segment[VMM_SEG_ES].limit = 0xfff;
    v->gpr[VMM_RDI] = 0xffd;
    device->taken = 0;
    run(true, true, 4, TEST_PORT, CODE(0x6d));
    assert_int_equal(v->event.vector, 13);
    assert_int_equal(device->taken, 0);
}

static void device_memory_as_the_other_side(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = TEST_DEVICE_BASE + 0x10;
    v->rip = 0x1000;
    run(true, true, 4, TEST_PORT, CODE(0x6d));
    assert_memory_equal(device->bytes + 0x10, device->input, 4);
}

static void code_that_changed_meanwhile_runs_again(void **state)
{
    (void)state;
    v->rip = 0x1000;
    run(true, true, 4, TEST_PORT, CODE(0x90));
    assert_int_equal(v->rip, 0x1000);
    assert_int_equal(device->taken, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(in_changes_as_much_as_it_reads),
        TEST(unclaimed_ports_read_all_ones),
        TEST(out_writes_the_low_part),
        TEST(length_is_decoded_when_unknown),
        TEST(ins_and_outs),
        TEST(long_repetitions_give_turns),
        TEST(faults_leave_the_port_alone),
        TEST(segments_and_address_sizes),
        TEST(device_memory_as_the_other_side),
        TEST(code_that_changed_meanwhile_runs_again),
    };

    return cmocka_run_group_tests_name("pio", tests, NULL, NULL);
}
