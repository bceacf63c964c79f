#include "guest_cpu.h"

#include <string.h>
#include "core/decode.h"

#define CODE_RIP UINT64_C(0x1000)

void guest_set_mode(struct fixture *f, enum guest_mode mode)
{
    struct mock_vcpu *m = mock_vcpu(f->vcpu);
    bool flat = mode != GUEST_REAL && mode != GUEST_PROTECTED_16;
    uint16_t data = mode == GUEST_REAL ? 0x93 : mode == GUEST_PROTECTED_16 ? 0x93 : 0xc93;
    uint16_t code = mode == GUEST_REAL           ? 0x9b
                    : mode == GUEST_PROTECTED_16 ? 0x9b
                    : mode == GUEST_PROTECTED_32 ? 0xc9b
                                                 : 0xa9b;

    for (unsigned i = VMM_SEG_ES; i <= VMM_SEG_GS; i++) {
        m->segment[i] = (struct vmm_segment_state){.attributes = i == VMM_SEG_CS ? code : data,
                                                   .limit = flat ? 0xffffffff : 0xffff};
    }
    m->sysreg[VMM_CR0] = mode == GUEST_REAL ? 0x10 : mode == GUEST_LONG ? 0x80000011 : 0x11;
    m->sysreg[VMM_CR3] = 0;
    m->sysreg[VMM_CR4] = mode == GUEST_LONG ? 0x20 : 0;
    m->sysreg[VMM_EFER] = mode == GUEST_LONG ? 0x500 : 0;
    memset(f->vcpu->gpr, 0, sizeof(f->vcpu->gpr));
    f->vcpu->gpr[VMM_RSP] = 0x7000;
    f->vcpu->rip = CODE_RIP;
    f->vcpu->rflags = 2;
    f->vcpu->event.valid = false;
    if (mode == GUEST_LONG) {
        guest_identity_map(f, 0x3);
    }
}

void guest_identity_map(struct fixture *f, uint64_t leaf_bits)
{
    uint64_t *pml4 = guest_entry(f, GUEST_TABLES);

    memset(pml4, 0, 3 * VMM_PAGE_SIZE);
    pml4[0] = (GUEST_TABLES + 0x1000) | 7;
    pml4[512] = (GUEST_TABLES + 0x2000) | 7;
    for (uint64_t i = 0; i < 512; i++) {
        pml4[1024 + i] = i << 21 | 0x80 | leaf_bits;
    }
    mock_vcpu(f->vcpu)->sysreg[VMM_CR3] = GUEST_TABLES;
    vmm_decode_flush(f->vcpu);
}

void guest_set_cpl(struct fixture *f, unsigned cpl)
{
    uint16_t *ss = &mock_vcpu(f->vcpu)->segment[VMM_SEG_SS].attributes;

    *ss = (uint16_t)((*ss & ~(3U << 5)) | cpl << 5);
}

void guest_set_code(struct fixture *f, const void *bytes, size_t count)
{
    const struct vmm_segment_state *cs = &mock_vcpu(f->vcpu)->segment[VMM_SEG_CS];
    uint8_t code[64];

    memset(code, 0xcc, sizeof(code));
    memcpy(code, bytes, count);
    assert_int_equal(vmm_memory_write(f->vm, VMM_GPA(cs->base + f->vcpu->rip), code, sizeof(code)),
                     0);
}

uint64_t *guest_entry(struct fixture *f, uint64_t gpa)
{
    uint64_t *p = vmm_memory_ptr_write(f->vm, VMM_GPA(gpa), 8);

    assert_non_null(p);
    return p;
}

int guest_walk(struct vcpu *v, gva_t gva, enum vmm_access access, bool user, gpa_t *out,
               struct vmm_walk_fault *fault)
{
    struct vmm_address_mode mode;
    struct translation t;
    int result;

    v->backend->get_address_mode(v, &mode);
    mode.cpl = user ? 3 : 0;
    result = walk_translate(v, &mode, gva, access, &t, fault);
    if (result == 0) {
        *out = t.gpa;
    }
    return result;
}
