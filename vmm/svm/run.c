/* One entry into the guest. GIF, cleared before per-CPU state is chosen and set again after the
 * host's is back, keeps the thread on its CPU, and a kick that comes meanwhile waits for VMRUN and
 * ends the guest's run at once. Spec: AMD APM vol. 2 sections 15.5 and 15.17. */
#include "core/decode.h"
#include "core/irq.h"
#include "core/watch.h"
#include "svm/svm.h"

_Static_assert(VMM_EXIT_msr_write == VMM_EXIT_msr_read + 1, "EXITINFO1 of MSR is added");

#define MSR_TSC_AUX 0xc0000103

void svm_dr_acquire(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    s->rare |= SVM_RARE_DR;
    vmcb_set_intercept_dr(s->vmcb, 0);
}

/* DR0-3 are not switched by hardware, and the host does not use them: DR7 arms nothing there. They
 * are loaded from the guest's first access until an exit that finds no breakpoint armed. */
static void save_debug_registers(struct vcpu *v, struct svm_vcpu *s)
{
    vmm_save_breakpoints(v);
    if ((vmcb_dr7(s->vmcb) & VMM_DR7_ENABLED) == 0) {
        s->rare &= ~(uint32_t)SVM_RARE_DR;
        vmcb_set_intercept_dr(s->vmcb, SVM_DR_INTERCEPTS);
        return;
    }
    /* To core/watch.c: no page is known to be a device's, and the port access's length unknown. */
    v->device_page = UINT64_MAX;
    if (vmcb_exit_code(s->vmcb) == VMCB_EXIT_IOIO) {
        vmcb_set_exit_info2(s->vmcb, v->rip);
    }
}

static void load_tsc_aux(struct svm_cpu *cpu, uint32_t value)
{
    __asm__ volatile("wrmsr" ::"c"(MSR_TSC_AUX), "a"(value), "d"(0));
    cpu->tsc_aux = value;
}

/* GIF is clear. */
static void before_rare(struct vcpu *v, const struct svm_vcpu *s)
{
    svm_nmi_entry(v);
    if ((s->rare & SVM_RARE_DR) != 0) {
        vmm_load_breakpoints(v);
    }
}

/* What depends on the CPU; GIF is clear. */
static void choose_cpu(struct vcpu *v, struct svm_vcpu *s, struct svm_cpu *cpu)
{
    uint64_t flush = __atomic_load_n(&s->nested->flush_generation, __ATOMIC_ACQUIRE);

    if (vmm_unlikely(s->cpu != cpu || s->asid_generation != cpu->generation ||
                     s->flush_generation != flush)) {
        svm_asid_renew(s, cpu);
    }
    if (vmm_unlikely(cpu->tsc_aux != v->tsc_aux)) {
        load_tsc_aux(cpu, v->tsc_aux);
    }
    if (vmm_unlikely((s->rare & SVM_RARE_ENTRY) != 0)) {
        before_rare(v, s);
    }
}

/* QEMU's emulator (7.2) lets a guest write XCR0 without the exit that is asked for. The host must
 * know before it switches threads; it cannot while GIF is clear. */
static void follow_xcr0(struct vcpu *v)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (vmm_unlikely(low != (uint32_t)v->xcr0)) {
        vmm_vcpu_set_xcr0(v, (uint64_t)high << 32 | low);
        v->ops->thread_set_xcr0(v->host, v->xcr0);
    }
}

/* GIF is clear. */
static void after_rare(struct vcpu *v, struct svm_vcpu *s)
{
    uint32_t rare = s->rare;

    s->rare = rare & SVM_RARE_DR;
    if ((rare & SVM_RARE_INJECTED) != 0) {
        vmcb_set_event_inj(s->vmcb, 0);
    }
    if ((rare & SVM_RARE_FLUSH) != 0) {
        vmcb_set_tlb_control(s->vmcb, VMCB_TLB_KEEP);
    }
    if ((rare & (SVM_RARE_IRET | SVM_RARE_STEP | SVM_RARE_SOON)) != 0) {
        s->rare |= svm_nmi_exit(v, rare);
    }
    if ((rare & SVM_RARE_DR) != 0) {
        save_debug_registers(v, s);
    }
}

static void save_state(struct vcpu *v, struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;

    v->gpr[VMM_RAX] = vmcb_rax(b);
    v->gpr[VMM_RSP] = vmcb_rsp(b);
    v->rip = vmcb_rip(b);
    v->rflags = vmcb_rflags(b);
    v->intr_shadow = vmcb_int_shadow(b) & 1;
    b->clean = s->clean_after_exit;
    if (vmm_unlikely(s->rare != 0)) {
        after_rare(v, s);
    }
    if (s->follow_xcr0) {
        follow_xcr0(v);
    }
}

static void load_state(struct vcpu *v, struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;

    vmcb_set_rax(b, v->gpr[VMM_RAX]);
    vmcb_set_rsp(b, v->gpr[VMM_RSP]);
    vmcb_set_rip(b, v->rip);
    vmcb_set_rflags(b, v->rflags);
    vmcb_set_int_shadow(b, v->intr_shadow);
}

/* The guest writes CR8 without an exit. */
static void follow_tpr(struct vcpu *v, struct svm_vcpu *s)
{
    uint64_t tpr = vmcb_v_intr(s->vmcb) & VMCB_V_TPR;

    if (vmm_unlikely(tpr != s->tpr)) {
        s->tpr = tpr;
        vlapic_cr8_write(v, tpr);
    }
}

/* Without NRIP save. False: the guest gets the fault of its fetch instead. */
static bool find_length(struct vcpu *v, const struct vmcb *b, unsigned opcode_length,
                        struct vmm_exit *e)
{
    if (vmm_likely((b->cs.attributes & VMM_SEGMENT_LONG) != 0 &&
                   (vmcb_efer(b) & X86_EFER_LMA) != 0 &&
                   length_remembered(v, vmcb_cr3(b), &e->insn_length))) {
        return true;
    }
    e->insn_length = (uint8_t)vmm_known_length(v, opcode_length);
    return e->insn_length != 0;
}

static void decode(struct vcpu *v, struct svm_vcpu *s, struct vmm_exit *e)
{
    const struct vmcb *b = s->vmcb;
    const struct svm_exit_entry *entry;

    e->code = (uint32_t)vmcb_exit_code(b);
    e->rip = v->rip;
    e->info1 = vmcb_exit_info1(b);
    e->info2 = vmcb_exit_info2(b);
    if (vmm_unlikely((vmcb_exit_int_info(b) & VMCB_EVENT_VALID) != 0)) {
        svm_event_again(v, vmcb_exit_int_info(b));
    }
    if (vmm_unlikely(e->code >= VMCB_EXIT_TABLE_END)) {
        svm_exit_beyond_table(v, e);
        return;
    }
    entry = &svm_exit_table[e->code];
    e->kind = (enum vmm_exit_kind)entry->kind;
    if (s->nrip) {
        e->insn_length =
            vmcb_next_rip(b) > v->rip ? (uint8_t)(vmcb_next_rip(b) - v->rip) : 0; /* 0: decode */
    } else if (entry->length != 0) {
        if (vmm_unlikely(!find_length(v, b, entry->length, e))) {
            e->kind = VMM_EXIT_retry;
            return;
        }
    } else {
        e->insn_length = 0;
    }
    if (entry->detail) {
        if (e->kind == VMM_EXIT_msr_read) {
            e->kind = (enum vmm_exit_kind)(e->kind + (e->info1 & 1)); /* of WRMSR */
            return;
        }
        svm_exit_detail(v, e);
    }
}

void svm_run(struct vcpu *v, struct vmm_exit *e)
{
    struct svm_vcpu *s = svm_vcpu(v);
    struct svm_cpu *cpu;

    s->exit = e;
    svm_clgi();
    __atomic_store_n(&v->running_cpu, (int)v->ops->cpu_current(v->host), __ATOMIC_RELAXED);
    __atomic_store_n(&v->in_guest, 1, __ATOMIC_SEQ_CST);
    if (vmm_unlikely(__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) != 0)) {
        __atomic_store_n(&v->in_guest, 0, __ATOMIC_RELEASE);
        svm_stgi();
        e->kind = VMM_EXIT_retry;
        return;
    }
    cpu = &s->cpus[v->running_cpu];
    choose_cpu(v, s, cpu);
    load_state(v, s);
    v = svm_switch(v, s->vmcb_pa, cpu->host_pa);
    s = svm_vcpu(v);
    save_state(v, s);
    __atomic_store_n(&v->in_guest, 0, __ATOMIC_RELEASE);
    svm_stgi();
    follow_tpr(v, s);
    decode(v, s, s->exit);
}
