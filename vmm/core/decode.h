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

/* Moves between a register or immediate and one memory operand, the bulk of what drivers do: they are
 * executed without the general machinery. */
enum insn_quick { QUICK_NONE, QUICK_LOAD, QUICK_STORE, QUICK_STORE_IMM };

struct insn {
    uint64_t rip, cs_base; /* with `code`: what a cached one is found by */
    uint32_t code;         /* how code was read: see decode.c; 0: not valid */
    uint8_t length;
    uint8_t quick, quick_size; /* enum insn_quick; bytes */
    bool has_modrm;
    struct walk_entry *walk; /* of the page its first byte is on */
    uint64_t bytes[2]; /* the instruction, and whatever follows it */
    uint64_t disp, imm;
    uint8_t mode;     /* bytes: 2, 4, 8, default address size of the code segment */
    uint8_t map;      /* enum insn_map */
    uint8_t opcode;
    uint8_t prefixes; /* enum insn_prefix */
    uint8_t operand_size, address_size; /* bytes; an operand of byte size is the opcode's matter */
    uint8_t segment;  /* enum vmm_segment of the override, INSN_NO_SEG: none */
    uint8_t mod, reg, rm; /* reg and rm extended by REX */
    uint8_t base, index, scale; /* of the memory operand; scale as a shift */
};

/* A finished guest page walk. It still holds while every entry it read is unchanged, which is cheaper
 * to check than to walk again and needs no tracking of guest TLB flushes. */
#define WALK_LEVELS_MAX 5
#define WALK_NO_PAGE    (~UINT64_C(0)) /* in `page`: nothing is remembered here */
struct walk_entry {
    uint64_t page;  /* linear page number */
    uint64_t cr3;
    uint32_t mode;  /* control bits the walk depended on */
    uint8_t count;  /* entries read; slots beyond it hold for ever */
    uint8_t rights; /* enum walk_right */
    const uint64_t *slot[WALK_LEVELS_MAX];
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
enum decode_result decode_current(struct vcpu *v, const struct vmm_address_mode *mode,
                                  const struct vmm_exit *e, const struct insn **out);
/* The same if it is remembered and still there, else NULL. */
const struct insn *decode_remembered(struct vcpu *v, const struct vmm_address_mode *mode,
                                     const struct vmm_exit *e);
/* Which of enum insn_quick it is, and its operand's size (emulate.c). */
void emu_classify(struct insn *i);

/* As vmm_walk(), by mode->cpl, and where the page lies in the host: NULL when it is not RAM. */
struct translation {
    gpa_t gpa;
    uint8_t *host;
    bool writable; /* false: ROM */
};
int walk_translate(struct vcpu *v, const struct vmm_address_mode *mode, gva_t gva,
                   enum vmm_access access, struct translation *out,
                   struct vmm_walk_fault *fault) VMM_MUST_CHECK;

#define CR0_PE   (UINT64_C(1) << 0)
#define CR0_PG   (UINT64_C(1) << 31)
#define CR4_PSE  (UINT64_C(1) << 4)
#define CR4_PAE  (UINT64_C(1) << 5)
#define CR4_LA57 (UINT64_C(1) << 12)
#define EFER_LMA (UINT64_C(1) << 10)
#define EFER_NXE (UINT64_C(1) << 11)

/* The control bits that decide how table entries are read; rights are judged at each use. */
static inline uint32_t walk_mode(const struct vmm_address_mode *m)
{
    return (uint32_t)((m->cr0 & CR0_PG) | (m->cr4 & (CR4_PSE | CR4_PAE | CR4_LA57)) |
                      (m->efer & (EFER_LMA | EFER_NXE)));
}

static inline struct walk_entry *walk_slot(struct vcpu *v, uint64_t linear)
{
    return &v->decode_cache->walk[(linear >> 12) % WALK_CACHE_COUNT];
}

/* Is this the walk for the address, and are the entries it read unchanged? Rights are not checked. */
static inline bool walk_holds(const struct walk_entry *w, const struct vmm_address_mode *m,
                              uint64_t linear)
{
    if (w->page != linear >> 12 || w->cr3 != m->cr3 || w->mode != walk_mode(m)) {
        return false;
    }
#pragma GCC unroll 5
    for (unsigned i = 0; i < WALK_LEVELS_MAX; i++) {
        if (__atomic_load_n(w->slot[i], __ATOMIC_RELAXED) != w->value[i]) {
            return false;
        }
    }
    return true;
}
