/* MMX, SSE and AVX moves on device memory. */
#include "emulation.h"

#define CR4_ALL (CR4_OSFXSR | CR4_OSXSAVE)

static uint64_t *cr0, *cr4;

static int with_avx(void **state)
{
    setup(state);
    cr0 = &mock_vcpu(v)->sysreg[VMM_CR0];
    cr4 = &mock_vcpu(v)->sysreg[VMM_CR4];
    *cr4 |= CR4_ALL;
    v->xcr0 = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;
    v->gpr[VMM_RBX] = DEVICE;
    memset(&vector_file, 0, sizeof(vector_file));
    for (unsigned i = 0; i < 64; i++) {
        device->bytes[i] = (uint8_t)(i + 1);
    }
    for (unsigned i = 0; i < 16; i++) {
        memset(&vector_file.ymm[i], 0xa0 + (int)i, 32);
    }
    vector_file.mxcsr = 0x1f80;
    return 0;
}

/* What register `reg` holds: `size` bytes of the device, from `at` on; then zeros or what it had.
 */
static void expect_loaded(unsigned reg, unsigned size, unsigned at, unsigned zeros)
{
    uint8_t expected[32];

    memset(expected, 0xa0 + (int)reg, sizeof(expected));
    memset(expected, 0, zeros);
    memcpy(expected, device->bytes + at, size);
    assert_memory_equal(&vector_file.ymm[reg], expected, sizeof(expected));
}

static void expect_stored(unsigned reg, unsigned size, unsigned at)
{
    assert_memory_equal(device->bytes + at, &vector_file.ymm[reg], size);
    assert_int_equal(device->bytes[at + size], (uint8_t)(at + size + 1));
}

static void sse_loads(void **state)
{
    (void)state;
    expect_done(DEVICE, false, CODE(0x44, 0x0f, 0x10, 0x4b, 0x03)); /* movups xmm9, [rbx+3] */
    expect_loaded(9, 16, 3, 0);
    expect_done(DEVICE, false, CODE(0x66, 0x0f, 0x6f, 0x13)); /* movdqa xmm2 */
    expect_loaded(2, 16, 0, 0);
    expect_done(DEVICE, false, CODE(0xf3, 0x0f, 0x6f, 0x5b, 0x01)); /* movdqu xmm3, [rbx+1] */
    expect_loaded(3, 16, 1, 0);
    expect_done(DEVICE, false, CODE(0xf2, 0x0f, 0xf0, 0x63, 0x05)); /* lddqu xmm4, [rbx+5] */
    expect_loaded(4, 16, 5, 0);
    expect_done(DEVICE, false, CODE(0xf3, 0x0f, 0x7e, 0x2b)); /* movq xmm5: to 16 bytes zeros */
    expect_loaded(5, 8, 0, 16);
    expect_done(DEVICE, false, CODE(0xf3, 0x0f, 0x10, 0x33)); /* movss xmm6 */
    expect_loaded(6, 4, 0, 16);
    expect_done(DEVICE, false, CODE(0x66, 0x48, 0x0f, 0x6e, 0x3b)); /* movq xmm7, qword [rbx] */
    expect_loaded(7, 8, 0, 16);
    expect_done(DEVICE, false, CODE(0x66, 0x0f, 0x38, 0x2a, 0x43, 0x10)); /* movntdqa xmm0 */
    expect_loaded(0, 16, 0x10, 0);
    expect_done(DEVICE, false, CODE(0x0f, 0x12, 0x0b)); /* movlps xmm1: the upper half stays */
    expect_loaded(1, 8, 0, 0);
    expect_done(DEVICE, false, CODE(0x66, 0x44, 0x0f, 0x16, 0x03)); /* movhpd xmm8 */
    assert_int_equal(vector_file.ymm[8].q[0], UINT64_C(0xa8a8a8a8a8a8a8a8));
    assert_int_equal(vector_file.ymm[8].q[1], device_u64(0));
}

static void sse_stores(void **state)
{
    (void)state;
    expect_done(DEVICE, true, CODE(0x44, 0x0f, 0x11, 0x4b, 0x03)); /* movups [rbx+3], xmm9 */
    expect_stored(9, 16, 3);
    assert_int_equal(device->last.size, 8);
    expect_done(DEVICE, true, CODE(0x66, 0x0f, 0xe7, 0x53, 0x20)); /* movntdq [rbx+0x20], xmm2 */
    expect_stored(2, 16, 0x20);
    expect_done(DEVICE, true, CODE(0x66, 0x0f, 0x7e, 0x5b, 0x14)); /* movd [rbx+0x14], xmm3 */
    expect_stored(3, 4, 0x14);
    assert_int_equal(device->last.size, 4);
    expect_done(DEVICE, true, CODE(0x66, 0x0f, 0xd6, 0x23)); /* movq [rbx], xmm4 */
    assert_int_equal(device_u64(0), vector_file.ymm[4].q[0]);
    vector_file.ymm[4].q[1] = 0x1122;
    expect_done(DEVICE, true, CODE(0x0f, 0x17, 0x23)); /* movhps [rbx], xmm4 */
    assert_int_equal(device_u64(0), 0x1122);
    expect_done(DEVICE, true, CODE(0x0f, 0x2b, 0x6b, 0x30)); /* movntps [rbx+0x30], xmm5 */
    assert_memory_equal(device->bytes + 0x30, &vector_file.ymm[5], 16);
}

static void avx_moves(void **state)
{
    (void)state;
    expect_done(DEVICE, false, CODE(0xc5, 0xf8, 0x10, 0x53, 0x01)); /* vmovups xmm2, [rbx+1] */
    expect_loaded(2, 16, 1, 32);
    expect_done(DEVICE, false, CODE(0xc5, 0xfc, 0x10, 0x53, 0x01)); /* vmovups ymm2, [rbx+1] */
    expect_loaded(2, 32, 1, 32);
    expect_done(DEVICE, false, CODE(0xc5, 0x7d, 0x6f, 0x1b)); /* vmovdqa ymm11, [rbx] */
    expect_loaded(11, 32, 0, 32);
    expect_done(DEVICE, false, CODE(0xc5, 0xf9, 0x6e, 0x1b)); /* vmovd xmm3, [rbx] */
    expect_loaded(3, 4, 0, 32);
    expect_done(DEVICE, false, CODE(0xc4, 0xe1, 0xf9, 0x6e, 0x23)); /* vmovq xmm4, qword [rbx] */
    expect_loaded(4, 8, 0, 32);
    expect_done(DEVICE, false, CODE(0xc5, 0xfa, 0x7e, 0x2b)); /* vmovq xmm5, [rbx] */
    expect_loaded(5, 8, 0, 32);
    expect_done(DEVICE, false, CODE(0xc5, 0xfe, 0x10, 0x33)); /* vmovss xmm6: L is ignored */
    expect_loaded(6, 4, 0, 32);
    expect_done(DEVICE, false, CODE(0xc4, 0xe2, 0x7d, 0x2a, 0x3b)); /* vmovntdqa ymm7 */
    expect_loaded(7, 32, 0, 32);
    /* vmovhps xmm0, xmm1, [rbx]: the lower half is another register's. */
    expect_done(DEVICE, false, CODE(0xc5, 0xf0, 0x16, 0x03));
    assert_int_equal(vector_file.ymm[0].q[0], UINT64_C(0xa1a1a1a1a1a1a1a1));
    assert_int_equal(vector_file.ymm[0].q[1], device_u64(0));
    assert_int_equal(vector_file.ymm[0].q[2], 0);
    expect_done(DEVICE, true, CODE(0xc5, 0x7e, 0x7f, 0x43, 0x05)); /* vmovdqu [rbx+5], ymm8 */
    expect_stored(8, 32, 5);
    expect_done(DEVICE, true, CODE(0xc5, 0x7d, 0xe7, 0x53, 0x20)); /* vmovntdq [rbx+0x20], ymm10 */
    assert_memory_equal(device->bytes + 0x20, &vector_file.ymm[10], 32);
    assert_int_equal(device->last.size, 8);
}

/* 32 bytes over the end of a page, to places that are not adjacent. */
static void over_two_pages(void **state)
{
    (void)state;
    guest_entry(f, GUEST_TABLES + 0x2000)[1] = 0x90000 | 7;
    *guest_entry(f, 0x90000) = (DEVICE + 0x2000) | 7;
    *guest_entry(f, 0x90008) = (DEVICE + 0x1000) | 7;
    v->gpr[VMM_RBX] = 0x200ff3;
    for (unsigned i = 0; i < 4; i++) {
        vector_file.ymm[0].q[i] = UINT64_C(0x0101010101010101) * (i + 1);
    }
    expect_done(DEVICE + 0x2ff3, true, CODE(0xc5, 0xfe, 0x7f, 0x03)); /* vmovdqu [rbx], ymm0 */
    assert_memory_equal(device->bytes + 0x2ff3, &vector_file.ymm[0], 13);
    assert_memory_equal(device->bytes + 0x1000, (uint8_t *)&vector_file.ymm[0] + 13, 19);
    expect_done(DEVICE + 0x2ff3, false, CODE(0xc5, 0xfe, 0x6f, 0x0b));
    assert_memory_equal(&vector_file.ymm[1], &vector_file.ymm[0], 32);
    *guest_entry(f, 0x90008) = 0;
    device->writes = 0;
    expect_exception(X86_PF, 2, CODE(0xc5, 0xfe, 0x7f, 0x03));
    assert_int_equal(cr2(), 0x201000);
    assert_int_equal(device->writes, 0);
}

static void mmx_moves(void **state)
{
    (void)state;
    expect_done(DEVICE, false, CODE(0x0f, 0x6f, 0x13)); /* movq mm2, [rbx] */
    assert_int_equal(vector_file.mm[2], device_u64(0));
    expect_done(DEVICE, false, CODE(0x0f, 0x6e, 0x1b)); /* movd mm3, [rbx] */
    assert_int_equal(vector_file.mm[3], (uint32_t)device_u64(0));
    expect_done(DEVICE, false, CODE(0x4c, 0x0f, 0x6e, 0x23)); /* movq mm4: REX.R is ignored */
    assert_int_equal(vector_file.mm[4], device_u64(0));
    vector_file.mm[5] = UINT64_C(0x1234567890abcdef);
    expect_done(DEVICE, true, CODE(0x0f, 0x7e, 0x6b, 0x08)); /* movd [rbx+8], mm5 */
    assert_int_equal(device_u64(8) & UINT32_MAX, 0x90abcdef);
    assert_int_equal(device->bytes[12], 13);
    expect_done(DEVICE, true, CODE(0x0f, 0xe7, 0x2b)); /* movntq [rbx], mm5 */
    assert_int_equal(device_u64(0), vector_file.mm[5]);
    expect_done(DEVICE, true, CODE(0x0f, 0x7f, 0x6b, 0x11)); /* movq [rbx+0x11], mm5 */
    assert_int_equal(device_u64(0x11), vector_file.mm[5]);
    /* What does not happen leaves the x87 stack alone. */
    vector_file.mmx_used = false;
    v->gpr[VMM_RBX] = UINT64_C(0x40000000); /* not mapped */
    expect_exception(X86_PF, 2, CODE(0x0f, 0x7f, 0x2b));
    v->gpr[VMM_RBX] = DEVICE;
    vector_file.x87_waits = true;
    expect_exception(X86_MF, -1, CODE(0x0f, 0x7f, 0x2b));
    assert_false(vector_file.mmx_used);
    expect_done(DEVICE, true, CODE(0x0f, 0x11, 0x03)); /* SSE does not care */
}

static void alignment(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE + 8;
    expect_exception(X86_GP, 0, CODE(0x0f, 0x28, 0x03));             /* movaps */
    expect_exception(X86_GP, 0, CODE(0x66, 0x0f, 0x7f, 0x03));       /* movdqa */
    expect_exception(X86_GP, 0, CODE(0x66, 0x0f, 0x38, 0x2a, 0x03)); /* movntdqa */
    v->gpr[VMM_RBX] = DEVICE + 16;
    expect_done(DEVICE + 16, false, CODE(0xc5, 0xf8, 0x28, 0x03)); /* vmovaps xmm0 */
    expect_exception(X86_GP, 0, CODE(0xc5, 0xfc, 0x28, 0x03));     /* vmovaps ymm0 */
    expect_exception(X86_GP, 0, CODE(0xc5, 0xfc, 0x2b, 0x03));     /* vmovntps ymm0 */
    expect_done(DEVICE + 16, false, CODE(0xc5, 0xfc, 0x10, 0x03)); /* vmovups ymm0 */
}

/* In the order of priority: the mode, TS, then the address. */
static void what_the_mode_refuses(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE + 1;
    *cr0 |= CR0_TS;
    expect_exception(X86_NM, -1, CODE(0x0f, 0x28, 0x03));       /* movaps */
    expect_exception(X86_NM, -1, CODE(0x0f, 0x6f, 0x03));       /* movq mm0 */
    expect_exception(X86_NM, -1, CODE(0xc5, 0xf8, 0x28, 0x03)); /* vmovaps */
    expect_exception(X86_NM, -1, CODE(0x0f, 0xae, 0x1b));       /* stmxcsr */
    *cr0 |= CR0_EM;
    expect_exception(X86_UD, -1, CODE(0x0f, 0x28, 0x03));
    expect_exception(X86_UD, -1, CODE(0x0f, 0x6f, 0x03));
    expect_exception(X86_NM, -1, CODE(0xc5, 0xf8, 0x28, 0x03)); /* EM is not asked */
    *cr0 &= ~(CR0_TS | CR0_EM);
    *cr4 &= ~CR4_ALL;
    expect_exception(X86_UD, -1, CODE(0x0f, 0x28, 0x03));
    expect_exception(X86_UD, -1, CODE(0xc5, 0xf8, 0x28, 0x03));
    expect_done(DEVICE + 1, false, CODE(0x0f, 0x6f, 0x03));
    *cr4 |= CR4_ALL;
    v->xcr0 &= ~X86_XCR0_AVX;
    expect_exception(X86_UD, -1, CODE(0xc5, 0xf8, 0x28, 0x03));
    expect_exception(X86_GP, 0, CODE(0x0f, 0x28, 0x03));
}

static void wrong_vex(void **state)
{
    (void)state;
    expect_exception(X86_UD, -1, CODE(0xc5, 0xf0, 0x10, 0x03));       /* vvvv in vmovups */
    expect_exception(X86_UD, -1, CODE(0xc5, 0xfd, 0x6e, 0x03));       /* vmovd with L */
    expect_exception(X86_UD, -1, CODE(0xc5, 0xfc, 0x16, 0x03));       /* vmovhps with L */
    expect_exception(X86_UD, -1, CODE(0xc5, 0xf8, 0x6f, 0x03));       /* no VEX of MMX */
    expect_exception(X86_UD, -1, CODE(0x66, 0xc5, 0xf8, 0x10, 0x03)); /* 66 before it */
    expect_exception(X86_UD, -1, CODE(0x48, 0xc5, 0xf8, 0x10, 0x03)); /* REX before it */
    expect_exception(X86_UD, -1, CODE(0xf0, 0xc5, 0xf8, 0x10, 0x03)); /* LOCK before it */
    guest_set_mode(f, GUEST_REAL);
    *cr4 |= CR4_ALL;
    v->gpr[VMM_RBX] = 0;
    mock_vcpu(v)->segment[VMM_SEG_DS].base = DEVICE;
    expect_exception(X86_UD, -1, CODE(0xc5, 0xf8, 0x10, 0x07));
    expect_done(DEVICE, false, CODE(0x0f, 0x10, 0x07)); /* SSE is fine there */
    expect_loaded(0, 16, 0, 0);
}

/* VEX in 32-bit code, where the same bytes with a memory operand are LDS. */
static void avx_in_32_bit_code(void **state)
{
    (void)state;
    guest_set_mode(f, GUEST_PROTECTED_32);
    *cr4 |= CR4_ALL;
    v->gpr[VMM_RBX] = DEVICE;
    expect_done(DEVICE, false, CODE(0xc5, 0xfc, 0x10, 0x13)); /* vmovups ymm2, [ebx] */
    expect_loaded(2, 32, 0, 32);
    expect_done(DEVICE, false, CODE(0xc4, 0xe1, 0xf9, 0x6e, 0x1b)); /* vmovd: W is ignored */
    expect_loaded(3, 4, 0, 32);
}

static void mxcsr(void **state)
{
    uint32_t value = 0x9fc0;

    (void)state;
    expect_done(DEVICE, true, CODE(0x0f, 0xae, 0x1b)); /* stmxcsr [rbx] */
    assert_int_equal(device_u64(0) & UINT32_MAX, 0x1f80);
    memcpy(device->bytes, &value, 4);
    expect_done(DEVICE, false, CODE(0x0f, 0xae, 0x13)); /* ldmxcsr [rbx] */
    assert_int_equal(vector_file.mxcsr, value);
    memset(device->bytes, 0xff, 4);
    expect_exception(X86_GP, 0, CODE(0x0f, 0xae, 0x13));
    assert_int_equal(vector_file.mxcsr, value);
    expect_done(DEVICE, true, CODE(0xc5, 0xf8, 0xae, 0x1b)); /* vstmxcsr */
    assert_int_equal(device_u64(0) & UINT32_MAX, value);
    expect_exception(X86_UD, -1, CODE(0xc5, 0xfc, 0xae, 0x1b)); /* with L */
}

static void other_vex_is_refused(void **state)
{
    (void)state;
    /* vpaddb ymm0, ymm1, [rbx] */
    assert_int_equal(emulate(DEVICE, false, CODE(0xc5, 0xf5, 0xfc, 0x03)), VMM_LEAVE);
    assert_int_equal(f->vm->reason, VM_REASON_EMULATION);
    assert_non_null(strstr(posix_host_log(f->host), "vpaddb"));
}

#define AVX_TEST(fn) cmocka_unit_test_setup_teardown(fn, with_avx, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AVX_TEST(sse_loads),
        AVX_TEST(sse_stores),
        AVX_TEST(avx_moves),
        AVX_TEST(over_two_pages),
        AVX_TEST(mmx_moves),
        AVX_TEST(alignment),
        AVX_TEST(what_the_mode_refuses),
        AVX_TEST(wrong_vex),
        AVX_TEST(avx_in_32_bit_code),
        AVX_TEST(mxcsr),
        AVX_TEST(other_vex_is_refused),
    };

    return cmocka_run_group_tests_name("emulate_vector", tests, NULL, NULL);
}
