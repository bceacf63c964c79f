/* The operations of emulated instructions. Spec: APM vol. 3. */
#include "core/emulate_ops.h"

/* --- groups of operations ------------------------------------------------------------------------
 */

static enum emu_result do_alu(struct emu *m, enum alu_op op, enum form form, unsigned size)
{
    bool keeps = op != ALU_CMP && op != ALU_TEST;
    enum emu_intent intent = keeps && form != FORM_R_RM ? EMU_MODIFY : EMU_READ;
    uint64_t a, b, flags = m->v->rflags;
    enum emu_result r;
    struct emu_rm rm;

    r = emu_rm_resolve(m, size, intent, &rm);
    if (r == EMU_OK) {
        r = emu_rm_load(m, &rm, intent, &a);
    }
    if (r != EMU_OK) {
        return r;
    }
    b = form == FORM_RM_IMM ? m->i->imm : emu_gpr_read(m, m->i->reg, size);
    if (form == FORM_R_RM) {
        a = alu_execute(op, b, a, size, &flags);
    } else {
        a = alu_execute(op, a, b, size, &flags);
    }
    if (keeps && form == FORM_R_RM) {
        emu_gpr_write(m, m->i->reg, size, a);
    } else if (keeps) {
        r = emu_rm_store(m, &rm, a);
    }
    if (r == EMU_OK) {
        m->v->rflags = flags;
    }
    return r;
}

static enum emu_result do_mov(struct emu *m, enum form form, unsigned size)
{
    enum vmm_segment segment = emu_segment(m);
    enum emu_result r;
    uint64_t value;

    switch (form) {
    case FORM_RM_R:
        return emu_rm_put(m, size, emu_gpr_read(m, m->i->reg, size));
    case FORM_R_RM:
        r = emu_rm_get(m, size, &value);
        if (r == EMU_OK) {
            emu_gpr_write(m, m->i->reg, size, value);
        }
        return r;
    case FORM_RM_IMM:
        return (m->i->reg & 7) == 0 ? emu_rm_put(m, size, m->i->imm) : EMU_CANNOT;
    case FORM_A_MOFFS:
        r = emu_read(m, segment, m->i->disp & emu_mask(m->i->address_size), size, &value);
        if (r == EMU_OK) {
            emu_gpr_write(m, VMM_RAX, size, value);
        }
        return r;
    default: /* FORM_MOFFS_A */
        return emu_write(m, segment, m->i->disp & emu_mask(m->i->address_size), size,
                         emu_gpr_read(m, VMM_RAX, size));
    }
}

/* MOVZX, MOVSX, MOVSXD: a source narrower than the destination. */
static enum emu_result do_extend(struct emu *m, unsigned source_size, bool is_signed)
{
    unsigned shift = 64 - source_size * 8;
    uint64_t value;
    enum emu_result r = emu_rm_get(m, source_size, &value);

    if (r == EMU_OK) {
        if (is_signed) {
            value = (uint64_t)((int64_t)(value << shift) >> shift);
        }
        emu_gpr_write(m, m->i->reg, m->i->operand_size, value);
    }
    return r;
}

static enum emu_result do_cmov(struct emu *m)
{
    uint64_t value;
    enum emu_result r = emu_rm_get(m, m->i->operand_size, &value); /* read whatever the condition */

    if (r == EMU_OK) {
        bool taken = alu_condition(m->i->opcode, m->v->rflags);

        /* Not taken, a 32-bit destination still loses its upper half. */
        emu_gpr_write(m, m->i->reg, m->i->operand_size,
                      taken ? value : emu_gpr_read(m, m->i->reg, m->i->operand_size));
    }
    return r;
}

/* XCHG, XADD: both operands change. */
static enum emu_result do_exchange(struct emu *m, bool with_add, unsigned size)
{
    uint64_t source = emu_gpr_read(m, m->i->reg, size);
    uint64_t old, new_value = source, flags = m->v->rflags;
    enum emu_result r;
    struct emu_rm rm;

    r = emu_rm_begin(m, size, &rm, &old);
    if (r != EMU_OK) {
        return r;
    }
    if (with_add) {
        new_value = alu_execute(ALU_ADD, old, source, size, &flags);
    }
    r = emu_rm_store(m, &rm, new_value);
    if (r == EMU_OK) {
        emu_gpr_write(m, m->i->reg, size, old);
        m->v->rflags = flags;
    }
    return r;
}

static enum emu_result do_cmpxchg(struct emu *m, unsigned size)
{
    uint64_t accumulator = emu_gpr_read(m, VMM_RAX, size);
    uint64_t old, flags = m->v->rflags;
    enum emu_result r;
    struct emu_rm rm;

    r = emu_rm_begin(m, size, &rm, &old);
    if (r != EMU_OK) {
        return r;
    }
    alu_execute(ALU_CMP, accumulator, old, size, &flags);
    if ((flags & RFLAGS_ZF) != 0) {
        r = emu_rm_store(m, &rm, emu_gpr_read(m, m->i->reg, size));
    } else {
        r = emu_rm_store(m, &rm, old); /* the processor writes back what it read */
        if (r == EMU_OK) {
            emu_gpr_write(m, VMM_RAX, size, old);
        }
    }
    if (r == EMU_OK) {
        m->v->rflags = flags;
    }
    return r;
}

/* CMPXCHG8B and, with REX.W, CMPXCHG16B. */
static enum emu_result do_cmpxchg8b(struct emu *m)
{
    unsigned half = m->i->operand_size == 8 ? 8 : 4;
    uint64_t *gpr = m->v->gpr;
    uint64_t old[2] = {0, 0}, linear;
    uint8_t bytes[16] = {0};
    enum emu_result r;
    bool equal;

    if ((m->i->reg & 7) >= 6) {
        return emu_exception(m, X86_UD); /* VMPTRLD and its like: no guest has them */
    }
    if ((m->i->reg & 7) != 1 || m->i->mod == 3) {
        return EMU_CANNOT;
    }
    r = emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), half * 2, EMU_MODIFY,
                   &linear);
    if (r != EMU_OK) {
        return r;
    }
    if (half == 8 && (linear & 15) != 0) {
        return emu_exception(m, X86_GP);
    }
    r = emu_load(m, linear, bytes, half * 2, EMU_MODIFY);
    if (r != EMU_OK) {
        return r;
    }
    __builtin_memcpy(&old[0], bytes, half);
    __builtin_memcpy(&old[1], bytes + half, half);
    equal = old[0] == (gpr[VMM_RAX] & emu_mask(half)) && old[1] == (gpr[VMM_RDX] & emu_mask(half));
    if (equal) {
        __builtin_memcpy(bytes, &gpr[VMM_RBX], half);
        __builtin_memcpy(bytes + half, &gpr[VMM_RCX], half);
    }
    r = emu_store(m, linear, bytes, half * 2);
    if (r != EMU_OK) {
        return r;
    }
    if (equal) {
        m->v->rflags |= RFLAGS_ZF;
    } else {
        m->v->rflags &= ~RFLAGS_ZF;
        emu_gpr_write(m, VMM_RAX, half, old[0]);
        emu_gpr_write(m, VMM_RDX, half, old[1]);
    }
    return EMU_OK;
}

static uint64_t swap_bytes(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - size * 8);
}

static enum emu_result do_movbe(struct emu *m, enum form form)
{
    unsigned size = m->i->operand_size;
    uint64_t value;
    enum emu_result r;

    /* With F2 these opcodes are CRC32. */
    if ((m->i->prefixes & INSN_REPNE) != 0 || m->i->mod == 3) {
        return EMU_CANNOT;
    }
    if (form == FORM_RM_R) {
        return emu_rm_put(m, size, swap_bytes(emu_gpr_read(m, m->i->reg, size), size));
    }
    r = emu_rm_get(m, size, &value);
    if (r == EMU_OK) {
        emu_gpr_write(m, m->i->reg, size, swap_bytes(value, size));
    }
    return r;
}

/* By an immediate (C0, C1), by one (D0, D1), by CL (D2, D3). */
static enum emu_result do_shift(struct emu *m, enum form form, unsigned size)
{
    uint8_t count = (uint8_t)(form == FORM_RM_IMM ? m->i->imm
                              : form == FORM_RM   ? 1
                                                  : m->v->gpr[VMM_RCX]);
    uint64_t value, flags = m->v->rflags;
    struct emu_rm rm;
    enum emu_result r = emu_rm_begin(m, size, &rm, &value);

    if (r == EMU_OK) {
        value = alu_shift((enum alu_shift_op)(m->i->reg & 7), value, count, size, &flags);
        r = emu_rm_store(m, &rm, value);
    }
    if (r == EMU_OK) {
        m->v->rflags = flags;
    }
    return r;
}

static void put_pair(struct emu *m, unsigned size, const struct alu_pair *pair)
{
    if (size == 1) { /* AX */
        uint64_t ax = pair->high << 8 | pair->low;

        m->v->gpr[VMM_RAX] = (m->v->gpr[VMM_RAX] & ~UINT64_C(0xffff)) | ax;
        return;
    }
    emu_gpr_write(m, VMM_RAX, size, pair->low);
    emu_gpr_write(m, VMM_RDX, size, pair->high);
}

/* MUL, IMUL, DIV, IDIV of rDX:rAX or AX. */
static enum emu_result do_muldiv(struct emu *m, unsigned size)
{
    bool is_signed = (m->i->reg & 1) != 0;
    struct alu_pair pair = {m->v->gpr[VMM_RAX] & emu_mask(size),
                            (size == 1 ? m->v->gpr[VMM_RAX] >> 8 : m->v->gpr[VMM_RDX]) &
                                emu_mask(size)};
    uint64_t value;
    enum emu_result r = emu_rm_get(m, size, &value);

    if (r != EMU_OK) {
        return r;
    }
    if ((m->i->reg & 7) <= 5) {
        alu_multiply(is_signed, pair.low, value, size, &pair, &m->v->rflags);
    } else if (!alu_divide(is_signed, &pair, value, size, &pair)) {
        return emu_exception(m, X86_DE);
    }
    put_pair(m, size, &pair);
    return EMU_OK;
}

static enum emu_result do_imul(struct emu *m, unsigned size)
{
    uint64_t value;
    struct alu_pair product;
    enum emu_result r = emu_rm_get(m, size, &value);

    if (r == EMU_OK) {
        uint64_t by = m->i->map == INSN_MAP_1 ? m->i->imm : emu_gpr_read(m, m->i->reg, size);

        alu_multiply(true, value, by, size, &product, &m->v->rflags);
        emu_gpr_write(m, m->i->reg, size, product.low);
    }
    return r;
}

static enum emu_result do_group3(struct emu *m, unsigned size)
{
    uint64_t value;
    enum emu_result r;
    struct emu_rm rm;

    switch (m->i->reg & 7) {
    case 0:
    case 1:
        return do_alu(m, ALU_TEST, FORM_RM_IMM, size);
    case 2: /* NOT changes no flags */
        r = emu_rm_begin(m, size, &rm, &value);
        return r == EMU_OK ? emu_rm_store(m, &rm, ~value) : r;
    case 3:
        return do_alu(m, ALU_NEG, FORM_RM_IMM, size);
    default:
        return do_muldiv(m, size);
    }
}

/* CLFLUSH, CLFLUSHOPT and CLWB reach device memory; nothing is cached there. FXSAVE, XSAVE and
 * their like are not done. */
static enum emu_result do_group15(struct emu *m)
{
    unsigned which = m->i->reg & 7;
    bool opsize = (m->i->prefixes & INSN_OPSIZE) != 0;

    if ((m->i->prefixes & (INSN_REP | INSN_REPNE)) != 0) {
        return emu_exception(m, X86_UD); /* PTWRITE, CLRSSBSY: no guest has them */
    }
    if (m->i->mod != 3 && (which == 7 || (which == 6 && opsize))) {
        return EMU_OK;
    }
    return emu_mxcsr(m);
}

/* AL from the table at rBX. */
static enum emu_result do_xlat(struct emu *m)
{
    enum vmm_segment segment =
        m->i->segment != INSN_NO_SEG ? (enum vmm_segment)m->i->segment : VMM_SEG_DS;
    uint64_t at = m->v->gpr[VMM_RBX] + (m->v->gpr[VMM_RAX] & 0xff), value;
    enum emu_result r = emu_read(m, segment, at & emu_mask(m->i->address_size), 1, &value);

    if (r == EMU_OK) {
        emu_gpr_write(m, VMM_RAX, 1, value);
    }
    return r;
}

static enum emu_result do_group5(struct emu *m, unsigned size)
{
    unsigned which = m->i->reg & 7;

    if (which <= 1) {
        return do_alu(m, which == 0 ? ALU_INC : ALU_DEC, FORM_RM_IMM, size);
    }
    return emu_group5(m);
}

enum emu_result op_execute(struct emu *m, const struct op_info *info, bool *again)
{
    uint8_t opcode = m->i->opcode;
    unsigned size = (info->flags & OP_BYTE) != 0 && (opcode & 1) == 0 ? 1 : m->i->operand_size;
    /* 83 has bit 0 set, but only its immediate is a byte; 82 is 80 again. */
    enum form form = (enum form)info->form;

    switch ((enum op)info->op) {
    case OP_ALU:
        return do_alu(m, (enum alu_op)(opcode >> 3 & 7), form, size);
    case OP_GROUP1:
        return do_alu(m, (enum alu_op)(m->i->reg & 7), form, size);
    case OP_TEST:
        return do_alu(m, ALU_TEST, form, size);
    case OP_XCHG:
        return do_exchange(m, false, size);
    case OP_XADD:
        return do_exchange(m, true, size);
    case OP_MOV:
        return do_mov(m, form, size);
    case OP_MOVNTI:
        return emu_rm_put(m, size, emu_gpr_read(m, m->i->reg, size));
    case OP_MOV_FROM_SREG:
        return emu_mov_from_segment(m);
    case OP_MOV_TO_SREG:
        return emu_mov_to_segment(m);
    case OP_FAR_POINTER:
        return emu_load_far_pointer(m);
    case OP_GROUP2:
        return do_shift(m, form, size);
    case OP_IMUL:
        return do_imul(m, size);
    case OP_GROUP3:
        return do_group3(m, size);
    case OP_GROUP5:
        return do_group5(m, size);
    case OP_PUSH:
        return emu_push(m, m->v->gpr[m->i->rm]);
    case OP_PUSH_IMM:
        return emu_push(m, m->i->imm);
    case OP_POP:
        return emu_pop_register(m);
    case OP_POP_RM:
        return emu_pop_rm(m);
    case OP_CALL:
        return emu_call(m);
    case OP_RETURN:
        return emu_return(m);
    case OP_LEAVE:
        return emu_leave(m);
    case OP_XLAT:
        return do_xlat(m);
    case OP_STRING:
        return emu_string(m, again);
    case OP_MOVSXD: /* outside 64-bit mode the opcode is ARPL */
        return m->i->mode == 8 ? do_extend(m, size == 2 ? 2 : 4, true) : EMU_CANNOT;
    case OP_MOVZX:
        return do_extend(m, (opcode & 1) != 0 ? 2 : 1, false);
    case OP_MOVSX:
        return do_extend(m, (opcode & 1) != 0 ? 2 : 1, true);
    case OP_CMOV:
        return do_cmov(m);
    case OP_SETCC:
        return emu_rm_put(m, 1, alu_condition(opcode, m->v->rflags));
    case OP_BIT: /* A3, AB, B3, BB */
        return emu_bit(m, (enum emu_bit_op)(opcode >> 3 & 3), true);
    case OP_GROUP8:
        return (m->i->reg & 7) >= 4 ? emu_bit(m, (enum emu_bit_op)(m->i->reg & 3), false)
                                    : EMU_CANNOT;
    case OP_SCAN:
        return emu_scan(m);
    case OP_SHIFT_DOUBLE:
        return emu_shift_double(m);
    case OP_GROUP6:
        return emu_group6(m);
    case OP_GROUP7:
        return emu_group7(m);
    case OP_LAR_LSL:
        return emu_lar_lsl(m);
    case OP_CMPXCHG:
        return do_cmpxchg(m, size);
    case OP_CMPXCHG8B:
        return do_cmpxchg8b(m);
    case OP_MOVBE:
        return do_movbe(m, form);
    case OP_VECTOR:
        return emu_vector(m);
    case OP_GROUP15:
        return do_group15(m);
    case OP_HINT:
        return EMU_OK;
    case OP_NONE:
        break;
    }
    return EMU_CANNOT;
}
