/* Lengths of instructions, register accesses, and what happens when there is no code. */
#include "guest_cpu.h"

#include <string.h>
#include "core/decode.h"

static struct fixture *f;
static struct vcpu *v;

static int setup(void **state)
{
    (void)state;
    f = fixture_create(VMM_MIB(8), 1);
    v = f->vcpu;
    guest_set_mode(f, GUEST_LONG);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

#define CODE(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void expect_length(const uint8_t *code, size_t length)
{
    guest_set_code(f, code, length);
    assert_int_equal(vmm_decode_length(v), length);
    assert_int_equal(vmm_decode_length(v), length); /* from the cache */
    assert_false(v->event.valid);
}

static void lengths_of_what_exits(void **state)
{
    (void)state;
    expect_length(CODE(0x0f, 0xa2));       /* cpuid */
    expect_length(CODE(0x66, 0x0f, 0xa2)); /* with a prefix that means nothing */
    expect_length(CODE(0x48, 0x0f, 0xa2));
    expect_length(CODE(0x0f, 0x32));             /* rdmsr */
    expect_length(CODE(0x0f, 0x30));             /* wrmsr */
    expect_length(CODE(0xf4));                   /* hlt */
    expect_length(CODE(0x0f, 0x01, 0xd9));       /* vmmcall */
    expect_length(CODE(0x0f, 0x01, 0xc1));       /* vmcall */
    expect_length(CODE(0x0f, 0x09));             /* wbinvd */
    expect_length(CODE(0xf3, 0x0f, 0x09));       /* wbnoinvd */
    expect_length(CODE(0x0f, 0x08));             /* invd */
    expect_length(CODE(0x0f, 0x01, 0xd1));       /* xsetbv */
    expect_length(CODE(0x0f, 0x01, 0xc8));       /* monitor */
    expect_length(CODE(0x0f, 0x01, 0xc9));       /* mwait */
    expect_length(CODE(0xf3, 0x90));             /* pause */
    expect_length(CODE(0x0f, 0x33));             /* rdpmc */
    expect_length(CODE(0x0f, 0x22, 0xd8));       /* mov cr3, rax */
    expect_length(CODE(0x44, 0x0f, 0x22, 0xc0)); /* mov cr8, rax */
    expect_length(CODE(0x0f, 0x23, 0xf8));       /* mov dr7, rax */
    expect_length(CODE(0x0f, 0x06));             /* clts */
    expect_length(CODE(0x0f, 0x01, 0x30));       /* lmsw [rax] */
    expect_length(CODE(0xe4, 0x70));             /* in al, imm8 */
    expect_length(CODE(0x66, 0xed));             /* in ax, dx */
    expect_length(CODE(0xf3, 0x67, 0x66, 0x6f)); /* rep outsw */
    expect_length(CODE(0x0f, 0x01, 0xd8));       /* vmrun */
    expect_length(CODE(0x0f, 0x01, 0xde));       /* skinit */
    expect_length(CODE(0xcd, 0x80));             /* int */
    expect_length(CODE(0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8));
    expect_length(CODE(0xf0, 0x48, 0x81, 0x84, 0xc8, 1, 2, 3, 4, 5, 6, 7, 8));
    guest_set_mode(f, GUEST_REAL);
    expect_length(CODE(0x66, 0x67, 0xc7, 0x84, 0x88, 1, 2, 3, 4, 5, 6, 7, 8));
    expect_length(CODE(0xc7, 0x86, 1, 2, 3, 4));
    guest_set_mode(f, GUEST_PROTECTED_32);
    expect_length(CODE(0xea, 1, 2, 3, 4, 5, 6));
}

/* The short way of decoding moves must say what Zydis says, or that it does not know. */
static void simple_moves_decode_alike(void **state)
{
    static const uint8_t opcode_table[] = {0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xb6, 0xb7,
                                           0xbe, 0xbf, 0x87, 0x8c, 0xc5, 0xc8, 0x03, 0xa3};
    static const uint8_t sib_table[] = {0x00, 0x25, 0x65, 0x64, 0x8d, 0xe5, 0xff, 0x5c};
    unsigned agreed = 0;

    (void)state;
    for (unsigned n = 0; n < 2 * 17 * 2 * 16 * 256 * 8; n++) {
        unsigned rest = n;
        bool opsize = rest % 2 != 0;
        unsigned rex = (rest /= 2) % 17;
        bool map_0f = (rest /= 17) % 2 != 0;
        uint8_t opcode = opcode_table[(rest /= 2) % 16];
        uint8_t modrm = (uint8_t)(rest /= 16);
        uint8_t code[16] = {0};
        unsigned at = 0, available = n % 7 == 0 ? n % 16 : 15;
        struct insn simple = {.mode = 8}, any = {.mode = 8};

        if (n % 3 == 0) {
            code[at++] = 0x67;
        }
        if (opsize) {
            code[at++] = 0x66;
        }
        if (rex != 16) {
            code[at++] = (uint8_t)(0x40 + rex);
        }
        if (map_0f) {
            code[at++] = 0x0f;
        }
        code[at++] = opcode;
        code[at++] = modrm;
        code[at++] = sib_table[rest / 256 % 8];
        for (; at < sizeof(code); at++) {
            code[at] = (uint8_t)(0xf1 - at * 29);
        }
        memcpy(simple.bytes, code, 15);
        memcpy(any.bytes, code, 15);
        if (decode_parse(&simple, available, true) == PARSE_OK) {
            assert_int_equal(decode_parse(&any, available, false), PARSE_OK);
            assert_memory_equal(&simple, &any, sizeof(simple));
            agreed++;
        }
    }
    assert_true(agreed > 100000);
}

static void no_code_no_length(void **state)
{
    (void)state;
    v->rip = 0x40000000;
    assert_int_equal(vmm_decode_length(v), 0);
    assert_int_equal(v->event.vector, 14);
    assert_int_equal(mock_vcpu(v)->sysreg[VMM_CR2], 0x40000000);
    v->event.valid = false;
    v->rip = VMM_MIB(16); /* mapped, but not RAM */
    assert_int_equal(vmm_decode_length(v), 0);
    assert_true(v->event.valid);
}

static void known_instructions_by_their_prefixes(void **state)
{
    uint8_t endless[VMM_INSN_MAX + 1];

    (void)state;
    guest_set_code(f, CODE(0x0f, 0xa2));
    assert_int_equal(vmm_known_length(v, 2), 2);
    guest_set_code(f, CODE(0x66, 0xf3, 0x2e, 0x48, 0x0f, 0x01, 0xd9)); /* no decoder takes that */
    assert_int_equal(vmm_known_length(v, 3), 7);
    guest_set_code(f, CODE(0xf3, 0xf4));
    assert_int_equal(vmm_halt_length(v), 2);
    guest_set_code(f, CODE(0xf3, 0x90));
    assert_int_equal(vmm_halt_length(v), 0);

    memset(endless, 0x66, sizeof(endless));
    guest_set_code(f, endless, sizeof(endless));
    assert_int_equal(vmm_halt_length(v), 0);
    assert_false(v->event.valid);
    assert_int_equal(vmm_known_length(v, 2), 0); /* as a processor would refuse it */
    assert_int_equal(v->event.vector, 13);
    v->event.valid = false;

    guest_set_mode(f, GUEST_PROTECTED_32);
    guest_set_code(f, CODE(0x66, 0x40, 0xf4)); /* INC there, no prefix */
    assert_int_equal(vmm_halt_length(v), 0);
    guest_set_code(f, CODE(0x67, 0x0f, 0xa2));
    assert_int_equal(vmm_known_length(v, 2), 3);
}

static void remembered_lengths_hold_while_nothing_changes(void **state)
{
    const uint64_t cr3 = mock_vcpu(v)->sysreg[VMM_CR3];
    uint64_t *entry = guest_entry(f, GUEST_TABLES + 0x2000);
    uint8_t length = 0;

    (void)state;
    guest_set_code(f, CODE(0x66, 0x0f, 0xa2));
    assert_false(length_remembered(v, cr3, &length));
    assert_int_equal(vmm_known_length(v, 2), 3);
    assert_true(length_remembered(v, cr3, &length));
    assert_int_equal(length, 3);
    assert_false(length_remembered(v, cr3 + VMM_PAGE_SIZE, &length));

    guest_set_code(f, CODE(0x66, 0x66, 0x0f, 0xa2)); /* the code has changed */
    assert_false(length_remembered(v, cr3, &length));
    assert_int_equal(vmm_known_length(v, 2), 4);
    assert_true(length_remembered(v, cr3, &length));

    *entry ^= VMM_MIB(2); /* the page has */
    assert_false(length_remembered(v, cr3, &length));
    *entry ^= VMM_MIB(2);
    assert_true(length_remembered(v, cr3, &length));

    vmm_decode_flush(v); /* the host's memory has */
    assert_false(length_remembered(v, cr3, &length));

    v->rip = 2 * VMM_PAGE_SIZE - 2; /* not on one page */
    guest_set_code(f, CODE(0x66, 0x0f, 0xa2));
    assert_int_equal(vmm_known_length(v, 2), 3);
    assert_false(length_remembered(v, cr3, &length));
}

static void expect_register(enum vmm_exit_kind kind, const uint8_t *code, size_t length, bool write,
                            uint8_t number, uint8_t gpr)
{
    struct vmm_exit e = {.kind = kind};

    guest_set_code(f, code, length);
    assert_int_equal(vmm_decode_reg_access(v, &e), 0);
    assert_int_equal(e.insn_length, length);
    assert_int_equal(e.reg.write, write);
    assert_int_equal(e.reg.number, number);
    assert_true(e.reg.gpr_valid);
    assert_false(e.reg.value_valid);
    assert_int_equal(e.reg.gpr, gpr);
}

static void moves_of_control_and_debug_registers(void **state)
{
    (void)state;
    expect_register(VMM_EXIT_cr_access, CODE(0x0f, 0x22, 0xc0), true, 0, VMM_RAX);
    expect_register(VMM_EXIT_cr_access, CODE(0x0f, 0x20, 0xd9), false, 3, VMM_RCX);
    expect_register(VMM_EXIT_cr_access, CODE(0x41, 0x0f, 0x22, 0xe7), true, 4, VMM_R15);
    expect_register(VMM_EXIT_cr_access, CODE(0x44, 0x0f, 0x20, 0xc2), false, 8, VMM_RDX);
    expect_register(VMM_EXIT_cr_access, CODE(0x45, 0x0f, 0x22, 0xc1), true, 8, VMM_R9);
    expect_register(VMM_EXIT_dr_access, CODE(0x0f, 0x23, 0xfe), true, 7, VMM_RSI);
    expect_register(VMM_EXIT_dr_access, CODE(0x41, 0x0f, 0x21, 0xf4), false, 6, VMM_R12);
    expect_register(VMM_EXIT_cr_access, CODE(0x0f, 0x22, 0x18), true, 3,
                    VMM_RAX); /* mod does not matter */
    expect_register(VMM_EXIT_cr_access, CODE(0x48, 0x0f, 0x22, 0x44), true, 0, VMM_RSP);
}

static void expect_cr0(uint64_t value, const uint8_t *code, size_t length)
{
    struct vmm_exit e = {.kind = VMM_EXIT_cr_access};

    guest_set_code(f, code, length);
    assert_int_equal(vmm_decode_reg_access(v, &e), 0);
    assert_int_equal(e.insn_length, length);
    assert_true(e.reg.write);
    assert_int_equal(e.reg.number, 0);
    assert_true(e.reg.value_valid);
    assert_int_equal(e.reg.value, value);
}

static void clts_and_lmsw(void **state)
{
    uint64_t *cr0 = &mock_vcpu(v)->sysreg[VMM_CR0];

    (void)state;
    *cr0 = 0x80000019;
    expect_cr0(0x80000011, CODE(0x0f, 0x06));
    v->gpr[VMM_RBX] = 0xfffa; /* PE stays set, bits beyond TS do not count */
    expect_cr0(0x8000001b, CODE(0x0f, 0x01, 0xf3));
    *guest_entry(f, 0x5000) = 0x4;
    v->gpr[VMM_RBX] = 0x5000;
    expect_cr0(0x80000015, CODE(0x0f, 0x01, 0x33));
}

static void other_instructions_are_refused(void **state)
{
    struct vmm_exit e = {.kind = VMM_EXIT_cr_access};

    (void)state;
    guest_set_code(f, CODE(0x90));
    assert_int_equal(vmm_decode_reg_access(v, &e), -VMM_EINVAL);
    guest_set_code(f, CODE(0x0f, 0x01, 0xd9));
    assert_int_equal(vmm_decode_reg_access(v, &e), -VMM_EINVAL);
    guest_set_code(f, CODE(0x0f, 0x22, 0xc8)); /* CR1 */
    assert_int_equal(vmm_decode_reg_access(v, &e), -VMM_EFAULT);
    assert_int_equal(v->event.vector, 6);
    v->event.valid = false;
    v->gpr[VMM_RBX] = 0x40000000;
    guest_set_code(f, CODE(0x0f, 0x01, 0x33));
    assert_int_equal(vmm_decode_reg_access(v, &e), -VMM_EFAULT);
    assert_int_equal(v->event.vector, 14);
}

static void description_of_code(void **state)
{
    uint8_t bytes[16];
    char text[128];

    (void)state;
    guest_set_code(f, CODE(0x89, 0x48, 0x10));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text, "mov rm=[rax+0x10] reg=rcx: 89 48 10");
    vmm_describe_instruction(v, text, 9); /* cut where it ends */
    assert_string_equal(text, "mov rm=[");
    guest_set_code(f, CODE(0xf4));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text, "hlt: f4");
    guest_set_code(f, CODE(0x42, 0xc7, 0x84, 0xe3, 0x00, 0x01, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text,
                        "mov rm=[rbx+r12*8+0x100] imm=0x5: 42 c7 84 e3 00 01 00 00 05 00 00 00");
    guest_set_code(f, CODE(0x8b, 0x05, 0xfa, 0xff, 0xff, 0xff));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_non_null(strstr(text, "mov rm=[rip-0x6] reg=rax"));
    guest_set_code(f, CODE(0xff, 0xff));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_non_null(strstr(text, "no instruction: ff ff"));
    v->rip = 0x1ffe;
    guest_set_code(f, CODE(0x12, 0x34));
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text, "adc rm=[rsp+rcx*8] reg=rsi: 12 34 cc"); /* over the page's end */
    v->rip = VMM_MIB(8) - 4;                                           /* where RAM ends */
    memset(vmm_memory_ptr_write(f->vm, VMM_GPA(v->rip), 4), 0x90, 4);
    assert_int_equal(vmm_read_code(v, bytes, sizeof(bytes)), 4);
    assert_memory_equal(bytes, "\x90\x90\x90\x90", 4);
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text, "nop: 90");
    v->rip = 0x40000000;
    assert_int_equal(vmm_read_code(v, bytes, sizeof(bytes)), 0);
    vmm_describe_instruction(v, text, sizeof(text));
    assert_string_equal(text, "(code is not readable)");
    assert_false(v->event.valid);
}

static void cache_is_allocated_or_nothing_is(void **state)
{
    (void)state;
    vmm_decode_destroy(v);
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_decode_create(v), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    assert_int_equal(vmm_decode_create(v), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(known_instructions_by_their_prefixes),
        TEST(remembered_lengths_hold_while_nothing_changes),
        TEST(lengths_of_what_exits),
        TEST(simple_moves_decode_alike),
        TEST(no_code_no_length),
        TEST(moves_of_control_and_debug_registers),
        TEST(clts_and_lmsw),
        TEST(other_instructions_are_refused),
        TEST(description_of_code),
        TEST(cache_is_allocated_or_nothing_is),
    };

    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
