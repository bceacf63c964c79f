#include "core/descriptor.h"

#include "core/decode.h"
#include "core/dirty.h"
#include "core/vm.h"
#include "core/x86.h"

bool vmm_segment_holds(const struct vmm_segment_state *s, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;

    if ((s->attributes & (SEGMENT_CODE | SEGMENT_CONFORMING)) == SEGMENT_CONFORMING) {
        uint64_t top = (s->attributes & VMM_SEGMENT_DEFAULT_32) != 0 ? UINT32_MAX : 0xffff;

        return offset > s->limit && last <= top;
    }
    return last <= s->limit;
}

/* SDM vol. 3 table 8-1 and sections 5.5 to 5.7; a far branch may also lower RPL. */
bool vmm_segment_fits(enum vmm_segment which, const struct vmm_segment_state *s, unsigned cpl)
{
    unsigned attr = s->attributes, dpl = SEGMENT_DPL(attr), rpl = s->selector & SELECTOR_RPL;

    if ((attr & SEGMENT_CODE_DATA) == 0) {
        return false;
    }
    switch (which) {
    case VMM_SEG_CS:
        if ((attr & SEGMENT_CODE) == 0) {
            return false;
        }
        return (attr & SEGMENT_CONFORMING) != 0 ? dpl <= cpl : dpl == cpl && rpl <= cpl;
    case VMM_SEG_SS:
        return (attr & (SEGMENT_CODE | SEGMENT_WRITABLE)) == SEGMENT_WRITABLE && dpl == cpl &&
               rpl == cpl;
    default:
        if ((attr & (SEGMENT_CODE | SEGMENT_WRITABLE)) == SEGMENT_CODE) {
            return false; /* cannot be read */
        }
        return (attr & (SEGMENT_CODE | SEGMENT_CONFORMING)) ==
                   (SEGMENT_CODE | SEGMENT_CONFORMING) ||
               (dpl >= cpl && dpl >= rpl);
    }
}

void vmm_descriptor_unpack(uint16_t selector, uint64_t d, struct vmm_segment_state *out)
{
    uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

    *out = (struct vmm_segment_state){
        .selector = selector,
        .attributes = (uint16_t)((d >> 40 & 0xff) | (d >> 44 & 0xf00)),
        .limit = (d >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit,
        .base = (d >> 16 & 0xffffff) | (d >> 56 & 0xff) << 24,
    };
}

bool vmm_descriptor_find(struct vcpu *v, uint16_t selector, uint64_t *at)
{
    bool local = (selector & SELECTOR_LOCAL) != 0;
    struct vmm_segment_state table;

    v->backend->get_segment(v, local ? VMM_SEG_LDTR : VMM_SEG_GDTR, &table);
    if ((local && (table.attributes & SEGMENT_PRESENT) == 0) || (selector | 7u) > table.limit) {
        return false;
    }
    *at = table.base + (selector & ~7u);
    return true;
}

/* A part of memory that the processor accesses, in one page. */
struct span {
    struct translation at;
    unsigned size;
};

/* Returns the number of parts, 0: a fault is queued. */
static unsigned translate(struct vcpu *v, uint64_t linear, unsigned len, enum vmm_access access,
                          struct span span[2])
{
    unsigned room = (unsigned)(VMM_PAGE_SIZE - (linear & (VMM_PAGE_SIZE - 1)));
    unsigned count = len > room ? 2 : 1;
    struct vmm_walk_fault fault;
    struct vmm_address_mode mode;

    v->backend->get_address_mode(v, &mode);
    mode.cpl = 0;
    span[0].size = count == 2 ? room : len;
    span[1].size = len - span[0].size;
    for (unsigned n = 0; n < count; n++) {
        if (walk_translate(v, &mode, VMM_GVA(linear + n * room), access, &span[n].at, &fault) !=
            0) {
            vmm_inject_page_fault(v, fault.address, fault.error);
            return 0;
        }
    }
    return count;
}

bool vmm_system_read(struct vcpu *v, uint64_t linear, void *data, unsigned len)
{
    struct span span[2];
    unsigned count = translate(v, linear, len, VMM_ACCESS_READ, span);
    uint8_t *bytes = data;

    for (unsigned n = 0; n < count; n++) {
        if (span[n].at.host != NULL) {
            __builtin_memcpy(bytes, span[n].at.host, span[n].size);
        } else {
            __builtin_memset(bytes, 0xff, span[n].size);
        }
        bytes += span[n].size;
    }
    return count != 0;
}

bool vmm_system_write(struct vcpu *v, uint64_t linear, const void *data, unsigned len)
{
    struct span span[2];
    unsigned count = translate(v, linear, len, VMM_ACCESS_WRITE, span);
    const uint8_t *bytes = data;

    for (unsigned n = 0; n < count; n++) {
        if (span[n].at.host != NULL && span[n].at.writable) {
            vmm_dirty_wrote(v->vm, span[n].at.gpa);
            __builtin_memcpy(span[n].at.host, bytes, span[n].size);
        }
        bytes += span[n].size;
    }
    return count != 0;
}

/* Other vCPUs may use the same table, and mark it too. */
bool vmm_descriptor_mark(struct vcpu *v, uint64_t at, uint8_t set, uint8_t clear)
{
    struct span span[2];
    uint8_t *type;

    if (translate(v, at + 5, 1, VMM_ACCESS_WRITE, span) == 0) {
        return false;
    }
    type = span[0].at.host;
    if (type != NULL && span[0].at.writable) {
        vmm_dirty_wrote(v->vm, span[0].at.gpa);
        __atomic_or_fetch(type, set, __ATOMIC_SEQ_CST);
        __atomic_and_fetch(type, (uint8_t)~clear, __ATOMIC_SEQ_CST);
    }
    return true;
}

static bool refuse(struct vcpu *v, uint8_t vector, uint32_t error)
{
    vmm_inject_exception(v, vector, true, error);
    return false;
}

bool vmm_segment_load(struct vcpu *v, enum vmm_segment which, uint16_t selector, unsigned cpl,
                      uint8_t bad, uint32_t external)
{
    uint32_t error = SELECTOR_OF(selector) | external;
    struct vmm_segment_state s;
    uint64_t at, d;

    if (!vmm_descriptor_find(v, selector, &at)) {
        return refuse(v, bad, error);
    }
    if (!vmm_system_read(v, at, &d, sizeof(d))) {
        return false;
    }
    vmm_descriptor_unpack(selector, d, &s);
    if (!vmm_segment_fits(which, &s, cpl)) {
        return refuse(v, bad, error);
    }
    if ((s.attributes & SEGMENT_PRESENT) == 0) {
        return refuse(v, which == VMM_SEG_SS ? X86_SS : X86_NP, error);
    }
    if ((s.attributes & SEGMENT_ACCESSED) == 0 &&
        !vmm_descriptor_mark(v, at, SEGMENT_ACCESSED, 0)) {
        return false;
    }
    s.attributes |= SEGMENT_ACCESSED;
    v->backend->set_segment(v, which, &s);
    return true;
}
