/* Fetching and decoding guest instructions: Zydis (minimal mode) finds lengths and fields, a cache
 * per vCPU keeps the result by linear address. The bytes are compared at each use, so that code
 * that was changed is decoded again. */
#include "core/decode.h"

#include <Zydis/Zydis.h>
#include "core/vm.h"
#include "core/x86.h"

#define CS_DEFAULT (1U << 10) /* D */

/* Default address size of the code, in bytes. */
static uint8_t mode_of(const struct vmm_address_mode *m)
{
    if (vmm_mode_is_64(m)) {
        return 8;
    }
    return (m->cs_attributes & CS_DEFAULT) != 0 ? 4 : 2;
}

static uint64_t linear_of(uint64_t rip, const struct vmm_address_mode *m)
{
    return mode_of(m) == 8 ? rip : (uint32_t)(m->cs_base + rip);
}

/* Bytes from rip to the segment's limit. */
static uint64_t room_of(const struct vcpu *v, const struct vmm_address_mode *m, uint8_t mode)
{
    if (mode == 8) {
        return VMM_INSN_MAX;
    }
    return v->rip > m->cs_limit ? 0 : m->cs_limit - v->rip + 1;
}

/* --- from Zydis's fields to ours ---------------------------------------------------------------
 */

static const uint8_t segment_prefix_table[][2] = {
    {0x26, VMM_SEG_ES}, {0x2e, VMM_SEG_CS}, {0x36, VMM_SEG_SS},
    {0x3e, VMM_SEG_DS}, {0x64, VMM_SEG_FS}, {0x65, VMM_SEG_GS},
};

static void take_prefix(struct insn *i, uint8_t byte)
{
    switch (byte) {
    case 0xf0:
        i->prefixes |= INSN_LOCK;
        return;
    case 0xf2:
        i->prefixes = (uint8_t)((i->prefixes & ~INSN_REP) | INSN_REPNE);
        return;
    case 0xf3:
        i->prefixes = (uint8_t)((i->prefixes & ~INSN_REPNE) | INSN_REP);
        return;
    case 0x66:
        i->prefixes |= INSN_OPSIZE;
        return;
    case 0x67:
        i->address_size = i->mode == 4 ? 2 : 4;
        return;
    }
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(segment_prefix_table); n++) {
        bool ignored = i->mode == 8 && segment_prefix_table[n][1] < VMM_SEG_FS;

        if (segment_prefix_table[n][0] == byte && !ignored) {
            i->segment = segment_prefix_table[n][1];
        }
    }
}

static void take_prefixes(struct insn *i, const ZydisDecodedInstruction *z)
{
    bool rex = (z->attributes & ZYDIS_ATTRIB_HAS_REX) != 0;

    i->address_size = i->mode;
    i->segment = INSN_NO_SEG;
    for (unsigned n = 0; n < z->raw.prefix_count; n++) {
        take_prefix(i, z->raw.prefixes[n].value);
    }
    i->prefixes |= rex ? INSN_REX : 0;
    if (rex && z->raw.rex.W != 0) {
        i->operand_size = 8;
    } else {
        i->operand_size = (i->mode == 2) != ((i->prefixes & INSN_OPSIZE) != 0) ? 2 : 4;
    }
}

/* VEX has the mandatory prefix and REX's bits in it, these inverted. SDM vol. 2 section 2.3.5. */
static void take_vex(struct insn *i, const ZydisDecodedInstruction *z)
{
    static const uint8_t prefix_table[4] = {0, INSN_OPSIZE, INSN_REP, INSN_REPNE};

    i->prefixes |= INSN_VEX | prefix_table[z->raw.vex.pp & 3];
    i->prefixes |= z->raw.vex.L != 0 ? INSN_VEX_256 : 0;
    i->operand_size = z->raw.vex.W != 0 && i->mode == 8 ? 8 : 4;
    i->vvvv = (uint8_t)(~z->raw.vex.vvvv & (i->mode == 8 ? 15 : 7));
}

/* What REX or VEX adds to register numbers: 0 or 1 each. */
struct extension {
    uint8_t r, x, b;
};

static struct extension extension_of(const struct insn *i, const ZydisDecodedInstruction *z)
{
    struct extension e = {0, 0, 0};

    if ((i->prefixes & INSN_REX) != 0) {
        e = (struct extension){z->raw.rex.R, z->raw.rex.X, z->raw.rex.B};
    } else if ((i->prefixes & INSN_VEX) != 0 && i->mode == 8) {
        e = (struct extension){!z->raw.vex.R, !z->raw.vex.X, !z->raw.vex.B};
    }
    return e;
}

/* APM vol. 3 table A-33: base and index of 16-bit addressing by r/m. */
static const uint8_t address16_table[8][2] = {
    {VMM_RBX, VMM_RSI},     {VMM_RBX, VMM_RDI},     {VMM_RBP, VMM_RSI},     {VMM_RBP, VMM_RDI},
    {VMM_RSI, INSN_NO_REG}, {VMM_RDI, INSN_NO_REG}, {VMM_RBP, INSN_NO_REG}, {VMM_RBX, INSN_NO_REG},
};

/* The bytes that name a memory operand. */
struct address_fields {
    uint8_t mod, rm, rex_b, rex_x;
    uint8_t sib_base, sib_index, sib_scale;
};

static inline void take_memory_operand(struct insn *i, const struct address_fields *a)
{
    if (i->address_size == 2) {
        if (a->mod != 0 || a->rm != 6) {
            i->base = address16_table[a->rm][0];
            i->index = address16_table[a->rm][1];
        }
        return;
    }
    if (a->rm != 4) {
        if (a->mod != 0 || a->rm != 5) {
            i->base = (uint8_t)(a->rm | a->rex_b << 3);
        } else if (i->mode == 8) {
            i->base = INSN_REG_RIP;
        }
        return;
    }
    if (a->mod != 0 || a->sib_base != 5) {
        i->base = (uint8_t)(a->sib_base | a->rex_b << 3);
    }
    if ((a->sib_index | a->rex_x << 3) != 4) {
        i->index = (uint8_t)(a->sib_index | a->rex_x << 3);
        i->scale = a->sib_scale;
    }
}

static uint64_t sign_extend(uint64_t value, unsigned bits)
{
    return bits == 0 || bits >= 64 ? value
                                   : (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
}

static void take_fields(struct insn *i, const ZydisDecodedInstruction *z)
{
    bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    struct extension extension;
    struct address_fields a;

    take_prefixes(i, z);
    if (vex) {
        take_vex(i, z);
    }
    extension = extension_of(i, z);
    i->length = z->length;
    i->opcode = z->opcode;
    i->map = INSN_MAP_OTHER;
    if ((vex || z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) &&
        z->opcode_map <= ZYDIS_OPCODE_MAP_0F38) {
        i->map = (uint8_t)(z->opcode_map - ZYDIS_OPCODE_MAP_DEFAULT + INSN_MAP_1);
    }
    i->disp = sign_extend((uint64_t)z->raw.disp.value, z->raw.disp.size);
    i->imm = sign_extend(z->raw.imm[0].value.u, z->raw.imm[0].size);
    i->base = i->index = INSN_NO_REG;
    i->has_modrm = (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
    if (!i->has_modrm) {
        i->rm = (uint8_t)((i->opcode & 7) | extension.b << 3);
        return;
    }
    a = (struct address_fields){
        .mod = z->raw.modrm.mod,
        .rm = z->raw.modrm.rm,
        .rex_b = extension.b,
        .rex_x = extension.x,
        .sib_base = z->raw.sib.base,
        .sib_index = z->raw.sib.index,
        .sib_scale = z->raw.sib.scale,
    };
    i->mod = a.mod;
    i->reg = (uint8_t)(z->raw.modrm.reg | extension.r << 3);
    i->rm = (uint8_t)(a.rm | a.rex_b << 3);
    if (a.mod != 3) {
        take_memory_operand(i, &a);
    }
}

static enum parse_result parse_any(struct insn *i, unsigned available)
{
    ZydisDecodedInstruction z;
    ZydisDecoder decoder;
    ZyanStatus status;

    ZydisDecoderInit(&decoder,
                     i->mode == 8   ? ZYDIS_MACHINE_MODE_LONG_64
                     : i->mode == 4 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                    : ZYDIS_MACHINE_MODE_LEGACY_16,
                     i->mode == 8   ? ZYDIS_STACK_WIDTH_64
                     : i->mode == 4 ? ZYDIS_STACK_WIDTH_32
                                    : ZYDIS_STACK_WIDTH_16);
    status = ZydisDecoderDecodeInstruction(&decoder, NULL, i->bytes, available, &z);
    if (ZYAN_SUCCESS(status)) {
        take_fields(i, &z);
        return PARSE_OK;
    }
    if (status == ZYDIS_STATUS_NO_MORE_DATA) {
        return available < VMM_INSN_MAX ? PARSE_MORE : PARSE_TOO_LONG;
    }
    return status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? PARSE_TOO_LONG : PARSE_INVALID;
}

/* MOV between memory and a register or an immediate, MOVZX, MOVSX: bytes of immediate, -1 for
 * others. */
static int simple_immediate(const struct insn *i)
{
    if (i->map == INSN_MAP_0F) {
        return (i->opcode & 0xf6) == 0xb6 ? 0 : -1;
    }
    if ((i->opcode & 0xfc) == 0x88) {
        return 0;
    }
    if ((i->opcode & 0xfe) == 0xc6) {
        return (i->opcode & 1) == 0 ? 1 : i->operand_size == 2 ? 2 : 4;
    }
    return -1;
}

static uint64_t take_signed(const uint8_t *bytes, unsigned size)
{
    uint32_t value;

    __builtin_memcpy(&value, bytes,
                     sizeof(value)); /* may be beyond the instruction, not the array */
    return size != 0 ? sign_extend(value, size * 8) : 0;
}

/* The instructions that device memory sees nearly always, in a tenth of the time. PARSE_INVALID:
 * not one of them, or not all of it is there. */
static enum parse_result parse_simple(struct insn *i, unsigned available)
{
    const uint8_t *p = (const uint8_t *)i->bytes;
    struct address_fields a = {0};
    unsigned at = 0, disp_size;
    uint8_t rex = 0, modrm;
    int imm_size;

    i->address_size = 8;
    if (p[at] == 0x67) {
        i->address_size = 4;
        at++;
    }
    if (p[at] == 0x66) {
        i->prefixes = INSN_OPSIZE;
        at++;
    }
    if ((p[at] & 0xf0) == 0x40) {
        i->prefixes |= INSN_REX;
        rex = p[at++];
    }
    i->operand_size = (rex & 8) != 0 ? 8 : (i->prefixes & INSN_OPSIZE) != 0 ? 2 : 4;
    i->segment = INSN_NO_SEG;
    i->map = p[at] == 0x0f ? INSN_MAP_0F : INSN_MAP_1;
    at += p[at] == 0x0f;
    i->opcode = p[at++];
    modrm = p[at++];
    imm_size = simple_immediate(i);
    a.mod = modrm >> 6;
    i->reg = (uint8_t)((modrm >> 3 & 7) | (rex & 4) << 1);
    if (imm_size < 0 || a.mod == 3 || (imm_size != 0 && (i->reg & 7) != 0)) {
        return PARSE_INVALID;
    }
    a.rm = modrm & 7;
    a.rex_b = rex & 1;
    a.rex_x = rex >> 1 & 1;
    if (a.rm == 4) {
        uint8_t sib = p[at++];

        a.sib_base = sib & 7;
        a.sib_index = sib >> 3 & 7;
        a.sib_scale = sib >> 6;
    }
    disp_size = a.mod == 1                                    ? 1
                : a.mod == 2                                  ? 4
                : a.rm == 5 || (a.rm == 4 && a.sib_base == 5) ? 4
                                                              : 0;
    if (at + disp_size + (unsigned)imm_size > available) {
        return PARSE_INVALID;
    }
    i->disp = take_signed(p + at, disp_size);
    at += disp_size;
    i->imm = take_signed(p + at, (unsigned)imm_size);
    i->length = (uint8_t)(at + (unsigned)imm_size);
    i->mod = a.mod;
    i->rm = (uint8_t)(a.rm | a.rex_b << 3);
    i->base = i->index = INSN_NO_REG;
    i->has_modrm = true;
    take_memory_operand(i, &a);
    return PARSE_OK;
}

enum parse_result decode_parse(struct insn *i, unsigned available, bool simple)
{
    if (simple) {
        return i->mode == 8 ? parse_simple(i, available) : PARSE_INVALID;
    }
    i->prefixes = 0; /* of an attempt at the short way */
    i->scale = 0;
    return parse_any(i, available);
}

/* What a simple instruction's quick way is: plain moves have one, but for those of AH, CH, DH, BH.
 */
static void set_quick(struct insn *i)
{
    bool high_byte;

    i->quick_size = (i->opcode & 1) == 0 ? 1 : i->operand_size;
    i->quick_mask = ~UINT64_C(0) >> (64 - 8 * i->quick_size);
    high_byte = i->quick_size == 1 && i->reg >= 4 && (i->prefixes & INSN_REX) == 0;
    if (i->map != INSN_MAP_1) {
        return;
    }
    if (i->opcode >= 0xc6) {
        i->quick = QUICK_STORE_IMM;
        i->imm &= i->quick_mask;
    } else if (!high_byte) {
        i->quick = (i->opcode & 2) == 0 ? QUICK_STORE : QUICK_LOAD;
    }
}

static enum parse_result parse(struct insn *i, unsigned available)
{
    if (decode_parse(i, available, true) == PARSE_OK) {
        set_quick(i);
        return PARSE_OK;
    }
    return decode_parse(i, available, false);
}

/* --- fetching ----------------------------------------------------------------------------------
 */

bool decode_same_bytes(const struct insn *i, const uint8_t *page)
{
    return i->offset + i->length <= VMM_PAGE_SIZE &&
           __builtin_memcmp(page + i->offset, i->bytes, i->length) == 0;
}

/* The usual case: a simple instruction well inside a page that has been walked before. The
 * processor has just fetched it, so rights and limits need no check. */
static bool fetch_simple(struct vcpu *v, const struct vmm_address_mode *mode, struct insn *i)
{
    struct walk_entry *w = walk_slot(v, i->page << 12);

    if (i->offset > VMM_PAGE_SIZE - sizeof(i->bytes) || !walk_holds(w, mode, i->page) ||
        w->host == NULL) {
        return false;
    }
    __builtin_memcpy(i->bytes, w->host + i->offset, sizeof(i->bytes));
    i->walk = w;
    if (decode_parse(i, VMM_INSN_MAX, true) != PARSE_OK) {
        return false;
    }
    set_quick(i);
    return true;
}

/* Decode from memory: one page first; the second is touched only if the instruction goes on there,
 * as the processor does. */
static enum decode_result fetch_and_parse(struct vcpu *v, const struct vmm_address_mode *mode,
                                          struct insn *i)
{
    uint64_t linear = i->page << 12 | i->offset, room = room_of(v, mode, i->mode);
    unsigned in_page = (unsigned)(VMM_PAGE_SIZE - i->offset);
    unsigned step[2] = {in_page < VMM_INSN_MAX ? in_page : VMM_INSN_MAX, VMM_INSN_MAX};
    unsigned have = 0;

    for (unsigned n = 0; n < 2 && have < room; n++) {
        unsigned end = step[n] < room ? step[n] : (unsigned)room;
        struct vmm_walk_fault fault;
        struct translation t;

        if (end == have) {
            continue;
        }
        if (walk_translate(v, mode, VMM_GVA(linear + have), VMM_ACCESS_FETCH, &t, &fault) != 0) {
            vmm_inject_page_fault(v, fault.address, fault.error);
            return DECODE_FAULT;
        }
        if (t.host == NULL) {
            return DECODE_CRASH;
        }
        if (n == 0) {
            i->walk = walk_slot(v, linear);
        }
        __builtin_memcpy((uint8_t *)i->bytes + have, t.host, end - have);
        have = end;
        switch (parse(i, have)) {
        case PARSE_OK:
            return DECODE_OK;
        case PARSE_MORE:
            break;
        case PARSE_TOO_LONG:
            vmm_inject_exception(v, X86_GP, true, 0);
            return DECODE_FAULT;
        case PARSE_INVALID:
            vmm_inject_exception(v, X86_UD, false, 0);
            return DECODE_FAULT;
        }
    }
    vmm_inject_exception(v, X86_GP, true, 0); /* beyond the code segment's limit */
    return DECODE_FAULT;
}

enum decode_result decode_anew(struct vcpu *v, const struct vmm_address_mode *mode,
                               const struct vmm_exit *e, const struct insn **out)
{
    struct insn *i = insn_slot(v);
    uint64_t linear;

    *out = i;
    *i = (struct insn){.rip = v->rip, .cs_base = mode->cs_base, .mode = mode_of(mode)};
    linear = linear_of(v->rip, mode);
    i->page = linear >> 12;
    i->offset = (uint16_t)(linear & (VMM_PAGE_SIZE - 1));
    if (e->insn_count != 0) {
        __builtin_memcpy(i->bytes, e->insn, VMM_INSN_MAX);
    }
    if (e->insn_count != 0 ? parse(i, e->insn_count) != PARSE_OK : !fetch_simple(v, mode, i)) {
        enum decode_result result = fetch_and_parse(v, mode, i);

        if (result != DECODE_OK) {
            return result;
        }
    }
    i->unused_bits = i->length <= 8 ? (uint8_t)(64 - 8 * i->length) : 0;
    i->code = insn_code(mode);
    return DECODE_OK;
}

enum decode_result decode_current(struct vcpu *v, const struct vmm_address_mode *mode,
                                  const struct vmm_exit *e, const struct insn **out)
{
    *out = decode_remembered(v, mode, e);
    return *out != NULL ? DECODE_OK : decode_anew(v, mode, e, out);
}

/* --- for the exit handlers ---------------------------------------------------------------------
 */

unsigned vmm_decode_length(struct vcpu *v)
{
    const struct vmm_exit unknown = {.insn_count = 0};
    struct vmm_address_mode mode;
    const struct insn *i;

    v->backend->get_address_mode(v, &mode);
    switch (decode_current(v, &mode, &unknown, &i)) {
    case DECODE_OK:
        return i->length;
    case DECODE_CRASH:
        /* The processor executed it, so it was RAM then: another vCPU has remapped the page. */
        vmm_inject_exception(v, X86_GP, true, 0);
        return 0;
    default:
        return 0;
    }
}

int vmm_decode_create(struct vcpu *v)
{
    v->decode_cache = vmm_vm_alloc(v->vm, sizeof(*v->decode_cache));
    if (v->decode_cache == NULL) {
        return -VMM_ENOMEM;
    }
    vmm_decode_flush(v);
    return 0;
}

void vmm_decode_destroy(struct vcpu *v)
{
    vmm_vm_free(v->vm, v->decode_cache, sizeof(*v->decode_cache));
    v->decode_cache = NULL;
}

void vmm_decode_flush(struct vcpu *v)
{
    __builtin_memset(v->decode_cache, 0, sizeof(*v->decode_cache));
    for (unsigned i = 0; i < WALK_CACHE_COUNT; i++) {
        v->decode_cache->walk[i].page = WALK_NO_PAGE;
    }
    for (unsigned i = 0; i < LENGTH_CACHE_COUNT; i++) {
        v->decode_cache->length[i].rip = LENGTH_NO_RIP;
    }
}
