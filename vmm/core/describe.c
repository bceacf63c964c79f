/* An instruction for people to read. Zydis' minimal mode knows the mnemonic and the encoding's
 * fields; which of them the instruction uses as what is left to the reader. */
#include <Zydis/Zydis.h>
#include "core/emulate.h"
#include "core/vm.h"

struct text {
    struct vmm *vmm;
    char *out;
    size_t size, used;
};

static void append(struct text *t, const char *fmt, ...) VMM_PRINTF(2, 3);
static void append(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int length;

    if (t->used + 1 >= t->size) {
        return;
    }
    va_start(ap, fmt);
    length = t->vmm->ops->format(t->vmm->host, t->out + t->used, t->size - t->used, fmt, ap);
    va_end(ap);
    t->used += length > 0 ? (size_t)length : 0;
}

static const char *register_name(unsigned number)
{
    static const char name_table[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    return name_table[number & 15];
}

static void append_number(struct text *t, int64_t value)
{
    bool negative = value < 0;

    append(t, "%s0x%llx", negative ? "-" : "+",
           (unsigned long long)(negative ? -(uint64_t)value : (uint64_t)value));
}

static void append_base(struct text *t, const ZydisDecodedInstruction *z)
{
    unsigned base = z->raw.modrm.rm | (unsigned)z->raw.rex.B << 3;
    bool none = z->raw.modrm.mod == 0 && (base & 7) == 5;

    if (z->raw.sib.offset == 0 || z->raw.modrm.rm != 4) {
        append(t, "%s",
               none ? z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? "rip" : ""
                    : register_name(base));
        return;
    }
    base = z->raw.sib.base | (unsigned)z->raw.rex.B << 3;
    if (z->raw.modrm.mod != 0 || (base & 7) != 5) {
        append(t, "%s", register_name(base));
    }
    if ((z->raw.sib.index | z->raw.rex.X << 3) != 4) {
        append(t, "+%s*%u", register_name(z->raw.sib.index | (unsigned)z->raw.rex.X << 3),
               1u << z->raw.sib.scale);
    }
}

/* 16-bit addressing: table 2-1 of Intel SDM vol. 2. */
static void append_base_16(struct text *t, const ZydisDecodedInstruction *z)
{
    static const char name_table[8][6] = {"bx+si", "bx+di", "bp+si", "bp+di",
                                          "si",    "di",    "bp",    "bx"};
    bool none = z->raw.modrm.mod == 0 && z->raw.modrm.rm == 6;

    append(t, "%s", none ? "" : name_table[z->raw.modrm.rm]);
}

static void append_modrm(struct text *t, const ZydisDecodedInstruction *z)
{
    if (z->raw.modrm.mod == 3) {
        append(t, " rm=%s", register_name(z->raw.modrm.rm | (unsigned)z->raw.rex.B << 3));
    } else {
        append(t, " rm=[");
        if (z->address_width == 16) {
            append_base_16(t, z);
        } else {
            append_base(t, z);
        }
        if (z->raw.disp.size != 0) {
            append_number(t, z->raw.disp.value);
        }
        append(t, "]");
    }
}

/* Groups of instructions have a part of the opcode where others name a register. */
static bool names_register(const ZydisDecodedInstruction *z)
{
    bool group =
        z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
        ((z->opcode & 0xfc) == 0x80 || (z->opcode & 0xfe) == 0xc0 || (z->opcode & 0xfe) == 0xc6 ||
         (z->opcode & 0xfc) == 0xd0 || (z->opcode & 0xf6) == 0xf6 || z->opcode == 0x8f);

    return !group;
}

static void append_fields(struct text *t, const ZydisDecodedInstruction *z)
{
    append(t, "%s", ZydisMnemonicGetString(z->mnemonic));
    if ((z->attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0) {
        append_modrm(t, z);
        if (names_register(z)) {
            append(t, " reg=%s", register_name(z->raw.modrm.reg | (unsigned)z->raw.rex.R << 3));
        }
    }
    if (z->raw.imm[0].size != 0) {
        append(t, " imm=0x%llx", (unsigned long long)z->raw.imm[0].value.u);
    }
}

static void append_bytes(struct text *t, const uint8_t *bytes, unsigned count)
{
    append(t, ":");
    for (unsigned n = 0; n < count; n++) {
        append(t, " %02x", bytes[n]);
    }
}

static bool init_decoder(ZydisDecoder *d, const struct vmm_address_mode *m)
{
    ZydisMachineMode machine = ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisStackWidth stack = ZYDIS_STACK_WIDTH_16;

    if (vmm_mode_is_64(m)) {
        machine = ZYDIS_MACHINE_MODE_LONG_64;
        stack = ZYDIS_STACK_WIDTH_64;
    } else if ((m->cs_attributes & VMM_SEGMENT_DEFAULT_32) != 0) {
        machine = ZYDIS_MACHINE_MODE_LEGACY_32;
        stack = ZYDIS_STACK_WIDTH_32;
    }
    return ZYAN_SUCCESS(ZydisDecoderInit(d, machine, stack));
}

unsigned vmm_read_code(struct vcpu *v, uint8_t *out, unsigned most)
{
    gva_t linear = vmm_vcpu_linear_rip(v);
    unsigned in_page = (unsigned)(VMM_PAGE_SIZE - (linear.v & (VMM_PAGE_SIZE - 1)));
    struct vmm_walk_fault fault;

    if (vmm_linear_read(v, linear, out, most, VMM_ACCESS_READ, &fault) == 0) {
        return most;
    }
    if (in_page < most && vmm_linear_read(v, linear, out, in_page, VMM_ACCESS_READ, &fault) == 0) {
        return in_page;
    }
    return 0;
}

void vmm_describe_instruction(struct vcpu *v, char *out, size_t size)
{
    struct text t = {v->vm->vmm, out, size, 0};
    struct vmm_address_mode mode;
    uint8_t bytes[VMM_INSN_MAX];
    unsigned count = vmm_read_code(v, bytes, sizeof(bytes));
    ZydisDecoder decoder;
    ZydisDecodedInstruction z;

    if (size != 0) {
        out[0] = '\0';
    }
    if (count == 0) {
        append(&t, "(code is not readable)");
        return;
    }
    v->backend->get_address_mode(v, &mode);
    if (init_decoder(&decoder, &mode) &&
        ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, count, &z))) {
        append_fields(&t, &z);
        append_bytes(&t, bytes, z.length);
    } else {
        append(&t, "no instruction");
        append_bytes(&t, bytes, count);
    }
}
