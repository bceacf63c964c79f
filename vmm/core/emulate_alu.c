/* Integer arithmetic with exact flags. Spec: APM vol. 3, each instruction's "rFLAGS affected". */
#include "core/emulate_inner.h"

static uint64_t flag(bool on, uint64_t bit)
{
    return on ? bit : 0;
}

/* Z, S and P of a result that is already cut to its size. */
static uint64_t result_flags(uint64_t result, unsigned size)
{
    return flag(result == 0, RFLAGS_ZF) | flag((result >> (size * 8 - 1) & 1) != 0, RFLAGS_SF) |
           flag(__builtin_parity((unsigned)(result & 0xff)) == 0, RFLAGS_PF);
}

static uint64_t add(uint64_t a, uint64_t b, unsigned carry, unsigned size, uint64_t *flags)
{
    uint64_t mask = emu_mask(size), top = UINT64_C(1) << (size * 8 - 1);
    uint64_t result = (a + b + carry) & mask;
    /* The carry out of each bit (Hacker's Delight 2-16). */
    uint64_t carries = (a & b) | ((a | b) & ~result);

    *flags = result_flags(result, size) | flag((carries & top) != 0, RFLAGS_CF) |
             flag((carries & 8) != 0, RFLAGS_AF) |
             flag(((a ^ result) & (b ^ result) & top) != 0, RFLAGS_OF);
    return result;
}

static uint64_t subtract(uint64_t a, uint64_t b, unsigned borrow, unsigned size, uint64_t *flags)
{
    uint64_t mask = emu_mask(size), top = UINT64_C(1) << (size * 8 - 1);
    uint64_t result = (a - b - borrow) & mask;
    uint64_t borrows = (~a & b) | ((~a | b) & result);

    *flags = result_flags(result, size) | flag((borrows & top) != 0, RFLAGS_CF) |
             flag((borrows & 8) != 0, RFLAGS_AF) |
             flag(((a ^ b) & (a ^ result) & top) != 0, RFLAGS_OF);
    return result;
}

uint64_t alu_execute(enum alu_op op, uint64_t a, uint64_t b, unsigned size, uint64_t *rflags)
{
    unsigned carry = (*rflags & RFLAGS_CF) != 0;
    uint64_t kept = ~RFLAGS_ARITHMETIC;
    uint64_t flags = 0, result;

    a &= emu_mask(size);
    b &= emu_mask(size);
    switch (op) {
    case ALU_ADD:
        result = add(a, b, 0, size, &flags);
        break;
    case ALU_ADC:
        result = add(a, b, carry, size, &flags);
        break;
    case ALU_SBB:
        result = subtract(a, b, carry, size, &flags);
        break;
    case ALU_SUB:
    case ALU_CMP:
        result = subtract(a, b, 0, size, &flags);
        break;
    case ALU_INC: /* these two leave CF alone */
        result = add(a, 1, 0, size, &flags);
        flags &= ~RFLAGS_CF;
        kept |= RFLAGS_CF;
        break;
    case ALU_DEC:
        result = subtract(a, 1, 0, size, &flags);
        flags &= ~RFLAGS_CF;
        kept |= RFLAGS_CF;
        break;
    case ALU_NEG:
        result = subtract(0, a, 0, size, &flags);
        break;
    case ALU_OR:
        result = a | b;
        flags = result_flags(result, size);
        break;
    case ALU_XOR:
        result = a ^ b;
        flags = result_flags(result, size);
        break;
    default: /* AND, TEST */
        result = a & b;
        flags = result_flags(result, size);
        break;
    }
    *rflags = (*rflags & kept) | flags;
    return result;
}

bool alu_condition(unsigned code, uint64_t rflags)
{
    bool cf = (rflags & RFLAGS_CF) != 0, zf = (rflags & RFLAGS_ZF) != 0;
    bool sf = (rflags & RFLAGS_SF) != 0, of = (rflags & RFLAGS_OF) != 0;
    bool pf = (rflags & RFLAGS_PF) != 0;
    bool result = false;

    switch (code >> 1 & 7) {
    case 0:
        result = of;
        break;
    case 1:
        result = cf;
        break;
    case 2:
        result = zf;
        break;
    case 3:
        result = cf || zf;
        break;
    case 4:
        result = sf;
        break;
    case 5:
        result = pf;
        break;
    case 6:
        result = sf != of;
        break;
    case 7:
        result = zf || sf != of;
        break;
    }
    return result != ((code & 1) != 0);
}
