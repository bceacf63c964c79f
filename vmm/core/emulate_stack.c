/* Emulated instructions on the stack, and branches through memory. Spec: APM vol. 3; Intel SDM vol.
 * 3 section 5.8 for far branches. */
#include "core/emulate_inner.h"

static unsigned stack_address_size(struct emu *m)
{
    struct vmm_segment_state ss;

    if (m->i->mode == 8) {
        return 8;
    }
    m->v->backend->get_segment(m->v, VMM_SEG_SS, &ss);
    return (ss.attributes & VMM_SEGMENT_DEFAULT_32) != 0 ? 4 : 2;
}

/* Of what is pushed and popped: 4 bytes are no choice in 64-bit mode. */
static unsigned stack_operand_size(const struct emu *m)
{
    return m->i->mode == 8 && m->i->operand_size == 4 ? 8 : m->i->operand_size;
}

/* Of near branches in 64-bit mode, where Intel's processors ignore an operand size prefix. */
static unsigned branch_operand_size(const struct emu *m)
{
    return m->i->mode == 8 ? 8 : m->i->operand_size;
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

static enum emu_result pop(struct emu *m, uint64_t *value, unsigned size)
{
    unsigned width = stack_address_size(m);
    uint64_t top = m->v->gpr[VMM_RSP] & emu_mask(width);
    enum emu_result r = emu_read(m, VMM_SEG_SS, top, size, value);

    if (r == EMU_OK) {
        set_stack_pointer(m, width, top + size);
    }
    return r;
}

enum emu_result emu_push(struct emu *m, uint64_t value)
{
    return push(m, value, stack_operand_size(m));
}

enum emu_result emu_pop_register(struct emu *m)
{
    unsigned size = stack_operand_size(m);
    uint64_t value;
    enum emu_result r = pop(m, &value, size);

    if (r == EMU_OK) {
        emu_gpr_write(m, m->i->rm, size, value); /* POP RSP: the value, not the pointer behind it */
    }
    return r;
}

/* The address is computed with the incremented stack pointer. */
enum emu_result emu_pop_rm(struct emu *m)
{
    unsigned size = stack_operand_size(m);
    uint64_t before = m->v->gpr[VMM_RSP], value;
    enum emu_result r = pop(m, &value, size);

    if (r == EMU_OK) {
        r = emu_rm_put(m, size, value);
    }
    if (r != EMU_OK) {
        m->v->gpr[VMM_RSP] = before;
    }
    return r;
}

/* RSP from RBP, then RBP from there. */
enum emu_result emu_leave(struct emu *m)
{
    unsigned size = stack_operand_size(m), width = stack_address_size(m);
    uint64_t before = m->v->gpr[VMM_RSP], value;
    enum emu_result r;

    set_stack_pointer(m, width, m->v->gpr[VMM_RBP]);
    r = pop(m, &value, size);
    if (r == EMU_OK) {
        emu_gpr_write(m, VMM_RBP, size, value);
    } else {
        m->v->gpr[VMM_RSP] = before;
    }
    return r;
}

/* --- near branches -------------------------------------------------------------------------------
 */

static enum emu_result check_target(struct emu *m, uint64_t target)
{
    struct vmm_segment_state cs;

    if (m->i->mode == 8) {
        return emu_is_canonical(m, target) ? EMU_OK : emu_exception(m, X86_GP);
    }
    m->v->backend->get_segment(m->v, VMM_SEG_CS, &cs);
    return target <= cs.limit ? EMU_OK : emu_exception(m, X86_GP);
}

/* rip is set so that the step past the instruction leads to the target. */
static void go_to(struct emu *m, uint64_t target)
{
    m->v->rip = target - m->i->length;
}

static enum emu_result branch(struct emu *m, uint64_t target, bool is_call)
{
    enum emu_result r = check_target(m, target);

    if (r == EMU_OK && is_call) {
        r = push(m, m->v->rip + m->i->length, branch_operand_size(m));
    }
    if (r == EMU_OK) {
        go_to(m, target);
    }
    return r;
}

enum emu_result emu_call(struct emu *m)
{
    uint64_t target = m->v->rip + m->i->length + m->i->imm;

    return branch(m, target & emu_mask(branch_operand_size(m)), true);
}

/* RET, and RET with bytes to drop. */
enum emu_result emu_return(struct emu *m)
{
    unsigned size = branch_operand_size(m);
    uint64_t before = m->v->gpr[VMM_RSP], target;
    enum emu_result r = pop(m, &target, size);

    if (r == EMU_OK) {
        r = check_target(m, target);
    }
    if (r != EMU_OK) {
        m->v->gpr[VMM_RSP] = before;
        return r;
    }
    if (m->i->opcode == 0xc2) {
        set_stack_pointer(m, stack_address_size(m), m->v->gpr[VMM_RSP] + (m->i->imm & 0xffff));
    }
    go_to(m, target);
    return EMU_OK;
}

/* --- far branches --------------------------------------------------------------------------------
 */

static enum emu_result push_far(struct emu *m, uint16_t selector)
{
    unsigned size = m->i->operand_size;
    uint64_t before = m->v->gpr[VMM_RSP];
    enum emu_result r = push(m, selector, size);

    if (r == EMU_OK) {
        r = push(m, m->v->rip + m->i->length, size);
    }
    if (r != EMU_OK) {
        m->v->gpr[VMM_RSP] = before;
    }
    return r;
}

/* The code segment that a selector names, in protected mode. Gates and tasks are not done. */
static enum emu_result find_code(struct emu *m, uint16_t selector, struct vmm_segment_state *cs)
{
    bool is_long = (m->mode.efer & EFER_LMA) != 0;
    uint64_t at, d;

    if (SELECTOR_OF(selector) == 0) {
        return emu_exception(m, X86_GP);
    }
    if (!vmm_descriptor_find(m->v, selector, &at)) {
        return emu_bad_selector(m, X86_GP, selector);
    }
    if (!vmm_system_read(m->v, at, &d, sizeof(d))) {
        return EMU_FAULT;
    }
    vmm_descriptor_unpack(selector, d, cs);
    if ((cs->attributes & SEGMENT_CODE_DATA) == 0) {
        return EMU_CANNOT;
    }
    if (!vmm_segment_fits(VMM_SEG_CS, cs, m->mode.cpl) ||
        (is_long && (cs->attributes & VMM_SEGMENT_LONG) != 0 &&
         (cs->attributes & VMM_SEGMENT_DEFAULT_32) != 0)) {
        return emu_bad_selector(m, X86_GP, selector);
    }
    if ((cs->attributes & SEGMENT_PRESENT) == 0) {
        return emu_bad_selector(m, X86_NP, selector);
    }
    cs->selector = (uint16_t)(SELECTOR_OF(selector) | m->mode.cpl);
    cs->attributes |= SEGMENT_ACCESSED;
    return vmm_descriptor_mark(m->v, at, SEGMENT_ACCESSED, 0) ? EMU_OK : EMU_FAULT;
}

static enum emu_result far_branch(struct emu *m, uint16_t selector, uint64_t offset, bool is_call)
{
    struct vmm_segment_state cs, old;
    enum emu_result r = EMU_OK;
    bool wide;

    m->v->backend->get_segment(m->v, VMM_SEG_CS, &old);
    cs = old;
    if (emu_is_real(m)) {
        cs.selector = selector;
        cs.base = (uint64_t)selector << 4;
    } else {
        r = find_code(m, selector, &cs);
    }
    if (r != EMU_OK) {
        return r;
    }
    wide = (m->mode.efer & EFER_LMA) != 0 && (cs.attributes & VMM_SEGMENT_LONG) != 0;
    if (wide ? !emu_is_canonical(m, offset) : offset > cs.limit) {
        return emu_exception(m, X86_GP);
    }
    if (is_call) {
        r = push_far(m, old.selector);
    }
    if (r == EMU_OK) {
        m->v->backend->set_segment(m->v, VMM_SEG_CS, &cs);
        go_to(m, offset);
    }
    return r;
}

/* CALL and JMP, near and far, and PUSH. */
enum emu_result emu_group5(struct emu *m)
{
    unsigned which = m->i->reg & 7;
    uint16_t selector;
    uint64_t value;
    enum emu_result r;

    if ((m->i->opcode & 1) == 0) {
        return EMU_CANNOT;
    }
    switch (which) {
    case 2:
    case 4:
        r = emu_rm_get(m, branch_operand_size(m), &value);
        return r == EMU_OK ? branch(m, value, which == 2) : r;
    case 3:
    case 5:
        r = emu_read_far_pointer(m, m->i->operand_size, &value, &selector);
        return r == EMU_OK ? far_branch(m, selector, value, which == 3) : r;
    case 6:
        r = emu_rm_get(m, stack_operand_size(m), &value);
        return r == EMU_OK ? emu_push(m, value) : r;
    default:
        return EMU_CANNOT;
    }
}
