/* Shared by the emulator's files: one instruction being executed, its operands, its faults. */
#pragma once

#include "core/decode.h"
#include "core/vm.h"

#define RFLAGS_CF         (UINT64_C(1) << 0)
#define RFLAGS_PF         (UINT64_C(1) << 2)
#define RFLAGS_AF         (UINT64_C(1) << 4)
#define RFLAGS_ZF         (UINT64_C(1) << 6)
#define RFLAGS_SF         (UINT64_C(1) << 7)
#define RFLAGS_DF         (UINT64_C(1) << 10)
#define RFLAGS_OF         (UINT64_C(1) << 11)
#define RFLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define VECTOR_DE 0
#define VECTOR_UD 6
#define VECTOR_SS 12
#define VECTOR_GP 13

/* What executing a step may come to. FAULT: an exception is queued. CANNOT: not an instruction this
 * emulator does, the VM crashes with its bytes. */
enum emu_result { EMU_OK, EMU_FAULT, EMU_CANNOT };

struct emu {
    struct vcpu *v;
    struct vmm_exit *e;
    const struct insn *i;
    struct vmm_address_mode mode;
    bool gpa_known; /* e->fault.gpa belongs to the instruction's only memory operand */
};

enum emu_intent { EMU_READ, EMU_WRITE, EMU_MODIFY /* a read that a write follows */ };

static inline uint64_t emu_mask(unsigned size)
{
    return ~UINT64_C(0) >> (64 - size * 8);
}

/* A register operand; in byte operands without REX, 4 to 7 name AH, CH, DH, BH. */
uint64_t emu_gpr_read(const struct emu *m, unsigned reg, unsigned size);
void emu_gpr_write(struct emu *m, unsigned reg, unsigned size, uint64_t value);
/* An address or count register of the address size: 32-bit writes clear the upper half. */
void emu_address_write(struct emu *m, unsigned reg, uint64_t value);

/* Offset of the ModRM memory operand, and the segment it is relative to. */
uint64_t emu_effective_address(const struct vcpu *v, const struct insn *i);
enum vmm_segment emu_segment(const struct emu *m);
/* Segment checks and base: offset to linear. */
enum emu_result emu_linear(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                           enum emu_intent intent, uint64_t *linear) VMM_MUST_CHECK;
/* Access 1 to 16 bytes at a linear address; RAM and device memory, across pages. */
enum emu_result emu_load(struct emu *m, uint64_t linear, void *out, unsigned size,
                         enum emu_intent intent) VMM_MUST_CHECK;
enum emu_result emu_store(struct emu *m, uint64_t linear, const void *data,
                          unsigned size) VMM_MUST_CHECK;
/* Raise the fault that a store would raise, without storing. */
enum emu_result emu_check_write(struct emu *m, uint64_t linear, unsigned size) VMM_MUST_CHECK;
/* Segment checks and access together, for up to 8 bytes. */
enum emu_result emu_read(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                         uint64_t *value) VMM_MUST_CHECK;
enum emu_result emu_write(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                          uint64_t value) VMM_MUST_CHECK;
enum emu_result emu_exception(struct emu *m, uint8_t vector, bool has_error);

/* Arithmetic (emulate_alu.c). The first eight are numbered as the encoding numbers them. */
enum alu_op {
    ALU_ADD,
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP,
    ALU_TEST,
    ALU_INC,
    ALU_DEC,
    ALU_NEG,
};
uint64_t alu_execute(enum alu_op op, uint64_t a, uint64_t b, unsigned size, uint64_t *rflags);
/* Numbered as the encoding does (emulate_shift.c). */
enum alu_shift_op { ALU_ROL, ALU_ROR, ALU_RCL, ALU_RCR, ALU_SHL, ALU_SHR, ALU_SAL, ALU_SAR };
uint64_t alu_shift(enum alu_shift_op op, uint64_t value, uint8_t count, unsigned size,
                   uint64_t *rflags);
struct alu_pair { /* rDX:rAX, AX */
    uint64_t low, high;
};
void alu_multiply(bool is_signed, uint64_t a, uint64_t b, unsigned size, struct alu_pair *out,
                  uint64_t *rflags);
/* Quotient low, remainder high. False: #DE. */
bool alu_divide(bool is_signed, const struct alu_pair *n, uint64_t by, unsigned size,
                struct alu_pair *out);
bool alu_condition(unsigned code, uint64_t rflags); /* of Jcc, SETcc, CMOVcc */

/* MOVS, STOS, LODS, CMPS, SCAS (emulate_string.c). *again: more iterations are left. */
enum emu_result emu_string(struct emu *m, bool *again) VMM_MUST_CHECK;

/* 16-byte registers of the guest, which the thread holds (xmm.c). */
struct vmm_xmm {
    uint64_t q[2];
};
void vmm_xmm_read(unsigned reg, struct vmm_xmm *out);
void vmm_xmm_write(unsigned reg, const struct vmm_xmm *value);
/* SSE moves (emulate_sse.c); EMU_CANNOT: not one of them. */
enum emu_result emu_sse_move(struct emu *m) VMM_MUST_CHECK;
