/* From SVM's exit codes to struct vmm_exit. Spec: AMD APM vol. 2 appendix C and
 * sections 15.7-15.14.
 */
#include "core/emulate.h"
#include "core/x86.h"
#include "svm/svm.h"

/* What is not here is unknown. */
const struct svm_exit_entry svm_exit_table[VMCB_EXIT_TABLE_END] = {
    [VMCB_EXIT_CR_READ... VMCB_EXIT_CR_READ + 15] = {VMM_EXIT_cr_access, 0, true},
    [VMCB_EXIT_CR_WRITE... VMCB_EXIT_CR_WRITE + 15] = {VMM_EXIT_cr_access, 0, true},
    [VMCB_EXIT_DR_READ... VMCB_EXIT_DR_READ + 15] = {VMM_EXIT_dr_access, 0, true},
    [VMCB_EXIT_DR_WRITE... VMCB_EXIT_DR_WRITE + 15] = {VMM_EXIT_dr_access, 0, true},
    [VMCB_EXIT_EXCEPTION... VMCB_EXIT_EXCEPTION + 31] = {VMM_EXIT_exception, 0, true},
    [VMCB_EXIT_INTR] = {VMM_EXIT_intr, 0, false},
    [VMCB_EXIT_NMI] = {VMM_EXIT_nmi, 0, false},
    [VMCB_EXIT_VINTR] = {VMM_EXIT_intr_window, 0, false},
    [VMCB_EXIT_RDPMC] = {VMM_EXIT_rdpmc, 0, false},
    [VMCB_EXIT_CPUID] = {VMM_EXIT_cpuid, 2, false},
    [VMCB_EXIT_IRET] = {VMM_EXIT_retry, 0, true},
    [VMCB_EXIT_INVD] = {VMM_EXIT_invd, 2, false},
    [VMCB_EXIT_HLT] = {VMM_EXIT_hlt, 1, false},
    [VMCB_EXIT_INVLPGA] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_IOIO] = {VMM_EXIT_pio, 0, true},
    [VMCB_EXIT_MSR] = {VMM_EXIT_msr_read, 2, true},
    [VMCB_EXIT_SHUTDOWN] = {VMM_EXIT_shutdown, 0, false},
    [VMCB_EXIT_VMRUN] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_VMMCALL] = {VMM_EXIT_hypercall, 3, false},
    [VMCB_EXIT_VMLOAD] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_VMSAVE] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_STGI] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_CLGI] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_SKINIT] = {VMM_EXIT_refused, 0, false},
    [VMCB_EXIT_WBINVD] = {VMM_EXIT_wbinvd, 2, false},
    [VMCB_EXIT_MONITOR] = {VMM_EXIT_monitor, 0, false},
    [VMCB_EXIT_MWAIT] = {VMM_EXIT_mwait, 0, false},
    [VMCB_EXIT_MWAIT_ARMED] = {VMM_EXIT_mwait, 0, false},
    [VMCB_EXIT_XSETBV] = {VMM_EXIT_xsetbv, 3, false},
    [VMCB_EXIT_RDPRU] = {VMM_EXIT_refused, 0, false},
};

/* EXITINFO1 of IOIO, figure 15-2. */
#define IO_IN            (UINT64_C(1) << 0)
#define IO_STRING        (UINT64_C(1) << 2)
#define IO_REP           (UINT64_C(1) << 3)
#define IO_SIZE_SHIFT    4 /* one of three bits: 1, 2, 4 bytes; so the field is the size */
#define IO_ADDRESS_SHIFT 7 /* the same: 16, 32, 64 bits */
#define IO_SEGMENT_SHIFT 10
#define IO_PORT_SHIFT    16

/* EXITINFO1 of nested page faults. */
#define NPF_PRESENT (UINT64_C(1) << 0)
#define NPF_WRITE   (UINT64_C(1) << 1)
#define NPF_FETCH   (UINT64_C(1) << 4)

#define MOV_CRX (UINT64_C(1) << 63) /* EXITINFO1 with decode assists: a MOV, GPR in bits 3:0 */

#define CS_DB 0x400 /* attributes */

static uint8_t default_address_size(struct vcpu *v)
{
    const struct vmcb *b = svm_vcpu(v)->vmcb;

    if ((vmcb_efer(b) & X86_EFER_LMA) != 0 && (b->cs.attributes & VMM_SEGMENT_LONG) != 0) {
        return 8;
    }
    return (b->cs.attributes & CS_DB) != 0 ? 4 : 2;
}

/* String forms: where the memory operand is. */
static void decode_string_pio(struct vcpu *v, struct vmm_exit *e)
{
    bool assists = (svm_vcpu(v)->svm->features & SVM_FEATURE_ASSISTS) != 0;
    /* QEMU's emulator leaves the 16-bit bit out. */
    uint8_t address = e->info1 >> IO_ADDRESS_SHIFT & 7;

    e->pio.address_size = address != 0 ? (uint8_t)(address * 2) : default_address_size(v);
    e->pio.segment = assists ? e->info1 >> IO_SEGMENT_SHIFT & 7 : VMM_SEG_DS;
}

static void decode_pio(struct vcpu *v, struct vmm_exit *e)
{
    uint32_t info = (uint32_t)e->info1;

    e->insn_length = (uint8_t)(e->info2 - e->rip); /* EXITINFO2 is the next RIP */
    e->pio.port = (uint16_t)(info >> IO_PORT_SHIFT);
    e->pio.size = info >> IO_SIZE_SHIFT & 7;
    e->pio.in = (info & IO_IN) != 0;
    e->pio.string = (info & IO_STRING) != 0;
    e->pio.rep = (info & IO_REP) != 0;
    if (vmm_unlikely(e->pio.string)) {
        decode_string_pio(v, e);
    }
}

static void decode_nested_fault(struct vcpu *v, struct vmm_exit *e)
{
    const struct svm_vcpu *s = svm_vcpu(v);

    e->kind = VMM_EXIT_nested_fault;
    e->fault.gpa = VMM_GPA(e->info2);
    e->fault.present = (e->info1 & NPF_PRESENT) != 0;
    e->fault.write = (e->info1 & NPF_WRITE) != 0;
    e->fault.fetch = (e->info1 & NPF_FETCH) != 0;
    e->fault.gva_valid = false;
    if ((s->svm->features & SVM_FEATURE_ASSISTS) != 0) {
        e->insn_count = vmcb_insn_count(s->vmcb) & 15;
        __builtin_memcpy(e->insn, s->vmcb->insn_bytes, sizeof(e->insn));
    }
}

static void decode_register(struct vcpu *v, struct vmm_exit *e)
{
    uint64_t features = svm_vcpu(v)->svm->features;

    e->reg.number = e->code & 15;
    e->reg.write = (e->code & 0x10) != 0;
    e->reg.gpr = e->info1 & 15;
    e->reg.gpr_valid = (features & SVM_FEATURE_ASSISTS) != 0 && (e->info1 & MOV_CRX) != 0;
}

/* Bochs intercepts #DB before it writes DR6, processors behind that. What can be told from the
 * registers: an armed breakpoint on the instruction, else a single step. */
static void complete_dr6(struct vcpu *v)
{
    struct vmcb *b = svm_vcpu(v)->vmcb;
    uint64_t dr7 = vmcb_dr7(b), hits = 0;

    if ((vmcb_dr6(b) & X86_DR6_CAUSES) != 0) {
        return;
    }
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(v->dr); n++) {
        bool armed = (dr7 >> 2 * n & 3) != 0, on_code = (dr7 >> (16 + 4 * n) & 3) == 0;

        if (armed && on_code && v->dr[n] == vmm_vcpu_linear_rip(v).v) {
            hits |= UINT64_C(1) << n;
        }
    }
    if (hits == 0 && (v->rflags & X86_RFLAGS_TF) != 0) {
        hits = X86_DR6_BS;
    }
    vmcb_set_dr6(b, vmcb_dr6(b) | hits);
}

static void decode_exception(struct vcpu *v, struct vmm_exit *e)
{
    e->exception.vector = (uint8_t)(e->code - VMCB_EXIT_EXCEPTION);
    e->exception.has_error = e->exception.vector == X86_AC;
    e->exception.error = e->exception.has_error ? (uint32_t)e->info1 : 0;
    e->exception.address = e->info2;
    if (e->exception.vector == X86_DB) {
        complete_dr6(v);
        if (svm_nmi_step_done(v)) {
            e->kind = VMM_EXIT_retry;
        }
    }
    if (e->exception.vector == X86_MC) {
        /* The node's machine check, which the intercept took in its place. */
        __asm__ volatile("int $18");
        e->kind = VMM_EXIT_retry;
    }
}

/* QEMU's emulator ends with this code a guest's run that writes reserved bits of a control
 * register, where processors raise #GP; RIP is on the instruction then. */
static bool writes_control_register(struct vcpu *v)
{
    struct vmm_walk_fault fault;
    uint8_t code[4];
    const uint8_t *c = code;

    if (vmm_linear_read(v, vmm_vcpu_linear_rip(v), code, sizeof(code), VMM_ACCESS_FETCH, &fault) !=
        0) {
        return false;
    }
    if ((c[0] & 0xf0) == 0x40) {
        c++; /* REX */
    }
    return c[0] == 0x0f && c[1] == 0x22;
}

/* What the guest was to be given is still to be given. */
static void entry_failed(struct vcpu *v, struct svm_vcpu *s, struct vmm_exit *e)
{
    if (writes_control_register(v)) {
        vmm_inject_exception(v, X86_GP, true, 0);
        e->kind = VMM_EXIT_retry;
        return;
    }
    e->kind = VMM_EXIT_entry_failed;
    if ((s->injected & VMCB_EVENT_VALID) != 0) {
        svm_event_again(v, s->injected);
    }
}

void svm_exit_beyond_table(struct vcpu *v, struct vmm_exit *e)
{
    e->insn_length = e->insn_count = 0;
    if (e->code == VMCB_EXIT_NPF) {
        decode_nested_fault(v, e);
    } else if (e->code == VMCB_EXIT_INVALID) {
        entry_failed(v, svm_vcpu(v), e);
    } else {
        e->kind = VMM_EXIT_unknown;
    }
}

void svm_exit_detail(struct vcpu *v, struct vmm_exit *e)
{
    e->insn_count = 0;
    if (e->kind == VMM_EXIT_pio) { /* the frequent ones first */
        decode_pio(v, e);
    } else if (e->kind == VMM_EXIT_exception) {
        decode_exception(v, e);
    } else if (e->kind == VMM_EXIT_retry) {
        svm_nmi_iret(v);
    } else {
        decode_register(v, e);
    }
}
