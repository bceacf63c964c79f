/* The operations of emulated instructions. Spec: APM vol. 3. */
#include "core/emulate_ops.h"

/* The operand that ModRM's r/m names, resolved once. */
struct rm {
    bool is_memory;
    unsigned size;
    uint64_t linear; /* memory */
};

static enum emu_result rm_resolve(struct emu *m, unsigned size, enum emu_intent intent,
                                  struct rm *rm)
{
    rm->is_memory = m->i->mod != 3;
    rm->size = size;
    return rm->is_memory ? emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), size,
                                      intent, &rm->linear)
                         : EMU_OK;
}

static enum emu_result rm_load(struct emu *m, const struct rm *rm, enum emu_intent intent,
                               uint64_t *value)
{
    if (!rm->is_memory) {
        *value = emu_gpr_read(m, m->i->rm, rm->size);
        return EMU_OK;
    }
    *value = 0;
    return emu_load(m, rm->linear, value, rm->size, intent);
}

static enum emu_result rm_store(struct emu *m, const struct rm *rm, uint64_t value)
{
    if (!rm->is_memory) {
        emu_gpr_write(m, m->i->rm, rm->size, value);
        return EMU_OK;
    }
    return emu_store(m, rm->linear, &value, rm->size);
}

/* Read the r/m operand only. */
static enum emu_result rm_get(struct emu *m, unsigned size, uint64_t *value)
{
    struct rm rm;
    enum emu_result r = rm_resolve(m, size, EMU_READ, &rm);

    return r == EMU_OK ? rm_load(m, &rm, EMU_READ, value) : r;
}

static enum emu_result rm_put(struct emu *m, unsigned size, uint64_t value)
{
    struct rm rm;
    enum emu_result r = rm_resolve(m, size, EMU_WRITE, &rm);

    return r == EMU_OK ? rm_store(m, &rm, value) : r;
}

/* --- groups of operations ------------------------------------------------------------------------
 */

static enum emu_result do_alu(struct emu *m, enum alu_op op, enum form form, unsigned size)
{
    bool keeps = op != ALU_CMP && op != ALU_TEST;
    enum emu_intent intent = keeps && form != FORM_R_RM ? EMU_MODIFY : EMU_READ;
    uint64_t a, b, flags = m->v->rflags;
    enum emu_result r;
    struct rm rm;

    r = rm_resolve(m, size, intent, &rm);
    if (r == EMU_OK) {
        r = rm_load(m, &rm, intent, &a);
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
        r = rm_store(m, &rm, a);
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
        return rm_put(m, size, emu_gpr_read(m, m->i->reg, size));
    case FORM_R_RM:
        r = rm_get(m, size, &value);
        if (r == EMU_OK) {
            emu_gpr_write(m, m->i->reg, size, value);
        }
        return r;
    case FORM_RM_IMM:
        return (m->i->reg & 7) == 0 ? rm_put(m, size, m->i->imm) : EMU_CANNOT;
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
    enum emu_result r = rm_get(m, source_size, &value);

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
    enum emu_result r = rm_get(m, m->i->operand_size, &value); /* read whatever the condition */

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
    struct rm rm;

    r = rm_resolve(m, size, EMU_MODIFY, &rm);
    if (r == EMU_OK) {
        r = rm_load(m, &rm, EMU_MODIFY, &old);
    }
    if (r != EMU_OK) {
        return r;
    }
    if (with_add) {
        new_value = alu_execute(ALU_ADD, old, source, size, &flags);
    }
    r = rm_store(m, &rm, new_value);
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
    struct rm rm;

    r = rm_resolve(m, size, EMU_MODIFY, &rm);
    if (r == EMU_OK) {
        r = rm_load(m, &rm, EMU_MODIFY, &old);
    }
    if (r != EMU_OK) {
        return r;
    }
    alu_execute(ALU_CMP, accumulator, old, size, &flags);
    if ((flags & RFLAGS_ZF) != 0) {
        r = rm_store(m, &rm, emu_gpr_read(m, m->i->reg, size));
    } else {
        r = rm_store(m, &rm, old); /* the processor writes back what it read */
        emu_gpr_write(m, VMM_RAX, size, old);
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

    if ((m->i->reg & 7) != 1 || m->i->mod == 3) {
        return EMU_CANNOT;
    }
    r = emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), half * 2, EMU_MODIFY,
                   &linear);
    if (r != EMU_OK) {
        return r;
    }
    if (half == 8 && (linear & 15) != 0) {
        return emu_exception(m, VECTOR_GP, true);
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

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

/* BT, BTS, BTR, BTC. With a register as the index, memory is a bit string: the index selects the
 * word, with sign, beyond the operand itself. */
static enum emu_result do_bit(struct emu *m, enum bit_op op, bool index_in_register)
{
    unsigned size = m->i->operand_size;
    enum emu_intent intent = op == BIT_TEST ? EMU_READ : EMU_MODIFY;
    uint64_t index = index_in_register ? m->v->gpr[m->i->reg] : m->i->imm;
    uint64_t bit = UINT64_C(1) << (index & (size * 8 - 1));
    struct rm rm = {.is_memory = m->i->mod != 3, .size = size};
    uint64_t value;
    enum emu_result r = EMU_OK;

    if (rm.is_memory) {
        uint64_t offset = emu_effective_address(m->v, m->i);

        if (index_in_register) {
            int64_t wide = (int64_t)(index << (64 - size * 8)) >> (64 - size * 8);

            offset += (uint64_t)((wide >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * (int64_t)size);
        }
        r = emu_linear(m, emu_segment(m), offset & emu_mask(m->i->address_size), size, intent,
                       &rm.linear);
    }
    if (r == EMU_OK) {
        r = rm_load(m, &rm, intent, &value);
    }
    if (r != EMU_OK) {
        return r;
    }
    if (op != BIT_TEST) {
        r = rm_store(m, &rm,
                     op == BIT_SET     ? value | bit
                     : op == BIT_RESET ? value & ~bit
                                       : value ^ bit);
    }
    if (r == EMU_OK) {
        m->v->rflags = (m->v->rflags & ~RFLAGS_CF) | ((value & bit) != 0 ? RFLAGS_CF : 0);
    }
    return r;
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
        return rm_put(m, size, swap_bytes(emu_gpr_read(m, m->i->reg, size), size));
    }
    r = rm_get(m, size, &value);
    if (r == EMU_OK) {
        emu_gpr_write(m, m->i->reg, size, swap_bytes(value, size));
    }
    return r;
}

/* --- stack and branches --------------------------------------------------------------------------
 */

static unsigned stack_address_size(struct emu *m)
{
    struct vmm_segment_state ss;

    if (m->i->mode == 8) {
        return 8;
    }
    m->v->backend->get_segment(m->v, VMM_SEG_SS, &ss);
    return (ss.attributes & 1U << 10) != 0 ? 4 : 2;
}

static void set_stack_pointer(struct emu *m, unsigned width, uint64_t value)
{
    uint64_t *rsp = &m->v->gpr[VMM_RSP];

    *rsp = width == 2 ? (*rsp & ~UINT64_C(0xffff)) | (value & 0xffff) : value & emu_mask(width);
}

static enum emu_result push(struct emu *m, uint64_t value, unsigned size)
{
    unsigned width = stack_address_size(m);
    uint64_t top = (m->v->gpr[VMM_RSP] - size) & emu_mask(width);
    enum emu_result r = emu_write(m, VMM_SEG_SS, top, size, value);

    if (r == EMU_OK) {
        set_stack_pointer(m, width, top);
    }
    return r;
}

/* POP r/m: the address is computed with the incremented stack pointer. */
static enum emu_result do_pop(struct emu *m, unsigned size)
{
    unsigned width = stack_address_size(m);
    uint64_t before = m->v->gpr[VMM_RSP], value;
    enum emu_result r = emu_read(m, VMM_SEG_SS, before & emu_mask(width), size, &value);

    if (r != EMU_OK) {
        return r;
    }
    set_stack_pointer(m, width, before + size);
    r = rm_put(m, size, value);
    if (r != EMU_OK) {
        m->v->gpr[VMM_RSP] = before;
    }
    return r;
}

/* CALL and JMP through memory: rip is set so that the step past the instruction leads to the
 * target. */
static enum emu_result branch(struct emu *m, uint64_t target, unsigned size, bool is_call)
{
    uint64_t next = m->v->rip + m->i->length;
    struct vmm_segment_state cs;
    enum emu_result r = EMU_OK;

    if (m->i->mode != 8) {
        m->v->backend->get_segment(m->v, VMM_SEG_CS, &cs);
        if (target > cs.limit) {
            return emu_exception(m, VECTOR_GP, true);
        }
    }
    if (is_call) {
        r = push(m, next, size);
    }
    if (r == EMU_OK) {
        m->v->rip = target - m->i->length;
    }
    return r;
}

static enum emu_result do_group5(struct emu *m, unsigned size)
{
    /* Near branches and PUSH default to 64 bits in 64-bit mode. */
    unsigned wide = m->i->mode != 8 ? size : (m->i->prefixes & INSN_OPSIZE) != 0 ? 2 : 8;
    unsigned which = m->i->reg & 7;
    uint64_t value;
    enum emu_result r;

    if (which <= 1) {
        return do_alu(m, which == 0 ? ALU_INC : ALU_DEC, FORM_RM_IMM, size);
    }
    if (size == 1 || (which != 2 && which != 4 && which != 6)) {
        return EMU_CANNOT;
    }
    if (which != 6 && m->i->mode == 8) {
        wide = 8; /* and the prefix is ignored */
    }
    r = rm_get(m, wide, &value);
    if (r != EMU_OK) {
        return r;
    }
    return which == 6 ? push(m, value, wide) : branch(m, value, wide, which == 2);
}

/* By an immediate (C0, C1), by one (D0, D1), by CL (D2, D3). */
static enum emu_result do_shift(struct emu *m, enum form form, unsigned size)
{
    uint8_t count = (uint8_t)(form == FORM_RM_IMM ? m->i->imm
                              : form == FORM_RM   ? 1
                                                  : m->v->gpr[VMM_RCX]);
    uint64_t value, flags = m->v->rflags;
    struct rm rm;
    enum emu_result r = rm_resolve(m, size, EMU_MODIFY, &rm);

    if (r == EMU_OK) {
        r = rm_load(m, &rm, EMU_MODIFY, &value);
    }
    if (r == EMU_OK) {
        value = alu_shift((enum alu_shift_op)(m->i->reg & 7), value, count, size, &flags);
        r = rm_store(m, &rm, value);
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
    enum emu_result r = rm_get(m, size, &value);

    if (r != EMU_OK) {
        return r;
    }
    if ((m->i->reg & 7) <= 5) {
        alu_multiply(is_signed, pair.low, value, size, &pair, &m->v->rflags);
    } else if (!alu_divide(is_signed, &pair, value, size, &pair)) {
        return emu_exception(m, VECTOR_DE, false);
    }
    put_pair(m, size, &pair);
    return EMU_OK;
}

static enum emu_result do_imul(struct emu *m, unsigned size)
{
    uint64_t value;
    struct alu_pair product;
    enum emu_result r = rm_get(m, size, &value);

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
    struct rm rm;

    switch (m->i->reg & 7) {
    case 0:
    case 1:
        return do_alu(m, ALU_TEST, FORM_RM_IMM, size);
    case 2: /* NOT changes no flags */
        r = rm_resolve(m, size, EMU_MODIFY, &rm);
        if (r == EMU_OK) {
            r = rm_load(m, &rm, EMU_MODIFY, &value);
        }
        return r == EMU_OK ? rm_store(m, &rm, ~value) : r;
    case 3:
        return do_alu(m, ALU_NEG, FORM_RM_IMM, size);
    default:
        return do_muldiv(m, size);
    }
}

static enum emu_result do_mov_sreg(struct emu *m)
{
    struct vmm_segment_state s;

    if ((m->i->reg & 7) > VMM_SEG_GS) {
        return emu_exception(m, VECTOR_UD, false);
    }
    m->v->backend->get_segment(m->v, (enum vmm_segment)(m->i->reg & 7), &s);
    return rm_put(m, m->i->mod == 3 ? m->i->operand_size : 2, s.selector);
}

/* CLFLUSH, CLFLUSHOPT and CLWB reach device memory; nothing is cached there. The other members of
 * the group (FXSAVE, ...) are not done. */
static enum emu_result do_cache_line(const struct emu *m)
{
    unsigned which = m->i->reg & 7;
    bool opsize = (m->i->prefixes & INSN_OPSIZE) != 0;

    return m->i->mod != 3 && (which == 7 || (which == 6 && opsize)) ? EMU_OK : EMU_CANNOT;
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
        return rm_put(m, size, emu_gpr_read(m, m->i->reg, size));
    case OP_MOV_SREG:
        return do_mov_sreg(m);
    case OP_GROUP2:
        return do_shift(m, form, size);
    case OP_IMUL:
        return do_imul(m, size);
    case OP_GROUP3:
        return do_group3(m, size);
    case OP_GROUP5:
        return do_group5(m, size);
    case OP_POP:
        return do_pop(m, m->i->mode == 8 && size == 4 ? 8 : size);
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
        return rm_put(m, 1, alu_condition(opcode, m->v->rflags));
    case OP_BIT: /* A3, AB, B3, BB */
        return do_bit(m, (enum bit_op)(opcode >> 3 & 3), true);
    case OP_GROUP8:
        return (m->i->reg & 7) >= 4 ? do_bit(m, (enum bit_op)(m->i->reg & 3), false) : EMU_CANNOT;
    case OP_CMPXCHG:
        return do_cmpxchg(m, size);
    case OP_CMPXCHG8B:
        return do_cmpxchg8b(m);
    case OP_MOVBE:
        return do_movbe(m, form);
    case OP_SSE:
        return emu_sse_move(m);
    case OP_CACHE_LINE:
        return do_cache_line(m);
    case OP_HINT:
        return EMU_OK;
    case OP_NONE:
        break;
    }
    return EMU_CANNOT;
}
