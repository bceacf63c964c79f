/* Accesses to control and debug registers, decoded for the exit handlers. */
#include "core/emulate_inner.h"

static int decode_lmsw(struct emu *m)
{
    uint64_t source;

    if (emu_rm_get(m, 2, &source) != EMU_OK) {
        return -VMM_EFAULT;
    }
    m->e->reg.value = emu_lmsw_value(m, source);
    return 0;
}

int vmm_decode_reg_access(struct vcpu *v, struct vmm_exit *e)
{
    struct emu m = {.v = v, .e = e};

    v->backend->get_address_mode(v, &m.mode);
    if (decode_current(v, &m.mode, e, &m.i) != DECODE_OK) {
        return -VMM_EFAULT;
    }
    if (m.i->map != INSN_MAP_0F) {
        return -VMM_EINVAL;
    }
    e->insn_length = m.i->length;
    if ((m.i->opcode & 0xfc) == 0x20) { /* MOV to and from CR (20, 22) and DR (21, 23) */
        if (((m.i->opcode & 1) != 0) != (e->kind == VMM_EXIT_dr_access)) {
            return -VMM_EINVAL;
        }
        e->reg.write = (m.i->opcode & 2) != 0;
        e->reg.number = m.i->reg;
        e->reg.gpr = m.i->rm; /* whatever mod says (APM vol. 3, MOV CRn) */
        e->reg.gpr_valid = true;
        e->reg.value_valid = false;
        return 0;
    }
    e->reg.number = 0;
    e->reg.write = true;
    e->reg.gpr_valid = false;
    e->reg.value_valid = true;
    if (m.i->opcode == 0x06) { /* CLTS */
        e->reg.value = m.mode.cr0 & ~CR0_TS;
        return 0;
    }
    if (m.i->opcode == 0x01 && (m.i->reg & 7) == 6) {
        return decode_lmsw(&m);
    }
    return -VMM_EINVAL;
}
