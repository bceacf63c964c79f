/* Instructions as the emulator wants them, and what is remembered of earlier ones.
 * Inner to the emulator: everything else uses core/emulate.h. */
#pragma once

#include <vmm/types.h>
#include "core/emulate.h"
#include "core/vcpu.h"

#define INSN_NO_REG  0xff
#define INSN_REG_RIP 0x10 /* base of RIP-relative operands */
#define INSN_NO_SEG  0xff

enum insn_map { INSN_MAP_1, INSN_MAP_0F, INSN_MAP_0F38, INSN_MAP_OTHER };

enum insn_prefix {
    INSN_LOCK = 1 << 0,
    INSN_REP = 1 << 1,   /* F3 */
    INSN_REPNE = 1 << 2, /* F2 */
    INSN_OPSIZE = 1 << 3,
    INSN_REX = 1 << 4, /* SPL, BPL, SIL, DIL instead of AH, CH, DH, BH */
};

struct insn {
    uint64_t address; /* linear, of the first byte */
    uint64_t disp, imm;
    uint8_t bytes[VMM_INSN_MAX], length;
    uint8_t mode;     /* bytes: 2, 4, 8, default address size of the code segment */
    uint8_t map;      /* enum insn_map */
    uint8_t opcode;
    uint8_t prefixes; /* enum insn_prefix */
    uint8_t operand_size, address_size; /* bytes; an operand of byte size is the opcode's matter */
    uint8_t segment;  /* enum vmm_segment of the override, INSN_NO_SEG: none */
    uint8_t mod, reg, rm; /* reg and rm extended by REX */
    uint8_t base, index, scale; /* of the memory operand; scale as a shift */
    bool valid, has_modrm;
};

/* A finished guest page walk. It still holds while every entry it read is unchanged, which is cheaper
 * to check than to walk again and needs no tracking of guest TLB flushes. */
#define WALK_LEVELS_MAX 5
struct walk_entry {
    uint64_t page;  /* linear page number */
    uint64_t cr3;
    uint32_t mode;  /* control bits the walk depended on */
    uint8_t count;  /* entries read */
    uint8_t rights; /* enum walk_right */
    bool valid;
    uint64_t *slot[WALK_LEVELS_MAX];
    uint64_t value[WALK_LEVELS_MAX];
    gpa_t gpa;      /* of the page */
    uint8_t *host;  /* NULL: not RAM */
};

#define INSN_CACHE_COUNT 64
#define WALK_CACHE_COUNT 64

struct zydis_cache {
    struct insn insn[INSN_CACHE_COUNT];
    struct walk_entry walk[WALK_CACHE_COUNT];
    struct insn scratch; /* of an instruction that is not kept */
};

enum decode_result { DECODE_OK, DECODE_FAULT /* queued */, DECODE_CRASH /* not in RAM */ };

/* The instruction at CS:RIP. e: the exit, whose bytes are used when it has them; may be NULL. */
enum decode_result decode_current(struct vcpu *v, const struct vmm_exit *e,
                                  const struct insn **out);

/* As vmm_walk(), and where the page lies in the host: host is NULL when it is not RAM. */
struct translation {
    gpa_t gpa;
    uint8_t *host;
    bool writable; /* false: ROM */
};
int walk_translate(struct vcpu *v, gva_t gva, enum vmm_access access, bool user,
                   struct translation *out, struct vmm_walk_fault *fault) VMM_MUST_CHECK;
