/* Moves between device memory and MMX, SSE and AVX registers: what copies memory uses them. Spec:
 * Intel SDM vol. 2 section 2.4 (exceptions by instruction class), vol. 1 section 11.6.12. */
#include "core/emulate_inner.h"
#include "core/fpu.h"
#include "core/vector.h"

/* The mandatory prefix selects the instruction. */
enum prefix { NP, P66, PF3, PF2 };

enum move_flag {
    STORE = 1 << 0,
    ALIGNED = 1 << 1,
    MMX = 1 << 2,
    SHORT = 1 << 4,  /* the VEX form has 128 bits alone */
    SCALAR = 1 << 5, /* the VEX form does not look at its length */
    MERGE = 1 << 6,  /* a load keeps the other half, by VEX that of another register */
    UPPER = 1 << 7,  /* memory is the upper half's */
};

#define SIZE_FULL 0 /* 16, by VEX 32 */
#define SIZE_GPR  1 /* 4, or 8 with W */

struct move {
    uint8_t map, opcode, prefix;
    uint8_t size; /* bytes */
    uint8_t flags;
};

static const struct move move_table[] = {
    {INSN_MAP_0F, 0x10, NP, SIZE_FULL, 0}, /* MOVUPS */
    {INSN_MAP_0F, 0x11, NP, SIZE_FULL, STORE},
    {INSN_MAP_0F, 0x10, P66, SIZE_FULL, 0}, /* MOVUPD */
    {INSN_MAP_0F, 0x11, P66, SIZE_FULL, STORE},
    {INSN_MAP_0F, 0x10, PF3, 4, SCALAR}, /* MOVSS */
    {INSN_MAP_0F, 0x11, PF3, 4, SCALAR | STORE},
    {INSN_MAP_0F, 0x10, PF2, 8, SCALAR}, /* MOVSD */
    {INSN_MAP_0F, 0x11, PF2, 8, SCALAR | STORE},
    {INSN_MAP_0F, 0x12, NP, 8, SHORT | MERGE}, /* MOVLPS */
    {INSN_MAP_0F, 0x13, NP, 8, SHORT | STORE},
    {INSN_MAP_0F, 0x12, P66, 8, SHORT | MERGE}, /* MOVLPD */
    {INSN_MAP_0F, 0x13, P66, 8, SHORT | STORE},
    {INSN_MAP_0F, 0x16, NP, 8, SHORT | MERGE | UPPER}, /* MOVHPS */
    {INSN_MAP_0F, 0x17, NP, 8, SHORT | UPPER | STORE},
    {INSN_MAP_0F, 0x16, P66, 8, SHORT | MERGE | UPPER}, /* MOVHPD */
    {INSN_MAP_0F, 0x17, P66, 8, SHORT | UPPER | STORE},
    {INSN_MAP_0F, 0x28, NP, SIZE_FULL, ALIGNED}, /* MOVAPS */
    {INSN_MAP_0F, 0x29, NP, SIZE_FULL, ALIGNED | STORE},
    {INSN_MAP_0F, 0x28, P66, SIZE_FULL, ALIGNED}, /* MOVAPD */
    {INSN_MAP_0F, 0x29, P66, SIZE_FULL, ALIGNED | STORE},
    {INSN_MAP_0F, 0x2b, NP, SIZE_FULL, ALIGNED | STORE},  /* MOVNTPS */
    {INSN_MAP_0F, 0x2b, P66, SIZE_FULL, ALIGNED | STORE}, /* MOVNTPD */
    {INSN_MAP_0F, 0x6e, NP, SIZE_GPR, MMX},               /* MOVD, MOVQ */
    {INSN_MAP_0F, 0x7e, NP, SIZE_GPR, MMX | STORE},
    {INSN_MAP_0F, 0x6e, P66, SIZE_GPR, SHORT},
    {INSN_MAP_0F, 0x7e, P66, SIZE_GPR, SHORT | STORE},
    {INSN_MAP_0F, 0x6f, NP, 8, MMX}, /* MOVQ */
    {INSN_MAP_0F, 0x7f, NP, 8, MMX | STORE},
    {INSN_MAP_0F, 0x6f, P66, SIZE_FULL, ALIGNED}, /* MOVDQA */
    {INSN_MAP_0F, 0x7f, P66, SIZE_FULL, ALIGNED | STORE},
    {INSN_MAP_0F, 0x6f, PF3, SIZE_FULL, 0}, /* MOVDQU */
    {INSN_MAP_0F, 0x7f, PF3, SIZE_FULL, STORE},
    {INSN_MAP_0F, 0x7e, PF3, 8, SHORT}, /* MOVQ */
    {INSN_MAP_0F, 0xd6, P66, 8, SHORT | STORE},
    {INSN_MAP_0F, 0xe7, NP, 8, MMX | STORE},              /* MOVNTQ */
    {INSN_MAP_0F, 0xe7, P66, SIZE_FULL, ALIGNED | STORE}, /* MOVNTDQ */
    {INSN_MAP_0F, 0xf0, PF2, SIZE_FULL, 0},               /* LDDQU */
    {INSN_MAP_0F38, 0x2a, P66, SIZE_FULL, ALIGNED},       /* MOVNTDQA */
};

static bool is_vex(const struct emu *m)
{
    return (m->i->prefixes & INSN_VEX) != 0;
}

static enum prefix prefix_of(const struct insn *i)
{
    if ((i->prefixes & INSN_REP) != 0) {
        return PF3;
    }
    if ((i->prefixes & INSN_REPNE) != 0) {
        return PF2;
    }
    return (i->prefixes & INSN_OPSIZE) != 0 ? P66 : NP;
}

static const struct move *find_move(const struct insn *i)
{
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(move_table); n++) {
        if (move_table[n].map == i->map && move_table[n].opcode == i->opcode &&
            move_table[n].prefix == prefix_of(i)) {
            return &move_table[n];
        }
    }
    return NULL;
}

/* Does the guest's mode allow the instruction? In the order of the exceptions' priorities. */
static enum emu_result check_state(struct emu *m, bool mmx)
{
    uint64_t avx = X86_XCR0_SSE | X86_XCR0_AVX;
    bool undefined;

    if (is_vex(m)) {
        undefined = emu_is_real(m) || (m->mode.cr4 & CR4_OSXSAVE) == 0 || (m->v->xcr0 & avx) != avx;
    } else {
        undefined = (m->mode.cr0 & CR0_EM) != 0 || (!mmx && (m->mode.cr4 & CR4_OSFXSR) == 0);
    }
    if (undefined) {
        return emu_exception(m, X86_UD);
    }
    if ((m->mode.cr0 & CR0_TS) != 0) {
        return emu_exception(m, X86_NM);
    }
    return mmx && vmm_x87_waits() ? emu_exception(m, X86_MF) : EMU_OK;
}

/* VEX.L and VEX.vvvv where an instruction has no use for them. */
static bool is_wrong_vex(const struct insn *i, const struct move *move)
{
    bool merges = (move->flags & MERGE) != 0;

    return ((move->flags & SHORT) != 0 && (i->prefixes & INSN_VEX_256) != 0) ||
           (i->vvvv != 0 && !merges);
}

static enum emu_result mmx_move(struct emu *m, const struct move *move, uint64_t linear,
                                unsigned size)
{
    uint64_t value = 0;
    enum emu_result r;

    if ((move->flags & STORE) != 0) {
        r = emu_check_write(m, linear, size); /* reading a register already changes the x87 stack */
        if (r == EMU_OK) {
            value = vmm_mmx_read(m->i->reg);
            r = emu_store(m, linear, &value, size);
        }
        return r;
    }
    r = emu_load(m, linear, &value, size, EMU_READ);
    if (r == EMU_OK) {
        vmm_mmx_write(m->i->reg, value);
    }
    return r;
}

static enum emu_result store(struct emu *m, const struct move *move, uint64_t linear, unsigned size)
{
    struct vmm_vector value = {{0}};

    vmm_vector_read(m->i->reg, &value, size > 16);
    return emu_store(m, linear, &value.q[(move->flags & UPPER) != 0 ? 1 : 0], size);
}

/* A shorter load clears the rest, by VEX up to the register's end. */
static enum emu_result load(struct emu *m, const struct move *move, uint64_t linear, unsigned size)
{
    struct vmm_vector value = {{0}};
    enum emu_result r;

    if ((move->flags & MERGE) != 0) {
        vmm_vector_read(is_vex(m) ? m->i->vvvv : m->i->reg, &value, false);
    }
    r = emu_load(m, linear, &value.q[(move->flags & UPPER) != 0 ? 1 : 0], size, EMU_READ);
    if (r == EMU_OK) {
        vmm_vector_write(m->i->reg, &value,
                         size > 16   ? VMM_VECTOR_WHOLE
                         : is_vex(m) ? VMM_VECTOR_CLEAR
                                     : VMM_VECTOR_LOW);
    }
    return r;
}

static unsigned size_of(const struct insn *i, const struct move *move)
{
    if (move->size == SIZE_GPR) {
        return i->operand_size == 8 ? 8 : 4;
    }
    if (move->size == SIZE_FULL) {
        return (i->prefixes & INSN_VEX_256) != 0 ? 32 : 16;
    }
    return move->size;
}

enum emu_result emu_vector(struct emu *m)
{
    const struct insn *i = m->i;
    const struct move *move;
    bool mmx;
    enum emu_result r;
    uint64_t linear;
    unsigned size;

    if (is_vex(m) && i->map == INSN_MAP_0F && i->opcode == 0xae) {
        return emu_mxcsr(m);
    }
    move = find_move(i);
    mmx = move != NULL && (move->flags & MMX) != 0;
    if (move == NULL || i->mod == 3) {
        return EMU_CANNOT;
    }
    if (is_vex(m) && (mmx || is_wrong_vex(i, move))) {
        return emu_exception(m, X86_UD);
    }
    r = check_state(m, mmx);
    if (r != EMU_OK) {
        return r;
    }
    size = size_of(i, move);
    r = emu_linear(m, emu_segment(m), emu_effective_address(m->v, i), size,
                   (move->flags & STORE) != 0 ? EMU_WRITE : EMU_READ, &linear);
    if (r != EMU_OK) {
        return r;
    }
    if ((move->flags & ALIGNED) != 0 && (linear & (size - 1)) != 0) {
        return emu_exception(m, X86_GP);
    }
    if (mmx) {
        return mmx_move(m, move, linear, size);
    }
    return (move->flags & STORE) != 0 ? store(m, move, linear, size) : load(m, move, linear, size);
}

enum emu_result emu_mxcsr(struct emu *m)
{
    bool is_store = (m->i->reg & 7) == 3;
    uint64_t value;
    enum emu_result r;

    if ((!is_store && (m->i->reg & 7) != 2) || m->i->mod == 3 || prefix_of(m->i) != NP) {
        return EMU_CANNOT;
    }
    if (is_vex(m) && ((m->i->prefixes & INSN_VEX_256) != 0 || m->i->vvvv != 0)) {
        return emu_exception(m, X86_UD);
    }
    r = check_state(m, false);
    if (r != EMU_OK) {
        return r;
    }
    if (is_store) {
        return emu_rm_put(m, 4, vmm_mxcsr_read());
    }
    r = emu_rm_get(m, 4, &value);
    if (r == EMU_OK && (value & ~(uint64_t)vmm_mxcsr_mask()) != 0) {
        return emu_exception(m, X86_GP);
    }
    if (r == EMU_OK) {
        vmm_mxcsr_write((uint32_t)value);
    }
    return r;
}
