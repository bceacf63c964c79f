/* The hypercalls that Linux makes when it believes to run on KVM and CPUID 0x40000101 offers them.
 * Spec: Linux Documentation/virt/kvm/x86/hypercalls.rst. */
#include "core/irq.h"
#include "core/vm.h"
#include "para/para.h"

#define KVM_KICK_CPU    5
#define KVM_SEND_IPI    10
#define KVM_SCHED_YIELD 11

#define KVM_EINVAL (-22)

#define ICR_VECTOR     0xff
#define ICR_MODE_SHIFT 8
#define ICR_MODE       7
#define MODE_FIXED     0
#define MODE_NMI       4

struct arguments {
    uint64_t rbx, rcx, rdx, rsi;
};

typedef int64_t (*call_fn)(struct vcpu *v, const struct arguments *a);

static struct vcpu *vcpu_of(struct vcpu *v, uint64_t apic_id)
{
    return apic_id < v->vm->vcpu_count ? v->vm->vcpu[apic_id] : NULL;
}

/* End the other's HLT, or its next one: it waits for a lock, maybe with interrupts off. */
static int64_t kick_cpu(struct vcpu *v, const struct arguments *a)
{
    struct vcpu *other = vcpu_of(v, a->rcx);

    if (other == NULL) {
        return KVM_EINVAL;
    }
    __atomic_store_n(&other->kicked, true, __ATOMIC_SEQ_CST);
    vmm_vcpu_request(other, VMM_REQ_INTR);
    return 0;
}

/* One interrupt to each bit of a 128-bit map of APIC ids that begins at `min`. */
static int64_t send_ipi(struct vcpu *v, const struct arguments *a)
{
    const uint64_t map[2] = {a->rbx, a->rcx};
    struct vmm_irq_message message = {
        .vector = a->rsi & ICR_VECTOR,
        .delivery_mode = a->rsi >> ICR_MODE_SHIFT & ICR_MODE,
    };
    int64_t count = 0;

    if (message.delivery_mode != MODE_FIXED && message.delivery_mode != MODE_NMI) {
        return KVM_EINVAL;
    }
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t left = map[i]; left != 0; left &= left - 1) {
            uint64_t id = (uint32_t)a->rdx + i * UINT64_C(64) + (unsigned)__builtin_ctzll(left);

            if (vcpu_of(v, id) != NULL) {
                message.destination = (uint32_t)id;
                vmm_irq_deliver(v->vm, &message);
                count++;
            }
        }
    }
    return count;
}

/* The caller waits for what another vCPU is to do. */
static int64_t sched_yield(struct vcpu *v, const struct arguments *a)
{
    (void)a;
    v->ops->thread_yield(v->host);
    return 0;
}

static const call_fn call_table[VMM_KVM_CALLS_END] = {
    [KVM_KICK_CPU] = kick_cpu,
    [KVM_SEND_IPI] = send_ipi,
    [KVM_SCHED_YIELD] = sched_yield,
};

bool vmm_kvm_call(struct vcpu *v, uint64_t number, bool wide, int64_t *result)
{
    const uint64_t mask = wide ? UINT64_MAX : UINT32_MAX;
    const struct arguments a = {
        .rbx = v->gpr[VMM_RBX] & mask,
        .rcx = v->gpr[VMM_RCX] & mask,
        .rdx = v->gpr[VMM_RDX] & mask,
        .rsi = v->gpr[VMM_RSI] & mask,
    };

    if (number >= VMM_KVM_CALLS_END || call_table[number] == NULL) {
        return false;
    }
    *result = call_table[number](v, &a);
    return true;
}
