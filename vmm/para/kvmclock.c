/* KVM's paravirtual clock, so that guests which know it need not calibrate.
 * Spec: Linux Documentation/virt/kvm/x86/msr.rst; the record is pvclock_vcpu_time_info.
 *
 * Guest time zero is one TSC value for each vCPU, and the guest's TSC does not count pauses. So the
 * record says "time was 0 at that TSC", holds for the VM's whole life, and is the same time line on
 * all vCPUs. It is written again only when the guest moves its TSC. */
#include "core/clock.h"
#include "core/vm.h"
#include "core/irq.h"
#include "para/para.h"
#include "para/para_impl.h"

#define SYSTEM_TIME_ENABLE UINT64_C(1)
#define TSC_STABLE         1
#define NS_PER_S           UINT64_C(1000000000)

struct time_info {
    uint32_t version; /* odd while being changed */
    uint32_t pad;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul; /* of 2^32 ns per cycle, after the shift */
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad2[2];
};

struct wall_clock {
    uint32_t version, sec, nsec;
};

int vmm_para_create(struct vcpu *v)
{
    v->para = vmm_vm_alloc(v->vm, sizeof(struct para));
    return v->para != NULL ? 0 : -VMM_ENOMEM;
}

void vmm_para_destroy(struct vcpu *v)
{
    vmm_vm_free(v->vm, v->para, sizeof(struct para));
    v->para = NULL;
}

void vmm_para_reset(struct vcpu *v)
{
    *(struct para *)v->para = (struct para){0};
    v->park_work &= ~(uint32_t)VMM_PARK_STEAL;
}

/* ns = (cycles << shift) * mul >> 32, with mul < 2^32 as large as that allows. */
static void scale_of(uint64_t khz, uint32_t *mul, int8_t *shift)
{
    uint64_t scaled = (UINT64_C(1000000) << 32) / khz;

    *shift = 0;
    while (scaled > UINT32_MAX) {
        ++*shift;
        scaled = (UINT64_C(1000000) << (32 - *shift)) / khz;
    }
    *mul = (uint32_t)scaled;
}

/* Readers on other vCPUs take a record whose version is even and did not change meanwhile. */
static void write_system_time(struct vcpu *v, struct time_info *t)
{
    uint32_t version = (__atomic_load_n(&t->version, __ATOMIC_RELAXED) | 1) + 2;

    __atomic_store_n(&t->version, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    t->tsc_timestamp = v->vm->clock_base_cycles + v->tsc_offset;
    t->system_time = 0;
    scale_of(v->ops->cycles_khz, &t->tsc_to_system_mul, &t->tsc_shift);
    t->flags = TSC_STABLE;
    __atomic_store_n(&t->version, version + 1, __ATOMIC_RELEASE);
}

static bool set_system_time(struct vcpu *v, uint64_t value)
{
    struct para *p = v->para;
    struct time_info *t = NULL;

    if ((value & SYSTEM_TIME_ENABLE) != 0) {
        t = vmm_memory_ptr_write(v->vm, VMM_GPA(value & ~SYSTEM_TIME_ENABLE), sizeof(*t));
        if (t == NULL || (value & 2) != 0) {
            return false;
        }
        write_system_time(v, t);
    }
    p->system_time = value;
    return true;
}

/* UTC at guest time zero. */
static bool set_wall_clock(struct vcpu *v, uint64_t value)
{
    struct wall_clock *w = vmm_memory_ptr_write(v->vm, VMM_GPA(value), sizeof(*w));
    uint64_t ns = vmm_wall_clock_ns(v->vm) - vmm_clock_ns(v->vm);
    struct para *p = v->para;
    uint32_t version;

    if (w == NULL || (value & 3) != 0) {
        return false;
    }
    version = (__atomic_load_n(&w->version, __ATOMIC_RELAXED) | 1) + 2;
    __atomic_store_n(&w->version, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    w->sec = (uint32_t)(ns / NS_PER_S);
    w->nsec = (uint32_t)(ns % NS_PER_S);
    __atomic_store_n(&w->version, version + 1, __ATOMIC_RELEASE);
    p->wall_clock = value;
    return true;
}

void vmm_para_tsc_changed(struct vcpu *v)
{
    struct para *p = v->para;

    if (p != NULL && (p->system_time & SYSTEM_TIME_ENABLE) != 0) {
        /* False: the host took the RAM away that the guest had registered. */
        (void)set_system_time(v, p->system_time);
    }
}

unsigned vmm_vm_para(const struct vm *vm)
{
    const struct para *p = vm->vcpu[0]->para;

    return ((p->system_time & SYSTEM_TIME_ENABLE) != 0 ? VM_PARA_CLOCK : 0) |
           ((p->steal_time & 1) != 0 ? VM_PARA_STEAL_TIME : 0) |
           (vlapic_pv_eoi_get(vm->vcpu[0]) != 0 ? VM_PARA_EOI : 0);
}

int vmm_para_save(struct vcpu *v, struct vdev_stream *out)
{
    return out->transfer(out, v->para, sizeof(struct para));
}

int vmm_para_load(struct vcpu *v, struct vdev_stream *in)
{
    struct para *p = v->para;
    int error = in->transfer(in, p, sizeof(*p));

    if (error != 0) {
        return error;
    }
    return set_system_time(v, p->system_time) ? vmm_steal_load(v) : -VMM_EINVAL;
}

bool vmm_para_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct para *p = v->para;

    switch (msr) {
    case MSR_WALL_CLOCK:
        *value = p->wall_clock;
        return true;
    case MSR_SYSTEM_TIME:
        *value = p->system_time;
        return true;
    case MSR_STEAL_TIME:
        *value = p->steal_time;
        return true;
    case MSR_PV_EOI:
        *value = vlapic_pv_eoi_get(v);
        return true;
    default:
        return false;
    }
}

bool vmm_para_msr_write(struct vcpu *v, uint32_t msr, const uint64_t *value)
{
    switch (msr) {
    case MSR_WALL_CLOCK:
        return set_wall_clock(v, *value);
    case MSR_SYSTEM_TIME:
        return set_system_time(v, *value);
    case MSR_STEAL_TIME:
        return vmm_steal_set(v, *value);
    case MSR_PV_EOI:
        return vlapic_pv_eoi_set(v, *value);
    default:
        return false;
    }
}
