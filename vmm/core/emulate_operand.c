/* Operands of emulated instructions: registers, addresses, segments, memory. */
#include "core/dirty.h"
#include "core/emulate_inner.h"
#include "core/vector.h"

static bool is_high_byte(const struct emu *m, unsigned reg, unsigned size)
{
    return size == 1 && reg >= 4 && reg < 8 && (m->i->prefixes & INSN_REX) == 0;
}

uint64_t emu_gpr_read(const struct emu *m, unsigned reg, unsigned size)
{
    if (is_high_byte(m, reg, size)) {
        return m->v->gpr[reg - 4] >> 8 & 0xff;
    }
    return m->v->gpr[reg] & emu_mask(size);
}

void emu_gpr_write(struct emu *m, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *gpr = &m->v->gpr[reg];

    if (is_high_byte(m, reg, size)) {
        gpr -= 4;
        *gpr = (*gpr & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
    } else if (size >= 4) {
        *gpr = value & emu_mask(size); /* a 32-bit result clears the upper half */
    } else {
        *gpr = (*gpr & ~emu_mask(size)) | (value & emu_mask(size));
    }
}

void emu_address_write(struct emu *m, unsigned reg, uint64_t value)
{
    uint64_t *gpr = &m->v->gpr[reg];

    if (m->i->address_size == 2) {
        *gpr = (*gpr & ~UINT64_C(0xffff)) | (value & 0xffff);
    } else {
        *gpr = value & emu_mask(m->i->address_size);
    }
}

uint64_t emu_effective_address(const struct vcpu *v, const struct insn *i)
{
    uint64_t offset = i->disp;

    if (i->base == INSN_REG_RIP) {
        offset += v->rip + i->length;
    } else if (i->base != INSN_NO_REG) {
        offset += v->gpr[i->base];
    }
    if (i->index != INSN_NO_REG) {
        offset += v->gpr[i->index] << i->scale;
    }
    return offset & emu_mask(i->address_size);
}

enum vmm_segment emu_segment(const struct emu *m)
{
    if (m->i->segment != INSN_NO_SEG) {
        return (enum vmm_segment)m->i->segment;
    }
    return m->i->base == VMM_RSP || m->i->base == VMM_RBP ? VMM_SEG_SS : VMM_SEG_DS;
}

enum emu_result emu_exception(struct emu *m, uint8_t vector)
{
    bool has_error = (vector >= X86_TS && vector <= X86_PF) || vector == X86_AC;

    vmm_inject_exception(m->v, vector, has_error, 0);
    return EMU_FAULT;
}

enum emu_result emu_bad_selector(struct emu *m, uint8_t vector, uint16_t selector)
{
    vmm_inject_exception(m->v, vector, true, SELECTOR_OF(selector));
    return EMU_FAULT;
}

static enum emu_result segment_fault(struct emu *m, enum vmm_segment segment)
{
    return emu_exception(m, segment == VMM_SEG_SS ? X86_SS : X86_GP);
}

bool emu_is_canonical(const struct emu *m, uint64_t linear)
{
    unsigned bits = (m->mode.cr4 & CR4_LA57) != 0 ? 57 : 48;
    int64_t upper = (int64_t)linear >> (bits - 1);

    return upper == 0 || upper == -1;
}

static enum emu_result linear_64bit(struct emu *m, enum vmm_segment segment, uint64_t offset,
                                    unsigned size, uint64_t *linear)
{
    *linear = offset;
    if (m->gpa_known && segment < VMM_SEG_FS) {
        return EMU_OK; /* what the processor has translated already is canonical */
    }
    if (segment == VMM_SEG_FS || segment == VMM_SEG_GS) {
        struct vmm_segment_state s;

        m->v->backend->get_segment(m->v, segment, &s);
        *linear += s.base;
    }
    if (!m->gpa_known &&
        (!emu_is_canonical(m, *linear) || !emu_is_canonical(m, *linear + size - 1))) {
        return segment_fault(m, segment);
    }
    return EMU_OK;
}

/* SDM vol. 3 table 6-7. Nothing asks for more than 8 bytes by this; the vector moves that do have
 * #GP for it. */
static enum emu_result check_alignment(struct emu *m, uint64_t linear, unsigned size)
{
    bool wrong = size <= 8 && (linear & (size - 1)) != 0 && m->mode.cpl == 3 &&
                 (m->mode.cr0 & CR0_AM) != 0 && (m->v->rflags & RFLAGS_AC) != 0;

    return wrong ? emu_exception(m, X86_AC) : EMU_OK;
}

static enum emu_result linear_by_segment(struct emu *m, enum vmm_segment segment, uint64_t offset,
                                         unsigned size, enum emu_intent intent, uint64_t *linear)
{
    struct vmm_segment_state s;
    bool is_code;

    m->v->backend->get_segment(m->v, segment, &s);
    is_code = (s.attributes & SEGMENT_CODE) != 0;
    *linear = (uint32_t)(s.base + offset);
    if ((s.attributes & SEGMENT_PRESENT) == 0 || !vmm_segment_holds(&s, offset, size)) {
        return segment_fault(m, segment);
    }
    /* Real mode may write through CS and read through anything. */
    if ((m->mode.cr0 & CR0_PE) != 0 &&
        (intent == EMU_READ ? is_code && (s.attributes & SEGMENT_WRITABLE) == 0
                            : is_code || (s.attributes & SEGMENT_WRITABLE) == 0)) {
        return segment_fault(m, segment);
    }
    return EMU_OK;
}

enum emu_result emu_linear(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                           enum emu_intent intent, uint64_t *linear)
{
    enum emu_result r = m->i->mode == 8
                            ? linear_64bit(m, segment, offset, size, linear)
                            : linear_by_segment(m, segment, offset, size, intent, linear);

    return r == EMU_OK ? check_alignment(m, *linear, size) : r;
}

/* --- memory ------------------------------------------------------------------------------------
 */

/* A part of an operand within one page. */
struct piece {
    struct translation at;
    unsigned size;
};

/* Did the exit itself tell where this operand lies? A write's rights are known to be fine only if
 * the exit was for a write. */
static bool is_known(const struct emu *m, uint64_t linear, enum emu_intent intent)
{
    const struct vmm_exit *e = m->e;

    if (!m->gpa_known || (intent != EMU_READ && !e->fault.write)) {
        return false;
    }
    /* Writes to ROM exit too, and what such an instruction reads first is not a device's. */
    if (intent == EMU_MODIFY && vmm_memory_ptr(m->v->vm, e->fault.gpa, 1) != NULL) {
        return false;
    }
    return e->fault.gva_valid ? e->fault.gva.v == linear
                              : ((e->fault.gpa.v ^ linear) & (VMM_PAGE_SIZE - 1)) == 0;
}

/* Translate all of an operand before any of it is touched. Returns the number of pieces, 0: fault.
 */
static unsigned translate(struct emu *m, uint64_t linear, unsigned size, enum emu_intent intent,
                          struct piece piece[2])
{
    unsigned room = (unsigned)(VMM_PAGE_SIZE - (linear & (VMM_PAGE_SIZE - 1)));
    enum vmm_access access = intent == EMU_READ ? VMM_ACCESS_READ : VMM_ACCESS_WRITE;
    unsigned count = size > room ? 2 : 1;
    struct vmm_walk_fault fault;

    if (count == 1 && is_known(m, linear, intent)) {
        piece[0] = (struct piece){.at.gpa = m->e->fault.gpa, .size = size};
        return 1;
    }
    piece[0].size = count == 2 ? room : size;
    piece[1].size = size - piece[0].size;
    for (unsigned n = 0; n < count; n++) {
        if (walk_translate(m->v, &m->mode, VMM_GVA(linear + n * room), access, &piece[n].at,
                           &fault) != 0) {
            vmm_inject_page_fault(m->v, fault.address, fault.error);
            return 0;
        }
    }
    return count;
}

/* Device memory takes 1, 2, 4 or 8 bytes at once. */
static void device_access(struct vcpu *v, uint64_t gpa, uint8_t *bytes, unsigned size, bool write)
{
    while (size != 0) {
        unsigned part = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        struct vdev_access a = {
            .value = ~UINT64_C(0), .size = (uint8_t)part, .write = write, .vcpu = v};

        if (write) {
            a.value = 0;
            __builtin_memcpy(&a.value, bytes, part);
        }
        vmm_port_access(&v->mmio, gpa, &a);
        if (!write) {
            __builtin_memcpy(bytes, &a.value, part);
        }
        gpa += part;
        bytes += part;
        size -= part;
    }
}

static void access_piece(struct vcpu *v, const struct piece *p, uint8_t *bytes, bool write)
{
    if (p->at.host == NULL) {
        device_access(v, p->at.gpa.v, bytes, p->size, write);
    } else if (!write) {
        __builtin_memcpy(bytes, p->at.host, p->size);
    } else if (p->at.writable) {
        vmm_dirty_wrote(v->vm, p->at.gpa);
        __builtin_memcpy(p->at.host, bytes, p->size);
    }
}

static enum emu_result access(struct emu *m, uint64_t linear, void *bytes, unsigned size,
                              enum emu_intent intent, bool write)
{
    struct piece piece[2];
    unsigned count = translate(m, linear, size, intent, piece);
    unsigned done = 0;

    for (unsigned n = 0; n < count; n++) {
        access_piece(m->v, &piece[n], (uint8_t *)bytes + done, write);
        done += piece[n].size;
    }
    return count != 0 ? EMU_OK : EMU_FAULT;
}

enum emu_result emu_load(struct emu *m, uint64_t linear, void *out, unsigned size,
                         enum emu_intent intent)
{
    return access(m, linear, out, size, intent, false);
}

enum emu_result emu_store(struct emu *m, uint64_t linear, const void *data, unsigned size)
{
    uint8_t bytes[sizeof(struct vmm_vector)];

    __builtin_memcpy(bytes, data, size);
    return access(m, linear, bytes, size, EMU_WRITE, true);
}

enum emu_result emu_check_write(struct emu *m, uint64_t linear, unsigned size)
{
    struct piece piece[2];

    return translate(m, linear, size, EMU_WRITE, piece) != 0 ? EMU_OK : EMU_FAULT;
}

enum emu_result emu_read(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                         uint64_t *value)
{
    uint64_t linear;
    enum emu_result r = emu_linear(m, segment, offset, size, EMU_READ, &linear);

    *value = 0;
    return r == EMU_OK ? emu_load(m, linear, value, size, EMU_READ) : r;
}

enum emu_result emu_write(struct emu *m, enum vmm_segment segment, uint64_t offset, unsigned size,
                          uint64_t value)
{
    uint64_t linear;
    enum emu_result r = emu_linear(m, segment, offset, size, EMU_WRITE, &linear);

    return r == EMU_OK ? emu_store(m, linear, &value, size) : r;
}

/* --- the operand of ModRM's r/m ------------------------------------------------------------------
 */

enum emu_result emu_rm_resolve(struct emu *m, unsigned size, enum emu_intent intent,
                               struct emu_rm *rm)
{
    rm->is_memory = m->i->mod != 3;
    rm->size = size;
    return rm->is_memory ? emu_linear(m, emu_segment(m), emu_effective_address(m->v, m->i), size,
                                      intent, &rm->linear)
                         : EMU_OK;
}

enum emu_result emu_rm_load(struct emu *m, const struct emu_rm *rm, enum emu_intent intent,
                            uint64_t *value)
{
    if (!rm->is_memory) {
        *value = emu_gpr_read(m, m->i->rm, rm->size);
        return EMU_OK;
    }
    *value = 0;
    return emu_load(m, rm->linear, value, rm->size, intent);
}

enum emu_result emu_rm_store(struct emu *m, const struct emu_rm *rm, uint64_t value)
{
    if (!rm->is_memory) {
        emu_gpr_write(m, m->i->rm, rm->size, value);
        return EMU_OK;
    }
    return emu_store(m, rm->linear, &value, rm->size);
}

static enum emu_result resolve_and_load(struct emu *m, unsigned size, enum emu_intent intent,
                                        struct emu_rm *rm, uint64_t *value)
{
    enum emu_result r = emu_rm_resolve(m, size, intent, rm);

    return r == EMU_OK ? emu_rm_load(m, rm, intent, value) : r;
}

enum emu_result emu_rm_get(struct emu *m, unsigned size, uint64_t *value)
{
    struct emu_rm rm;

    return resolve_and_load(m, size, EMU_READ, &rm, value);
}

enum emu_result emu_rm_put(struct emu *m, unsigned size, uint64_t value)
{
    struct emu_rm rm;
    enum emu_result r = emu_rm_resolve(m, size, EMU_WRITE, &rm);

    return r == EMU_OK ? emu_rm_store(m, &rm, value) : r;
}

enum emu_result emu_rm_begin(struct emu *m, unsigned size, struct emu_rm *rm, uint64_t *value)
{
    return resolve_and_load(m, size, EMU_MODIFY, rm, value);
}
