/* IN, OUT and their string forms. The hardware has checked IOPL and the I/O bitmap before the exit.
 */
#include "core/emulate_inner.h"

static inline uint64_t port_access(struct vcpu *v, const struct vmm_exit *e, bool write,
                                   uint64_t value)
{
    struct vdev_access a;

    a.offset = 0;
    a.value = value;
    a.size = e->pio.size;
    a.write = write;
    a.vcpu = v;
    vmm_port_access(&v->pio, e->pio.port, &a);
    return a.value;
}

static uint64_t port_read(struct vcpu *v, const struct vmm_exit *e)
{
    return port_access(v, e, false, ~UINT64_C(0));
}

static void port_write(struct vcpu *v, const struct vmm_exit *e, uint64_t value)
{
    port_access(v, e, true, value & emu_mask(e->pio.size));
}

static void step(struct emu *m, unsigned reg)
{
    uint64_t size = m->e->pio.size;

    emu_address_write(m, reg, m->v->gpr[reg] + ((m->v->rflags & RFLAGS_DF) != 0 ? -size : size));
}

/* INS: the destination is checked before the port is read, whose read may not be repeatable. */
static enum emu_result input_string(struct emu *m)
{
    uint64_t offset = m->v->gpr[VMM_RDI] & emu_mask(m->i->address_size);
    unsigned size = m->e->pio.size;
    uint64_t linear, value;
    enum emu_result r = emu_linear(m, VMM_SEG_ES, offset, size, EMU_WRITE, &linear);

    if (r == EMU_OK) {
        r = emu_check_write(m, linear, size);
    }
    if (r != EMU_OK) {
        return r;
    }
    value = port_read(m->v, m->e);
    r = emu_store(m, linear, &value, size);
    step(m, VMM_RDI);
    return r;
}

static enum emu_result output_string(struct emu *m)
{
    enum vmm_segment segment =
        m->i->segment != INSN_NO_SEG ? (enum vmm_segment)m->i->segment : VMM_SEG_DS;
    uint64_t offset = m->v->gpr[VMM_RSI] & emu_mask(m->i->address_size);
    uint64_t value;
    enum emu_result r = emu_read(m, segment, offset, m->e->pio.size, &value);

    if (r == EMU_OK) {
        port_write(m->v, m->e, value);
        step(m, VMM_RSI);
    }
    return r;
}

static enum emu_result string(struct emu *m, bool *again)
{
    enum emu_result (*once)(struct emu * m) = m->e->pio.in ? input_string : output_string;

    if ((m->i->prefixes & (INSN_REP | INSN_REPNE)) == 0) {
        return once(m);
    }
    for (unsigned n = 0; n < emu_turn(m); n++) {
        uint64_t count = m->v->gpr[VMM_RCX] & emu_mask(m->i->address_size);
        enum emu_result r;

        if (count == 0) {
            return EMU_OK;
        }
        r = once(m);
        if (r != EMU_OK) {
            return r;
        }
        emu_address_write(m, VMM_RCX, count - 1);
    }
    *again = (m->v->gpr[VMM_RCX] & emu_mask(m->i->address_size)) != 0;
    return EMU_OK;
}

/* Segment, address size and REP are taken from the instruction: not every processor reports them,
 * and one that does may be wrong about 16-bit code. */
static __attribute__((noinline)) enum vmm_action emulate_string(struct vcpu *v, struct vmm_exit *e)
{
    struct emu m = {.v = v, .e = e};
    bool again = false;

    v->backend->get_address_mode(v, &m.mode);
    switch (decode_current(v, &m.mode, e, &m.i)) {
    case DECODE_OK:
        break;
    case DECODE_FAULT:
        return VMM_CONTINUE;
    case DECODE_CRASH:
        vmm_vm_crash(v, VM_REASON_EMULATION, "string I/O at rip %llx outside RAM",
                     (unsigned long long)v->rip);
        return VMM_LEAVE;
    }
    if (m.i->map != INSN_MAP_1 || (m.i->opcode & 0xfc) != 0x6c) {
        return VMM_CONTINUE; /* the code was changed under us: run what is there now */
    }
    if (string(&m, &again) == EMU_OK) {
        emu_finish(&m, again);
    }
    return VMM_CONTINUE;
}

enum vmm_action vmm_emulate_pio(struct vcpu *v, struct vmm_exit *e)
{
    if (vmm_unlikely(e->pio.string)) {
        return emulate_string(v, e);
    }
    if (e->pio.in) {
        uint64_t value = port_read(v, e);

        if (e->pio.size == 4) {
            v->gpr[VMM_RAX] = (uint32_t)value;
        } else {
            uint64_t mask = emu_mask(e->pio.size);

            v->gpr[VMM_RAX] = (v->gpr[VMM_RAX] & ~mask) | (value & mask);
        }
    } else {
        port_write(v, e, v->gpr[VMM_RAX]);
    }
    (void)!vmm_skip_instruction(v, e); /* not fetched: a fault is queued */
    return VMM_CONTINUE;
}
