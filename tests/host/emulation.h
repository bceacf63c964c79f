/* What the programs that test the emulator begin with: a long-mode guest, a device, an instruction
 * at a time. */
#pragma once

#include "guest_cpu.h"
#include "test_device.h"

#include <string.h>
#include "core/emulate_inner.h"
#include "core/x86.h"
#include "vector.h"

#define DEVICE TEST_DEVICE_BASE

static struct fixture *f;
static struct test_device *device;
static struct vcpu *v;

static inline int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(8), 1);
    device = test_device_create(f);
    v = f->vcpu;
    guest_set_mode(f, GUEST_LONG);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

#define CODE(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* Run the instruction as if it had exited for an access at gpa. */
static inline enum vmm_action emulate(uint64_t gpa, bool write, const uint8_t *code, size_t length)
{
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault, .fault = {.gpa = {gpa}, .write = write}};

    v->event.valid = false;
    guest_set_code(f, code, length);
    return vmm_emulate_mmio(v, &e);
}

static inline void expect_done(uint64_t gpa, bool write, const uint8_t *code, size_t length)
{
    v->rip = 0x1000;
    assert_int_equal(emulate(gpa, write, code, length), VMM_CONTINUE);
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x1000 + length);
}

static inline void expect_exception(uint8_t vector, int error, const uint8_t *code, size_t length)
{
    uint64_t gpr[16];

    v->rip = 0x1000;
    memcpy(gpr, v->gpr, sizeof(gpr));
    assert_int_equal(emulate(DEVICE, true, code, length), VMM_CONTINUE);
    assert_true(v->event.valid);
    assert_int_equal(v->event.vector, vector);
    assert_int_equal(v->event.has_error, error >= 0);
    assert_true(error < 0 || v->event.error == (uint32_t)error);
    assert_int_equal(v->rip, 0x1000);
    assert_memory_equal(gpr, v->gpr, sizeof(gpr));
}

static inline uint64_t cr2(void)
{
    return mock_vcpu(v)->sysreg[VMM_CR2];
}

static inline uint64_t device_u64(unsigned offset)
{
    uint64_t value;

    memcpy(&value, device->bytes + offset, 8);
    return value;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
