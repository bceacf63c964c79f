/* One entry into the guest. Interrupts are off from the choice of per-CPU state to the exit: the
 * thread stays on its CPU, and a kick that comes meanwhile waits for the entry and ends the guest's
 * run at once. Spec: Intel SDM vol. 3 chapters 26-28. */
#include "core/irq.h"
#include "core/lapic_page.h"
#include "core/watch.h"
#include "core/x86.h"
#include "vmx/vmx.h"

#define MSR_TSC_AUX 0xc0000103
#define DR6_HOST    UINT64_C(0xffff0ff0)
#define DR6_SLOTS   UINT64_C(0xf)

void vmx_dr_acquire(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);

    x->dr_loaded = true;
    vmx_set_proc(x, x->proc & ~PROC_MOV_DR);
    vmx_release(flags);
}

/* DR0-3 and DR6 are not switched by hardware, and the host does not use them: DR7 arms nothing
 * there. They are loaded from the guest's first access until an exit that finds none armed. */
static void load_debug_registers(struct vcpu *v, const struct vmx_vcpu *x)
{
    vmm_load_breakpoints(v);
    VMM_WRITE_DR(6, x->dr6);
}

static void save_debug_registers(struct vcpu *v, struct vmx_vcpu *x)
{
    vmm_save_breakpoints(v);
    VMM_READ_DR(6, x->dr6);
    VMM_WRITE_DR(6, DR6_HOST);
    if ((vmcs_readn(VMCS_GUEST_DR7) & VMM_DR7_ENABLED) == 0) {
        x->dr_loaded = false;
        vmx_set_proc(x, x->proc | PROC_MOV_DR);
        return;
    }
    v->device_page = UINT64_MAX; /* to core/watch.c, as in decode_io() */
}

/* What depends on the CPU. False: the VMCS is still active on another one. */
static bool choose_cpu(struct vcpu *v, struct vmx_vcpu *x, struct vmx_cpu *cpu)
{
    uint64_t flush;

    if (vmm_unlikely(cpu->current != x && !vmx_load(x, cpu))) {
        return false;
    }
    if (vmm_unlikely(!x->launched)) {
        vmx_host_state(x);
    }
    if (vmm_unlikely(x->vpid_generation != cpu->generation)) {
        vmx_vpid_renew(x, cpu);
    }
    flush = __atomic_load_n(&x->nested->flush_generation, __ATOMIC_ACQUIRE);
    if (vmm_unlikely(x->ept_seen[cpu->id] != flush)) {
        vmx_ept_flush(x, cpu, flush);
    }
    if (vmm_unlikely(cpu->msr_owner != x)) {
        vmx_load_msrs(x, cpu);
    }
    if (vmm_unlikely(cpu->tsc_aux != v->tsc_aux)) {
        vmx_wrmsr(MSR_TSC_AUX, v->tsc_aux);
        cpu->tsc_aux = v->tsc_aux;
    }
    return true;
}

static void load_event(struct vmx_vcpu *x)
{
    uint32_t info = (uint32_t)x->event;

    if ((info & INTR_INFO_HAS_ERROR) != 0) {
        if ((vmcs_readn(VMCS_GUEST_CR0) & X86_CR0_PE) != 0) {
            vmcs_write32(VMCS_ENTRY_ERROR_CODE, (uint32_t)(x->event >> 32));
        } else {
            info &= ~INTR_INFO_HAS_ERROR;
        }
    }
    vmcs_write32(VMCS_ENTRY_INTR_INFO, info);
    if ((uint8_t)info == X86_DB) { /* it stands for what is noted there, too */
        x->dr6 |= vmcs_readn(VMCS_GUEST_PENDING_DEBUG) & DR6_SLOTS;
        vmcs_writen(VMCS_GUEST_PENDING_DEBUG, 0);
    }
}

/* The common code says whether there is a shadow, the VMCS which of two it is. */
static void load_shadow(struct vcpu *v, struct vmx_vcpu *x)
{
    if ((x->blocked & BLOCKED_SHADOW) != 0) {
        uint64_t pending = vmcs_readn(VMCS_GUEST_PENDING_DEBUG);

        vmcs_writen(VMCS_GUEST_PENDING_DEBUG,
                    vmx_pending_in_shadow(v->intr_shadow, v->rflags, pending));
    }
    if (!v->intr_shadow) {
        x->blocked &= ~BLOCKED_SHADOW;
    }
    vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, x->blocked);
}

static void load_state(struct vcpu *v, struct vmx_vcpu *x)
{
    uint64_t cr2;

    if (x->rip != v->rip) {
        vmcs_writen(VMCS_GUEST_RIP, v->rip);
    }
    if (x->rsp != v->gpr[VMM_RSP]) {
        vmcs_writen(VMCS_GUEST_RSP, v->gpr[VMM_RSP]);
    }
    if (x->rflags != v->rflags) {
        vmcs_writen(VMCS_GUEST_RFLAGS, v->rflags);
    }
    if (vmm_unlikely(x->blocked != 0)) {
        load_shadow(v, x);
    }
    if (vmm_unlikely(x->event != 0)) {
        load_event(x);
    }
    if (vmm_unlikely(x->dr_loaded)) {
        load_debug_registers(v, x);
    }
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    if (cr2 != x->cr2) {
        __asm__ volatile("mov %0, %%cr2" ::"r"(x->cr2));
    }
}

/* The preemption timer ends the run when the vCPU's next deadline comes. It counts a part of the
 * TSC, rounded up: an exit that is early would only come again. Spec: section 26.5.1.
 *
 * A run that begins with the guest's interrupts off ends after some time in any case: Bochs 2.7
 * lets no interrupt end it as long as the guest leaves IF alone, and the CPU would be lost. Guests
 * that compute have interrupts on, so on processors nobody notices. */
static void load_timer(struct vcpu *v, struct vmx_vcpu *x)
{
    uint64_t deadline = __atomic_load_n(&v->deadline, __ATOMIC_RELAXED);
    unsigned shift = x->vmx->caps.timer_shift;
    uint32_t timer = UINT32_MAX; /* exits for nothing, after minutes */

    if (deadline != UINT64_MAX) {
        uint64_t now = __builtin_ia32_rdtsc();
        uint64_t left = deadline <= now ? 0 : ((deadline - now) >> shift) + 1;

        timer = left < timer ? (uint32_t)left : timer;
    }
    if (vmm_unlikely((v->rflags & X86_RFLAGS_IF) == 0) && timer > x->vmx->closed_run) {
        timer = x->vmx->closed_run;
    }
    if (timer != x->timer) {
        vmcs_write32(VMCS_PREEMPTION_TIMER, timer);
        x->timer = timer;
    }
}

/* Most entries have nothing to hand over (apicv.c). */
static void give_interrupts(struct vcpu *v, struct vmx_vcpu *x)
{
    if (vmm_unlikely(x->posted != NULL)) {
        vmx_posted_collect(v, x->posted);
    }
    if (vmm_unlikely(v->intr_window || (x->proc & PROC_INTR_WINDOW) != 0)) {
        vmx_apicv_external(v, x);
    }
    if (vmm_unlikely(x->intr_status != 0 || vlapic_must_give(vlapic_of(v)))) {
        vmx_apicv_give(v, x);
    }
}

static void take_interrupts(struct vcpu *v, struct vmx_vcpu *x)
{
    uint16_t status = vmcs_read16(VMCS_GUEST_INTR_STATUS);

    if (vmm_unlikely((status | x->intr_status) != 0)) {
        x->intr_status = status;
        vlapic_take_back(v, x->virtual_apic);
    } else {
        vlapic_follow_tpr(vlapic_of(v), x->virtual_apic);
    }
}

static void save_state(struct vcpu *v, struct vmx_vcpu *x)
{
    __asm__ volatile("mov %%cr2, %0" : "=r"(x->cr2));
    v->rip = x->rip = vmcs_readn(VMCS_GUEST_RIP);
    v->gpr[VMM_RSP] = x->rsp = vmcs_readn(VMCS_GUEST_RSP);
    v->rflags = x->rflags = vmcs_readn(VMCS_GUEST_RFLAGS);
    x->blocked = vmcs_read32(VMCS_GUEST_INTERRUPTIBILITY);
    v->intr_shadow = (x->blocked & BLOCKED_SHADOW) != 0;
    x->entered_with = x->event;
    x->event = 0;
    if (vmm_unlikely(x->dr_loaded)) {
        save_debug_registers(v, x);
    }
}

/* The guest writes CR8 without an exit. */
static void follow_tpr(struct vcpu *v, struct vmx_vcpu *x)
{
    uint8_t tpr = x->virtual_apic == NULL ? x->tpr : x->virtual_apic[VMX_VTPR] >> 4;

    if (vmm_unlikely(tpr != x->tpr)) {
        x->tpr = tpr;
        vlapic_cr8_write(v, tpr);
    }
}

static void refuse_mode(struct vcpu *v, struct vmm_exit *e)
{
    vmm_vm_log(v->vm, VMM_LOG_ERROR,
               "vCPU %u: real mode needs an \"unrestricted guest\", which this processor does not "
               "have; guests that start in protected or 64-bit mode, with one vCPU, run",
               v->id);
    e->kind = VMM_EXIT_entry_failed;
    e->code = EXIT_GUEST_STATE;
}

struct gate { /* SDM vol. 3 figure 6-8 */
    uint16_t low, selector, attributes, middle;
    uint32_t high, reserved;
};

/* An interrupt that the exit acknowledged: the node's handler, as it would have been called. Spec:
 * section 28.2.2. */
static void call_handler(uint8_t vector)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idt;
    const struct gate *gate;

    __asm__ volatile("sidt %0" : "=m"(idt));
    gate = (const struct gate *)idt.base + vector;
    vmx_enter_gate((uint64_t)gate->high << 32 | (uint32_t)gate->middle << 16 | gate->low);
}

/* Not before in_guest is 0: a handler may give the CPU to another thread, and who posts looks. */
static void after_posting(struct vcpu *v, struct vmx_vcpu *x)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (x->posted != NULL) {
        vmx_posted_collect(v, x->posted);
    }
    if (x->acknowledged != 0) {
        uint8_t vector = x->acknowledged;

        x->acknowledged = 0;
        call_handler(vector);
    }
}

void vmx_run(struct vcpu *v, struct vmm_exit *e)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    struct vmx_cpu *cpu;
    uint32_t logging;

    if (vmm_unlikely(x->cannot_run)) {
        refuse_mode(v, e);
        return;
    }
    if (vmm_unlikely(x->apic_base != vlapic_of(v)->base) && x->vmx->caps.apicv) {
        vmx_apicv_follow_mode(v);
    }
    __asm__ volatile("cli" ::: "memory");
    v->running_cpu = (int)v->ops->cpu_current(v->host);
    __atomic_store_n(&v->in_guest, 1, __ATOMIC_SEQ_CST);
    cpu = &x->vmx->cpu[v->running_cpu];
    if (vmm_unlikely(__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) != 0 ||
                     !choose_cpu(v, x, cpu))) {
        __atomic_store_n(&v->in_guest, 0, __ATOMIC_RELEASE);
        __asm__ volatile("sti" ::: "memory");
        if (x->cpu != NULL && x->cpu != cpu) {
            vmx_detach(v);
        }
        e->kind = VMM_EXIT_retry;
        return;
    }
    load_state(v, x);
    logging = __atomic_load_n(&x->vm->logging, __ATOMIC_SEQ_CST);
    if (vmm_unlikely(x->logging != logging)) {
        vmx_pml_switch(x, logging);
    }
    if (vmm_likely(v->ends_at_deadline)) {
        load_timer(v, x);
    }
    if (vmm_likely(x->apicv)) {
        give_interrupts(v, x);
    }
    if (vmm_unlikely(!x->launched) && !vmx_audit_launch(v)) {
        x->fail = true;
    } else {
        v = vmx_switch(v, &x->host_rsp, x->launched, &x->fail);
        x = vmx_vcpu(v);
    }
    save_state(v, x);
    if (vmm_likely(x->apicv)) {
        take_interrupts(v, x);
    }
    if (vmm_unlikely(x->logging != 0)) {
        vmx_pml_drain(v, x);
    }
    vmx_exit_decode(v, e);
    __atomic_store_n(&v->in_guest, 0, __ATOMIC_RELEASE);
    if (vmm_unlikely(x->vmx->caps.ack)) {
        after_posting(v, x);
    }
    __asm__ volatile("sti" ::: "memory");
    if (vmm_unlikely(!x->apicv)) {
        follow_tpr(v, x);
    }
}
