/* Execution of instructions that touch device memory or ROM: plain moves at once, others by the
 * table of opcodes. */
#include "core/emulate_ops.h"

/* One memory operand alone, of which the exit says where it lies. */
static bool has_one_operand(const struct insn *i, const struct op_info *info)
{
    switch (info->op) {
    case OP_STRING:
    case OP_PUSH:
    case OP_PUSH_IMM:
    case OP_POP:
    case OP_POP_RM:
    case OP_CALL:
    case OP_RETURN:
    case OP_LEAVE:
    case OP_FAR_POINTER: /* this and what follows: may cross into another page at any alignment */
    case OP_GROUP7:
    case OP_VECTOR:
        return false;
    case OP_GROUP5:
        return (i->reg & 7) <= 1;
    default:
        return true;
    }
}

static enum vmm_action crash(struct vcpu *v, const struct vmm_exit *e, const char *why)
{
    char text[128];

    vmm_describe_instruction(v, text, sizeof(text));
    vmm_vm_crash(v, VM_REASON_EMULATION, "%s at rip %llx, guest-physical %llx: %s", why,
                 (unsigned long long)v->rip, (unsigned long long)e->fault.gpa.v, text);
    return VMM_LEAVE;
}

/* --- the quick way -------------------------------------------------------------------------------
 */

/* A move whose operand lies at the exit's address for certain: all in one page, and not the second
 * part of an operand that began in the page before. The processor has checked everything else. */
static inline bool is_quick(struct vcpu *v, const struct insn *i, const struct vmm_exit *e)
{
    unsigned offset = (unsigned)(e->fault.gpa.v & (VMM_PAGE_SIZE - 1));

    if (i->quick == QUICK_NONE || e->fault.write != (i->quick != QUICK_LOAD) ||
        offset + i->quick_size > VMM_PAGE_SIZE) {
        return false;
    }
    if (offset != 0) {
        return true;
    }
    if (i->index == INSN_NO_REG && i->base < INSN_REG_RIP) {
        return ((v->gpr[i->base] + i->disp) & (VMM_PAGE_SIZE - 1)) == 0;
    }
    return (emu_effective_address(v, i) & (VMM_PAGE_SIZE - 1)) == 0;
}

static inline void move_quickly(struct vcpu *v, const struct insn *i, struct vmm_exit *e)
{
    uint64_t *gpr = &v->gpr[i->reg];
    struct vdev_access a; /* an initializer would write each field twice; the bus sets the offset */

    a.size = i->quick_size;
    a.write = i->quick != QUICK_LOAD;
    a.vcpu = v;
    a.value = i->quick == QUICK_STORE_IMM ? i->imm : *gpr & i->quick_mask;
    vmm_port_access(&v->mmio, e->fault.gpa.v, &a);
    if (i->quick == QUICK_LOAD) {
        *gpr = a.size >= 4 ? a.value : (*gpr & ~i->quick_mask) | a.value;
    }
    e->insn_length = i->length;
    (void)!vmm_skip_instruction(v, e); /* the length is known */
}

void emu_finish(struct emu *m, bool again)
{
    if (again) {
        vmm_end_step(m->v);
        return;
    }
    m->e->insn_length = m->i->length;
    (void)!vmm_skip_instruction(m->v, m->e); /* the length is known */
    m->v->intr_shadow = m->shadow;
}

static __attribute__((noinline)) enum vmm_action emulate_fully(struct vcpu *v, struct vmm_exit *e,
                                                               const struct vmm_address_mode *mode,
                                                               const struct insn *i)
{
    struct emu m = {.v = v, .e = e, .i = i, .mode = *mode};
    const struct op_info *info = op_find(i);
    bool again = false;

    m.gpa_known = has_one_operand(i, info);
    switch (op_execute(&m, info, &again)) {
    case EMU_OK:
        break;
    case EMU_FAULT:
        return VMM_CONTINUE;
    case EMU_CANNOT:
        return crash(v, e, "instruction on device memory that is not emulated");
    }
    emu_finish(&m, again);
    return VMM_CONTINUE;
}

/* Out of line, so that the quick way needs no room on the stack for it. */
static __attribute__((noinline)) enum vmm_action emulate_other(struct vcpu *v, struct vmm_exit *e,
                                                               const struct vmm_address_mode *mode,
                                                               const struct insn *i)
{
    if (i == NULL) {
        switch (decode_anew(v, mode, e, &i)) {
        case DECODE_OK:
            break;
        case DECODE_FAULT:
            return VMM_CONTINUE;
        case DECODE_CRASH:
            return crash(v, e, "guest runs code outside RAM");
        }
        if (is_quick(v, i, e)) {
            move_quickly(v, i, e);
            return VMM_CONTINUE;
        }
    }
    return emulate_fully(v, e, mode, i);
}

enum vmm_action vmm_emulate_mmio(struct vcpu *v, struct vmm_exit *e)
{
    struct vmm_address_mode mode;
    const struct insn *i;

    v->backend->get_address_mode(v, &mode);
    i = decode_remembered(v, &mode, e);
    if (vmm_unlikely(i == NULL || !is_quick(v, i, e))) {
        return emulate_other(v, e, &mode, i);
    }
    move_quickly(v, i, e);
    return VMM_CONTINUE;
}
