/* Exit handlers that are few lines each; CPUID and MSRs have files of their own. */
#include "core/cpuid.h"
#include "core/emulate.h"
#include "core/irq.h"
#include "core/lapic_page.h"
#include "core/vm.h"
#include "core/watch.h"
#include "core/x86.h"
#include "para/para.h"

static enum vmm_action undefined(struct vcpu *v)
{
    vmm_inject_exception(v, X86_UD, false, 0);
    return VMM_CONTINUE;
}

static enum vmm_action skip(struct vcpu *v, struct vmm_exit *e)
{
    vmm_skip_instruction(v, e);
    return VMM_CONTINUE;
}

/* --- ports and memory ------------------------------------------------------------------------- */

static enum vmm_action simple_in(struct vcpu *v, struct vmm_exit *e)
{
    struct vdev_access a = {.size = e->pio.size, .vcpu = v, .value = ~UINT64_C(0)};

    vmm_port_access(&v->pio, e->pio.port, &a);
    if (e->pio.size == 4) {
        v->gpr[VMM_RAX] = (uint32_t)a.value; /* clears the upper half, as 32-bit results do */
    } else {
        uint64_t mask = e->pio.size == 1 ? 0xff : 0xffff;

        v->gpr[VMM_RAX] = (v->gpr[VMM_RAX] & ~mask) | (a.value & mask);
    }
    return skip(v, e);
}

static enum vmm_action simple_out(struct vcpu *v, struct vmm_exit *e)
{
    struct vdev_access a = {.size = e->pio.size, .write = true, .vcpu = v};

    a.value = v->gpr[VMM_RAX] & ~UINT64_C(0) >> (64 - 8 * e->pio.size);
    vmm_port_access(&v->pio, e->pio.port, &a);
    return skip(v, e);
}

enum vmm_action vmm_handle_pio(struct vcpu *v, struct vmm_exit *e)
{
    if (vmm_unlikely(e->pio.string || e->insn_length == 0)) {
        return vmm_watches(v) ? vmm_watched_pio(v, e) : vmm_emulate_pio(v, e);
    }
    return e->pio.in ? simple_in(v, e) : simple_out(v, e);
}

static __attribute__((noinline)) enum vmm_action nested_fault(struct vcpu *v, struct vmm_exit *e)
{
    int error = vmm_memory_fault(v, e->fault.gpa, e->fault.write);

    if (error == 0) {
        return VMM_CONTINUE;
    }
    if (error != -VMM_ENOENT && error != -VMM_EPERM) {
        vmm_vm_crash(v, VM_REASON_HOST_ERROR, "%s guest-physical 0x%llx",
                     error == -VMM_ENOMEM ? "no host memory for" : "the host has lost",
                     (unsigned long long)e->fault.gpa.v);
        return VMM_LEAVE;
    }
    if (v->event.valid) {
        vmm_vm_crash(v, VM_REASON_EMULATION,
                     "vector %u cannot be delivered: its tables or stack are at 0x%llx, no RAM",
                     v->event.vector, (unsigned long long)e->fault.gpa.v);
        return VMM_LEAVE;
    }
    if (vmm_watches(v)) {
        return vmm_watched_mmio(v, e);
    }
    if (error == -VMM_ENOENT) {
        v->device_page = e->fault.gpa.v / VMM_PAGE_SIZE;
    }
    return vmm_emulate_mmio(v, e);
}

enum vmm_action vmm_handle_nested_fault(struct vcpu *v, struct vmm_exit *e)
{
    if (vmm_likely(e->fault.gpa.v / VMM_PAGE_SIZE == v->device_page && !v->event.valid)) {
        return vmm_emulate_mmio(v, e);
    }
    return nested_fault(v, e);
}

/* --- waiting and interrupts ------------------------------------------------------------------- */

enum vmm_action vmm_handle_hlt(struct vcpu *v, struct vmm_exit *e)
{
    /* A single step's trap behind it would end it at once. */
    if (vmm_unlikely(!vmm_skip_quick(v, e)) && (!vmm_skip_rare(v, e) || v->event.valid)) {
        return VMM_CONTINUE;
    }
    __atomic_store_n(&v->halted, 1, __ATOMIC_SEQ_CST);
    return VMM_BLOCK;
}

/* The host took it when interrupts were let through after the exit. One that came in the shadow of
 * STI has the guest's own pending interrupt looked at again: see finish_halt_in_shadow(). */
enum vmm_action vmm_handle_intr(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    if (vmm_unlikely(v->intr_shadow)) {
        __atomic_or_fetch(&v->requests, VMM_REQ_INTR, __ATOMIC_RELAXED);
    }
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_nmi(struct vcpu *v, struct vmm_exit *e)
{
    return vmm_handle_intr(v, e);
}

enum vmm_action vmm_handle_retry(struct vcpu *v, struct vmm_exit *e)
{
    return vmm_handle_intr(v, e);
}

enum vmm_action vmm_handle_intr_window(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    __atomic_or_fetch(&v->requests, VMM_REQ_INTR, __ATOMIC_RELAXED);
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_deadline(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    __atomic_or_fetch(&v->requests, VMM_REQ_TIMER, __ATOMIC_RELAXED);
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_apic_write(struct vcpu *v, struct vmm_exit *e)
{
    vlapic_page_written(v, e->apic.offset, e->apic.value);
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_apic_eoi(struct vcpu *v, struct vmm_exit *e)
{
    vioapic_eoi(v->vm, e->apic.vector);
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_pause(struct vcpu *v, struct vmm_exit *e)
{
    v->ops->thread_yield(v->host);
    return skip(v, e);
}

/* Intercepted so that a guest whose #DB or #AC handler raises the same again cannot keep the
 * processor in microcode for ever: delivered from here, each turn has an exit. */
enum vmm_action vmm_handle_exception(struct vcpu *v, struct vmm_exit *e)
{
    if (e->exception.vector == X86_PF) {
        v->backend->set_sysreg(v, VMM_CR2, e->exception.address);
    }
    vmm_inject_exception(v, e->exception.vector, e->exception.has_error, e->exception.error);
    return VMM_CONTINUE;
}

/* --- registers -------------------------------------------------------------------------------- */

static bool write_cr8(struct vcpu *v, uint64_t value)
{
    if (value > 15) {
        return false;
    }
    vlapic_cr8_write(v, value);
    v->backend->set_sysreg(v, VMM_CR8, value);
    __atomic_or_fetch(&v->requests, VMM_REQ_INTR, __ATOMIC_RELAXED);
    return true;
}

/* Guests write CR0, CR3 and CR4 without exits but where a back end has to keep bits to itself. */
enum vmm_action vmm_handle_cr_access(struct vcpu *v, struct vmm_exit *e)
{
    static const enum vmm_sysreg sysreg_table[] = {[0] = VMM_CR0, [3] = VMM_CR3, [4] = VMM_CR4};
    const uint8_t number = e->reg.number; /* the hardware's */
    uint64_t value;
    bool done;

    /* A fault is queued, or another vCPU has just changed the code: then it runs anew. */
    if (!e->reg.gpr_valid && (vmm_decode_reg_access(v, e) != 0 || e->reg.number != number)) {
        return VMM_CONTINUE;
    }
    if (!e->reg.write) {
        v->gpr[e->reg.gpr] = e->reg.number == 8
                                 ? vlapic_cr8_read(v)
                                 : v->backend->get_sysreg(v, sysreg_table[e->reg.number]);
        return skip(v, e);
    }
    value = e->reg.value_valid ? e->reg.value : v->gpr[e->reg.gpr];
    done = e->reg.number == 8 ? write_cr8(v, value) : vmm_write_cr(v, e->reg.number, value);
    if (!done) {
        vmm_inject_exception(v, X86_GP, true, 0);
        return VMM_CONTINUE;
    }
    return skip(v, e);
}

enum vmm_action vmm_handle_dr_access(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    v->backend->dr_acquire(v);
    return VMM_CONTINUE;
}

/* APM vol. 3 "XSETBV": what gives #GP. */
bool vmm_xcr0_valid(const struct vcpu *v, uint64_t value)
{
    uint64_t avx512 = value & X86_XCR0_AVX512;

    if ((value & ~vmm_cpuid_xcr0_allowed(v->vm->cpuid)) != 0 || (value & X86_XCR0_X87) == 0) {
        return false;
    }
    if ((value & X86_XCR0_AVX) != 0 && (value & X86_XCR0_SSE) == 0) {
        return false;
    }
    return avx512 == 0 || (avx512 == X86_XCR0_AVX512 && (value & X86_XCR0_AVX) != 0);
}

enum vmm_action vmm_handle_xsetbv(struct vcpu *v, struct vmm_exit *e)
{
    uint64_t value = v->gpr[VMM_RDX] << 32 | (uint32_t)v->gpr[VMM_RAX];

    if ((v->backend->get_sysreg(v, VMM_CR4) & X86_CR4_OSXSAVE) == 0) {
        return undefined(v);
    }
    if (v->backend->cpl(v) != 0 || (uint32_t)v->gpr[VMM_RCX] != 0 || !vmm_xcr0_valid(v, value)) {
        vmm_inject_exception(v, X86_GP, true, 0);
        return VMM_CONTINUE;
    }
    vmm_vcpu_set_xcr0(v, value);
    v->ops->thread_set_xcr0(v->host, value);
    return skip(v, e);
}

/* --- instructions ----------------------------------------------------------------------------- */

/* Guest RAM is cached coherently with everything that can see it: nothing to write back, and
 * dropping lines would drop the host's data too. */
enum vmm_action vmm_handle_wbinvd(struct vcpu *v, struct vmm_exit *e)
{
    return skip(v, e);
}

enum vmm_action vmm_handle_invd(struct vcpu *v, struct vmm_exit *e)
{
    return skip(v, e);
}

/* CPUID does not offer them. */
enum vmm_action vmm_handle_monitor(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    return undefined(v);
}

enum vmm_action vmm_handle_mwait(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    return undefined(v);
}

enum vmm_action vmm_handle_refused(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    return undefined(v);
}

enum vmm_action vmm_handle_rdpmc(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    vmm_inject_exception(v, X86_GP, true, 0);
    return VMM_CONTINUE;
}

/* --- ends ------------------------------------------------------------------------------------- */

enum vmm_action vmm_handle_shutdown(struct vcpu *v, struct vmm_exit *e)
{
    (void)e;
    vmm_vm_crash(v, VM_REASON_TRIPLE_FAULT, "triple fault");
    return VMM_LEAVE;
}

enum vmm_action vmm_handle_entry_failed(struct vcpu *v, struct vmm_exit *e)
{
    vmm_vm_crash(v, VM_REASON_ENTRY_FAILED, "the hardware refused the guest's state (code 0x%x)",
                 e->code);
    return VMM_LEAVE;
}

enum vmm_action vmm_handle_unknown(struct vcpu *v, struct vmm_exit *e)
{
    vmm_vm_crash(v, VM_REASON_UNKNOWN_EXIT, "unknown exit 0x%x (info 0x%llx 0x%llx)", e->code,
                 (unsigned long long)e->info1, (unsigned long long)e->info2);
    return VMM_LEAVE;
}
