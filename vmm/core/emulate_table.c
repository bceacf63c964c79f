/* The opcodes that the emulator knows. Spec: APM vol. 3 appendix A. */
#include "core/emulate_ops.h"

#define ALU_ROW(base)                                                                              \
    [(base)] = {OP_ALU, FORM_RM_R, OP_BYTE}, [(base) + 1] = {OP_ALU, FORM_RM_R, OP_BYTE},          \
    [(base) + 2] = {OP_ALU, FORM_R_RM, OP_BYTE}, [(base) + 3] = {OP_ALU, FORM_R_RM, OP_BYTE}

static const struct op_info map_1_table[256] = {
    ALU_ROW(0x00),
    ALU_ROW(0x08),
    ALU_ROW(0x10),
    ALU_ROW(0x18),
    ALU_ROW(0x20),
    ALU_ROW(0x28),
    ALU_ROW(0x30),
    ALU_ROW(0x38),
    [0x50 ... 0x57] = {OP_PUSH, FORM_NONE, 0},
    [0x58 ... 0x5f] = {OP_POP, FORM_NONE, 0},
    [0x63] = {OP_MOVSXD, FORM_R_RM, 0},
    [0x68] = {OP_PUSH_IMM, FORM_NONE, 0},
    [0x69] = {OP_IMUL, FORM_R_RM, 0},
    [0x6a] = {OP_PUSH_IMM, FORM_NONE, 0},
    [0x6b] = {OP_IMUL, FORM_R_RM, 0},
    [0x80] = {OP_GROUP1, FORM_RM_IMM, OP_BYTE},
    [0x81] = {OP_GROUP1, FORM_RM_IMM, OP_BYTE},
    [0x82] = {OP_GROUP1, FORM_RM_IMM, OP_BYTE},
    [0x83] = {OP_GROUP1, FORM_RM_IMM, OP_BYTE},
    [0x84] = {OP_TEST, FORM_RM_R, OP_BYTE},
    [0x85] = {OP_TEST, FORM_RM_R, OP_BYTE},
    [0x86] = {OP_XCHG, FORM_RM_R, OP_BYTE},
    [0x87] = {OP_XCHG, FORM_RM_R, OP_BYTE},
    [0x88] = {OP_MOV, FORM_RM_R, OP_BYTE},
    [0x89] = {OP_MOV, FORM_RM_R, OP_BYTE},
    [0x8a] = {OP_MOV, FORM_R_RM, OP_BYTE},
    [0x8b] = {OP_MOV, FORM_R_RM, OP_BYTE},
    [0x8c] = {OP_MOV_FROM_SREG, FORM_RM_R, 0},
    [0x8e] = {OP_MOV_TO_SREG, FORM_R_RM, 0},
    [0x8f] = {OP_POP_RM, FORM_RM, 0},
    [0xa0] = {OP_MOV, FORM_A_MOFFS, OP_BYTE},
    [0xa1] = {OP_MOV, FORM_A_MOFFS, OP_BYTE},
    [0xa2] = {OP_MOV, FORM_MOFFS_A, OP_BYTE},
    [0xa3] = {OP_MOV, FORM_MOFFS_A, OP_BYTE},
    [0xa4] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xa5] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xa6] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xa7] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xaa] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xab] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xac] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xad] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xae] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xaf] = {OP_STRING, FORM_NONE, OP_BYTE},
    [0xc0] = {OP_GROUP2, FORM_RM_IMM, OP_BYTE},
    [0xc1] = {OP_GROUP2, FORM_RM_IMM, OP_BYTE},
    [0xc2] = {OP_RETURN, FORM_NONE, 0},
    [0xc3] = {OP_RETURN, FORM_NONE, 0},
    [0xc4] = {OP_FAR_POINTER, FORM_R_RM, 0},
    [0xc5] = {OP_FAR_POINTER, FORM_R_RM, 0},
    [0xc6] = {OP_MOV, FORM_RM_IMM, OP_BYTE},
    [0xc7] = {OP_MOV, FORM_RM_IMM, OP_BYTE},
    [0xc9] = {OP_LEAVE, FORM_NONE, 0},
    [0xd0] = {OP_GROUP2, FORM_RM, OP_BYTE},
    [0xd1] = {OP_GROUP2, FORM_RM, OP_BYTE},
    [0xd2] = {OP_GROUP2, FORM_RM_R, OP_BYTE},
    [0xd3] = {OP_GROUP2, FORM_RM_R, OP_BYTE},
    [0xd7] = {OP_XLAT, FORM_NONE, 0},
    [0xe8] = {OP_CALL, FORM_NONE, 0},
    [0xf6] = {OP_GROUP3, FORM_RM_IMM, OP_BYTE},
    [0xf7] = {OP_GROUP3, FORM_RM_IMM, OP_BYTE},
    [0xfe] = {OP_GROUP5, FORM_RM, OP_BYTE},
    [0xff] = {OP_GROUP5, FORM_RM, OP_BYTE},
};

static const struct op_info map_0f_table[256] = {
    [0x00] = {OP_GROUP6, FORM_RM, 0},
    [0x01] = {OP_GROUP7, FORM_RM, 0},
    [0x02] = {OP_LAR_LSL, FORM_R_RM, 0},
    [0x03] = {OP_LAR_LSL, FORM_R_RM, 0},
    [0x0d] = {OP_HINT, FORM_NONE, 0}, /* PREFETCHW */
    [0x10 ... 0x13] = {OP_VECTOR, FORM_NONE, 0},
    [0x16] = {OP_VECTOR, FORM_NONE, 0},
    [0x17] = {OP_VECTOR, FORM_NONE, 0},
    [0x18] = {OP_HINT, FORM_NONE, 0}, /* PREFETCHh */
    [0x28] = {OP_VECTOR, FORM_NONE, 0},
    [0x29] = {OP_VECTOR, FORM_NONE, 0},
    [0x2b] = {OP_VECTOR, FORM_NONE, 0},
    [0x40 ... 0x4f] = {OP_CMOV, FORM_R_RM, 0},
    [0x6e] = {OP_VECTOR, FORM_NONE, 0},
    [0x6f] = {OP_VECTOR, FORM_NONE, 0},
    [0x7e] = {OP_VECTOR, FORM_NONE, 0},
    [0x7f] = {OP_VECTOR, FORM_NONE, 0},
    [0x90 ... 0x9f] = {OP_SETCC, FORM_RM, 0},
    [0xa3] = {OP_BIT, FORM_RM_R, 0},
    [0xa4] = {OP_SHIFT_DOUBLE, FORM_RM_IMM, 0},
    [0xa5] = {OP_SHIFT_DOUBLE, FORM_RM_R, 0},
    [0xab] = {OP_BIT, FORM_RM_R, 0},
    [0xac] = {OP_SHIFT_DOUBLE, FORM_RM_IMM, 0},
    [0xad] = {OP_SHIFT_DOUBLE, FORM_RM_R, 0},
    [0xae] = {OP_GROUP15, FORM_NONE, 0},
    [0xaf] = {OP_IMUL, FORM_R_RM, 0},
    [0xb0] = {OP_CMPXCHG, FORM_RM_R, OP_BYTE},
    [0xb1] = {OP_CMPXCHG, FORM_RM_R, OP_BYTE},
    [0xb2] = {OP_FAR_POINTER, FORM_R_RM, 0},
    [0xb3] = {OP_BIT, FORM_RM_R, 0},
    [0xb4] = {OP_FAR_POINTER, FORM_R_RM, 0},
    [0xb5] = {OP_FAR_POINTER, FORM_R_RM, 0},
    [0xb6] = {OP_MOVZX, FORM_R_RM, 0},
    [0xb7] = {OP_MOVZX, FORM_R_RM, 0},
    [0xba] = {OP_GROUP8, FORM_RM_IMM, 0},
    [0xbb] = {OP_BIT, FORM_RM_R, 0},
    [0xbc] = {OP_SCAN, FORM_R_RM, 0},
    [0xbd] = {OP_SCAN, FORM_R_RM, 0},
    [0xbe] = {OP_MOVSX, FORM_R_RM, 0},
    [0xbf] = {OP_MOVSX, FORM_R_RM, 0},
    [0xc0] = {OP_XADD, FORM_RM_R, OP_BYTE},
    [0xc1] = {OP_XADD, FORM_RM_R, OP_BYTE},
    [0xc3] = {OP_MOVNTI, FORM_RM_R, 0},
    [0xc7] = {OP_CMPXCHG8B, FORM_RM, 0},
    [0xd6] = {OP_VECTOR, FORM_NONE, 0},
    [0xe7] = {OP_VECTOR, FORM_NONE, 0},
    [0xf0] = {OP_VECTOR, FORM_NONE, 0},
};

static const struct op_info map_0f38_table[256] = {
    [0x2a] = {OP_VECTOR, FORM_NONE, 0},
    [0xf0] = {OP_MOVBE, FORM_R_RM, 0},
    [0xf1] = {OP_MOVBE, FORM_RM_R, 0},
};

const struct op_info *op_find(const struct insn *i)
{
    static const struct op_info none = {OP_NONE, FORM_NONE, 0};
    static const struct op_info vector = {OP_VECTOR, FORM_NONE, 0};

    if ((i->prefixes & INSN_VEX) != 0) { /* other instructions have the same opcodes there */
        return &vector;
    }
    switch (i->map) {
    case INSN_MAP_1:
        return &map_1_table[i->opcode];
    case INSN_MAP_0F:
        return &map_0f_table[i->opcode];
    case INSN_MAP_0F38:
        return &map_0f38_table[i->opcode];
    default:
        return &none;
    }
}
