/* Any bytes as the instruction that an access to device memory exited for, or a string port access,
 * or an access to a control or debug register, in any mode with any registers. */
#include <string.h>
#include "fuzz.h"
#include "guest_cpu.h"
#include "test_device.h"
#include "vector.h"

#define STEPS_MAX 200
#define CODE_AT   0x1000
#define TABLES_AT 0x5f00 /* descriptors */
#define RAM       VMM_MIB(1)

/* Addresses where something happens, and counts. */
static const uint64_t value_table[] = {
    0,
    1,
    3,
    8,
    TEST_DEVICE_BASE,
    TEST_DEVICE_BASE + 0x10,
    TEST_DEVICE_BASE + 0xffd,
    TEST_DEVICE_BASE + TEST_DEVICE_SIZE - 2,
    TEST_DEVICE_BASE - 3,
    0x5ff9,
    RAM - 4,
    RAM - 1,
    0x100000000,
    0x7ffffffffffe,
    0x800000000000,
    0xfffffffffffffff0,
};

static const uint8_t prefix_table[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x48};

/* Prefixes, an opcode of one of the maps, ModRM: random bytes would rarely get beyond the one-byte
 * opcodes. */
static unsigned choose_code(struct fuzz_bytes *b, uint8_t *code)
{
    uint8_t map = fuzz_byte(b), prefixes = fuzz_byte(b);
    unsigned length = 0;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(prefix_table); i++) {
        if ((prefixes >> i & 1) != 0) {
            code[length++] = prefix_table[i];
        }
    }
    switch (map % 8) {
    case 0 ... 2:
        break;
    case 3 ... 5:
        code[length++] = 0x0f;
        break;
    case 6:
        code[length++] = 0x0f;
        code[length++] = (map & 8) != 0 ? 0x38 : 0x3a;
        break;
    default: /* VEX, of two bytes or three */
        length = 0;
        code[length++] = (map & 8) != 0 ? 0xc4 : 0xc5;
        code[length++] = (map & 8) != 0 ? (prefixes & 0xe0) | map >> 6 : prefixes;
        if ((map & 8) != 0) {
            code[length++] = (prefixes & 7) | 0x78;
        }
        break;
    }
    code[length++] = fuzz_byte(b);
    code[length++] = fuzz_byte(b); /* ModRM */
    while (length < VMM_INSN_MAX) {
        code[length++] = fuzz_byte(b) & 0xf; /* small displacements: devices are small */
    }
    return length;
}

static uint64_t choose_value(struct fuzz_bytes *b)
{
    uint8_t which = fuzz_byte(b);

    return which < 0xe0 ? value_table[which % VMM_ARRAY_COUNT(value_table)] : fuzz_number(b, 8);
}

static void set_machine(struct fixture *f, struct fuzz_bytes *b)
{
    uint8_t mode = fuzz_byte(b);

    guest_set_mode(f, (enum guest_mode)(mode & 3));
    if ((mode & 3) == GUEST_LONG && (mode & 4) != 0) {
        guest_identity_map(f, 1 | (fuzz_byte(b) & 0xe7));
    }
    guest_set_cpl(f, (mode >> 3 & 1) * 3);
    if ((mode & 16) != 0) { /* what vector instructions, alignment and UMIP look at */
        struct mock_vcpu *m = mock_vcpu(f->vcpu);

        m->sysreg[VMM_CR0] ^= fuzz_number(b, 3) & 0x4000c;
        m->sysreg[VMM_CR4] ^= fuzz_number(b, 3) & 0x40a00;
        f->vcpu->xcr0 = 1 | (fuzz_byte(b) & 6);
        vector_file.x87_waits = (fuzz_byte(b) & 1) != 0;
        m->segment[VMM_SEG_GDTR].limit = fuzz_byte(b);
        m->segment[VMM_SEG_GDTR].base = TABLES_AT;
        for (unsigned i = 0; i < 4; i++) {
            *guest_entry(f, TABLES_AT + 8 * i) = fuzz_number(b, 8);
        }
    }
    f->vcpu->rflags = (f->vcpu->rflags & ~UINT64_C(0x40cd5)) | (fuzz_number(b, 3) & 0x40cd5);
}

static struct vmm_exit choose_exit(struct fuzz_bytes *b, uint8_t op)
{
    struct vmm_exit e = {.kind = VMM_EXIT_nested_fault};

    if ((op & 3) == 1) {
        uint8_t how = fuzz_byte(b);

        e.kind = VMM_EXIT_pio;
        e.pio.port = (how & 1) != 0 ? TEST_PORT : (uint16_t)(TEST_PORT + 4 + fuzz_byte(b));
        e.pio.size = (uint8_t)(1u << (how >> 1) % 3);
        e.pio.address_size = (uint8_t)(2u << (how >> 3) % 3);
        e.pio.segment = (how >> 5) % 6;
        e.pio.in = (op & 4) != 0;
        e.pio.string = (op & 8) != 0;
        e.pio.rep = (op & 16) != 0;
        return e;
    }
    e.fault.gpa.v = choose_value(b);
    e.fault.write = (op & 4) != 0;
    e.fault.present = (op & 8) != 0;
    return e;
}

static void step(struct fixture *f, struct test_device *device, struct fuzz_bytes *b)
{
    struct vcpu *v = f->vcpu;
    uint8_t op = fuzz_byte(b), code[VMM_INSN_MAX];
    unsigned length = op >> 5;

    for (unsigned i = 0; i < 16; i++) {
        v->gpr[i] = choose_value(b);
    }
    if (length >= 4) {
        length = choose_code(b, code);
    } else {
        length = length == 3 ? sizeof(code) : 1 + length * 2;
        for (unsigned i = 0; i < length; i++) {
            code[i] = fuzz_byte(b);
        }
    }
    v->rip = (op & 16) != 0 ? CODE_AT + VMM_PAGE_SIZE - 3 : CODE_AT; /* over a page's end, too */
    v->event.valid = false;
    guest_set_code(f, code, length);
    device->taken = device->put = 0;

    struct vmm_exit e = choose_exit(b, op);

    switch (op & 3) {
    case 0:
        (void)vmm_emulate_mmio(v, &e);
        break;
    case 1:
        (void)vmm_handle_pio(v, &e);
        break;
    case 2:
        e.kind = VMM_EXIT_cr_access;
        (void)!vmm_decode_reg_access(v, &e);
        break;
    default: {
        char text[128];

        (void)vmm_known_length(v, 2);
        v->event.valid = false;
        (void)vmm_decode_length(v);
        vmm_describe_instruction(v, text, sizeof(text));
        break;
    }
    }
    /* What it could not do ended the VM; it goes on all the same. */
    f->vm->ending = 0;
    f->vm->reason = VM_REASON_NONE;
    v->requests = 0;
}

void fuzz_emulator(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct fixture *f = fixture_create(RAM, 1);
    struct test_device *device;

    device = test_device_create(f);
    for (unsigned i = 0; i < STEPS_MAX && b.at < b.end; i++) {
        if (i % 8 == 0) {
            set_machine(f, &b);
        }
        step(f, device, &b);
    }
    fixture_destroy(f);
}
