/* Emulated instructions on segment registers, descriptors and their tables. Spec: APM vol. 3; Intel
 * SDM vol. 3 sections 3.4.3 and 5.10. */
#include "core/emulate_inner.h"

/* --- loading a segment register -----------------------------------------------------------------
 */

static enum emu_result load_null(struct emu *m, enum vmm_segment which, uint16_t selector)
{
    unsigned cpl = m->mode.cpl;
    struct vmm_segment_state s = {.selector = selector};

    if (which == VMM_SEG_SS) {
        if (m->i->mode != 8 || cpl == 3 || (selector & SELECTOR_RPL) != cpl) {
            return emu_exception(m, X86_GP);
        }
        s.attributes = (uint16_t)(cpl << 5); /* the privilege level is this segment's */
    }
    m->v->backend->set_segment(m->v, which, &s);
    return EMU_OK;
}

static enum emu_result load_segment(struct emu *m, enum vmm_segment which, uint16_t selector)
{
    struct vmm_segment_state s;

    if (emu_is_real(m)) { /* limit and attributes stay: unreal mode */
        m->v->backend->get_segment(m->v, which, &s);
        s.selector = selector;
        s.base = (uint64_t)selector << 4;
        m->v->backend->set_segment(m->v, which, &s);
        return EMU_OK;
    }
    if (SELECTOR_OF(selector) == 0) {
        return load_null(m, which, selector);
    }
    return vmm_segment_load(m->v, which, selector, m->mode.cpl, X86_GP, 0) ? EMU_OK : EMU_FAULT;
}

enum emu_result emu_mov_to_segment(struct emu *m)
{
    enum vmm_segment which = (enum vmm_segment)(m->i->reg & 7);
    uint64_t selector;
    enum emu_result r;

    if (which == VMM_SEG_CS || which > VMM_SEG_GS) {
        return emu_exception(m, X86_UD);
    }
    r = emu_rm_get(m, 2, &selector);
    if (r == EMU_OK) {
        r = load_segment(m, which, (uint16_t)selector);
        m->shadow = r == EMU_OK && which == VMM_SEG_SS;
    }
    return r;
}

/* Memory gets two bytes whatever the operand size. */
enum emu_result emu_mov_from_segment(struct emu *m)
{
    struct vmm_segment_state s;

    if ((m->i->reg & 7) > VMM_SEG_GS) {
        return emu_exception(m, X86_UD);
    }
    m->v->backend->get_segment(m->v, (enum vmm_segment)(m->i->reg & 7), &s);
    return emu_rm_put(m, m->i->mod == 3 ? m->i->operand_size : 2, s.selector);
}

enum emu_result emu_read_far_pointer(struct emu *m, unsigned size, uint64_t *offset,
                                     uint16_t *selector)
{
    uint64_t at = emu_effective_address(m->v, m->i), value;
    enum emu_result r;

    *offset = *selector = 0;
    if (m->i->mod == 3) {
        return emu_exception(m, X86_UD);
    }
    r = emu_read(m, emu_segment(m), at, size, offset);
    if (r == EMU_OK) {
        r = emu_read(m, emu_segment(m), (at + size) & emu_mask(m->i->address_size), 2, &value);
        *selector = (uint16_t)value;
    }
    return r;
}

enum emu_result emu_load_far_pointer(struct emu *m)
{
    enum vmm_segment which = m->i->map == INSN_MAP_1
                                 ? (m->i->opcode == 0xc4 ? VMM_SEG_ES : VMM_SEG_DS)
                                 : (enum vmm_segment)(m->i->opcode & 7); /* B2, B4, B5 */
    uint16_t selector;
    uint64_t offset;
    enum emu_result r = emu_read_far_pointer(m, m->i->operand_size, &offset, &selector);

    if (r == EMU_OK) {
        r = load_segment(m, which, selector);
    }
    if (r == EMU_OK) {
        emu_gpr_write(m, m->i->reg, m->i->operand_size, offset);
    }
    return r;
}

/* --- looking at descriptors ---------------------------------------------------------------------
 */

/* System descriptors by type that LAR and LSL accept, a bit each: long mode's and others. */
#define LAR_TYPES      0x1a3eu
#define LAR_TYPES_LONG 0x1a04u
#define LSL_TYPES      0x0a0eu
#define LSL_TYPES_LONG 0x0a04u

/* *seen: the descriptor can be looked at from here. */
static enum emu_result look_at(struct emu *m, uint16_t selector, uint32_t system_types,
                               uint64_t *descriptor, struct vmm_segment_state *s, bool *seen)
{
    unsigned rpl = selector & SELECTOR_RPL, dpl;
    uint64_t at;

    *seen = false;
    if (SELECTOR_OF(selector) == 0 || !vmm_descriptor_find(m->v, selector, &at)) {
        return EMU_OK;
    }
    if (!vmm_system_read(m->v, at, descriptor, sizeof(*descriptor))) {
        return EMU_FAULT;
    }
    vmm_descriptor_unpack(selector, *descriptor, s);
    dpl = SEGMENT_DPL(s->attributes);
    if ((s->attributes & SEGMENT_CODE_DATA) == 0) {
        *seen = (system_types >> SEGMENT_TYPE(s->attributes) & 1) != 0;
    } else {
        *seen = true;
        if ((s->attributes & (SEGMENT_CODE | SEGMENT_CONFORMING)) ==
            (SEGMENT_CODE | SEGMENT_CONFORMING)) {
            return EMU_OK;
        }
    }
    *seen = *seen && dpl >= m->mode.cpl && dpl >= rpl;
    return EMU_OK;
}

static void set_zf(struct emu *m, bool on)
{
    m->v->rflags = (m->v->rflags & ~RFLAGS_ZF) | (on ? RFLAGS_ZF : 0);
}

enum emu_result emu_lar_lsl(struct emu *m)
{
    bool lsl = (m->i->opcode & 1) != 0, is_long = (m->mode.efer & EFER_LMA) != 0, seen;
    uint32_t types =
        lsl ? (is_long ? LSL_TYPES_LONG : LSL_TYPES) : (is_long ? LAR_TYPES_LONG : LAR_TYPES);
    struct vmm_segment_state s;
    uint64_t selector, d;
    enum emu_result r;

    if (emu_is_real(m)) {
        return emu_exception(m, X86_UD);
    }
    r = emu_rm_get(m, 2, &selector);
    if (r == EMU_OK) {
        r = look_at(m, (uint16_t)selector, types, &d, &s, &seen);
    }
    if (r != EMU_OK) {
        return r;
    }
    set_zf(m, seen);
    if (seen) {
        emu_gpr_write(m, m->i->reg, m->i->operand_size, lsl ? s.limit : d >> 32 & 0xf0ff00);
    }
    return EMU_OK;
}

/* VERR: can the segment be read; VERW: written. */
static enum emu_result verify(struct emu *m, bool write)
{
    struct vmm_segment_state s;
    uint64_t selector, d;
    bool seen;
    enum emu_result r = emu_rm_get(m, 2, &selector);

    if (r == EMU_OK) {
        r = look_at(m, (uint16_t)selector, 0, &d, &s, &seen);
    }
    if (r == EMU_OK) {
        bool is_code = seen && (s.attributes & SEGMENT_CODE) != 0;
        bool bit = seen && (s.attributes & SEGMENT_WRITABLE) != 0;

        set_zf(m, seen && (write ? !is_code && bit : !is_code || bit));
    }
    return r;
}

/* --- what is kept from applications --------------------------------------------------------------
 */

static bool is_kept_back(const struct emu *m)
{
    return m->mode.cpl == 3 && (m->mode.cr4 & CR4_UMIP) != 0;
}

enum emu_result emu_group6(struct emu *m)
{
    unsigned which = m->i->reg & 7;
    struct vmm_segment_state s;

    if (emu_is_real(m)) {
        return emu_exception(m, X86_UD);
    }
    switch (which) {
    case 0: /* SLDT */
    case 1: /* STR */
        if (is_kept_back(m)) {
            return emu_exception(m, X86_GP);
        }
        m->v->backend->get_segment(m->v, which == 0 ? VMM_SEG_LDTR : VMM_SEG_TR, &s);
        return emu_rm_put(m, m->i->mod == 3 ? m->i->operand_size : 2, s.selector);
    case 4:
    case 5:
        return verify(m, which == 5);
    default: /* LLDT and LTR load more than a register */
        return EMU_CANNOT;
    }
}

/* Limit and base, 6 or 10 bytes: 16-bit code loads 24 bits of the base and stores 32. */
static enum emu_result store_table(struct emu *m, enum vmm_segment which)
{
    uint64_t at = emu_effective_address(m->v, m->i);
    struct vmm_segment_state s;
    enum emu_result r;

    if (is_kept_back(m)) {
        return emu_exception(m, X86_GP);
    }
    m->v->backend->get_segment(m->v, which, &s);
    r = emu_write(m, emu_segment(m), at, 2, s.limit);
    at = (at + 2) & emu_mask(m->i->address_size);
    return r == EMU_OK ? emu_write(m, emu_segment(m), at, m->i->mode == 8 ? 8 : 4, s.base) : r;
}

static enum emu_result load_table(struct emu *m, enum vmm_segment which)
{
    uint64_t at = emu_effective_address(m->v, m->i), limit, base;
    struct vmm_segment_state s;
    enum emu_result r;

    if (m->mode.cpl != 0) {
        return emu_exception(m, X86_GP);
    }
    r = emu_read(m, emu_segment(m), at, 2, &limit);
    if (r == EMU_OK) {
        at = (at + 2) & emu_mask(m->i->address_size);
        r = emu_read(m, emu_segment(m), at, m->i->mode == 8 ? 8 : 4, &base);
    }
    if (r != EMU_OK) {
        return r;
    }
    if (m->i->mode != 8 && m->i->operand_size == 2) {
        base &= 0xffffff;
    }
    if (m->i->mode == 8 && !emu_is_canonical(m, base)) {
        return emu_exception(m, X86_GP);
    }
    m->v->backend->get_segment(m->v, which, &s);
    s.limit = (uint32_t)limit;
    s.base = base;
    m->v->backend->set_segment(m->v, which, &s);
    return EMU_OK;
}

/* It loads CR0's low four bits, and can set PE but not clear it. */
uint64_t emu_lmsw_value(const struct emu *m, uint64_t source)
{
    return (m->mode.cr0 & ~UINT64_C(0xe)) | (source & 0xf);
}

static enum emu_result lmsw(struct emu *m)
{
    uint64_t source;
    enum emu_result r;

    if (m->mode.cpl != 0) {
        return emu_exception(m, X86_GP);
    }
    r = emu_rm_get(m, 2, &source);
    if (r == EMU_OK && !vmm_write_cr(m->v, 0, emu_lmsw_value(m, source))) {
        return emu_exception(m, X86_GP);
    }
    return r;
}

enum emu_result emu_group7(struct emu *m)
{
    unsigned which = m->i->reg & 7;

    if (m->i->mod == 3) {
        return EMU_CANNOT; /* a group of instructions without memory */
    }
    switch (which) {
    case 0:
    case 1:
        return store_table(m, which == 0 ? VMM_SEG_GDTR : VMM_SEG_IDTR);
    case 2:
    case 3:
        return load_table(m, which == 2 ? VMM_SEG_GDTR : VMM_SEG_IDTR);
    case 4: /* SMSW: two bytes of memory */
        return is_kept_back(m) ? emu_exception(m, X86_GP) : emu_rm_put(m, 2, m->mode.cr0);
    case 6:
        return lmsw(m);
    default:
        return EMU_CANNOT;
    }
}
