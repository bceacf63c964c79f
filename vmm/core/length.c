/* Lengths of instructions that exit, for processors that do not save the next RIP. The exit tells
 * which instruction it was, so only its prefixes are to be counted; a decoder may even think them
 * wrong there. Spec: AMD APM vol. 3 section 1.2. */
#include "core/decode.h"

#include "core/vm.h"

#define OPCODE_HLT 0xf4

static bool is_prefix(uint8_t byte, bool wide)
{
    switch (byte) {
    case 0x26: /* segments */
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66: /* operand and address size */
    case 0x67:
    case 0xf0: /* LOCK, REPNE, REP */
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return wide && (byte & 0xf0) == 0x40; /* REX */
    }
}

/* Of 64-bit code, unless the next eight bytes are on two pages. */
static void remember(struct vcpu *v, const struct vmm_address_mode *mode, unsigned length)
{
    const struct walk_entry *w = walk_slot(v, v->rip);
    uint64_t offset = v->rip % VMM_PAGE_SIZE;
    struct length_hint *h = length_slot(v);

    if (length > sizeof(h->bytes) || offset > VMM_PAGE_SIZE - sizeof(h->bytes) ||
        !walk_holds(w, mode, v->rip >> 12) || w->host == NULL || w->count > LENGTH_LEVELS) {
        return;
    }
    h->rip = v->rip;
    h->cr3 = mode->cr3;
    __builtin_memcpy(h->slot, w->slot, sizeof(h->slot));
    __builtin_memcpy(h->value, w->value, sizeof(h->value));
    h->code = w->host + offset;
    h->mask = ~UINT64_C(0) >> (64 - 8 * length);
    __builtin_memcpy(&h->bytes, h->code, sizeof(h->bytes));
    h->bytes &= h->mask;
    h->length = (uint8_t)length;
}

/* Prefixes at CS:RIP, and the byte behind them. False: not to be read, or more than can be. */
static bool count_prefixes(struct vcpu *v, const struct vmm_address_mode *mode, unsigned *count,
                           uint8_t *opcode)
{
    bool wide = vmm_mode_is_64(mode);
    uint64_t linear = wide ? v->rip : (uint32_t)(mode->cs_base + v->rip);
    struct vmm_walk_fault fault;

    for (*count = 0; *count < VMM_INSN_MAX; ++*count) {
        if (vmm_linear_read(v, VMM_GVA(linear + *count), opcode, 1, VMM_ACCESS_FETCH, &fault) !=
            0) {
            return false;
        }
        if (!is_prefix(*opcode, wide)) {
            return true;
        }
    }
    return false;
}

unsigned vmm_known_length(struct vcpu *v, unsigned opcode_length)
{
    struct vmm_address_mode mode;
    unsigned prefixes;
    uint8_t opcode;

    v->backend->get_address_mode(v, &mode);
    if (!count_prefixes(v, &mode, &prefixes, &opcode) || prefixes + opcode_length > VMM_INSN_MAX) {
        return vmm_decode_length(v); /* changed meanwhile: the guest gets what that deserves */
    }
    if (vmm_mode_is_64(&mode)) {
        remember(v, &mode, prefixes + opcode_length);
    }
    return prefixes + opcode_length;
}

unsigned vmm_halt_length(struct vcpu *v)
{
    struct vmm_address_mode mode;
    unsigned prefixes;
    uint8_t opcode;

    v->backend->get_address_mode(v, &mode);
    return count_prefixes(v, &mode, &prefixes, &opcode) && opcode == OPCODE_HLT ? prefixes + 1 : 0;
}
