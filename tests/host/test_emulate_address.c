/* The emulator's addresses: segments, 16-bit and RIP-relative forms, stack and branches. */
#include "core/reclaim.h"
#include "emulation.h"

/* --- segments and 16-bit addressing ----------------------------------------------------------- */

static void sixteen_bit_addressing(void **state)
{
    static const struct {
        uint8_t modrm;
        uint16_t disp;
        unsigned disp_size;
        uint16_t expected; /* BX 0x100, BP 0x200, SI 0x10, DI 0x20 */
    } row_table[] = {
        {0x00, 0, 0, 0x110},     {0x01, 0, 0, 0x120},       {0x02, 0, 0, 0x210},
        {0x03, 0, 0, 0x220},     {0x04, 0, 0, 0x010},       {0x05, 0, 0, 0x020},
        {0x06, 0x345, 2, 0x345}, {0x07, 0, 0, 0x100},       {0x40, 0x7f, 1, 0x18f},
        {0x46, 0xff, 1, 0x1ff},  {0x82, 0x1000, 2, 0x1210}, {0x87, 0xff80, 2, 0x080},
    };

    (void)state;
    guest_set_mode(f, GUEST_REAL);
    mock_vcpu(v)->segment[VMM_SEG_DS].base = DEVICE;
    mock_vcpu(v)->segment[VMM_SEG_SS].base = DEVICE + 0x1000;
    v->gpr[VMM_RBX] = 0x70100; /* the upper half does not count */
    v->gpr[VMM_RBP] = 0x200;
    v->gpr[VMM_RSI] = 0x10;
    v->gpr[VMM_RDI] = 0x20;
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(row_table); n++) {
        uint8_t code[4] = {0x88, row_table[n].modrm}; /* mov [..], al */
        bool stack = (row_table[n].modrm & 7) == 2 || (row_table[n].modrm & 7) == 3 ||
                     row_table[n].modrm == 0x46;
        uint64_t offset = row_table[n].expected + (stack ? 0x1000 : 0);

        memcpy(code + 2, &row_table[n].disp, 2);
        v->gpr[VMM_RAX] = n + 1;
        expect_done(DEVICE + offset, true, code, 2 + row_table[n].disp_size);
        assert_int_equal(device->last.offset, offset);
        assert_int_equal(device->last.value, n + 1);
    }
}

static void segment_override_and_base(void **state)
{
    struct vmm_segment_state *segment = mock_vcpu(v)->segment;

    (void)state;
    segment[VMM_SEG_FS].base = DEVICE + 0x100;
    segment[VMM_SEG_ES].base = DEVICE + 0x200; /* does not count in 64-bit mode */
    v->gpr[VMM_RBX] = 4;
    expect_done(DEVICE + 0x104, true, CODE(0x64, 0x88, 0x0b));
    assert_int_equal(device->last.offset, 0x104);
    v->gpr[VMM_RBX] = DEVICE + 8;
    expect_done(DEVICE + 8, true, CODE(0x26, 0x88, 0x0b));
    assert_int_equal(device->last.offset, 8);
    guest_set_mode(f, GUEST_PROTECTED_32);
    segment[VMM_SEG_ES].base = DEVICE + 0x200;
    v->gpr[VMM_RBX] = 0x10;
    expect_done(DEVICE + 0x210, true, CODE(0x26, 0x88, 0x0b));
    assert_int_equal(device->last.offset, 0x210);
}

static void segment_limits_and_types(void **state)
{
    struct vmm_segment_state *segment = mock_vcpu(v)->segment;

    (void)state;
    guest_set_mode(f, GUEST_PROTECTED_32);
    segment[VMM_SEG_DS].base = DEVICE;
    segment[VMM_SEG_DS].limit = 0xfff;
    v->gpr[VMM_RBX] = 0xffc;
    expect_done(DEVICE + 0xffc, true, CODE(0x89, 0x0b));
    v->gpr[VMM_RBX] = 0xffd;
    expect_exception(X86_GP, 0, CODE(0x89, 0x0b));
    segment[VMM_SEG_SS].limit = 0xfff;
    v->gpr[VMM_RBP] = 0x1000;
    expect_exception(X86_SS, 0, CODE(0x88, 0x4d, 0x00));
    segment[VMM_SEG_DS].attributes = 0xc91; /* read-only */
    v->gpr[VMM_RBX] = 0;
    expect_exception(X86_GP, 0, CODE(0x88, 0x0b));
    expect_done(DEVICE, false, CODE(0x8a, 0x0b));
    segment[VMM_SEG_DS].attributes = 0xc99; /* execute-only code */
    expect_exception(X86_GP, 0, CODE(0x8a, 0x0b));
    segment[VMM_SEG_DS].attributes = 0x13; /* not present: a null selector was loaded */
    expect_exception(X86_GP, 0, CODE(0x8a, 0x0b));
    segment[VMM_SEG_DS].attributes = 0xc97; /* expand-down: valid above the limit */
    expect_exception(X86_GP, 0, CODE(0x88, 0x0b));
    v->gpr[VMM_RBX] = 0x1000;
    expect_done(DEVICE + 0x1000, true, CODE(0x88, 0x0b));
}

static void code_segment_limit(void **state)
{
    struct vmm_segment_state *cs = &mock_vcpu(v)->segment[VMM_SEG_CS];

    (void)state;
    guest_set_mode(f, GUEST_PROTECTED_32);
    v->gpr[VMM_RBX] = DEVICE;
    cs->limit = 0x1001;
    expect_done(DEVICE, true, CODE(0x88, 0x0b));
    cs->limit = 0x1000;
    vmm_decode_flush(v); /* what ran before is not checked again: the processor did */
    expect_exception(X86_GP, 0, CODE(0x88, 0x0b));
}

static void moffs_forms(void **state)
{
    uint64_t address = DEVICE + 0x18;
    uint8_t code[10] = {0x48, 0xa3};

    (void)state;
    memcpy(code + 2, &address, 8);
    v->gpr[VMM_RAX] = 0x1122334455667788;
    expect_done(address, true, code, sizeof(code));
    assert_int_equal(device_u64(0x18), 0x1122334455667788);
    code[1] = 0xa1;
    v->gpr[VMM_RAX] = 0;
    expect_done(address, false, code, sizeof(code));
    assert_int_equal(v->gpr[VMM_RAX], 0x1122334455667788);
    /* 67: a 32-bit address. */
    expect_done(address, false, CODE(0x67, 0xa0, 0x18, 0, 0, 0x30));
    assert_int_equal(device->last.offset, 0x18);
    guest_set_mode(f, GUEST_REAL);
    mock_vcpu(v)->segment[VMM_SEG_DS].base = DEVICE;
    v->gpr[VMM_RAX] = 0x99;
    expect_done(DEVICE + 0x1234, true, CODE(0xa2, 0x34, 0x12));
    assert_int_equal(device->bytes[0x1234], 0x99);
}

static void rip_relative(void **state)
{
    uint32_t disp = (uint32_t)(DEVICE + 0x40 - 0x1006);
    uint8_t code[6] = {0x8b, 0x0d};

    (void)state;
    memcpy(code + 2, &disp, 4);
    device->bytes[0x40] = 0x12;
    expect_done(DEVICE + 0x40, false, code, sizeof(code));
    assert_int_equal(v->gpr[VMM_RCX], 0x12);
}

/* --- stack and branches --------------------------------------------------------------------------
 */

static void push_and_pop(void **state)
{
    uint64_t pushed = UINT64_C(0x1234567890abcdef);

    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    memcpy(device->bytes, &pushed, 8);
    expect_done(DEVICE, false, CODE(0xff, 0x33));
    assert_int_equal(v->gpr[VMM_RSP], 0x6ff8);
    assert_int_equal(*guest_entry(f, 0x6ff8), pushed);
    expect_done(DEVICE, false, CODE(0x66, 0xff, 0x33));
    assert_int_equal(v->gpr[VMM_RSP], 0x6ff6);
    v->gpr[VMM_RSP] = 0x6ff8;
    expect_done(DEVICE, true, CODE(0x8f, 0x43, 0x20));
    assert_int_equal(v->gpr[VMM_RSP], 0x7000);
    assert_int_equal(device_u64(0x20), pushed);
    /* POP's own address is computed with the new stack pointer. */
    v->gpr[VMM_RSP] = 0x6ff8;
    *guest_entry(f, 0x6ff8) = 5;
    v->gpr[VMM_RCX] = DEVICE;
    expect_done(DEVICE + 0x7000 - 0x6f00, true, CODE(0x8f, 0x84, 0x0c, 0x00, 0x91, 0xff, 0xff));
    assert_int_equal(device->last.offset, 0x100);
}

static void calls_and_jumps(void **state)
{
    uint64_t target = 0x123456;

    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    memcpy(device->bytes, &target, 8);
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x13)), VMM_CONTINUE);
    assert_int_equal(v->rip, target);
    assert_int_equal(*guest_entry(f, 0x6ff8), 0x1002);
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x23)), VMM_CONTINUE);
    assert_int_equal(v->rip, target);
    assert_int_equal(v->gpr[VMM_RSP], 0x6ff8);
    guest_set_mode(f, GUEST_PROTECTED_16);
    mock_vcpu(v)->segment[VMM_SEG_DS].base = DEVICE;
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x26, 0, 0)), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x3456);
}

/* RAM that nobody touched, and the host has no page for it: no device, so nothing is made up. */
static void memory_that_is_not_to_be_had_ends_the_vm(void **state)
{
    const uint32_t number = 0x300; /* of a page */
    uint64_t value = 5;

    (void)state;
    assert_int_equal(vmm_memory_discard(f->vm, &number, 1), 1);
    *(uint64_t *)device->bytes = 7;
    v->gpr[VMM_RSI] = DEVICE;
    v->gpr[VMM_RDI] = 0x300000;
    v->parked = VMM_ACTIVE;
    v->rip = 0x1000;
    vmm_decode_flush(v);
    guest_set_code(f, CODE(0x48, 0xa5)); /* MOVSQ */
    assert_int_equal(vmm_linear_read(v, VMM_GVA(0x1000), &value, 2, VMM_ACCESS_FETCH,
                                     &(struct vmm_walk_fault){0}),
                     0);
    posix_host_fail_alloc(f->host, 0);
    emulate(DEVICE, false, CODE(0x48, 0xa5));
    assert_int_equal(vmm_vm_reason(f->vm), VM_REASON_HOST_ERROR);
    assert_non_null(strstr(posix_host_log(f->host), "no host memory for guest-physical 0x300000"));
    assert_int_equal(v->gpr[VMM_RDI], 0x300000);
    /* Who only looks ends nothing. */
    f->vm->reason = VM_REASON_NONE;
    v->parked = VMM_AWAY;
    assert_true(vmm_linear_read(v, VMM_GVA(0x300000), &value, 8, VMM_ACCESS_READ,
                                &(struct vmm_walk_fault){0}) != 0);
    assert_int_equal(vmm_vm_reason(f->vm), VM_REASON_NONE);
    posix_host_fail_alloc(f->host, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sixteen_bit_addressing),
        TEST(segment_override_and_base),
        TEST(segment_limits_and_types),
        TEST(code_segment_limit),
        TEST(moffs_forms),
        TEST(rip_relative),
        TEST(push_and_pop),
        TEST(calls_and_jumps),
        TEST(memory_that_is_not_to_be_had_ends_the_vm),
    };

    return cmocka_run_group_tests_name("emulate_address", tests, NULL, NULL);
}
