/* Shared by the emulator's files: one instruction being executed, its operands, its faults. */
#pragma once

#include "core/decode.h"
#include "core/descriptor.h"
#include "core/vm.h"
#include "core/x86.h"

#define RFLAGS_CF         (UINT64_C(1) << 0)
#define RFLAGS_PF         (UINT64_C(1) << 2)
#define RFLAGS_AF         (UINT64_C(1) << 4)
#define RFLAGS_ZF         (UINT64_C(1) << 6)
#define RFLAGS_SF         (UINT64_C(1) << 7)
#define RFLAGS_DF         (UINT64_C(1) << 10)
#define RFLAGS_OF         (UINT64_C(1) << 11)
#define RFLAGS_VM         (UINT64_C(1) << 17)
#define RFLAGS_AC         (UINT64_C(1) << 18)
#define RFLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define CR0_EM      (UINT64_C(1) << 2)
#define CR0_TS      (UINT64_C(1) << 3)
#define CR0_AM      (UINT64_C(1) << 18)
#define CR4_OSFXSR  (UINT64_C(1) << 9)
#define CR4_UMIP    (UINT64_C(1) << 11)
#define CR4_OSXSAVE (UINT64_C(1) << 18)

/* What executing a step may come to. FAULT: an exception is queued. CANNOT: not an instruction this
 * emulator does, the VM crashes with its bytes. */
enum emu_result { EMU_OK, EMU_FAULT, EMU_CANNOT };

struct emu {
    struct vcpu *v;
    struct vmm_exit *e;
    const struct insn *i;
    struct vmm_address_mode mode;
    bool gpa_known; /* e->fault.gpa belongs to the instruction's only memory operand */
    bool shadow;    /* no interrupt between this instruction and the next: MOV SS */
};

enum emu_intent { EMU_READ, EMU_WRITE, EMU_MODIFY /* a read that a write follows */ };

static inline uint64_t emu_mask(unsigned size)
{
    return ~UINT64_C(0) >> (64 - size * 8);
}

static inline int64_t emu_signed(uint64_t value, unsigned size)
{
    return (int64_t)(value << (64 - size * 8)) >> (64 - size * 8);
}

/* Real mode or V86 mode: a selector is a paragraph's number. */
static inline bool emu_is_real(const struct emu *m)
{
    return (m->mode.cr0 & CR0_PE) == 0 || (m->v->rflags & RFLAGS_VM) != 0;
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
/* Access 1 to 32 bytes at a linear address; RAM and device memory, across pages. */
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
/* The exception; those that have an error code get 0. */
enum emu_result emu_exception(struct emu *m, uint8_t vector);
enum emu_result emu_bad_selector(struct emu *m, uint8_t vector, uint16_t selector);

/* The operand that ModRM's r/m names, resolved once. */
struct emu_rm {
    bool is_memory;
    unsigned size;
    uint64_t linear; /* memory */
};
enum emu_result emu_rm_resolve(struct emu *m, unsigned size, enum emu_intent intent,
                               struct emu_rm *rm) VMM_MUST_CHECK;
enum emu_result emu_rm_load(struct emu *m, const struct emu_rm *rm, enum emu_intent intent,
                            uint64_t *value) VMM_MUST_CHECK;
enum emu_result emu_rm_store(struct emu *m, const struct emu_rm *rm, uint64_t value) VMM_MUST_CHECK;
/* Resolve and load; resolve and store. */
enum emu_result emu_rm_get(struct emu *m, unsigned size, uint64_t *value) VMM_MUST_CHECK;
enum emu_result emu_rm_put(struct emu *m, unsigned size, uint64_t value) VMM_MUST_CHECK;
/* For what is read before it is written. */
enum emu_result emu_rm_begin(struct emu *m, unsigned size, struct emu_rm *rm,
                             uint64_t *value) VMM_MUST_CHECK;

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
/* SHLD, SHRD: `with` is what comes in. */
uint64_t alu_shift_double(bool right, uint64_t value, uint64_t with, uint8_t count, unsigned size,
                          uint64_t *rflags);
/* BSF and BSR, or TZCNT and LZCNT if the processor knows them; old: what a source of 0 leaves. */
uint64_t alu_scan(bool reverse, bool counts, uint64_t old, uint64_t value, unsigned size,
                  uint64_t *rflags);

/* Iterations of a REP in one exit. A debugger that steps sees each. */
static inline unsigned emu_turn(const struct emu *m)
{
    return (m->v->rflags & X86_RFLAGS_TF) != 0 ? 1 : 256;
}
/* Go on behind the instruction; again: on it, for more iterations. */
void emu_finish(struct emu *m, bool again);

/* MOVS, STOS, LODS, CMPS, SCAS (emulate_string.c). *again: more iterations are left. */
enum emu_result emu_string(struct emu *m, bool *again) VMM_MUST_CHECK;

/* Moves between memory and MMX, SSE and AVX registers (emulate_vector.c). EMU_CANNOT: not one of
 * them. */
enum emu_result emu_vector(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_mxcsr(struct emu *m) VMM_MUST_CHECK; /* LDMXCSR, STMXCSR */

/* Bits (emulate_bits.c): BT, BTS, BTR, BTC; BSF, BSR, TZCNT, LZCNT; SHLD, SHRD. */
enum emu_bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };
enum emu_result emu_bit(struct emu *m, enum emu_bit_op op, bool index_in_register) VMM_MUST_CHECK;
enum emu_result emu_scan(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_shift_double(struct emu *m) VMM_MUST_CHECK;

/* The stack and branches (emulate_stack.c). */
enum emu_result emu_push(struct emu *m, uint64_t value) VMM_MUST_CHECK;
enum emu_result emu_pop_register(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_pop_rm(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_call(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_return(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_leave(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_group5(struct emu *m) VMM_MUST_CHECK; /* but INC and DEC */

/* Segment registers and what goes with them (emulate_segment.c). */
enum emu_result emu_mov_from_segment(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_mov_to_segment(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_load_far_pointer(struct emu *m) VMM_MUST_CHECK; /* LDS and others */
enum emu_result emu_lar_lsl(struct emu *m) VMM_MUST_CHECK;
enum emu_result emu_group6(struct emu *m) VMM_MUST_CHECK; /* SLDT, STR, VERR, VERW */
enum emu_result emu_group7(struct emu *m) VMM_MUST_CHECK; /* SGDT, SIDT, LGDT, LIDT, SMSW, LMSW */
uint64_t emu_lmsw_value(const struct emu *m, uint64_t source); /* for CR0 */
/* A pointer's offset of `size` bytes, and the selector behind it. */
enum emu_result emu_read_far_pointer(struct emu *m, unsigned size, uint64_t *offset,
                                     uint16_t *selector) VMM_MUST_CHECK;
bool emu_is_canonical(const struct emu *m, uint64_t linear);
