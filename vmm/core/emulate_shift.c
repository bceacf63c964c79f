/* Shifts, rotates, multiplication and division. Spec: APM vol. 3. */
#include "core/emulate_inner.h"

/* Carried out by the instruction itself, so that flags are the processor's, those that are
 * undefined too. SAHF and LAHF move all but OF. */
#define SHIFT(insn, type)                                                                          \
    do {                                                                                           \
        type r_ = (type)value;                                                                     \
        __asm__("sahf\n\t" insn " %%cl, %1\n\tlahf\n\tseto %%al"                                   \
                : "+a"(flags), "+r"(r_)                                                            \
                : "c"(count)                                                                       \
                : "cc");                                                                           \
        value = r_;                                                                                \
    } while (0)
#define SHIFT_BY_SIZE(insn)                                                                        \
    do {                                                                                           \
        if (size == 1) {                                                                           \
            SHIFT(insn "b", uint8_t);                                                              \
        } else if (size == 2) {                                                                    \
            SHIFT(insn "w", uint16_t);                                                             \
        } else if (size == 4) {                                                                    \
            SHIFT(insn "l", uint32_t);                                                             \
        } else {                                                                                   \
            SHIFT(insn "q", uint64_t);                                                             \
        }                                                                                          \
    } while (0)

/* From AH, and OF from AL. */
static void set_flags(uint32_t flags, uint64_t *rflags)
{
    *rflags = (*rflags & ~RFLAGS_ARITHMETIC) | ((flags >> 8) & 0xff & RFLAGS_ARITHMETIC) |
              ((flags & 1) != 0 ? RFLAGS_OF : 0);
}

uint64_t alu_shift(enum alu_shift_op op, uint64_t value, uint8_t count, unsigned size,
                   uint64_t *rflags)
{
    uint32_t flags = (uint32_t)(*rflags & 0xff) << 8; /* AH */

    count &= size == 8 ? 63 : 31;
    if (count == 0) {
        return value;
    }
    switch (op) {
    case ALU_ROL:
        SHIFT_BY_SIZE("rol");
        break;
    case ALU_ROR:
        SHIFT_BY_SIZE("ror");
        break;
    case ALU_RCL:
        SHIFT_BY_SIZE("rcl");
        break;
    case ALU_RCR:
        SHIFT_BY_SIZE("rcr");
        break;
    case ALU_SHL:
    case ALU_SAL:
        SHIFT_BY_SIZE("shl");
        break;
    case ALU_SHR:
        SHIFT_BY_SIZE("shr");
        break;
    case ALU_SAR:
        SHIFT_BY_SIZE("sar");
        break;
    }
    set_flags(flags, rflags);
    return value;
}

#define DOUBLE(insn, type)                                                                         \
    do {                                                                                           \
        type r_ = (type)value;                                                                     \
        __asm__("sahf\n\t" insn " %%cl, %3, %1\n\tlahf\n\tseto %%al"                               \
                : "+a"(flags), "+r"(r_)                                                            \
                : "c"(count), "r"((type)with)                                                      \
                : "cc");                                                                           \
        value = r_;                                                                                \
    } while (0)

uint64_t alu_shift_double(bool right, uint64_t value, uint64_t with, uint8_t count, unsigned size,
                          uint64_t *rflags)
{
    uint32_t flags = (uint32_t)(*rflags & 0xff) << 8;

    count &= size == 8 ? 63 : 31;
    if (count == 0) {
        return value;
    }
    switch (size + right) {
    case 2:
        DOUBLE("shldw", uint16_t);
        break;
    case 3:
        DOUBLE("shrdw", uint16_t);
        break;
    case 4:
        DOUBLE("shldl", uint32_t);
        break;
    case 5:
        DOUBLE("shrdl", uint32_t);
        break;
    case 8:
        DOUBLE("shldq", uint64_t);
        break;
    default:
        DOUBLE("shrdq", uint64_t);
        break;
    }
    set_flags(flags, rflags);
    return value;
}

/* In the processor's 64-bit registers: what a source of 0 leaves in the upper half is its matter,
 * too. F3 is REP here, which processors that do not count zeros ignore. OF is undefined, and stays.
 */
#define SCAN(insn, suffix)                                                                         \
    __asm__("sahf\n\t" insn " %" suffix "2, %" suffix "1\n\tlahf"                                  \
            : "+a"(flags), "+r"(old)                                                               \
            : "r"(value)                                                                           \
            : "cc")
#define SCAN_BY_SIZE(insn)                                                                         \
    do {                                                                                           \
        if (size == 2) {                                                                           \
            SCAN(insn "w", "w");                                                                   \
        } else if (size == 4) {                                                                    \
            SCAN(insn "l", "k");                                                                   \
        } else {                                                                                   \
            SCAN(insn "q", "q");                                                                   \
        }                                                                                          \
    } while (0)

uint64_t alu_scan(bool reverse, bool counts, uint64_t old, uint64_t value, unsigned size,
                  uint64_t *rflags)
{
    uint32_t flags = (uint32_t)(*rflags & 0xff) << 8 | ((*rflags & RFLAGS_OF) != 0 ? 1 : 0);

    if (reverse && counts) {
        SCAN_BY_SIZE("rep bsr");
    } else if (reverse) {
        SCAN_BY_SIZE("bsr");
    } else if (counts) {
        SCAN_BY_SIZE("rep bsf");
    } else {
        SCAN_BY_SIZE("bsf");
    }
    set_flags(flags, rflags);
    return old;
}

/* SF, ZF, AF and PF are undefined, and stay. */
static void set_overflow(bool overflow, uint64_t *rflags)
{
    *rflags = (*rflags & ~(RFLAGS_CF | RFLAGS_OF)) | (overflow ? RFLAGS_CF | RFLAGS_OF : 0);
}

void alu_multiply(bool is_signed, uint64_t a, uint64_t b, unsigned size, struct alu_pair *out,
                  uint64_t *rflags)
{
    unsigned bits = size * 8;
    unsigned __int128 product;
    bool overflow;

    if (is_signed) {
        __int128 p = (__int128)emu_signed(a, size) * emu_signed(b, size);

        product = (unsigned __int128)p;
        overflow = p != emu_signed((uint64_t)p & emu_mask(size), size);
    } else {
        product = (unsigned __int128)(a & emu_mask(size)) * (b & emu_mask(size));
        overflow = product >> bits != 0;
    }
    out->low = (uint64_t)product & emu_mask(size);
    out->high = (uint64_t)(product >> bits) & emu_mask(size);
    set_overflow(overflow, rflags);
}

/* False: the quotient has no room, or there is none. */
static bool divide(unsigned __int128 n, uint64_t by, struct alu_pair *out)
{
    uint64_t high = (uint64_t)(n >> 64), low = (uint64_t)n;

    if (high >= by) {
        return false;
    }
    __asm__("divq %4" : "=a"(out->low), "=d"(out->high) : "0"(low), "1"(high), "r"(by) : "cc");
    return true;
}

bool alu_divide(bool is_signed, const struct alu_pair *n, uint64_t by, unsigned size,
                struct alu_pair *out)
{
    unsigned bits = size * 8;
    unsigned __int128 dividend = (unsigned __int128)(n->high & emu_mask(size)) << bits | n->low;
    bool negative = is_signed && (n->high >> (bits - 1) & 1) != 0;
    bool by_negative = is_signed && (by >> (bits - 1) & 1) != 0;
    uint64_t most = emu_mask(size);

    if (negative) {
        dividend = -dividend;
        dividend &= bits == 64 ? ~(unsigned __int128)0 : ((unsigned __int128)1 << 2 * bits) - 1;
    }
    by = (by_negative ? -by : by) & emu_mask(size);
    if (is_signed) {
        most = (most >> 1) + (negative != by_negative ? 1 : 0);
    }
    if (!divide(dividend, by, out) || out->low > most) {
        return false;
    }
    out->low = (negative != by_negative ? -out->low : out->low) & emu_mask(size);
    out->high = (negative ? -out->high : out->high) & emu_mask(size);
    return true;
}
