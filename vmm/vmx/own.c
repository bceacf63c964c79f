/* Which CPU holds a vCPU's VMCS and its lazy MSRs. A VMCS is active on one CPU at most, and only
 * that CPU can write it back to memory; it can be accessed where it is current alone. Spec: Intel
 * SDM vol. 3 sections 25.1 and 25.11.1.
 *
 * Threads move and are preempted, and control calls come from other threads, so everything that
 * touches a VMCS outside vmx_run() does it between vmx_acquire() and vmx_release(). */
#include "core/x86.h"
#include "vmx/vmx.h"

const uint32_t vmx_lazy_msr_table[VMX_LAZY_MSRS] = {
    0xc0000081, /* STAR */
    0xc0000082, /* LSTAR */
    0xc0000083, /* CSTAR: Intel's processors have it without a use for it */
    0xc0000084, /* SFMASK */
    0xc0000102, /* KernelGSBase */
};

static uint64_t interrupts_off(void)
{
    uint64_t flags;

    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags)::"memory");
    return flags;
}

static void interrupts_back(uint64_t flags)
{
    if ((flags & X86_RFLAGS_IF) != 0) {
        __asm__ volatile("sti" ::: "memory");
    }
}

void vmx_vmclear(hpa_t vmcs)
{
    __asm__ volatile("vmclear %0" ::"m"(vmcs.v) : "cc", "memory");
}

static void save_msrs(struct vmx_vcpu *x)
{
    for (unsigned i = 0; i < VMX_LAZY_MSRS; i++) {
        x->lazy_msr[i] = vmx_rdmsr(vmx_lazy_msr_table[i]);
    }
}

void vmx_load_msrs(struct vmx_vcpu *x, struct vmx_cpu *cpu)
{
    if (cpu->msr_owner != NULL) {
        save_msrs(cpu->msr_owner);
    }
    for (unsigned i = 0; i < VMX_LAZY_MSRS; i++) {
        vmx_wrmsr(vmx_lazy_msr_table[i], x->lazy_msr[i]);
    }
    cpu->msr_owner = x;
}

bool vmx_load(struct vmx_vcpu *x, struct vmx_cpu *cpu)
{
    if (x->cpu != NULL && x->cpu != cpu) {
        return false;
    }
    if (x->cpu == NULL) {
        x->cpu = cpu;
        x->launched = false;
        x->vpid_generation = 0;
    }
    __asm__ volatile("vmptrld %0" ::"m"(x->vmcs.v) : "cc", "memory");
    cpu->current = x;
    return true;
}

/* On the CPU that has it, as an interrupt or with interrupts off. */
static void detach_here(void *arg)
{
    struct vmx_vcpu *x = arg;
    struct vmx_cpu *cpu = x->cpu;

    vmx_vmclear(x->vmcs);
    if (cpu->current == x) {
        cpu->current = NULL;
    }
    if (cpu->msr_owner == x) {
        save_msrs(x);
        cpu->msr_owner = NULL;
    }
    x->cpu = NULL;
}

void vmx_detach(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    struct vmx_cpu *cpu = x->cpu;

    if (cpu != NULL) {
        int error = v->ops->cpu_call(v->host, cpu->id, detach_here, x);

        vmm_assert(v->vm->vmm, error == 0); /* a CPU that the host counts */
    }
}

uint64_t vmx_acquire(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);

    for (;;) {
        uint64_t flags = interrupts_off();
        struct vmx_cpu *cpu = &x->vmx->cpu[v->ops->cpu_current(v->host)];

        if (cpu->current == x || vmx_load(x, cpu)) {
            return flags;
        }
        interrupts_back(flags);
        vmx_detach(v);
    }
}

void vmx_release(uint64_t flags)
{
    interrupts_back(flags);
}

uint64_t vmx_lazy_msr_read(struct vcpu *v, unsigned index)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);
    uint64_t value =
        x->cpu->msr_owner == x ? vmx_rdmsr(vmx_lazy_msr_table[index]) : x->lazy_msr[index];

    vmx_release(flags);
    return value;
}

void vmx_lazy_msr_write(struct vcpu *v, unsigned index, uint64_t value)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    uint64_t flags = vmx_acquire(v);

    x->lazy_msr[index] = value;
    if (x->cpu->msr_owner == x) {
        vmx_wrmsr(vmx_lazy_msr_table[index], value);
    }
    vmx_release(flags);
}
