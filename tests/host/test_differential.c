/* Random instructions on device memory beside the processor's own execution: exceptions, lengths,
 * registers, flags and memory must agree. The operand is at the same address for both. */
#define _GNU_SOURCE
#include "emulation.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "core/emulate_ops.h"
#include "native_step.h"

#define ROUNDS     15000
#define MIDDLE     (DEVICE + 0x1000)
#define ARITHMETIC (RFLAGS_ARITHMETIC | RFLAGS_DF)

static uint8_t *memory; /* the processor's, at DEVICE */
static unsigned seed = 11;

static unsigned below(unsigned limit)
{
    return (unsigned)random() % limit;
}

static bool once_in(unsigned n)
{
    return below(n) == 0;
}

static uint64_t random_u64(void)
{
    static const uint64_t edge[] = {0,          1,          0x7f,      0x80,      0xffff,
                                    0x80000000, UINT32_MAX, INT64_MAX, UINT64_MAX};
    uint64_t value = (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random();

    return once_in(3) ? edge[below(VMM_ARRAY_COUNT(edge))] : value;
}

/* --- instructions -------------------------------------------------------------------------------
 */

struct code {
    uint8_t bytes[32];
    unsigned count;
};

static void put(struct code *c, uint8_t byte)
{
    c->bytes[c->count++] = byte;
}

/* What runs in a process as it does anywhere, and stays within the operand. */
static bool is_comparable(const struct op_info *info)
{
    switch (info->op) {
    case OP_NONE:
    case OP_PUSH:
    case OP_PUSH_IMM:
    case OP_POP:
    case OP_POP_RM:
    case OP_CALL:
    case OP_RETURN:
    case OP_LEAVE:
    case OP_MOV_FROM_SREG:
    case OP_MOV_TO_SREG:
    case OP_FAR_POINTER:
    case OP_GROUP6:
    case OP_GROUP7:
    case OP_LAR_LSL:
        return false;
    default:
        return true;
    }
}

static void put_operand(struct code *c, unsigned reg)
{
    /* RBX, RSI and RDI are pointers, RDX is small: an index. */
    static const uint8_t bases[] = {VMM_RBX, VMM_RSI, VMM_RDI};
    unsigned mod = below(3), base = bases[below(3)];
    bool sib = once_in(4);

    put(c, (uint8_t)(mod << 6 | reg << 3 | (sib ? 4 : base)));
    if (sib) {
        put(c, (uint8_t)(below(3) << 6 | (once_in(2) ? VMM_RDX : 4) << 3 | base));
    }
    if (mod == 1) {
        put(c, (uint8_t)random());
    } else if (mod == 2) {
        put(c, (uint8_t)random());
        put(c, (uint8_t)below(4));
        put(c, 0);
        put(c, 0);
    }
}

static void put_prefixes(struct code *c)
{
    static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x3e};

    while (once_in(2) && c->count < 3) {
        put(c, prefixes[below(sizeof(prefixes))]);
    }
}

static void put_vex(struct code *c, uint8_t opcode, unsigned map)
{
    uint8_t last = (uint8_t)((once_in(8) ? below(16) : 15) << 3 | below(2) << 2 | below(4));

    if (once_in(16)) {
        put(c, (uint8_t)(0x40 | below(16))); /* REX is wrong here */
    }
    if (map == 1 && once_in(2)) {
        put(c, 0xc5);
        put(c, (uint8_t)(last | below(2) << 7));
    } else {
        put(c, 0xc4);
        put(c, (uint8_t)(below(2) << 7 | 0x60 | map)); /* the base is none of R8 to R15 */
        put(c, (uint8_t)(last | below(2) << 7));
    }
    put(c, opcode);
    put_operand(c, below(8));
}

static void generate(struct code *c)
{
    struct insn i = {.map = (uint8_t)below(3)};
    const struct op_info *info;

    *c = (struct code){.count = 0};
    do {
        i.opcode = (uint8_t)random();
        info = op_find(&i);
    } while (!is_comparable(info));
    put_prefixes(c);
    if (info->op == OP_VECTOR && once_in(2)) {
        put_vex(c, i.opcode, i.map);
    } else {
        if (once_in(2)) {
            put(c, (uint8_t)(0x40 | (random() & (info->op == OP_BIT ? 8 : 12))));
        }
        if (i.map != INSN_MAP_1) {
            put(c, 0x0f);
        }
        if (i.map == INSN_MAP_0F38) {
            put(c, 0x38);
        }
        put(c, i.opcode);
        if (info->form == FORM_A_MOFFS || info->form == FORM_MOFFS_A) {
            uint64_t at = MIDDLE + below(64);

            memcpy(c->bytes + c->count, &at, sizeof(at));
            c->count += sizeof(at);
        } else if (info->op != OP_STRING && info->op != OP_XLAT) {
            /* CALL, JMP and PUSH are not for this. A bit string goes by RDX. */
            put_operand(c, info->op == OP_GROUP5 ? below(2)
                           : info->op == OP_BIT  ? VMM_RDX
                                                 : below(8));
        }
    }
    while (c->count < 16) {
        put(c, (uint8_t)random()); /* immediates, and what follows */
    }
}

/* --- both ways ----------------------------------------------------------------------------------
 */

static void randomize(struct native_state *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = random_u64();
    }
    s->gpr[VMM_RBX] = MIDDLE + below(4) * 8 + (once_in(4) ? below(32) : 0);
    s->gpr[VMM_RSI] = MIDDLE + 0x100 + (once_in(2) ? below(32) : 0);
    s->gpr[VMM_RDI] = MIDDLE + 0x200 + (once_in(2) ? below(32) : 0);
    s->gpr[VMM_RDX] = below(128);
    s->gpr[VMM_RCX] = once_in(2) ? below(20) : s->gpr[VMM_RCX];
    s->gpr[VMM_RSP] = MIDDLE;
    s->rflags = 2 | (random_u64() & ARITHMETIC);
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned k = 0; k < (native_has_avx() ? 4 : 2); k++) {
            s->vector.ymm[i].q[k] = random_u64();
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        s->vector.mm[i] = random_u64();
    }
    s->vector.mxcsr = 0x1f80;
    for (unsigned i = 0; i < TEST_DEVICE_SIZE; i += 8) {
        *(uint64_t *)(memory + i) = random_u64();
    }
    if (once_in(3)) { /* comparisons come out equal */
        memcpy(&s->gpr[VMM_RAX], (void *)s->gpr[VMM_RBX], 8);
        memcpy((void *)s->gpr[VMM_RDI], (void *)s->gpr[VMM_RSI], 32);
    }
    memcpy(device->bytes, memory, TEST_DEVICE_SIZE);
}

/* False: it is none that the emulator does. */
static bool run_emulated(const struct code *c, struct native_state *s)
{
    /* A linear address that is no operand's: everything is translated. */
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault,
                         .fault = {.gpa = {MIDDLE}, .gva_valid = true, .write = once_in(2)}};

    v->rip = 0x1000;
    v->event.valid = false;
    memcpy(v->gpr, s->gpr, sizeof(v->gpr));
    v->rflags = s->rflags | X86_RFLAGS_TF;
    vector_file = s->vector;
    guest_set_code(f, c->bytes, 16);
    if (vmm_emulate_mmio(v, &e) != VMM_CONTINUE) {
        f->vm->ending = 0;
        posix_host_clear_log(f->host);
        return false;
    }
    assert_true(v->event.valid);
    s->vector_number = v->event.vector == X86_DB ? -1 : v->event.vector;
    s->length = v->rip - 0x1000;
    memcpy(s->gpr, v->gpr, sizeof(v->gpr));
    s->rflags = v->rflags;
    s->vector = vector_file;
    return true;
}

static void complain(const struct code *c, const char *what, uint64_t got, uint64_t expected)
{
    char text[64] = "";

    for (unsigned i = 0; i < 16; i++) {
        snprintf(text + 3 * i, 4, "%02x ", c->bytes[i]);
    }
    fail_msg("%s: %s: %llx, should be %llx", text, what, (unsigned long long)got,
             (unsigned long long)expected);
}

/* Of those that are undefined nothing is expected. */
static uint64_t defined_flags(void)
{
    struct insn i = v->decode_cache->insn[(0x1000 ^ 0x1000 >> 6) % INSN_CACHE_COUNT];

    switch (op_find(&i)->op) {
    case OP_GROUP3:
        return (i.reg & 7) >= 6   ? RFLAGS_DF
               : (i.reg & 7) >= 4 ? RFLAGS_CF | RFLAGS_OF | RFLAGS_DF
                                  : ARITHMETIC;
    case OP_SCAN:
        return RFLAGS_ZF | RFLAGS_DF;
    case OP_IMUL:
        return RFLAGS_CF | RFLAGS_OF | RFLAGS_DF;
    default:
        return ARITHMETIC;
    }
}

static void compare(const struct code *c, const struct native_state *native,
                    const struct native_state *emulated)
{
    uint64_t flags;

    if (native->vector_number != emulated->vector_number) {
        complain(c, "exception", (uint64_t)emulated->vector_number,
                 (uint64_t)native->vector_number);
    }
    if (native->length != emulated->length) {
        complain(c, "length", emulated->length, native->length);
    }
    for (unsigned i = 0; i < 16; i++) {
        if (native->gpr[i] != emulated->gpr[i]) {
            complain(c, "register", emulated->gpr[i], native->gpr[i]);
        }
    }
    flags = native->vector_number < 0 ? defined_flags() : 0;
    if (((native->rflags ^ emulated->rflags) & flags) != 0) {
        complain(c, "flags", emulated->rflags, native->rflags);
    }
    if (memcmp(native->vector.ymm, emulated->vector.ymm, sizeof(native->vector.ymm)) != 0 ||
        memcmp(native->vector.mm, emulated->vector.mm, sizeof(native->vector.mm)) != 0 ||
        native->vector.mxcsr != emulated->vector.mxcsr) {
        complain(c, "vector registers", 0, 0);
    }
    if (memcmp(memory, device->bytes, TEST_DEVICE_SIZE) != 0) {
        complain(c, "memory", 0, 0);
    }
}

static void as_the_processor(void **state)
{
    unsigned compared = 0, undefined = 0;

    (void)state;
    memory = mmap((void *)DEVICE, TEST_DEVICE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(memory, (void *)DEVICE);
    native_step_create();
    srandom(seed);
    guest_identity_map(f, 7);
    guest_set_cpl(f, 3);
    mock_vcpu(v)->sysreg[VMM_CR4] |= CR4_OSFXSR | CR4_OSXSAVE;
    v->xcr0 = native_has_avx() ? 7 : 3;
    for (unsigned n = 0; n < ROUNDS; n++) {
        struct native_state native, emulated;
        struct code c;

        generate(&c);
        randomize(&native);
        emulated = native;
        if (run_emulated(&c, &emulated)) {
            native_step(c.bytes, &native);
            if (!native.page_fault) {
                compare(&c, &native, &emulated);
                compared++;
                undefined += native.vector_number == X86_UD;
            }
        }
    }
    printf("%u instructions compared, %u undefined\n", compared, undefined);
    assert_true(compared > ROUNDS / 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(as_the_processor)};

    if (argc > 1) {
        seed = (unsigned)atoi(argv[1]); /* for those who want others */
    }

    return cmocka_run_group_tests_name("differential", tests, NULL, NULL);
}
