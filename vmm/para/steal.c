/* Steal time: how long a vCPU waited for a CPU while it had something to do; and whether it is
 * running at all, which spares it others' interrupts. A guest that wants an idle vCPU to flush its
 * TLB marks that in the record instead, and the flush is made up for before the vCPU runs again.
 * Spec: Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME; cpuid.rst,
 * KVM_FEATURE_PV_TLB_FLUSH. */
#include "core/clock.h"
#include "core/vm.h"
#include "para/para.h"
#include "para/para_impl.h"

#define STEAL_ENABLE   UINT64_C(1)
#define STEAL_RESERVED UINT64_C(0x3e)

struct steal_time {
    uint64_t steal;   /* ns */
    uint32_t version; /* odd while being changed */
    uint32_t flags;
    uint8_t preempted;
    uint8_t pad[47];
};
_Static_assert(sizeof(struct steal_time) == 64, "KVM's record");

#define PREEMPTED 1
#define FLUSH_TLB 2 /* beside it, by other vCPUs */

static struct steal_time *record_of(struct vcpu *v, uint64_t msr)
{
    return vmm_memory_ptr_write(v->vm, VMM_GPA(msr & ~(STEAL_ENABLE | STEAL_RESERVED)),
                                sizeof(struct steal_time));
}

/* From here on. */
static void begin(struct vcpu *v, struct para *p)
{
    p->reckoned_at = v->ops->cycles(v->host);
    p->ran_then = v->ops->thread_cycles(v->host);
    p->slept = 0;
}

bool vmm_steal_set(struct vcpu *v, uint64_t value)
{
    struct para *p = v->para;

    if ((value & STEAL_RESERVED) != 0) {
        return false;
    }
    if ((value & STEAL_ENABLE) != 0) {
        if (record_of(v, value) == NULL) {
            return false;
        }
        begin(v, p);
        v->park_work |= VMM_PARK_STEAL;
    } else {
        v->park_work &= ~(uint32_t)VMM_PARK_STEAL;
    }
    p->steal_time = value;
    return true;
}

void vmm_steal_reckon(struct vcpu *v)
{
    struct para *p = v->para;
    uint64_t passed = v->ops->cycles(v->host) - p->reckoned_at;
    uint64_t own = v->ops->thread_cycles(v->host) - p->ran_then + p->slept;
    struct steal_time *t;
    uint32_t version;

    begin(v, p);
    if (passed <= own) {
        return;
    }
    p->stolen += passed - own;
    t = record_of(v, p->steal_time);
    if (t == NULL) {
        return;
    }
    version = __atomic_load_n(&t->version, __ATOMIC_RELAXED) | 1;
    __atomic_store_n(&t->version, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    t->steal = vmm_cycles_to_ns(p->stolen, v->ops->cycles_khz);
    __atomic_store_n(&t->version, version + 1, __ATOMIC_RELEASE);
}

void vmm_steal_sleep(struct vcpu *v)
{
    struct para *p = v->para;
    struct steal_time *t = record_of(v, p->steal_time);

    p->asleep_since = v->ops->cycles(v->host);
    __atomic_store_n(&v->woken_at, 0, __ATOMIC_RELAXED);
    if (t != NULL) {
        __atomic_store_n(&t->preempted, PREEMPTED, __ATOMIC_SEQ_CST);
    }
}

/* What passed between the wake and this is stolen. */
void vmm_steal_awake(struct vcpu *v)
{
    struct para *p = v->para;
    struct steal_time *t = record_of(v, p->steal_time);
    uint64_t end = __atomic_load_n(&v->woken_at, __ATOMIC_RELAXED);

    if (end == 0) {
        end = v->ops->cycles(v->host);
    }
    p->slept += end > p->asleep_since ? end - p->asleep_since : 0;
    if (t != NULL && (__atomic_exchange_n(&t->preempted, 0, __ATOMIC_SEQ_CST) & FLUSH_TLB) != 0) {
        v->backend->flush_tlb(v);
    }
}

int vmm_steal_load(struct vcpu *v)
{
    const struct para *p = v->para;

    return vmm_steal_set(v, p->steal_time) ? 0 : -VMM_EINVAL;
}
