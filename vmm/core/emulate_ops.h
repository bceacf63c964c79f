/* Which operation an opcode is, and how its operands are encoded. Inner to the emulator. */
#pragma once

#include "core/emulate_inner.h"

enum op {
    OP_NONE,   /* not done: the VM crashes with the bytes */
    OP_ALU,    /* ADD OR ADC SBB AND SUB XOR CMP, by bits 5:3 of the opcode */
    OP_GROUP1, /* the same by bits of ModRM */
    OP_TEST,
    OP_XCHG,
    OP_MOV,
    OP_MOV_FROM_SREG,
    OP_MOV_TO_SREG,
    OP_FAR_POINTER, /* LDS, LES, LSS, LFS, LGS */
    OP_GROUP2,      /* shifts and rotates */
    OP_GROUP3,      /* TEST, NOT, NEG, MUL, IMUL, DIV, IDIV */
    OP_IMUL,        /* with two and three operands */
    OP_GROUP5,      /* INC, DEC, CALL, JMP, PUSH */
    OP_PUSH,
    OP_PUSH_IMM,
    OP_POP,
    OP_POP_RM,
    OP_CALL,
    OP_RETURN,
    OP_LEAVE,
    OP_XLAT,
    OP_STRING,
    OP_MOVSXD,
    OP_MOVZX,
    OP_MOVSX,
    OP_CMOV,
    OP_SETCC,
    OP_BIT,
    OP_GROUP8,
    OP_SCAN,
    OP_SHIFT_DOUBLE,
    OP_CMPXCHG,
    OP_XADD,
    OP_MOVNTI,
    OP_CMPXCHG8B,
    OP_MOVBE,
    OP_HINT,
    OP_GROUP6,
    OP_GROUP7,
    OP_LAR_LSL,
    OP_GROUP15, /* CLFLUSH and the like, LDMXCSR, STMXCSR */
    OP_VECTOR,
};

/* How the operands are encoded. */
enum form {
    FORM_RM_R, /* r/m is the destination, reg the source */
    FORM_R_RM,
    FORM_RM_IMM,
    FORM_RM,
    FORM_MOFFS_A, /* A0..A3: the address is in the instruction, the register is rAX */
    FORM_A_MOFFS,
    FORM_NONE,
};

#define OP_BYTE 1 /* flag: byte operands when bit 0 of the opcode is clear */

struct op_info {
    uint8_t op, form, flags;
};

const struct op_info *op_find(const struct insn *i);

/* Do it. *again: more iterations of a REP are left. */
enum emu_result op_execute(struct emu *m, const struct op_info *info, bool *again) VMM_MUST_CHECK;
