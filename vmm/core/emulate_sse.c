/* Moves between device memory and 16-byte registers: firmware's memory copies use them.
 * Spec: APM vol. 4. */
#include "core/emulate_inner.h"

/* The mandatory prefix selects the instruction. */
enum sse_prefix { SSE_NONE, SSE_66, SSE_F3, SSE_F2 };

struct sse_move {
    uint8_t map, opcode, prefix;
    uint8_t size; /* bytes; 0: 4, or 8 with REX.W */
    bool store, aligned;
};

static const struct sse_move move_table[] = {
    {INSN_MAP_0F, 0x10, SSE_NONE, 16, false, false}, /* MOVUPS */
    {INSN_MAP_0F, 0x11, SSE_NONE, 16, true, false},
    {INSN_MAP_0F, 0x10, SSE_66, 16, false, false}, /* MOVUPD */
    {INSN_MAP_0F, 0x11, SSE_66, 16, true, false},
    {INSN_MAP_0F, 0x10, SSE_F3, 4, false, false}, /* MOVSS */
    {INSN_MAP_0F, 0x11, SSE_F3, 4, true, false},
    {INSN_MAP_0F, 0x10, SSE_F2, 8, false, false}, /* MOVSD */
    {INSN_MAP_0F, 0x11, SSE_F2, 8, true, false},
    {INSN_MAP_0F, 0x28, SSE_NONE, 16, false, true}, /* MOVAPS */
    {INSN_MAP_0F, 0x29, SSE_NONE, 16, true, true},
    {INSN_MAP_0F, 0x28, SSE_66, 16, false, true}, /* MOVAPD */
    {INSN_MAP_0F, 0x29, SSE_66, 16, true, true},
    {INSN_MAP_0F, 0x2b, SSE_NONE, 16, true, true}, /* MOVNTPS */
    {INSN_MAP_0F, 0x2b, SSE_66, 16, true, true},   /* MOVNTPD */
    {INSN_MAP_0F, 0x6e, SSE_66, 0, false, false},  /* MOVD, MOVQ */
    {INSN_MAP_0F, 0x7e, SSE_66, 0, true, false},
    {INSN_MAP_0F, 0x6f, SSE_66, 16, false, true}, /* MOVDQA */
    {INSN_MAP_0F, 0x7f, SSE_66, 16, true, true},
    {INSN_MAP_0F, 0x6f, SSE_F3, 16, false, false}, /* MOVDQU */
    {INSN_MAP_0F, 0x7f, SSE_F3, 16, true, false},
    {INSN_MAP_0F, 0x7e, SSE_F3, 8, false, false}, /* MOVQ */
    {INSN_MAP_0F, 0xd6, SSE_66, 8, true, false},
    {INSN_MAP_0F, 0xe7, SSE_66, 16, true, true},    /* MOVNTDQ */
    {INSN_MAP_0F38, 0x2a, SSE_66, 16, false, true}, /* MOVNTDQA */
};

static enum sse_prefix prefix_of(const struct insn *i)
{
    if ((i->prefixes & INSN_REP) != 0) {
        return SSE_F3;
    }
    if ((i->prefixes & INSN_REPNE) != 0) {
        return SSE_F2;
    }
    return (i->prefixes & INSN_OPSIZE) != 0 ? SSE_66 : SSE_NONE;
}

enum emu_result emu_sse_move(struct emu *m)
{
    const struct sse_move *move = NULL;
    struct vmm_xmm value = {{0, 0}}; /* a shorter load clears the rest */
    enum emu_result r;
    uint64_t linear;
    unsigned size;

    for (unsigned n = 0; n < VMM_ARRAY_COUNT(move_table) && move == NULL; n++) {
        if (move_table[n].map == m->i->map && move_table[n].opcode == m->i->opcode &&
            move_table[n].prefix == prefix_of(m->i)) {
            move = &move_table[n];
        }
    }
    if (move == NULL || m->i->mod == 3) {
        return EMU_CANNOT;
    }
    size = move->size != 0 ? move->size : m->i->operand_size == 8 ? 8 : 4;
    r = emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), size,
                   move->store ? EMU_WRITE : EMU_READ, &linear);
    if (r != EMU_OK) {
        return r;
    }
    if (move->aligned && (linear & 15) != 0) {
        return emu_exception(m, VECTOR_GP, true);
    }
    if (move->store) {
        vmm_xmm_read(m->i->reg, &value);
        return emu_store(m, linear, &value, size);
    }
    r = emu_load(m, linear, &value, size, EMU_READ);
    if (r == EMU_OK) {
        vmm_xmm_write(m->i->reg, &value);
    }
    return r;
}
