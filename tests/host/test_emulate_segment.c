/* Segment registers, far branches, the stack and descriptor tables through device memory. */
#include "emulation.h"

#define GDT      0x60000u
#define LDT      0x61000u
#define SELECTOR 0x10u /* of the descriptor that a test puts there */
#define CODE32   UINT64_C(0x00cf9b000000ffff)
#define CODE64   UINT64_C(0x00af9b000000ffff)
#define DATA     UINT64_C(0x00cf93000000ffff)

static struct vmm_segment_state *segment;

static int with_tables(void **state)
{
    setup(state);
    segment = mock_vcpu(v)->segment;
    segment[VMM_SEG_GDTR] = (struct vmm_segment_state){.base = GDT, .limit = 0x2f};
    segment[VMM_SEG_LDTR] =
        (struct vmm_segment_state){.selector = 0x28, .attributes = 0x82, .base = LDT, .limit = 0xf};
    v->gpr[VMM_RBX] = DEVICE;
    return 0;
}

static void describe(uint64_t descriptor)
{
    *guest_entry(f, GDT + SELECTOR) = descriptor;
}

static void on_device(unsigned at, uint64_t value)
{
    memcpy(device->bytes + at, &value, 8);
}

static void mode(enum guest_mode which)
{
    struct vmm_segment_state gdtr = segment[VMM_SEG_GDTR], ldtr = segment[VMM_SEG_LDTR];

    guest_set_mode(f, which);
    segment[VMM_SEG_GDTR] = gdtr;
    segment[VMM_SEG_LDTR] = ldtr;
    v->gpr[VMM_RBX] = DEVICE;
}

/* --- MOV to and from a segment register, LDS and others -----------------------------------------
 */

static void segment_registers_are_stored(void **state)
{
    (void)state;
    segment[VMM_SEG_DS].selector = 0x1234;
    device->bytes[2] = 0x77;
    expect_done(DEVICE, true, CODE(0x48, 0x8c, 0x1b)); /* two bytes whatever the operand size */
    assert_int_equal(device_u64(0), 0x771234);
}

static void segment_registers_are_loaded(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_32);
    describe(UINT64_C(0x124092345678abcd)); /* not accessed yet, base 0x12345678 */
    on_device(0, SELECTOR);
    expect_done(DEVICE, false, CODE(0x8e, 0x03)); /* mov es, [ebx] */
    assert_int_equal(segment[VMM_SEG_ES].selector, SELECTOR);
    assert_int_equal(segment[VMM_SEG_ES].base, 0x12345678);
    assert_int_equal(segment[VMM_SEG_ES].limit, 0xabcd);
    assert_int_equal(segment[VMM_SEG_ES].attributes, 0x493);
    assert_int_equal(*guest_entry(f, GDT + SELECTOR), UINT64_C(0x124093345678abcd));
    assert_false(v->intr_shadow);
    describe(DATA);
    expect_done(DEVICE, false, CODE(0x8e, 0x13)); /* mov ss: the next instruction is safe */
    assert_true(v->intr_shadow);
    assert_int_equal(segment[VMM_SEG_SS].limit, 0xffffffff);
    /* From the local table, and none. */
    *guest_entry(f, LDT + 8) = DATA;
    on_device(0, 0xc);
    expect_done(DEVICE, false, CODE(0x8e, 0x23)); /* mov fs */
    assert_int_equal(segment[VMM_SEG_FS].selector, 0xc);
    on_device(0, 3);
    expect_done(DEVICE, false, CODE(0x8e, 0x2b)); /* mov gs, a null selector */
    assert_int_equal(segment[VMM_SEG_GS].attributes & SEGMENT_PRESENT, 0);
}

static void what_cannot_be_loaded(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_32);
    expect_exception(X86_UD, -1, CODE(0x8e, 0x0b)); /* mov cs */
    expect_exception(X86_UD, -1, CODE(0x8e, 0x33)); /* no such register */
    on_device(0, 0);
    expect_exception(X86_GP, 0, CODE(0x8e, 0x13)); /* SS: null */
    on_device(0, 0x33);
    expect_exception(X86_GP, 0x30, CODE(0x8e, 0x03)); /* beyond the table */
    on_device(0, 0x17);
    expect_exception(X86_GP, 0x14, CODE(0x8e, 0x03));
    on_device(0, SELECTOR | 1);
    describe(DATA);
    expect_exception(X86_GP, SELECTOR, CODE(0x8e, 0x13)); /* SS: RPL is not CPL */
    expect_exception(X86_GP, SELECTOR, CODE(0x8e, 0x03)); /* DPL 0, RPL 1 */
    on_device(0, SELECTOR);
    describe(CODE32 & ~(UINT64_C(2) << 40));
    expect_exception(X86_GP, SELECTOR, CODE(0x8e, 0x03)); /* code that cannot be read */
    describe(CODE32);
    expect_exception(X86_GP, SELECTOR, CODE(0x8e, 0x13)); /* SS: code */
    describe(UINT64_C(0x0000890000000067));
    expect_exception(X86_GP, SELECTOR, CODE(0x8e, 0x03)); /* a task */
    describe(DATA & ~(UINT64_C(0x80) << 40));
    expect_exception(X86_NP, SELECTOR, CODE(0x8e, 0x03));
    expect_exception(X86_SS, SELECTOR, CODE(0x8e, 0x13));
}

static void real_mode_keeps_limits(void **state)
{
    (void)state;
    mode(GUEST_REAL);
    segment[VMM_SEG_DS].base = DEVICE;
    segment[VMM_SEG_ES].limit = 0xffffffff; /* unreal */
    v->gpr[VMM_RBX] = 0;
    on_device(0, 0x12345678);
    expect_done(DEVICE, false, CODE(0x8e, 0x07)); /* mov es, [bx] */
    assert_int_equal(segment[VMM_SEG_ES].selector, 0x5678);
    assert_int_equal(segment[VMM_SEG_ES].base, 0x56780);
    assert_int_equal(segment[VMM_SEG_ES].limit, 0xffffffff);
    expect_done(DEVICE, false, CODE(0xc4, 0x0f)); /* les cx, [bx] */
    assert_int_equal(v->gpr[VMM_RCX], 0x5678);
    assert_int_equal(segment[VMM_SEG_ES].selector, 0x1234);
}

static void far_pointers_are_loaded(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_32);
    describe(DATA);
    on_device(0, (uint64_t)SELECTOR << 32 | 0x22334455);
    expect_done(DEVICE, false, CODE(0x0f, 0xb2, 0x0b)); /* lss ecx, [ebx] */
    assert_int_equal(v->gpr[VMM_RCX], 0x22334455);
    assert_int_equal(segment[VMM_SEG_SS].selector, SELECTOR);
    on_device(0, 0x331122);
    expect_exception(X86_GP, 0x30, CODE(0x66, 0x0f, 0xb4, 0x0b)); /* lfs cx: 0x33 */
    on_device(0, UINT64_C(0x8877665544332211));
    on_device(8, SELECTOR);
    mode(GUEST_LONG);
    expect_done(DEVICE, false, CODE(0x48, 0x0f, 0xb5, 0x0b)); /* lgs rcx, [rbx] */
    assert_int_equal(v->gpr[VMM_RCX], UINT64_C(0x8877665544332211));
    assert_int_equal(segment[VMM_SEG_GS].selector, SELECTOR);
}

/* --- far branches -------------------------------------------------------------------------------
 */

static void far_jumps(void **state)
{
    (void)state;
    describe(CODE32 & ~(UINT64_C(1) << 40));
    on_device(0, (uint64_t)SELECTOR << 32 | 0x123456);
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x2b)), VMM_CONTINUE); /* to 32-bit code */
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x123456);
    assert_int_equal(segment[VMM_SEG_CS].selector, SELECTOR);
    assert_int_equal(segment[VMM_SEG_CS].attributes, 0xc9b);
    assert_int_equal(*guest_entry(f, GDT + SELECTOR), CODE32);
    describe(CODE64);
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x2b)), VMM_CONTINUE); /* and back */
    assert_int_equal(segment[VMM_SEG_CS].attributes, 0xa9b);

    mode(GUEST_REAL);
    segment[VMM_SEG_DS].base = DEVICE;
    on_device(0x10, 0x20003456);
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x2e, 0x10, 0)), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x3456);
    assert_int_equal(segment[VMM_SEG_CS].base, 0x20000);
}

static void far_calls(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_32);
    segment[VMM_SEG_CS].selector = 8;
    describe(CODE32);
    on_device(0, (uint64_t)SELECTOR << 32 | 0x123456);
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x1b)), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x123456);
    assert_int_equal(v->gpr[VMM_RSP], 0x6ff8);
    assert_int_equal(*guest_entry(f, 0x6ff8), UINT64_C(8) << 32 | 0x1002);
    /* No room for the second push: nothing has happened. */
    mode(GUEST_PROTECTED_32);
    segment[VMM_SEG_SS].limit = 0x6fff;
    segment[VMM_SEG_SS].attributes |= SEGMENT_CONFORMING; /* expands down */
    v->gpr[VMM_RSP] = 0x7004;
    expect_exception(X86_SS, 0, CODE(0xff, 0x1b));
    assert_int_not_equal(segment[VMM_SEG_CS].selector, SELECTOR);
}

static void far_branches_that_fault(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_32);
    on_device(0, 0x123456);
    expect_exception(X86_GP, 0, CODE(0xff, 0x2b)); /* null */
    on_device(0, (uint64_t)0x30 << 32);
    expect_exception(X86_GP, 0x30, CODE(0xff, 0x2b));
    on_device(0, (uint64_t)SELECTOR << 32 | 0x123456);
    describe(DATA);
    expect_exception(X86_GP, SELECTOR, CODE(0xff, 0x2b));
    describe(CODE32 | UINT64_C(0x60) << 40);
    expect_exception(X86_GP, SELECTOR, CODE(0xff, 0x2b)); /* DPL 3 from CPL 0 */
    describe(CODE32 & ~(UINT64_C(0x80) << 40));
    expect_exception(X86_NP, SELECTOR, CODE(0xff, 0x2b));
    describe(UINT64_C(0x00409b000000ffff));
    expect_exception(X86_GP, 0, CODE(0xff, 0x2b)); /* beyond the limit */
    describe(UINT64_C(0x00008c0000100000));        /* a call gate */
    assert_int_equal(emulate(DEVICE, false, CODE(0xff, 0x2b)), VMM_LEAVE);
    assert_int_equal(f->vm->reason, VM_REASON_EMULATION);
}

/* --- the stack on device memory -----------------------------------------------------------------
 */

static void stack_on_a_device(void **state)
{
    (void)state;
    v->gpr[VMM_RSP] = DEVICE + 0x20;
    v->gpr[VMM_R9] = UINT64_C(0x1122334455667788);
    expect_done(DEVICE, true, CODE(0x41, 0x51)); /* push r9 */
    assert_int_equal(device_u64(0x18), v->gpr[VMM_R9]);
    expect_done(DEVICE, true, CODE(0x6a, 0xfe)); /* push -2 */
    assert_int_equal(device_u64(0x10), UINT64_C(0xfffffffffffffffe));
    expect_done(DEVICE, true, CODE(0x66, 0x68, 0x34, 0x12)); /* push word 0x1234 */
    assert_int_equal(v->gpr[VMM_RSP], DEVICE + 0xe);
    expect_done(DEVICE, false, CODE(0x66, 0x58)); /* pop ax */
    assert_int_equal(v->gpr[VMM_RAX], 0x1234);
    expect_done(DEVICE, false, CODE(0x59)); /* pop rcx */
    assert_int_equal(v->gpr[VMM_RCX], UINT64_C(0xfffffffffffffffe));
    expect_done(DEVICE, false, CODE(0x5c)); /* pop rsp */
    assert_int_equal(v->gpr[VMM_RSP], UINT64_C(0x1122334455667788));

    v->gpr[VMM_RSP] = DEVICE + 0x20;
    v->rip = 0x1000;
    assert_int_equal(emulate(DEVICE, true, CODE(0xe8, 0xfb, 0x0f, 0, 0)), VMM_CONTINUE); /* call */
    assert_int_equal(v->rip, 0x2000);
    assert_int_equal(device_u64(0x18), 0x1005);
    assert_int_equal(emulate(DEVICE, false, CODE(0xc2, 0x10, 0)), VMM_CONTINUE); /* ret 16 */
    assert_int_equal(v->rip, 0x1005);
    assert_int_equal(v->gpr[VMM_RSP], DEVICE + 0x30);
    on_device(0x30, UINT64_C(0x800000000000));
    expect_exception(X86_GP, 0, CODE(0xc3)); /* ret: not canonical */
    on_device(0x40, 0x77);
    v->gpr[VMM_RBP] = DEVICE + 0x40;
    expect_done(DEVICE, false, CODE(0xc9)); /* leave */
    assert_int_equal(v->gpr[VMM_RBP], 0x77);
    assert_int_equal(v->gpr[VMM_RSP], DEVICE + 0x48);
}

static void stack_of_16_bits(void **state)
{
    (void)state;
    mode(GUEST_PROTECTED_16);
    segment[VMM_SEG_SS].base = DEVICE;
    v->gpr[VMM_RSP] = 0x12340002;
    v->gpr[VMM_RCX] = 0x8899aabb;
    expect_done(DEVICE, true, CODE(0x51)); /* push cx */
    assert_int_equal(v->gpr[VMM_RSP], 0x12340000);
    assert_int_equal(device_u64(0), 0xaabb);
    segment[VMM_SEG_SS].limit = 0xfff0;
    expect_exception(X86_SS, 0, CODE(0x51)); /* wraps to 0xfffe */
}

/* --- descriptors and tables ---------------------------------------------------------------------
 */

static void lar_lsl_and_verify(void **state)
{
    (void)state;
    describe(DATA);
    on_device(0, SELECTOR);
    expect_done(DEVICE, false, CODE(0x0f, 0x02, 0x0b)); /* lar ecx, [rbx] */
    assert_int_equal(v->gpr[VMM_RCX], 0xc09300);
    assert_true((v->rflags & RFLAGS_ZF) != 0);
    expect_done(DEVICE, false, CODE(0x0f, 0x03, 0x0b)); /* lsl */
    assert_int_equal(v->gpr[VMM_RCX], 0xffffffff);
    expect_done(DEVICE, false, CODE(0x0f, 0x00, 0x2b)); /* verw */
    assert_true((v->rflags & RFLAGS_ZF) != 0);
    describe(CODE32);
    expect_done(DEVICE, false, CODE(0x0f, 0x00, 0x2b));
    assert_true((v->rflags & RFLAGS_ZF) == 0);
    expect_done(DEVICE, false, CODE(0x0f, 0x00, 0x23)); /* verr */
    assert_true((v->rflags & RFLAGS_ZF) != 0);
    v->gpr[VMM_RCX] = 5;
    on_device(0, SELECTOR | 3); /* RPL 3, DPL 0 */
    expect_done(DEVICE, false, CODE(0x0f, 0x02, 0x0b));
    assert_true((v->rflags & RFLAGS_ZF) == 0);
    assert_int_equal(v->gpr[VMM_RCX], 5);
    on_device(0, SELECTOR);
    describe(UINT64_C(0x0000860000000000)); /* an interrupt gate */
    expect_done(DEVICE, false, CODE(0x0f, 0x02, 0x0b));
    assert_true((v->rflags & RFLAGS_ZF) == 0);
    mode(GUEST_REAL);
    expect_exception(X86_UD, -1, CODE(0x0f, 0x02, 0x07));
    expect_exception(X86_UD, -1, CODE(0x0f, 0x00, 0x07)); /* sldt */
}

static void tables_and_machine_status(void **state)
{
    uint64_t *cr0 = &mock_vcpu(v)->sysreg[VMM_CR0], *cr4 = &mock_vcpu(v)->sysreg[VMM_CR4];

    (void)state;
    expect_done(DEVICE, true, CODE(0x0f, 0x01, 0x03)); /* sgdt [rbx] */
    assert_int_equal(device_u64(0), (uint64_t)GDT << 16 | 0x2f);
    on_device(0, UINT64_C(0x1234560000ff));
    on_device(8, 0);
    expect_done(DEVICE, false, CODE(0x0f, 0x01, 0x1b)); /* lidt [rbx] */
    assert_int_equal(segment[VMM_SEG_IDTR].limit, 0xff);
    assert_int_equal(segment[VMM_SEG_IDTR].base, 0x12345600);
    on_device(8, 0x1234);
    expect_exception(X86_GP, 0, CODE(0x0f, 0x01, 0x1b)); /* not canonical */
    expect_done(DEVICE, true, CODE(0x0f, 0x01, 0x23));   /* smsw */
    assert_int_equal(device_u64(0) & 0xffff, 0x11);
    on_device(0, 0xe);
    expect_done(DEVICE, false, CODE(0x0f, 0x01, 0x33)); /* lmsw: PE stays */
    assert_int_equal(*cr0 & 0xffff, 0x1f);
    expect_done(DEVICE, true, CODE(0x0f, 0x00, 0x03)); /* sldt */
    assert_int_equal(device_u64(0) & 0xffff, 0x28);
    guest_identity_map(f, 7);
    guest_set_cpl(f, 3);
    expect_exception(X86_GP, 0, CODE(0x0f, 0x01, 0x33));
    expect_exception(X86_GP, 0, CODE(0x0f, 0x01, 0x1b));
    expect_done(DEVICE, true, CODE(0x0f, 0x01, 0x23));
    *cr4 |= CR4_UMIP;
    expect_exception(X86_GP, 0, CODE(0x0f, 0x01, 0x23));
    expect_exception(X86_GP, 0, CODE(0x0f, 0x00, 0x03));
}

static void alignment_checks(void **state)
{
    uint64_t *cr0 = &mock_vcpu(v)->sysreg[VMM_CR0];

    (void)state;
    guest_identity_map(f, 7);
    guest_set_cpl(f, 3);
    v->gpr[VMM_RBX] = DEVICE + 2;
    *cr0 |= CR0_AM;
    expect_done(DEVICE + 2, true, CODE(0x11, 0x0b)); /* adc [rbx], ecx: AC is off */
    v->rflags |= RFLAGS_AC;
    expect_exception(X86_AC, 0, CODE(0x11, 0x0b));
    expect_done(DEVICE + 2, true, CODE(0x66, 0x11, 0x0b));
    expect_done(DEVICE + 2, true, CODE(0x10, 0x0b));
    v->gpr[VMM_RSP] = DEVICE + 0x104;
    expect_exception(X86_AC, 0, CODE(0x51)); /* push rcx */
    guest_set_cpl(f, 0);
    expect_done(DEVICE, true, CODE(0x51));
}

#define SEGMENT_TEST(fn) cmocka_unit_test_setup_teardown(fn, with_tables, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEGMENT_TEST(segment_registers_are_stored),
        SEGMENT_TEST(segment_registers_are_loaded),
        SEGMENT_TEST(what_cannot_be_loaded),
        SEGMENT_TEST(real_mode_keeps_limits),
        SEGMENT_TEST(far_pointers_are_loaded),
        SEGMENT_TEST(far_jumps),
        SEGMENT_TEST(far_calls),
        SEGMENT_TEST(far_branches_that_fault),
        SEGMENT_TEST(stack_on_a_device),
        SEGMENT_TEST(stack_of_16_bits),
        SEGMENT_TEST(lar_lsl_and_verify),
        SEGMENT_TEST(tables_and_machine_status),
        SEGMENT_TEST(alignment_checks),
    };

    return cmocka_run_group_tests_name("emulate_segment", tests, NULL, NULL);
}
