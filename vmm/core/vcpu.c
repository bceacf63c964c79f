/* vCPU: life, requests from others, events for the guest. */
#include "core/vcpu.h"

#include "core/cpuid.h"
#include "core/emulate.h"
#include "core/irq.h"
#include "core/msr.h"
#include "core/timer.h"
#include "core/vm.h"
#include "core/x86.h"
#include "para/para.h"

/* What a vCPU is made of, in order; undone backwards. */
static const struct part {
    int (*create)(struct vcpu *v);
    void (*destroy)(struct vcpu *v);
} part_table[] = {
    {vmm_decode_create, vmm_decode_destroy},
    {vmm_timers_create, vmm_timers_destroy},
    {vmm_para_create, vmm_para_destroy},
};

static void destroy_parts(struct vcpu *v, unsigned count)
{
    while (count-- > 0) {
        part_table[count].destroy(v);
    }
    v->backend->vcpu_destroy(v);
    vmm_vm_free(v->vm, v, sizeof(*v));
}

int vmm_vcpu_create(struct vm *vm, unsigned id)
{
    struct vcpu *v = vmm_vm_alloc(vm, sizeof(*v));
    int error;

    if (v == NULL) {
        return -VMM_ENOMEM;
    }
    v->id = id;
    v->cpu = vm->config.cpu[id];
    v->parked = VMM_AWAY;
    v->pio = (struct vmm_port){&vm->pio, &vmm_no_range};
    v->mmio = (struct vmm_port){&vm->mmio, &vmm_no_range};
    v->vm = vm;
    v->ops = vm->ops;
    v->host = vm->host;
    v->backend = vm->vmm->backend;
    error = v->backend->vcpu_create(v);
    if (error != 0) {
        vmm_vm_free(vm, v, sizeof(*v));
        return error;
    }
    v->park_work = v->ends_at_deadline ? VMM_PARK_TIMER : 0;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(part_table); i++) {
        error = part_table[i].create(v);
        if (error != 0) {
            destroy_parts(v, i);
            return error;
        }
    }
    vm->vcpu[id] = v;
    return 0;
}

void vmm_vcpu_destroy(struct vcpu *v)
{
    v->vm->vcpu[v->id] = NULL;
    destroy_parts(v, VMM_ARRAY_COUNT(part_table));
}

void vmm_vcpu_set_xcr0(struct vcpu *v, uint64_t xcr0)
{
    v->xcr0 = xcr0;
    v->xsave_size = vmm_cpuid_xsave_size(v->vm->cpuid, xcr0);
}

void vmm_vcpu_init(struct vcpu *v)
{
    bool boot = v->id == 0;

    __builtin_memset(v->gpr, 0, sizeof(v->gpr));
    __builtin_memset(v->dr, 0, sizeof(v->dr));
    v->event.valid = false;
    v->nmi_pending = false;
    v->kicked = false;
    v->intr_shadow = false;
    v->intr_window = v->cr8_exits = false;
    __atomic_store_n(&v->halted, !boot, __ATOMIC_RELAXED);
    v->wait_sipi = !boot;
    v->device_page = UINT64_MAX;
    v->backend->vcpu_reset(v);
    v->backend->set_tsc_offset(v, v->tsc_offset);
    /* APM vol. 2 table 14-1: EDX identifies the processor. */
    v->gpr[VMM_RDX] = vmm_cpuid_signature(v->vm->cpuid);
}

void vmm_vcpu_reset(struct vcpu *v)
{
    /* What is asked of the thread stays, what was under way for the guest does not. */
    __atomic_and_fetch(&v->requests, VMM_REQ_STOP | VMM_REQ_PAUSE | VMM_REQ_FLUSH,
                       __ATOMIC_SEQ_CST);
    v->tsc_adjust = 0;
    v->tsc_aux = 0;
    v->tsc_offset = v->vm->tsc_offset;
    vmm_vcpu_set_xcr0(v, X86_XCR0_X87);
    vmm_msr_reset(v);
    vmm_para_reset(v);
    vmm_vcpu_init(v);
}

gva_t vmm_vcpu_linear_rip(struct vcpu *v)
{
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_CS, &cs);
    if ((cs.attributes & VMM_SEGMENT_LONG) != 0 &&
        (v->backend->get_sysreg(v, VMM_EFER) & X86_EFER_LMA) != 0) {
        return VMM_GVA(v->rip);
    }
    return VMM_GVA((uint32_t)(cs.base + v->rip));
}

/* Out of line, so that waking one needs no stack. */
static __attribute__((noinline)) void kick(struct vcpu *v, uint32_t request)
{
    /* It may have left and entered again elsewhere: then it has seen the request on the way. */
    int cpu = __atomic_load_n(&v->running_cpu, __ATOMIC_RELAXED);

    if (request == VMM_REQ_INTR && v->backend->post != NULL && v->backend->post(v)) {
        return;
    }
    v->ops->cpu_kick(v->host, (unsigned)cpu);
}

/* Order matters: a vCPU announces in_guest or parked first and looks at requests then, a requester
 * the other way round, so one of the two sees the other. */
void vmm_vcpu_request(struct vcpu *v, uint32_t request)
{
    __atomic_or_fetch(&v->requests, request, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST) != 0) {
        kick(v, request);
    } else if (__atomic_load_n(&v->parked, __ATOMIC_SEQ_CST) == VMM_ASLEEP) {
        if (vmm_unlikely((v->park_work & VMM_PARK_STEAL) != 0)) {
            __atomic_store_n(&v->woken_at, __builtin_ia32_rdtsc(), __ATOMIC_RELAXED);
        }
        v->ops->thread_wake(v->host, v->thread);
    }
}

/* APM vol. 2 section 13.1.4, single-step. */
void vmm_end_step(struct vcpu *v)
{
    if ((v->rflags & X86_RFLAGS_TF) != 0) {
        v->backend->set_sysreg(v, VMM_DR6, v->backend->get_sysreg(v, VMM_DR6) | X86_DR6_BS);
        vmm_inject_exception(v, X86_DB, false, 0);
    }
}

bool vmm_skip_rare(struct vcpu *v, struct vmm_exit *e)
{
    unsigned length = e->insn_length;

    if (length == 0) {
        length = vmm_decode_length(v);
        if (length == 0) {
            return false;
        }
    }
    v->rip += length;
    v->intr_shadow = false;
    v->rflags &= ~X86_RFLAGS_RF;
    vmm_end_step(v);
    return true;
}

static bool contributory(uint8_t vector)
{
    return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

/* APM vol. 2 section 8.2.9, "#DF-Double-Fault Exception", table 8-3. */
void vmm_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
    struct vmm_event *first = &v->event;

    if (first->valid && first->type == VMM_EVENT_EXCEPTION) {
        if (first->vector == X86_DF) {
            vmm_vm_crash(v, VM_REASON_TRIPLE_FAULT, "triple fault: exception %u in #DF", vector);
            return;
        }
        if ((contributory(first->vector) && contributory(vector)) ||
            (first->vector == X86_PF && (contributory(vector) || vector == X86_PF))) {
            vector = X86_DF;
            has_error = true;
            error = 0;
        }
    }
    *first = (struct vmm_event){
        .valid = true,
        .type = VMM_EVENT_EXCEPTION,
        .has_error = has_error,
        .vector = vector,
        .error = error,
    };
    vmm_vcpu_event(v);
}

/* Flags saved by a fault have RF set, so that a breakpoint at its instruction does not come twice:
 * SDM vol. 3 section 18.3.1.1. Traps and aborts have not. */
static bool sets_rf(const struct vmm_event *event)
{
    const uint32_t others =
        1u << X86_DB | 1u << X86_BP | 1u << X86_OF | 1u << X86_DF | 1u << X86_MC;

    return event->type == VMM_EVENT_EXCEPTION && (others >> event->vector & 1) == 0;
}

void vmm_vcpu_event(struct vcpu *v)
{
    if (sets_rf(&v->event)) {
        v->rflags |= X86_RFLAGS_RF;
    }
    __atomic_or_fetch(&v->requests, VMM_REQ_EVENT, __ATOMIC_RELAXED);
}

void vmm_inject_page_fault(struct vcpu *v, gva_t address, uint32_t error)
{
    v->backend->set_sysreg(v, VMM_CR2, address.v);
    vmm_inject_exception(v, X86_PF, true, error);
}
