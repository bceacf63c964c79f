/* The emulator against the processor: each instruction runs natively on a buffer and emulated on
 * device memory with the same bytes, registers and data; registers, defined flags and memory must
 * agree. */
#include "guest_cpu.h"
#include "native.h"
#include "test_device.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS 150
#define MIDDLE 0x800 /* where operands lie in the device and in the native buffer */

#define CF    UINT64_C(0x001)
#define PF    UINT64_C(0x004)
#define AF    UINT64_C(0x010)
#define ZF    UINT64_C(0x040)
#define SF    UINT64_C(0x080)
#define OF    UINT64_C(0x800)
#define ALL   (CF | PF | AF | ZF | SF | OF)
#define LOGIC (ALL & ~AF) /* AF is undefined */

/* Operands are at [rbx]; REP strings use rsi and rdi. */
struct row {
    const char *name;
    uint8_t bytes[12], length;
    uint64_t flags; /* that are defined afterwards */
};

#define ROW(text, defined, ...)                                                                    \
    {                                                                                              \
        text, {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), defined                             \
    }

/* All sizes of r/m, r and of r, r/m: 8, 16, 32, 64 bits. The high-byte register AH is reg 4. */
#define ALU(text, base, defined)                                                                   \
    ROW(text " r/m8, cl", defined, base, 0x0b), ROW(text " r/m8, ah", defined, base, 0x23),        \
        ROW(text " r/m8, sil", defined, 0x40, base, 0x33),                                         \
        ROW(text " r/m16", defined, 0x66, base + 1, 0x0b),                                         \
        ROW(text " r/m32", defined, base + 1, 0x0b),                                               \
        ROW(text " r/m64", defined, 0x48, base + 1, 0x0b),                                         \
        ROW(text " r9, r/m64", defined, 0x4c, base + 3, 0x0b),                                     \
        ROW(text " dl, r/m8", defined, base + 2, 0x13),                                            \
        ROW(text " ch, r/m8", defined, base + 2, 0x2b),                                            \
        ROW(text " dx, r/m16", defined, 0x66, base + 3, 0x13),                                     \
        ROW(text " edx, r/m32", defined, base + 3, 0x13),                                          \
        ROW(text " lock r/m32, imm8", defined, 0x83, 0x03 | (base & 0x38), 0x85),                  \
        ROW(text " r/m64, imm32", defined, 0x48, 0x81, 0x03 | (base & 0x38), 1, 2, 3, 0x84),       \
        ROW(text " r/m16, imm16", defined, 0x66, 0x81, 0x03 | (base & 0x38), 1, 0x92),             \
        ROW(text " r/m8, imm8", defined, 0x80, 0x03 | (base & 0x38), 0x77)

#define GROUP(text, byte_op, reg, defined)                                                         \
    ROW(text " r/m8", defined, byte_op, 0x03 | (reg) << 3),                                        \
        ROW(text " r/m16", defined, 0x66, byte_op + 1, 0x03 | (reg) << 3),                         \
        ROW(text " r/m32", defined, byte_op + 1, 0x03 | (reg) << 3),                               \
        ROW(text " r/m64", defined, 0x48, byte_op + 1, 0x03 | (reg) << 3)

/* 0F opcodes with a register operand in all sizes. */
#define PAIR_0F(text, byte_op, defined)                                                            \
    ROW(text " r/m8", defined, 0x0f, byte_op, 0x0b),                                               \
        ROW(text " r/m16", defined, 0x66, 0x0f, byte_op + 1, 0x0b),                                \
        ROW(text " r/m32", defined, 0x0f, byte_op + 1, 0x0b),                                      \
        ROW(text " lock r/m64", defined, 0xf0, 0x48, 0x0f, byte_op + 1, 0x0b)

#define WIDE_0F(text, op, defined)                                                                 \
    ROW(text " 16", defined, 0x66, 0x0f, op, 0x0b), ROW(text " 32", defined, 0x0f, op, 0x0b),      \
        ROW(text " 64", defined, 0x48, 0x0f, op, 0x0b)

#define BIT_IMM(text, reg)                                                                         \
    ROW(text " r/m16, imm8", CF, 0x66, 0x0f, 0xba, 0x03 | (reg) << 3, 0x1d),                       \
        ROW(text " r/m32, imm8", CF, 0x0f, 0xba, 0x03 | (reg) << 3, 0x25),                         \
        ROW(text " lock r/m64, imm8", CF, 0x48, 0x0f, 0xba, 0x03 | (reg) << 3, 0x7f)

#define CONDITIONS(X)                                                                              \
    X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), X(8), X(9), X(10), X(11), X(12), X(13), X(14), \
        X(15)
#define SHIFTS(text, reg)                                                                          \
    GROUP(text " cl", 0xd2, reg, ALL), GROUP(text " 1", 0xd0, reg, ALL),                           \
        ROW(text " r/m8, imm8", ALL, 0xc0, 0x03 | (reg) << 3, 3),                                  \
        ROW(text " r/m16, imm8", ALL, 0x66, 0xc1, 0x03 | (reg) << 3, 9),                           \
        ROW(text " r/m32, imm8", ALL, 0xc1, 0x03 | (reg) << 3, 31),                                \
        ROW(text " r/m64, imm8", ALL, 0x48, 0xc1, 0x03 | (reg) << 3, 63)
#define SETCC(n) ROW("setcc", ALL, 0x0f, 0x90 + n, 0x03)
#define CMOV(n)  ROW("cmov", ALL, 0x0f, 0x40 + n, 0x13)

static const struct row row_table[] = {
    ALU("add", 0x00, ALL),
    ALU("or", 0x08, LOGIC),
    ALU("adc", 0x10, ALL),
    ALU("sbb", 0x18, ALL),
    ALU("and", 0x20, LOGIC),
    ALU("sub", 0x28, ALL),
    ALU("xor", 0x30, LOGIC),
    ALU("cmp", 0x38, ALL),
    ROW("lock add", ALL, 0xf0, 0x01, 0x0b),
    ROW("test r/m8, cl", LOGIC, 0x84, 0x0b),
    ROW("test r/m64, rcx", LOGIC, 0x48, 0x85, 0x0b),
    ROW("test r/m8, imm8", LOGIC, 0xf6, 0x03, 0x81),
    ROW("test r/m32, imm32", LOGIC, 0xf7, 0x03, 1, 0x80, 3, 0x80),
    GROUP("not", 0xf6, 2, ALL),
    GROUP("neg", 0xf6, 3, ALL),
    SHIFTS("rol", 0),
    SHIFTS("ror", 1),
    SHIFTS("rcl", 2),
    SHIFTS("rcr", 3),
    SHIFTS("shl", 4),
    SHIFTS("shr", 5),
    SHIFTS("sal", 6),
    SHIFTS("sar", 7),
    GROUP("mul", 0xf6, 4, CF | OF),
    GROUP("imul", 0xf6, 5, CF | OF),
    ROW("imul cx, r/m16", CF | OF, 0x66, 0x0f, 0xaf, 0x0b),
    ROW("imul ecx, r/m32", CF | OF, 0x0f, 0xaf, 0x0b),
    ROW("imul r9, r/m64", CF | OF, 0x4c, 0x0f, 0xaf, 0x0b),
    ROW("imul ecx, r/m32, imm8", CF | OF, 0x6b, 0x0b, 0xf3),
    ROW("imul rcx, r/m64, imm32", CF | OF, 0x48, 0x69, 0x0b, 1, 2, 3, 0x84),
    ROW("imul cx, r/m16, imm16", CF | OF, 0x66, 0x69, 0x0b, 1, 0x92),
    GROUP("inc", 0xfe, 0, ALL),
    GROUP("dec", 0xfe, 1, ALL),
    ROW("xchg r/m8, cl", ALL, 0x86, 0x0b),
    ROW("xchg r/m8, ch", ALL, 0x86, 0x2b),
    ROW("xchg r/m16", ALL, 0x66, 0x87, 0x0b),
    ROW("xchg r/m32", ALL, 0x87, 0x0b),
    ROW("xchg r/m64", ALL, 0x48, 0x87, 0x0b),
    ROW("mov r/m8, cl", ALL, 0x88, 0x0b),
    ROW("mov r/m8, dh", ALL, 0x88, 0x33),
    ROW("mov r/m16, cx", ALL, 0x66, 0x89, 0x0b),
    ROW("mov r/m32, ecx", ALL, 0x89, 0x0b),
    ROW("mov r/m64, r15", ALL, 0x4c, 0x89, 0x3b),
    ROW("mov ah, r/m8", ALL, 0x8a, 0x23),
    ROW("mov cx, r/m16", ALL, 0x66, 0x8b, 0x0b),
    ROW("mov ecx, r/m32", ALL, 0x8b, 0x0b),
    ROW("mov rcx, r/m64", ALL, 0x48, 0x8b, 0x0b),
    ROW("mov r/m8, imm8", ALL, 0xc6, 0x03, 0x9a),
    ROW("mov r/m16, imm16", ALL, 0x66, 0xc7, 0x03, 0x34, 0x92),
    ROW("mov r/m32, imm32", ALL, 0xc7, 0x03, 1, 2, 3, 0x94),
    ROW("mov r/m64, imm32", ALL, 0x48, 0xc7, 0x03, 1, 2, 3, 0x94),
    ROW("mov disp8", ALL, 0x8b, 0x4b, 0x90),
    ROW("mov disp32", ALL, 0x8b, 0x8b, 0x10, 1, 0, 0),
    ROW("mov sib", ALL, 0x8b, 0x4c, 0x93, 0x08),
    ROW("mov sib r10*8", ALL, 0x4a, 0x8b, 0x4c, 0xd3, 0xf0),
    ROW("movzx cx, r/m8", ALL, 0x66, 0x0f, 0xb6, 0x0b),
    ROW("movzx ecx, r/m8", ALL, 0x0f, 0xb6, 0x0b),
    ROW("movzx rcx, r/m16", ALL, 0x48, 0x0f, 0xb7, 0x0b),
    ROW("movsx cx, r/m8", ALL, 0x66, 0x0f, 0xbe, 0x0b),
    ROW("movsx ecx, r/m16", ALL, 0x0f, 0xbf, 0x0b),
    ROW("movsx rcx, r/m8", ALL, 0x48, 0x0f, 0xbe, 0x0b),
    ROW("movsxd rcx, r/m32", ALL, 0x48, 0x63, 0x0b),
    ROW("movsxd ecx, r/m32", ALL, 0x63, 0x0b),
    ROW("movnti r/m32", ALL, 0x0f, 0xc3, 0x0b),
    ROW("movnti r/m64", ALL, 0x48, 0x0f, 0xc3, 0x0b),
    ROW("movbe cx, r/m16", ALL, 0x66, 0x0f, 0x38, 0xf0, 0x0b),
    ROW("movbe ecx, r/m32", ALL, 0x0f, 0x38, 0xf0, 0x0b),
    ROW("movbe r/m64, rcx", ALL, 0x48, 0x0f, 0x38, 0xf1, 0x0b),
    PAIR_0F("xadd", 0xc0, ALL),
    PAIR_0F("cmpxchg", 0xb0, ALL),
    ROW("cmpxchg8b", ALL, 0x0f, 0xc7, 0x0e), /* at [rsi]: rbx is an operand */
    ROW("lock cmpxchg16b", ALL, 0xf0, 0x48, 0x0f, 0xc7, 0x0e),
    WIDE_0F("bt r", 0xa3, CF),
    WIDE_0F("bts r", 0xab, CF),
    WIDE_0F("btr r", 0xb3, CF),
    WIDE_0F("btc r", 0xbb, CF),
    BIT_IMM("bt", 4),
    BIT_IMM("bts", 5),
    BIT_IMM("btr", 6),
    BIT_IMM("btc", 7),
    CONDITIONS(SETCC),
    CONDITIONS(CMOV),
    WIDE_0F("bsf", 0xbc, ZF),
    WIDE_0F("bsr", 0xbd, ZF),
    ROW("tzcnt cx, r/m16", CF | ZF, 0xf3, 0x66, 0x0f, 0xbc, 0x0b),
    ROW("tzcnt rcx, r/m64", CF | ZF, 0xf3, 0x48, 0x0f, 0xbc, 0x0b),
    ROW("lzcnt ecx, r/m32", CF | ZF, 0xf3, 0x0f, 0xbd, 0x0b),
    WIDE_0F("shld cl", 0xa5, LOGIC),
    WIDE_0F("shrd cl", 0xad, LOGIC),
    ROW("shld r/m32, ecx, imm8", LOGIC, 0x0f, 0xa4, 0x0b, 0x25),
    ROW("shrd r/m64, rcx, imm8", LOGIC, 0x48, 0x0f, 0xac, 0x0b, 0x3f),
    ROW("movsb", ALL, 0xa4),
    ROW("rep movsw", ALL, 0xf3, 0x66, 0xa5),
    ROW("rep movsd", ALL, 0xf3, 0xa5),
    ROW("rep movsq", ALL, 0xf3, 0x48, 0xa5),
    ROW("stosb", ALL, 0xaa),
    ROW("rep stosb", ALL, 0xf3, 0xaa),
    ROW("rep stosq", ALL, 0xf3, 0x48, 0xab),
    ROW("lodsb", ALL, 0xac),
    ROW("rep lodsd", ALL, 0xf3, 0xad),
    ROW("lodsq", ALL, 0x48, 0xad),
    ROW("cmpsb", ALL, 0xa6),
    ROW("repe cmpsb", ALL, 0xf3, 0xa6),
    ROW("repne cmpsd", ALL, 0xf2, 0xa7),
    ROW("scasb", ALL, 0xae),
    ROW("repne scasb", ALL, 0xf2, 0xae),
    ROW("repe scasq", ALL, 0xf3, 0x48, 0xaf),
};

static uint8_t native_buffer[TEST_DEVICE_SIZE] __attribute__((aligned(4096)));

static uint64_t random_u64(void)
{
    /* Often a value at the edge of something. */
    static const uint64_t edge[] = {0,
                                    1,
                                    0x7f,
                                    0x80,
                                    0xff,
                                    0x7fff,
                                    0x8000,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    UINT64_C(0x7fffffffffffffff),
                                    UINT64_C(0x8000000000000000),
                                    ~UINT64_C(0)};
    uint64_t value = ((uint64_t)random() << 42) ^ ((uint64_t)random() << 21) ^ (uint64_t)random();

    return random() % 3 == 0 ? edge[(unsigned)random() % VMM_ARRAY_COUNT(edge)] : value;
}

static bool is_string(const struct row *r)
{
    return strstr(r->name, "movs") == r->name || strstr(r->name, "rep") == r->name ||
           strstr(r->name, "stos") == r->name || strstr(r->name, "lods") == r->name ||
           strstr(r->name, "cmps") == r->name || strstr(r->name, "scas") == r->name;
}

/* Registers for one round; addresses are relative to `base`. */
static void fill(const struct row *r, struct native_registers *n, uint64_t base)
{
    bool strings = is_string(r) && r->bytes[0] != 0x0f && r->bytes[1] != 0x0f &&
                   r->bytes[1] != 0x63 && r->bytes[0] != 0x63;

    n->gpr[VMM_RBX] = base;
    if (strstr(r->name, "cmpxchg8b") != NULL || strstr(r->name, "16b") != NULL) {
        n->gpr[VMM_RBX] = n->gpr[VMM_RDX] ^ 5;
        n->gpr[VMM_RSI] = base;
    }
    if (strings) {
        n->gpr[VMM_RSI] = base + 0x100;
        n->gpr[VMM_RDI] = base;
        n->gpr[VMM_RCX] %= 20;
    }
    if (strstr(r->name, "sib") != NULL) {
        n->gpr[VMM_RDX] = (uint64_t)(int64_t)((int8_t)n->gpr[VMM_RDX]);
        n->gpr[VMM_R10] = (uint64_t)(int64_t)((int8_t)n->gpr[VMM_R10]);
    }
    if (r->flags == CF && r->bytes[r->length - 1] == 0x0b) {
        n->gpr[VMM_RCX] = (uint64_t)(int64_t)((int16_t)n->gpr[VMM_RCX] >> 2); /* bit string */
    }
}

/* Make comparisons come out equal sometimes. */
static void correlate(struct native_registers *n)
{
    switch (random() % 4) {
    case 0:
        memcpy(&n->gpr[VMM_RAX], native_buffer + MIDDLE, 8);
        memcpy(&n->gpr[VMM_RDX], native_buffer + MIDDLE + 8, 8);
        break;
    case 1: /* EDX:EAX of CMPXCHG8B */
        n->gpr[VMM_RAX] = *(uint32_t *)(native_buffer + MIDDLE);
        n->gpr[VMM_RDX] = *(uint32_t *)(native_buffer + MIDDLE + 4);
        break;
    case 2:
        memcpy(native_buffer + MIDDLE + 0x100, native_buffer + MIDDLE, 24);
        break;
    }
}

/* Where the processor would have met the operand. Of two operands it names either. */
static uint64_t operand_offset(const struct row *r, const struct native_registers *n)
{
    if (is_string(r)) {
        return 0x123;
    }
    if (strcmp(r->name, "mov disp8") == 0) {
        return (uint64_t)(int8_t)0x90;
    }
    if (strcmp(r->name, "mov disp32") == 0) {
        return 0x110;
    }
    if (strcmp(r->name, "mov sib") == 0) {
        return n->gpr[VMM_RDX] * 4 + 8;
    }
    return strcmp(r->name, "mov sib r10*8") == 0 ? n->gpr[VMM_R10] * 8 - 0x10 : 0;
}

static void emulate(struct fixture *f, const struct row *r, struct native_registers *n, bool write)
{
    struct vcpu *v = f->vcpu;
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault};

    v->rip = 0x1000;
    memcpy(v->gpr, n->gpr, sizeof(v->gpr));
    v->rflags = n->rflags;
    guest_set_code(f, r->bytes, r->length);
    /* Some back ends say that a read-modify-write wrote, some that it read. */
    e.fault.write = write;
    e.fault.gpa.v = TEST_DEVICE_BASE + MIDDLE + operand_offset(r, n);
    assert_int_equal(vmm_emulate_mmio(v, &e), VMM_CONTINUE);
    assert_false(v->event.valid);
    assert_int_equal(v->rip, 0x1000 + r->length);
    memcpy(n->gpr, v->gpr, sizeof(n->gpr));
    n->rflags = v->rflags;
}

static void compare(struct fixture *f, struct test_device *d, const struct row *r)
{
    struct native_registers native, emulated;
    bool down = (random() & 1) != 0 && is_string(r);

    for (unsigned i = 0; i < 16; i++) {
        native.gpr[i] = random_u64();
    }
    for (unsigned i = 0; i < sizeof(native_buffer); i += 8) {
        *(uint64_t *)(native_buffer + i) = random_u64();
    }
    correlate(&native);
    native.gpr[VMM_RSP] = 0x7000;
    native.rflags = 2 | ((uint64_t)random() & ALL) | (down ? 0x400 : 0);
    emulated = native;
    memcpy(d->bytes, native_buffer, sizeof(native_buffer));
    fill(r, &native, (uint64_t)native_buffer + MIDDLE);
    fill(r, &emulated, TEST_DEVICE_BASE + MIDDLE);

    native_run(r->bytes, r->length, &native);
    emulate(f, r, &emulated, (random() & 1) != 0);

    for (unsigned i = 0; i < 16; i++) {
        uint64_t moved = native.gpr[i] - (uint64_t)native_buffer;

        /* A register that still points into the buffer points into the device now. */
        if (i != VMM_RSP && native.gpr[i] != emulated.gpr[i] &&
            !(moved < TEST_DEVICE_SIZE && emulated.gpr[i] == TEST_DEVICE_BASE + moved)) {
            fail_msg("%s: register %u: %llx, should be %llx", r->name, i,
                     (unsigned long long)emulated.gpr[i], (unsigned long long)native.gpr[i]);
        }
    }
    uint64_t checked = r->flags == CF ? CF | ZF : r->flags;
    if (((native.rflags ^ emulated.rflags) & (checked | 0x400)) != 0) {
        fail_msg("%s: flags %llx, should be %llx", r->name, (unsigned long long)emulated.rflags,
                 (unsigned long long)native.rflags);
    }
    if (memcmp(native_buffer, d->bytes, sizeof(native_buffer)) != 0) {
        fail_msg("%s: memory differs", r->name);
    }
}

static void as_the_processor(void **state)
{
    struct fixture *f = fixture_create(VMM_MIB(8), 1);
    struct test_device *d = test_device_create(f);

    (void)state;
    native_create();
    srandom(1);
    guest_set_mode(f, GUEST_LONG);
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(row_table); n++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            compare(f, d, &row_table[n]);
        }
    }
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_processor)};

    return cmocka_run_group_tests_name("native", tests, NULL, NULL);
}
