/* From exit reasons to struct vmm_exit. Spec: Intel SDM vol. 3 sections 28.2 and 25.9, appendix C.
 */
#include "core/x86.h"
#include "vmx/vmx.h"

enum detail {
    NONE,
    EXCEPTION,
    NMI_WINDOW,
    CR,
    DR,
    IO,
    EPT,
    APIC_ACCESS,
    APIC_WRITE,
    APIC_EOI,
    PML,
    INTR,
    TASK
};

/* What is not here is unknown. */
static const struct {
    uint8_t kind;   /* enum vmm_exit_kind */
    uint8_t detail; /* enum detail */
    bool length;    /* an instruction exited, and the VMCS has its length */
} exit_table[EXIT_REASON_COUNT] = {
    [EXIT_EXCEPTION_NMI] = {VMM_EXIT_exception, EXCEPTION, false},
    [EXIT_EXTERNAL_INTERRUPT] = {VMM_EXIT_intr, INTR, false},
    [EXIT_TRIPLE_FAULT] = {VMM_EXIT_shutdown, NONE, false},
    [EXIT_INTR_WINDOW] = {VMM_EXIT_intr_window, NONE, false},
    [EXIT_NMI_WINDOW] = {VMM_EXIT_retry, NMI_WINDOW, false},
    [EXIT_TASK_SWITCH] = {VMM_EXIT_task_switch, TASK, true},
    [EXIT_CPUID] = {VMM_EXIT_cpuid, NONE, true},
    [EXIT_GETSEC] = {VMM_EXIT_refused, NONE, true},
    [EXIT_HLT] = {VMM_EXIT_hlt, NONE, true},
    [EXIT_INVD] = {VMM_EXIT_invd, NONE, true},
    [EXIT_RDPMC] = {VMM_EXIT_rdpmc, NONE, true},
    [EXIT_VMCALL] = {VMM_EXIT_hypercall, NONE, true},
    [EXIT_VMCLEAR... EXIT_VMXON] = {VMM_EXIT_refused, NONE, true},
    [EXIT_CR] = {VMM_EXIT_cr_access, CR, true},
    [EXIT_DR] = {VMM_EXIT_dr_access, DR, true},
    [EXIT_IO] = {VMM_EXIT_pio, IO, true},
    [EXIT_RDMSR] = {VMM_EXIT_msr_read, NONE, true},
    [EXIT_WRMSR] = {VMM_EXIT_msr_write, NONE, true},
    [EXIT_MWAIT] = {VMM_EXIT_mwait, NONE, true},
    [EXIT_MONITOR] = {VMM_EXIT_monitor, NONE, true},
    [EXIT_PAUSE] = {VMM_EXIT_pause, NONE, true},
    [EXIT_APIC_ACCESS] = {VMM_EXIT_nested_fault, APIC_ACCESS, false},
    [EXIT_EOI] = {VMM_EXIT_apic_eoi, APIC_EOI, false},
    [EXIT_TIMER] = {VMM_EXIT_deadline, NONE, false},
    [EXIT_APIC_WRITE] = {VMM_EXIT_apic_write, APIC_WRITE, false},
    [EXIT_EPT_VIOLATION] = {VMM_EXIT_nested_fault, EPT, false},
    [EXIT_INVEPT] = {VMM_EXIT_refused, NONE, true},
    [EXIT_INVVPID] = {VMM_EXIT_refused, NONE, true},
    [EXIT_WBINVD] = {VMM_EXIT_wbinvd, NONE, true},
    [EXIT_XSETBV] = {VMM_EXIT_xsetbv, NONE, true},
    [EXIT_PML_FULL] = {VMM_EXIT_retry, PML, false}, /* run.c has emptied it */
    [EXIT_VMFUNC] = {VMM_EXIT_refused, NONE, true},
};

/* Exit qualification of I/O, table 28-5. */
#define IO_IN         (UINT64_C(1) << 3)
#define IO_STRING     (UINT64_C(1) << 4)
#define IO_REP        (UINT64_C(1) << 5)
#define IO_PORT_SHIFT 16

/* Instruction information of INS and OUTS, table 28-9. */
#define IO_ADDRESS_SHIFT 7
#define IO_SEGMENT_SHIFT 15

/* Of control registers, table 28-3. */
enum cr_access { CR_WRITE, CR_READ, CR_CLTS, CR_LMSW };

#define CR0_TS   (UINT64_C(1) << 3)
#define CR0_LMSW UINT64_C(0xe) /* MP, EM, TS: LMSW writes these, and sets PE */

/* Of debug registers, table 28-4. */
#define DR_READ (UINT64_C(1) << 4)

/* Of EPT violations, table 28-7. */
#define EPT_WRITE        (UINT64_C(1) << 1)
#define EPT_FETCH        (UINT64_C(1) << 2)
#define EPT_PERMISSIONS  (UINT64_C(7) << 3)
#define EPT_LINEAR_VALID (UINT64_C(1) << 7)
/* Of the operand itself, not of a table on its way. */
#define EPT_OF_TRANSLATION (UINT64_C(1) << 8)
#define EPT_NMI_UNBLOCKED  (UINT64_C(1) << 12)

/* Of debug exceptions, table 28-1: as in DR6, which the exit leaves alone. */
#define DEBUG_CAUSES UINT64_C(0x600f) /* B0-B3, BD, BS */
#define DEBUG_SLOTS  UINT64_C(0xf)
#define DR7_GD       (UINT64_C(1) << 13)

static void decode_io(const struct vmx_vcpu *x, struct vmm_exit *e)
{
    uint32_t info = (uint32_t)e->info1;

    e->pio.port = (uint16_t)(info >> IO_PORT_SHIFT);
    e->pio.size = (uint8_t)((info & 7) + 1);
    e->pio.in = (info & IO_IN) != 0;
    e->pio.string = (info & IO_STRING) != 0;
    e->pio.rep = (info & IO_REP) != 0;
    if (vmm_unlikely(x->dr_loaded)) {
        e->insn_length = 0; /* to core/watch.c */
    }
    if (vmm_unlikely(e->pio.string)) {
        uint32_t insn = vmcs_read32(VMCS_EXIT_INSN_INFO);

        e->pio.address_size = (uint8_t)(2 << (insn >> IO_ADDRESS_SHIFT & 3));
        e->pio.segment = insn >> IO_SEGMENT_SHIFT & 7;
    }
}

/* An IRET that faulted after it had unblocked NMIs has not run: they are blocked again (section
 * 28.2.3), unless an event that was on its way says more. */
static void block_nmis_again(struct vmx_vcpu *x)
{
    if ((vmcs_read32(VMCS_IDT_VECTORING_INFO) & INTR_INFO_VALID) == 0) {
        x->blocked |= BLOCKED_NMI;
        vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, x->blocked);
    }
}

static void decode_ept(struct vmx_vcpu *x, struct vmm_exit *e)
{
    uint64_t info = e->info1;

    e->fault.gpa = VMM_GPA(vmcs_read64(VMCS_GUEST_PHYSICAL));
    e->info2 = e->fault.gpa.v;
    e->fault.write = (info & EPT_WRITE) != 0;
    e->fault.fetch = (info & EPT_FETCH) != 0;
    e->fault.present = (info & EPT_PERMISSIONS) != 0;
    e->fault.gva_valid =
        (info & (EPT_LINEAR_VALID | EPT_OF_TRANSLATION)) == (EPT_LINEAR_VALID | EPT_OF_TRANSLATION);
    if (e->fault.gva_valid) {
        e->fault.gva = VMM_GVA(vmcs_readn(VMCS_GUEST_LINEAR));
    }
    if (vmm_unlikely((info & EPT_NMI_UNBLOCKED) != 0)) {
        block_nmis_again(x);
    }
}

static void decode_cr(struct vcpu *v, struct vmm_exit *e)
{
    uint64_t info = e->info1;
    enum cr_access access = (enum cr_access)(info >> 4 & 3);
    uint64_t cr0;

    e->reg.number = info & 15;
    e->reg.gpr = info >> 8 & 15;
    e->reg.write = access != CR_READ;
    e->reg.gpr_valid = true;
    e->reg.value_valid = access == CR_CLTS || access == CR_LMSW;
    if (e->reg.value_valid) {
        e->reg.number = 0;
        cr0 = vmx_get_sysreg(v, VMM_CR0);
        e->reg.value = access == CR_CLTS ? cr0 & ~CR0_TS : (cr0 & ~CR0_LMSW) | (info >> 16 & 0xf);
    }
}

/* Delivery puts the causes into DR6 and clears DR7.GD; the exit came in its place. */
static void debug_exception(struct vcpu *v, struct vmx_vcpu *x, struct vmm_exit *e)
{
    x->dr6 = (x->dr6 & ~DEBUG_SLOTS) | (e->info1 & DEBUG_CAUSES);
    vmcs_writen(VMCS_GUEST_DR7, vmcs_readn(VMCS_GUEST_DR7) & ~DR7_GD);
    /* INT1 is a trap, its exit a fault. */
    if ((vmcs_read32(VMCS_EXIT_INTR_INFO) >> INTR_INFO_TYPE_SHIFT & 7) == INTR_TYPE_PRIVILEGED) {
        v->rip += vmcs_read32(VMCS_EXIT_INSN_LENGTH);
    }
}

static void decode_exception(struct vcpu *v, struct vmx_vcpu *x, struct vmm_exit *e)
{
    uint32_t info = vmcs_read32(VMCS_EXIT_INTR_INFO);

    e->info2 = info;
    if ((info >> INTR_INFO_TYPE_SHIFT & 7) == INTR_TYPE_NMI) {
        /* The node's, and NMIs are blocked until its handler's IRET. */
        __asm__ volatile("int $2");
        e->kind = VMM_EXIT_nmi;
        return;
    }
    e->exception.vector = (uint8_t)info;
    e->exception.has_error = (info & INTR_INFO_HAS_ERROR) != 0;
    e->exception.error = e->exception.has_error ? vmcs_read32(VMCS_EXIT_INTR_ERROR) : 0;
    e->exception.address = e->info1;
    if ((info & INTR_INFO_UNBLOCKED) != 0 && e->exception.vector != X86_DF) {
        block_nmis_again(x);
    }
    if (e->exception.vector == X86_DB) {
        debug_exception(v, x, e);
    } else if (e->exception.vector == X86_MC) {
        /* The node's machine check, which the intercept took in its place. */
        __asm__ volatile("int $18");
        e->kind = VMM_EXIT_retry;
    }
}

/* Only an instruction that switches, or whose gate it is, has a length; what else came through the
 * gate has been queued again. Table 28-6. */
static void decode_task(const struct vcpu *v, struct vmm_exit *e)
{
    e->task.selector = (uint16_t)e->info1;
    e->task.source = e->info1 >> 30 & 3;
    if (e->task.source == VMM_TASK_GATE && v->event.valid) {
        e->insn_length = 0;
    }
}

static void decode_detail(struct vcpu *v, struct vmx_vcpu *x, struct vmm_exit *e,
                          enum detail detail)
{
    switch (detail) {
    case NONE:
        break;
    case EXCEPTION:
        decode_exception(v, x, e);
        break;
    case NMI_WINDOW:
        vmx_set_proc(x, x->proc & ~PROC_NMI_WINDOW);
        __atomic_or_fetch(&v->requests, VMM_REQ_NMI, __ATOMIC_RELAXED);
        break;
    case CR:
        decode_cr(v, e);
        break;
    case DR:
        e->reg.number = e->info1 & 7;
        e->reg.write = (e->info1 & DR_READ) == 0;
        e->reg.gpr = e->info1 >> 8 & 15;
        e->reg.gpr_valid = true;
        break;
    case IO:
        decode_io(x, e);
        break;
    case EPT:
        decode_ept(x, e);
        break;
    case APIC_ACCESS:
        vmx_apicv_decode_access(e);
        break;
    case APIC_WRITE:
        vmx_apicv_decode_write(x, e);
        break;
    case INTR: /* still pending in the LAPIC, unless the exit acknowledged it */
        if (x->vmx->caps.ack) {
            x->acknowledged = (uint8_t)vmcs_read32(VMCS_EXIT_INTR_INFO);
        }
        break;
    case PML:
        if ((e->info1 & EPT_NMI_UNBLOCKED) != 0) {
            block_nmis_again(x);
        }
        break;
    case TASK:
        decode_task(v, e);
        break;
    case APIC_EOI:
        e->apic.vector = (uint8_t)e->info1;
        break;
    }
}

/* What the guest was to be given is still to be given. */
static void entry_failed(struct vcpu *v, struct vmx_vcpu *x, struct vmm_exit *e)
{
    e->kind = VMM_EXIT_entry_failed;
    e->insn_length = 0;
    e->info2 = x->fail ? vmcs_read32(VMCS_INSN_ERROR) : 0;
    if (x->entered_with != 0) {
        vmx_event_again(v, (uint32_t)x->entered_with, (uint32_t)(x->entered_with >> 32));
    }
}

void vmx_exit_decode(struct vcpu *v, struct vmm_exit *e)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint32_t reason = x->fail ? EXIT_REASON_ENTRY_FAILED : vmcs_read32(VMCS_EXIT_REASON);
    uint32_t vectoring;

    e->rip = v->rip;
    e->code = reason;
    e->insn_count = 0;
    e->info1 = x->fail ? 0 : vmcs_readn(VMCS_EXIT_QUALIFICATION);
    e->info2 = 0;
    if (vmm_unlikely((reason & EXIT_REASON_ENTRY_FAILED) != 0)) {
        entry_failed(v, x, e);
        return;
    }
    x->launched = true;
    vectoring = vmcs_read32(VMCS_IDT_VECTORING_INFO);
    if (vmm_unlikely((vectoring & INTR_INFO_VALID) != 0)) {
        vmx_event_again(v, vectoring, vmcs_read32(VMCS_IDT_VECTORING_ERROR));
    }
    if (vmm_unlikely(reason >= EXIT_REASON_COUNT)) {
        e->kind = VMM_EXIT_unknown;
        e->insn_length = 0;
        return;
    }
    e->kind = (enum vmm_exit_kind)exit_table[reason].kind;
    e->insn_length = exit_table[reason].length ? (uint8_t)vmcs_read32(VMCS_EXIT_INSN_LENGTH) : 0;
    decode_detail(v, x, e, (enum detail)exit_table[reason].detail);
}
