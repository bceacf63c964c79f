/* Emulated instructions on bits. Spec: APM vol. 3. */
#include "core/emulate_inner.h"

/* With a register as the index, memory is a bit string: the index selects the word, with sign,
 * beyond the operand itself. */
enum emu_result emu_bit(struct emu *m, enum emu_bit_op op, bool index_in_register)
{
    unsigned size = m->i->operand_size;
    enum emu_intent intent = op == BIT_TEST ? EMU_READ : EMU_MODIFY;
    uint64_t index = index_in_register ? m->v->gpr[m->i->reg] : m->i->imm;
    uint64_t bit = UINT64_C(1) << (index & (size * 8 - 1));
    struct emu_rm rm = {.is_memory = m->i->mod != 3, .size = size};
    uint64_t value;
    enum emu_result r = EMU_OK;

    if (rm.is_memory) {
        uint64_t offset = emu_effective_address(m->v, m->i);

        if (index_in_register) {
            int64_t word = emu_signed(index, size) >> (size == 8 ? 6 : size == 4 ? 5 : 4);

            offset += (uint64_t)(word * (int64_t)size);
        }
        r = emu_linear(m, emu_segment(m), offset & emu_mask(m->i->address_size), size, intent,
                       &rm.linear);
    }
    if (r == EMU_OK) {
        r = emu_rm_load(m, &rm, intent, &value);
    }
    if (r != EMU_OK) {
        return r;
    }
    if (op != BIT_TEST) {
        r = emu_rm_store(m, &rm,
                         op == BIT_SET     ? value | bit
                         : op == BIT_RESET ? value & ~bit
                                           : value ^ bit);
    }
    if (r == EMU_OK) {
        m->v->rflags = (m->v->rflags & ~RFLAGS_CF) | ((value & bit) != 0 ? RFLAGS_CF : 0);
    }
    return r;
}

enum emu_result emu_scan(struct emu *m)
{
    unsigned size = m->i->operand_size;
    uint64_t old = m->v->gpr[m->i->reg], value;
    enum emu_result r = emu_rm_get(m, size, &value);

    if (r == EMU_OK) {
        value = alu_scan((m->i->opcode & 1) != 0, (m->i->prefixes & INSN_REP) != 0, old, value,
                         size, &m->v->rflags);
        if (size == 2) {
            emu_gpr_write(m, m->i->reg, size, value);
        } else {
            m->v->gpr[m->i->reg] = value; /* all of it: a source of 0 may leave what was there */
        }
    }
    return r;
}

enum emu_result emu_shift_double(struct emu *m)
{
    unsigned size = m->i->operand_size;
    uint8_t count = (uint8_t)((m->i->opcode & 1) != 0 ? m->v->gpr[VMM_RCX] : m->i->imm);
    uint64_t value, flags = m->v->rflags;
    struct emu_rm rm;
    enum emu_result r = emu_rm_begin(m, size, &rm, &value);

    if (r == EMU_OK) {
        value = alu_shift_double((m->i->opcode & 8) != 0, value, emu_gpr_read(m, m->i->reg, size),
                                 count, size, &flags);
        r = emu_rm_store(m, &rm, value);
    }
    if (r == EMU_OK) {
        m->v->rflags = flags;
    }
    return r;
}
