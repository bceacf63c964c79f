/* Breakpoints on data and ports that the processor does not see hit, because the access is carried
 * out here: their trap behind the instruction. Only exits that go the long way ask; a guest with
 * breakpoints is made to go there by its back end.
 * Spec: AMD APM vol. 2 section 13.1.1; Intel SDM vol. 3 sections 18.2.4, 18.2.5. */
#include "core/watch.h"

#include "core/emulate_inner.h"
#include "core/x86.h"

#define CR4_DE (UINT64_C(1) << 3)

enum kind { KIND_CODE, KIND_WRITE, KIND_PORT, KIND_ANY }; /* the R/W fields of DR7 */

/* Causes, as in DR6. */
static uint64_t hits(struct vcpu *v, uint64_t at, unsigned size, uint32_t kinds)
{
    static const uint8_t size_table[] = {1, 2, 8, 4};
    uint64_t dr7 = v->backend->get_sysreg(v, VMM_DR7), causes = 0;

    for (unsigned n = 0; n < VMM_ARRAY_COUNT(v->dr); n++) {
        unsigned what = dr7 >> (16 + 4 * n) & 0xf, length = size_table[what >> 2];
        uint64_t from = v->dr[n] & ~(uint64_t)(length - 1);

        if ((dr7 >> 2 * n & 3) != 0 && (kinds >> (what & 3) & 1) != 0 && at < from + length &&
            from < at + size) {
            causes |= UINT64_C(1) << n;
        }
    }
    return causes;
}

static void trap(struct vcpu *v, uint64_t causes)
{
    if (causes != 0) {
        v->backend->set_sysreg(v, VMM_DR6, v->backend->get_sysreg(v, VMM_DR6) | causes);
        vmm_inject_exception(v, X86_DB, false, 0);
    }
}

/* Did it run to its end? One that faulted or goes on is where it was. */
static bool finished(const struct vcpu *v, const struct vmm_exit *e)
{
    return v->rip != e->rip;
}

enum vmm_action vmm_watched_pio(struct vcpu *v, struct vmm_exit *e)
{
    enum vmm_action action = vmm_emulate_pio(v, e);

    if (finished(v, e) && (v->backend->get_sysreg(v, VMM_CR4) & CR4_DE) != 0) {
        trap(v, hits(v, e->pio.port, e->pio.size, 1 << KIND_PORT));
    }
    return action;
}

/* The one operand, as far as it matters where it begins. */
static enum emu_result operand(struct emu *m, uint64_t *linear, unsigned *size)
{
    bool write = m->e->fault.write;

    *size = m->i->quick != QUICK_NONE ? m->i->quick_size : m->i->operand_size;
    if (m->i->has_modrm) {
        return emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), *size, EMU_READ,
                          linear);
    }
    return emu_linear(m, write ? VMM_SEG_ES : VMM_SEG_DS,
                      m->v->gpr[write ? VMM_RDI : VMM_RSI] & emu_mask(m->i->address_size), *size,
                      EMU_READ, linear);
}

enum vmm_action vmm_watched_mmio(struct vcpu *v, struct vmm_exit *e)
{
    uint32_t kinds = e->fault.write ? 1 << KIND_WRITE | 1 << KIND_ANY : 1 << KIND_ANY;
    struct emu m = {.v = v, .e = e};
    enum decode_result decoded;
    enum vmm_action action;
    uint64_t linear, causes;
    unsigned size;

    v->backend->get_address_mode(v, &m.mode);
    decoded = decode_current(v, &m.mode, e, &m.i);
    if (decoded == DECODE_CRASH) {
        return vmm_emulate_mmio(v, e); /* it says so */
    }
    if (decoded == DECODE_FAULT || operand(&m, &linear, &size) != EMU_OK) {
        return VMM_CONTINUE;
    }
    causes = hits(v, linear, size, kinds);
    action = vmm_emulate_mmio(v, e);
    if (finished(v, e)) {
        trap(v, causes);
    }
    return action;
}
