/* The emulator's corners: faults, restart, odd sizes, what it refuses. That results and flags are
 * the processor's is test_native.c's matter. */
#include "emulation.h"

#include <stdlib.h>

/* --- sizes and splitting -------------------------------------------------------------------------
 */

static void one_access_of_the_operand_size(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE + 0x10;
    v->gpr[VMM_RCX] = 0x1122334455667788;
    expect_done(DEVICE + 0x10, true, CODE(0x48, 0x89, 0x0b));
    assert_int_equal(device->writes, 1);
    assert_int_equal(device->last.size, 8);
    assert_int_equal(device->last.offset, 0x10);
    assert_int_equal(device->last.value, 0x1122334455667788);
    assert_ptr_equal(device->last.vcpu, v);
    expect_done(DEVICE + 0x10, true, CODE(0x66, 0x89, 0x0b));
    assert_int_equal(device->last.size, 2);
    assert_int_equal(device->last.value, 0x7788);
    expect_done(DEVICE + 0x10, false, CODE(0x8a, 0x0b));
    assert_int_equal(device->last.size, 1);
    assert_int_equal(device->reads, 1);
}

static void operand_across_two_pages(void **state)
{
    (void)state;
    /* 4 KiB pages for the device: linear 0x200000 and 0x201000 to places that are not adjacent. */
    uint64_t *pd = guest_entry(f, GUEST_TABLES + 0x2000);

    pd[1] = 0x90000 | 7;
    *guest_entry(f, 0x90000) = (DEVICE + 0x2000) | 7;
    *guest_entry(f, 0x90008) = (DEVICE + 0x1000) | 7;
    v->gpr[VMM_RBX] = 0x200ffd;
    v->gpr[VMM_RCX] = 0x1122334455667788;
    expect_done(DEVICE + 0x2ffd, true, CODE(0x48, 0x89, 0x0b));
    assert_memory_equal(device->bytes + 0x2ffd, "\x88\x77\x66", 3);
    assert_memory_equal(device->bytes + 0x1000, "\x55\x44\x33\x22\x11", 5);
    memset(&v->gpr[VMM_RCX], 0, 8);
    expect_done(DEVICE + 0x2ffd, false, CODE(0x48, 0x8b, 0x0b));
    assert_int_equal(v->gpr[VMM_RCX], 0x1122334455667788);

    /* The second page is not there: nothing is written, and the address is the second page's. */
    device->writes = 0;
    *guest_entry(f, 0x90008) = 0;
    expect_exception(X86_PF, 2, CODE(0x48, 0x89, 0x0b));
    assert_int_equal(cr2(), 0x201000);
    assert_int_equal(device->writes, 0);
}

static void instruction_across_two_pages(void **state)
{
    static const uint8_t code[] = {0xc7, 0x83, 0x10, 0, 0, 0, 1, 2, 3, 4};
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault,
                         .fault = {.gpa = {DEVICE + 0x10}, .write = true}};

    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    for (unsigned before = 1; before < sizeof(code); before++) {
        v->rip = 0x2000 - before;
        guest_set_code(f, code, sizeof(code));
        memset(device->bytes, 0, 0x20);
        assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
        assert_int_equal(v->rip, 0x2000 - before + sizeof(code));
        assert_int_equal(device_u64(0x10), 0x04030201);
    }
    /* The rest of the instruction lies on a page that is not there. */
    v->rip = 0x2000 - 4;
    guest_set_code(f, code, sizeof(code));
    *guest_entry(f, GUEST_TABLES + 0x2000) = 0x90000 | 7;
    *guest_entry(f, 0x90000 + 8) = 0x1000 | 7;
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_int_equal(v->event.vector, X86_PF);
    assert_int_equal(v->event.error, 0); /* I/D is reported with NX or SMEP only */
    assert_int_equal(cr2(), 0x2000);
    assert_int_equal(v->rip, 0x2000 - 4);
    /* An instruction that ends with the page does not touch the next one. */
    v->event.valid = false;
    memcpy(vmm_memory_ptr_write(f->vm, VMM_GPA(0x1ffe), 2), "\x89\x0b", 2);
    v->rip = 0x1ffe;
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x2000);
}

/* --- faults
 * ---------------------------------------------------------------------------------------- */

static void page_faults(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = UINT64_C(0x40000000); /* beyond the mapped first GiB */
    v->gpr[VMM_RSI] = DEVICE;
    v->gpr[VMM_RDI] = UINT64_C(0x40000000);
    expect_exception(X86_PF, 2, CODE(0xa4)); /* movsb to there */
    assert_int_equal(cr2(), 0x40000000);
    assert_int_equal(device->reads, 0); /* what cannot be stored is not read */
    guest_identity_map(f, 0x1);         /* read-only */
    v->gpr[VMM_RDI] = DEVICE;
    mock_vcpu(v)->sysreg[VMM_CR0] |= 1 << 16;
    expect_exception(X86_PF, 3, CODE(0xa4));
    guest_identity_map(f, 0x3);
    guest_set_cpl(f, 3);
    /* The fetch itself is refused for supervisor pages. */
    expect_exception(X86_PF, 5, CODE(0xa4));
    assert_int_equal(cr2(), 0x1000);
}

/* The read of a read-modify-write must not reach the device when the write will be refused. */
static void modify_needs_write_permission_first(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault, .fault = {.gpa = {DEVICE}}};

    (void)state;
    guest_identity_map(f, 0x1);
    mock_vcpu(v)->sysreg[VMM_CR0] |= 1 << 16;
    v->gpr[VMM_RBX] = DEVICE;
    guest_set_code(f, CODE(0x83, 0x0b, 0x01)); /* or dword [rbx], 1 */
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_int_equal(v->event.vector, X86_PF);
    assert_int_equal(v->event.error, 3);
    assert_int_equal(device->reads, 0);
}

static void non_canonical_addresses(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = UINT64_C(0x800000000000);
    expect_exception(X86_GP, 0, CODE(0xaa));
    v->gpr[VMM_RDI] = UINT64_C(0x7ffffffffffe); /* the operand's end is beyond */
    expect_exception(X86_GP, 0, CODE(0xab));
    v->gpr[VMM_RSP] = UINT64_C(0x800000000008);
    v->gpr[VMM_RBX] = DEVICE;
    expect_exception(X86_SS, 0, CODE(0xff, 0x33)); /* push qword [rbx] */
}

static void wrong_encodings(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    expect_exception(X86_UD, -1, CODE(0xf0, 0x89, 0x0b));       /* lock mov */
    expect_exception(X86_UD, -1, CODE(0xf0, 0x8b, 0x0b));       /* lock mov reg, mem */
    expect_exception(X86_UD, -1, CODE(0xf0, 0x01, 0xcb));       /* lock add reg, reg */
    expect_exception(X86_UD, -1, CODE(0xf0, 0x39, 0x0b));       /* lock cmp */
    expect_exception(X86_UD, -1, CODE(0xf0, 0x0f, 0xa3, 0x0b)); /* lock bt */
    expect_exception(X86_UD, -1, CODE(0x0f, 0x04, 0x0b));
    expect_exception(X86_UD, -1, CODE(0x06)); /* push es */
    expect_exception(X86_GP, 0,
                     CODE(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                          0x66, 0x66, 0x89, 0x0b));
}

static void cannot_be_emulated(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    assert_int_equal(emulate(DEVICE, true, CODE(0x0f, 0xae, 0x03)), VMM_LEAVE); /* fxsave */
    assert_int_equal(f->vm->reason, VM_REASON_EMULATION);
    assert_non_null(strstr(posix_host_log(f->host), "0f ae 03"));
}

/* --- division ------------------------------------------------------------------------------------
 */

static int64_t extended(uint64_t value, unsigned size)
{
    return (int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

/* Against the compiler's, where dividends fit it. */
static void division_is_exact(void **state)
{
    unsigned done = 0;

    (void)state;
    srandom(1);
    for (unsigned n = 0; n < 200000; n++) {
        unsigned size = 1u << (n % 3);
        uint64_t mask = emu_mask(size);
        uint64_t dividend = (uint64_t)random() << 32 ^ (uint64_t)random() << 1;
        uint64_t by = (uint64_t)random() >> random() % 31 & mask;
        struct alu_pair pair = {dividend & mask, dividend >> 8 * size & mask}, out;

        dividend = extended(pair.high << 8 * size | pair.low, size * 2) & emu_mask(size * 2);
        if (by == 0) {
            assert_false(alu_divide(n % 2 != 0, &pair, by, size, &out));
        } else if (n % 2 == 0) {
            bool fits = dividend / by <= mask;

            assert_int_equal(alu_divide(false, &pair, by, size, &out), fits);
            assert_true(!fits || (out.low == dividend / by && out.high == dividend % by));
            done += fits;
        } else {
            int64_t a = extended(dividend, size * 2), b = extended(by, size);
            bool fits = !(a == INT64_MIN && b == -1) && extended((uint64_t)(a / b), size) == a / b;

            assert_int_equal(alu_divide(true, &pair, by, size, &out), fits);
            assert_true(!fits ||
                        (extended(out.low, size) == a / b && extended(out.high, size) == a % b));
            done += fits;
        }
    }
    assert_true(done > 10000);
}

static void division_by_device_memory(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    memcpy(device->bytes, "\7\0\0\0\0\0\0", 8);
    v->gpr[VMM_RAX] = UINT64_MAX;
    v->gpr[VMM_RDX] = 6;
    expect_done(DEVICE, false, CODE(0x48, 0xf7, 0x33)); /* div qword [rbx] */
    assert_int_equal(v->gpr[VMM_RAX], UINT64_MAX);      /* (7 * 2^64 - 1) / 7 */
    assert_int_equal(v->gpr[VMM_RDX], 6);
    v->gpr[VMM_RAX] = 0x1234ff9c;                  /* AX = -100 */
    expect_done(DEVICE, false, CODE(0xf6, 0x3b));  /* idiv byte [rbx] */
    assert_int_equal(v->gpr[VMM_RAX], 0x1234fef2); /* -14, -2 */
    v->gpr[VMM_RDX] = 7;
    expect_exception(X86_DE, -1, CODE(0x48, 0xf7, 0x33)); /* no room for the quotient */
    device->bytes[0] = 0;
    expect_exception(X86_DE, -1, CODE(0xf6, 0x33));
}

/* --- string instructions -------------------------------------------------------------------------
 */

static void long_repetitions_give_turns(void **state)
{
    unsigned exits = 1;

    (void)state;
    v->gpr[VMM_RDI] = DEVICE;
    v->gpr[VMM_RCX] = 0x2800;
    v->gpr[VMM_RAX] = 0x5a;
    v->rip = 0x1000;
    for (;; exits++) {
        assert_int_equal(emulate(v->gpr[VMM_RDI], true, CODE(0xf3, 0xaa)), VMM_CONTINUE);
        assert_int_equal(v->gpr[VMM_RDI] - DEVICE, 0x2800 - v->gpr[VMM_RCX]);
        if (v->rip != 0x1000) {
            break;
        }
        assert_true(v->gpr[VMM_RCX] != 0);
    }
    assert_in_range(exits, 2, 0x2800);
    assert_int_equal(v->rip, 0x1002);
    assert_int_equal(v->gpr[VMM_RCX], 0);
    for (unsigned i = 0; i < 0x2800; i++) {
        assert_int_equal(device->bytes[i], 0x5a);
    }
    assert_int_equal(device->bytes[0x2800], 0);
}

static void repetition_faults_in_the_middle(void **state)
{
    uint64_t *pd = guest_entry(f, GUEST_TABLES + 0x2000);

    (void)state;
    pd[1] = 0x90000 | 7;
    *guest_entry(f, 0x90000) = 0x40000 | 7; /* linear 0x200000: RAM; 0x201000: nothing */
    v->gpr[VMM_RSI] = DEVICE;
    v->gpr[VMM_RDI] = 0x200ff6;
    v->gpr[VMM_RCX] = 8;
    v->rip = 0x1000;
    memcpy(device->bytes, "0123456789abcdef", 16);
    assert_int_equal(emulate(DEVICE, false, CODE(0xf3, 0x66, 0xa5)), VMM_CONTINUE);
    assert_int_equal(v->event.vector, X86_PF);
    assert_int_equal(cr2(), 0x201000);
    assert_int_equal(v->gpr[VMM_RCX], 3); /* five words are done */
    assert_int_equal(v->gpr[VMM_RSI], DEVICE + 10);
    assert_int_equal(v->gpr[VMM_RDI], 0x201000);
    assert_int_equal(v->rip, 0x1000);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x40ff6), 10), "0123456789", 10);
    assert_int_equal(device->reads, 5);
    /* The guest maps the page and comes back for the rest. */
    *guest_entry(f, 0x90008) = 0x60000 | 7;
    assert_int_equal(emulate(DEVICE + 10, false, CODE(0xf3, 0x66, 0xa5)), VMM_CONTINUE);
    assert_int_equal(v->rip, 0x1003);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x60000), 6), "abcdef", 6);
}

/* A debugger steps through a repetition one iteration at a time. */
static void repetitions_are_stepped_through(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = DEVICE;
    v->gpr[VMM_RCX] = 2;
    v->rip = 0x1000;
    v->rflags |= X86_RFLAGS_TF;
    for (unsigned left = 2; left-- > 0;) {
        assert_int_equal(emulate(v->gpr[VMM_RDI], true, CODE(0xf3, 0xaa)), VMM_CONTINUE);
        assert_int_equal(v->gpr[VMM_RCX], left);
        assert_int_equal(v->rip, left == 0 ? 0x1002 : 0x1000);
        assert_true(v->event.valid);
        assert_int_equal(v->event.vector, X86_DB);
        assert_int_equal(mock_vcpu(v)->sysreg[VMM_DR6] & X86_DR6_BS, X86_DR6_BS);
    }
}

static void string_registers_have_the_address_size(void **state)
{
    (void)state;
    v->gpr[VMM_RDI] = UINT64_C(0xffffffff00000000) + DEVICE;
    v->gpr[VMM_RCX] = UINT64_C(0xffffffff00000002);
    expect_done(DEVICE, true, CODE(0xf3, 0x67, 0xaa)); /* 32-bit addresses in 64-bit mode */
    assert_int_equal(v->gpr[VMM_RDI], DEVICE + 2);
    assert_int_equal(v->gpr[VMM_RCX], 0);

    guest_set_mode(f, GUEST_REAL);
    mock_vcpu(v)->segment[VMM_SEG_ES].base = DEVICE;
    v->gpr[VMM_RDI] = 0x1234fffe;
    v->gpr[VMM_RCX] = 0x56780003;
    v->gpr[VMM_RAX] = 0x77;
    expect_done(DEVICE + 0xfffe, true, CODE(0xf3, 0xaa)); /* wraps within 16 bits */
    assert_int_equal(v->gpr[VMM_RDI], 0x12340001);
    assert_int_equal(v->gpr[VMM_RCX], 0x56780000);
    assert_int_equal(device->bytes[0], 0x77);
}

/* --- others --------------------------------------------------------------------------------------
 */

static void hints_do_nothing(void **state)
{
    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    expect_done(DEVICE, false, CODE(0x0f, 0x18, 0x0b));       /* prefetcht0 */
    expect_done(DEVICE, false, CODE(0x0f, 0xae, 0x3b));       /* clflush */
    expect_done(DEVICE, false, CODE(0x66, 0x0f, 0xae, 0x3b)); /* clflushopt */
    assert_int_equal(device->reads + device->writes, 0);
}

static void rom_keeps_its_bytes(void **state)
{
    uint64_t rom = VMM_MIB(16);
    uint8_t *bytes;

    (void)state;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(rom), 0x1000, VMM_REGION_ROM), 0);
    bytes = vmm_memory_ptr_write(f->vm, VMM_GPA(rom), 0x1000);
    bytes[0] = 0x40;
    v->gpr[VMM_RBX] = rom;
    v->gpr[VMM_RCX] = 0xff;
    expect_done(rom, true, CODE(0x88, 0x0b));
    assert_int_equal(bytes[0], 0x40);
    expect_done(rom, true, CODE(0x80, 0x0b, 0x01)); /* or: the flags come from what is there */
    assert_int_equal(bytes[0], 0x40);
    assert_int_equal(v->rflags & (RFLAGS_SF | RFLAGS_ZF), 0);
    v->gpr[VMM_RDI] = rom;
    expect_done(rom, true, CODE(0xaa));
    assert_int_equal(bytes[0], 0x40);
}

static void changed_code_is_decoded_again(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault, .fault = {.gpa = {DEVICE}, .write = true}};

    (void)state;
    v->gpr[VMM_RBX] = DEVICE;
    v->gpr[VMM_RCX] = 0x11;
    v->gpr[VMM_RDX] = 0x22;
    expect_done(DEVICE, true, CODE(0x88, 0x0b));
    expect_done(DEVICE, true, CODE(0x88, 0x0b));
    assert_int_equal(device->bytes[0], 0x11);
    expect_done(DEVICE, true, CODE(0x88, 0x13)); /* dl instead of cl, at the same place */
    assert_int_equal(device->bytes[0], 0x22);
    /* The same bytes in another mode are another instruction. */
    guest_set_mode(f, GUEST_PROTECTED_32);
    guest_set_code(f, CODE(0x89, 0x0b));
    v->gpr[VMM_RBX] = DEVICE;
    v->gpr[VMM_RCX] = 0x11111111;
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_int_equal(device->last.size, 4);
    v->rip = 0x1000;
    mock_vcpu(v)->segment[VMM_SEG_CS].attributes = 0x9b;
    guest_set_code(f, CODE(0x89, 0x0f));
    mock_vcpu(v)->segment[VMM_SEG_DS].base = DEVICE;
    mock_vcpu(v)->segment[VMM_SEG_DS].limit = 0xffffffff;
    v->gpr[VMM_RBX] = 0;
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_int_equal(device->last.size, 2);
}

static void bytes_of_the_exit_are_used(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault,
                         .insn_count = 15,
                         .insn = {0x88, 0x0b},
                         .fault = {.gpa = {DEVICE}, .write = true}};

    (void)state;
    /* The code itself is not mapped: only the exit knows it. */
    v->rip = UINT64_C(0x7f0000000000);
    v->gpr[VMM_RBX] = DEVICE;
    v->gpr[VMM_RCX] = 0x66;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
        assert_false(v->event.valid);
        assert_int_equal(v->rip, UINT64_C(0x7f0000000002));
        v->rip -= 2;
    }
    assert_int_equal(device->bytes[0], 0x66);
}

/* Random bytes, registers and modes: whatever comes, no sanitizer complains and nothing hangs. */
static void random_code(void **state)
{
    (void)state;
    srandom(7);
    for (unsigned n = 0; n < 60000; n++) {
        uint8_t code[16];

        if (n % 64 == 0) {
            guest_set_mode(f, (enum guest_mode)(random() % 4));
            mock_vcpu(v)->segment[VMM_SEG_DS].base = random() % 2 == 0 ? DEVICE : 0;
        }
        for (unsigned i = 0; i < sizeof(code); i++) {
            code[i] = (uint8_t)random();
        }
        if (random() % 2 == 0) {
            code[0] = (uint8_t)((code[0] & 3) | 0x88);
        } else if (random() % 2 == 0) {
            code[0] = 0x0f;
        }
        for (unsigned i = 0; i < 16; i++) {
            v->gpr[i] = random() % 2 == 0 ? DEVICE + (uint64_t)(random() % TEST_DEVICE_SIZE)
                                          : (uint64_t)random() % VMM_MIB(8);
        }
        v->rip = 0x1000;
        v->rflags = 2 | ((uint64_t)random() & 0xcd5);
        f->vm->ending = 0;
        posix_host_clear_log(f->host);
        emulate(DEVICE + (uint64_t)(random() % TEST_DEVICE_SIZE), random() % 2 == 0, code,
                sizeof(code));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_access_of_the_operand_size),
        TEST(operand_across_two_pages),
        TEST(instruction_across_two_pages),
        TEST(page_faults),
        TEST(modify_needs_write_permission_first),
        TEST(non_canonical_addresses),
        TEST(wrong_encodings),
        TEST(cannot_be_emulated),
        TEST(division_is_exact),
        TEST(division_by_device_memory),
        TEST(long_repetitions_give_turns),
        TEST(repetition_faults_in_the_middle),
        TEST(repetitions_are_stepped_through),
        TEST(string_registers_have_the_address_size),
        TEST(hints_do_nothing),
        TEST(rom_keeps_its_bytes),
        TEST(changed_code_is_decoded_again),
        TEST(bytes_of_the_exit_are_used),
        TEST(random_code),
    };

    return cmocka_run_group_tests_name("emulate", tests, NULL, NULL);
}
