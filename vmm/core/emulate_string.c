/* String instructions on memory. A REP runs a limited number of iterations per exit; registers show
 * what is done, and the guest comes back to the instruction for the rest, as after an interrupt. */
#include "core/emulate_inner.h"

enum string_op { STRING_MOVS, STRING_CMPS, STRING_STOS, STRING_LODS, STRING_SCAS };

static enum string_op op_of(uint8_t opcode)
{
    switch (opcode & 0xfe) {
    case 0xa4:
        return STRING_MOVS;
    case 0xa6:
        return STRING_CMPS;
    case 0xaa:
        return STRING_STOS;
    case 0xac:
        return STRING_LODS;
    default:
        return STRING_SCAS;
    }
}

static uint64_t address_read(const struct emu *m, unsigned reg)
{
    return m->v->gpr[reg] & emu_mask(m->i->address_size);
}

static void advance(struct emu *m, unsigned reg, unsigned size)
{
    uint64_t step = (m->v->rflags & RFLAGS_DF) != 0 ? -(uint64_t)size : size;

    emu_address_write(m, reg, m->v->gpr[reg] + step);
}

static enum emu_result read_source(struct emu *m, unsigned size, uint64_t *value)
{
    enum vmm_segment segment =
        m->i->segment != INSN_NO_SEG ? (enum vmm_segment)m->i->segment : VMM_SEG_DS;

    return emu_read(m, segment, address_read(m, VMM_RSI), size, value);
}

/* The destination's segment is ES, whatever the prefix. */
static enum emu_result read_destination(struct emu *m, unsigned size, uint64_t *value)
{
    return emu_read(m, VMM_SEG_ES, address_read(m, VMM_RDI), size, value);
}

static enum emu_result write_destination(struct emu *m, unsigned size, uint64_t value)
{
    return emu_write(m, VMM_SEG_ES, address_read(m, VMM_RDI), size, value);
}

/* MOVS from one place of device memory to another must not read twice when the write faults, so the
 * destination is checked first. */
static enum emu_result move(struct emu *m, unsigned size)
{
    uint64_t linear, value;
    enum emu_result r;

    r = emu_linear(m, VMM_SEG_ES, address_read(m, VMM_RDI), size, EMU_WRITE, &linear);
    if (r == EMU_OK) {
        r = emu_check_write(m, linear, size);
    }
    if (r == EMU_OK) {
        r = read_source(m, size, &value);
    }
    return r == EMU_OK ? emu_store(m, linear, &value, size) : r;
}

static enum emu_result iterate(struct emu *m, enum string_op op, unsigned size)
{
    uint64_t a, b, flags = m->v->rflags;
    enum emu_result r;

    switch (op) {
    case STRING_MOVS:
        r = move(m, size);
        break;
    case STRING_STOS:
        r = write_destination(m, size, m->v->gpr[VMM_RAX]);
        break;
    case STRING_LODS:
        r = read_source(m, size, &a);
        if (r == EMU_OK) {
            emu_gpr_write(m, VMM_RAX, size, a);
        }
        break;
    case STRING_SCAS:
        r = read_destination(m, size, &b);
        if (r == EMU_OK) {
            alu_execute(ALU_CMP, m->v->gpr[VMM_RAX], b, size, &flags);
        }
        break;
    default: /* CMPS */
        r = read_source(m, size, &a);
        if (r == EMU_OK) {
            r = read_destination(m, size, &b);
        }
        if (r == EMU_OK) {
            alu_execute(ALU_CMP, a, b, size, &flags);
        }
        break;
    }
    if (r != EMU_OK) {
        return r;
    }
    m->v->rflags = flags;
    if (op == STRING_MOVS || op == STRING_CMPS || op == STRING_LODS) {
        advance(m, VMM_RSI, size);
    }
    if (op != STRING_LODS) {
        advance(m, VMM_RDI, size);
    }
    return EMU_OK;
}

/* REPE and REPNE end when the comparison says so; other string instructions know only REP. */
static bool comparison_ends(const struct emu *m, enum string_op op)
{
    bool equal = (m->v->rflags & RFLAGS_ZF) != 0;

    if (op != STRING_CMPS && op != STRING_SCAS) {
        return false;
    }
    return (m->i->prefixes & INSN_REP) != 0 ? !equal : equal;
}

enum emu_result emu_string(struct emu *m, bool *again)
{
    enum string_op op = op_of(m->i->opcode);
    unsigned size = (m->i->opcode & 1) == 0 ? 1 : m->i->operand_size;

    if ((m->i->prefixes & (INSN_REP | INSN_REPNE)) == 0) {
        return iterate(m, op, size);
    }
    for (unsigned n = 0; n < emu_turn(m); n++) {
        enum emu_result r;

        if (address_read(m, VMM_RCX) == 0) {
            return EMU_OK;
        }
        r = iterate(m, op, size);
        if (r != EMU_OK) {
            return r;
        }
        emu_address_write(m, VMM_RCX, m->v->gpr[VMM_RCX] - 1);
        if (comparison_ends(m, op)) {
            return EMU_OK;
        }
    }
    *again = address_read(m, VMM_RCX) != 0;
    return EMU_OK;
}
