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
    INSN_VEX = 1 << 5, /* its `pp` is shown as the prefix that it stands for */
    INSN_VEX_256 = 1 << 6,
};

/* Moves between a register or immediate and one memory operand, the bulk of what drivers do: they
 * are executed without the general machinery. */
enum insn_quick { QUICK_NONE, QUICK_LOAD, QUICK_STORE, QUICK_STORE_IMM };

struct insn {
    uint64_t rip, cs_base; /* with `code`: what a cached one is found by */
    uint32_t code;         /* how code was read: insn_code(); 0: not valid */
    uint16_t offset;       /* of the first byte in its page */
    uint8_t length;
    uint8_t unused_bits; /* of the first eight bytes: 64 - 8 * length, if that is not less than 0 */
    struct walk_entry *walk; /* of the page its first byte is on */
    uint64_t page;           /* linear */
    uint64_t bytes[2];       /* the instruction, and whatever follows it */
    uint64_t disp, imm, quick_mask;
    uint8_t quick, quick_size; /* enum insn_quick; bytes */
    uint8_t mode;              /* bytes: 2, 4, 8, default address size of the code segment */
    uint8_t map;               /* enum insn_map */
    uint8_t opcode;
    uint8_t prefixes; /* enum insn_prefix */
    /* Bytes; an operand of byte size is the opcode's matter. */
    uint8_t operand_size, address_size;
    uint8_t segment;            /* enum vmm_segment of the override, INSN_NO_SEG: none */
    uint8_t mod, reg, rm;       /* reg and rm extended by REX; no ModRM: rm of the opcode */
    uint8_t base, index, scale; /* of the memory operand; scale as a shift */
    bool has_modrm;
    uint8_t vvvv;          /* of a VEX prefix; 0: it names no register, or the first */
    uint8_t pad[128 - 97]; /* to a power of two: it is found by a shift */
};
_Static_assert(sizeof(struct insn) == 128, "a power of two");

/* A finished guest page walk. It still holds while every entry it read is unchanged, which is
 * cheaper to check than to walk again and needs no tracking of guest TLB flushes. */
#define WALK_LEVELS_MAX 5
#define WALK_NO_PAGE    (~UINT64_C(0)) /* in `page`: nothing is remembered here */
struct walk_entry {
    uint64_t page; /* linear page number */
    uint64_t cr3;
    uint32_t mode;  /* control bits the walk depended on */
    uint8_t count;  /* entries read; slots beyond it hold for ever */
    uint8_t rights; /* enum walk_right */
    const uint64_t *slot[WALK_LEVELS_MAX];
    uint64_t value[WALK_LEVELS_MAX];
    gpa_t at[WALK_LEVELS_MAX]; /* where the slots are */
    gpa_t gpa;                 /* of the page */
    uint8_t *host;             /* NULL: not RAM */
};

/* The length of an instruction of 64-bit code that exits, for a processor that does not save the
 * next RIP, and all that it depends on: while that is unchanged, so is the length. */
#define LENGTH_LEVELS 4                   /* deeper walks are not kept */
#define LENGTH_NO_RIP (UINT64_C(1) << 63) /* not canonical: nothing is remembered here */
struct length_hint {
    uint64_t rip, cr3;
    const uint64_t *slot[LENGTH_LEVELS];
    uint64_t value[LENGTH_LEVELS];
    const uint8_t *code;  /* in the host */
    uint64_t bytes, mask; /* what is there, as far as it is the instruction's */
    uint8_t length;
    uint8_t pad[128 - 105]; /* to a power of two */
};
_Static_assert(sizeof(struct length_hint) == 128, "a power of two");

#define INSN_CACHE_COUNT   64 /* a power of two */
#define WALK_CACHE_COUNT   64
#define LENGTH_CACHE_COUNT 64

struct zydis_cache {
    struct insn insn[INSN_CACHE_COUNT];
    struct walk_entry walk[WALK_CACHE_COUNT];
    struct length_hint length[LENGTH_CACHE_COUNT];
    struct insn scratch; /* of an instruction that is not kept */
};

/* The same after decode_remembered() has found nothing. */
enum decode_result decode_anew(struct vcpu *v, const struct vmm_address_mode *mode,
                               const struct vmm_exit *e, const struct insn **out);

/* Fill i from i->bytes, of which `available` are there, and i->mode. simple: not by Zydis; only
 * moves of 64-bit code are known then. Inner to decode.c, but for the test that the two ways agree.
 */
enum parse_result { PARSE_OK, PARSE_MORE, PARSE_TOO_LONG, PARSE_INVALID };
enum parse_result decode_parse(struct insn *i, unsigned available, bool simple);

enum decode_result { DECODE_OK, DECODE_FAULT /* queued */, DECODE_CRASH /* not in RAM */ };

/* The instruction at CS:RIP. e: the exit, whose bytes are used when it has them. */
enum decode_result decode_current(struct vcpu *v, const struct vmm_address_mode *mode,
                                  const struct vmm_exit *e, const struct insn **out);

/* Linear to guest-physical by the guest's own paging mode (none, 32-bit, PAE, 4- and 5-level), with
 * its permission rules for mode->cpl, setting A and D; and where the page lies in the host. Errors:
 * -VMM_EFAULT with *fault filled. */
struct translation {
    gpa_t gpa;
    uint8_t *host; /* NULL: it is not RAM */
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

/* Is this the walk for the linear page, and are the entries it read unchanged? Rights are not
 * checked.
 */
static inline bool walk_holds(const struct walk_entry *w, const struct vmm_address_mode *m,
                              uint64_t page)
{
    if (w->page != page || w->cr3 != m->cr3 || w->mode != walk_mode(m)) {
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

/* --- a remembered instruction, on the hot path -------------------------------------------------
 */

/* CS's attributes and whether long mode is active: together they say how code is read. Never 0. */
static inline uint32_t insn_code(const struct vmm_address_mode *m)
{
    return m->cs_attributes | 1U << 31 | (uint32_t)(m->efer & EFER_LMA) << 6;
}

static inline struct insn *insn_slot(struct vcpu *v)
{
    struct insn *i = &v->decode_cache->insn[(v->rip ^ v->rip >> 6) % INSN_CACHE_COUNT];

    __asm__("" : "+r"(i)); /* else the address is computed anew at each use */
    return i;
}

/* Are its bytes on that page, when eight cannot be compared at once; false across the page's end.
 */
bool decode_same_bytes(const struct insn *i, const uint8_t *page);

/* The instruction at CS:RIP if it is remembered and its bytes are still there, else NULL. The
 * processor has just fetched them, so rights and limits need no check. */
static inline const struct insn *
decode_remembered(struct vcpu *v, const struct vmm_address_mode *mode, const struct vmm_exit *e)
{
    const struct insn *i = insn_slot(v);
    const struct walk_entry *w = i->walk;

    if (i->rip != v->rip || i->code != insn_code(mode) || i->cs_base != mode->cs_base) {
        return NULL;
    }
    if (vmm_unlikely(e->insn_count >= i->length)) {
        return __builtin_memcmp(e->insn, i->bytes, i->length) == 0 ? i : NULL;
    }
    if (w == NULL || !walk_holds(w, mode, i->page) || w->host == NULL) {
        return NULL;
    }
    if (vmm_likely(i->length <= 8 && i->offset <= VMM_PAGE_SIZE - 8)) {
        uint64_t now;

        __builtin_memcpy(&now, w->host + i->offset, sizeof(now));
        return (now ^ i->bytes[0]) << i->unused_bits == 0 ? i : NULL;
    }
    return decode_same_bytes(i, w->host) ? i : NULL;
}

/* --- a remembered length, on the hot path ------------------------------------------------------
 */

/* Instructions of the same 64 bytes of code, a loop's or a driver's, do not evict each other. */
static inline struct length_hint *length_slot(const struct vcpu *v)
{
    uint64_t offset = v->rip % LENGTH_CACHE_COUNT * sizeof(struct length_hint);
    uintptr_t base = (uintptr_t)v->decode_cache + offset;

    __asm__("" : "+r"(base)); /* else the index is kept beside it */
    return (struct length_hint *)(base + offsetof(struct zydis_cache, length));
}

/* Of the instruction at RIP in 64-bit mode. False: not known. */
static inline bool length_remembered(const struct vcpu *v, uint64_t cr3, uint8_t *length)
{
    const struct length_hint *h = length_slot(v);
    uint64_t now;

    if (h->rip != v->rip || h->cr3 != cr3) {
        return false;
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < LENGTH_LEVELS; i++) {
        if (__atomic_load_n(h->slot[i], __ATOMIC_RELAXED) != h->value[i]) {
            return false;
        }
    }
    __builtin_memcpy(&now, h->code, sizeof(now));
    if ((now & h->mask) != h->bytes) {
        return false;
    }
    *length = h->length;
    return true;
}
