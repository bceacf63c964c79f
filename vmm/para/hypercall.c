/* Hypercalls. See <vmm/hypercall.h> and docs/hypercalls.md. */
#include <vmm/hypercall.h>

#include "core/vm.h"
#include "para/para.h"

#define CONSOLE_WRITE_MAX 4096

struct arguments {
    uint64_t rdi, rsi;
};

typedef int64_t (*hypercall_fn)(struct vcpu *v, const struct arguments *a);

static int64_t hc_version(struct vcpu *v, const struct arguments *a)
{
    (void)v;
    (void)a;
    return VMM_HC_VERSION_1;
}

static int64_t hc_yield(struct vcpu *v, const struct arguments *a)
{
    (void)a;
    v->ops->thread_yield(v->host);
    return 0;
}

static int64_t hc_console_put(struct vcpu *v, const struct arguments *a)
{
    char byte = (char)a->rdi;

    if (v->vm->console_stream == NULL) {
        return VMM_HC_ENODEV;
    }
    return v->ops->chars->write(v->host, v->vm->console_stream, &byte, 1) == 1 ? 0 : VMM_HC_EAGAIN;
}

static int64_t hc_console_write(struct vcpu *v, const struct arguments *a)
{
    uint64_t left = a->rsi;
    char part[128];

    if (v->vm->console_stream == NULL) {
        return VMM_HC_ENODEV;
    }
    if (left > CONSOLE_WRITE_MAX) {
        return VMM_HC_EINVAL;
    }
    while (left != 0) {
        uint64_t count = left < sizeof(part) ? left : sizeof(part);
        size_t taken;

        if (vmm_memory_read(v->vm, VMM_GPA(a->rdi + a->rsi - left), part, count) != 0) {
            return VMM_HC_EFAULT;
        }
        taken = v->ops->chars->write(v->host, v->vm->console_stream, part, count);
        left -= taken;
        if (taken < count) { /* it is full */
            break;
        }
    }
    return (int64_t)(a->rsi - left);
}

static int64_t hc_info(struct vcpu *v, const struct arguments *a)
{
    switch (a->rdi) {
    case VMM_HC_INFO_VCPU_ID:
        return v->id;
    case VMM_HC_INFO_VCPU_COUNT:
        return v->vm->vcpu_count;
    case VMM_HC_INFO_RAM_BYTES:
        return (int64_t)v->vm->config.mem_bytes;
    case VMM_HC_INFO_CLOCK_NS:
        return (int64_t)vmm_clock_ns(v->vm);
    default:
        return VMM_HC_EINVAL;
    }
}

static const hypercall_fn hypercall_table[VMM_HC_COUNT] = {
    [VMM_HC_VERSION - VMM_HC(0)] = hc_version,
    [VMM_HC_YIELD - VMM_HC(0)] = hc_yield,
    [VMM_HC_CONSOLE_PUT - VMM_HC(0)] = hc_console_put,
    [VMM_HC_CONSOLE_WRITE - VMM_HC(0)] = hc_console_write,
    [VMM_HC_INFO - VMM_HC(0)] = hc_info,
};

static bool is_64_bit(struct vcpu *v)
{
    struct vmm_segment_state cs;

    v->backend->get_segment(v, VMM_SEG_CS, &cs);
    return (cs.attributes & VMM_SEGMENT_LONG) != 0;
}

static int64_t call(struct vcpu *v, uint32_t number)
{
    int64_t result = VMM_HC_ENOTSUP;

    if (v->backend->cpl(v) == 3) {
        return VMM_HC_EPERM;
    }
    if (number - VMM_HC(0) < VMM_HC_COUNT) {
        const uint64_t mask = is_64_bit(v) ? UINT64_MAX : UINT32_MAX;
        const struct arguments a = {v->gpr[VMM_RDI] & mask, v->gpr[VMM_RSI] & mask};

        return hypercall_table[number - VMM_HC(0)](v, &a);
    }
    vmm_kvm_call(v, number, is_64_bit(v), &result);
    return result;
}

/* Behind the instruction: either there is such a call ... */
static __attribute__((noinline)) enum vmm_action answer(struct vcpu *v)
{
    v->gpr[VMM_RAX] = (uint64_t)call(v, (uint32_t)v->gpr[VMM_RAX]);
    return VMM_CONTINUE;
}

/* ... or not. */
static inline enum vmm_action look_up(struct vcpu *v)
{
    uint32_t number = (uint32_t)v->gpr[VMM_RAX];

    if (number - VMM_HC(0) < VMM_HC_COUNT || number < VMM_KVM_CALLS_END) {
        return answer(v);
    }
    v->gpr[VMM_RAX] = (uint64_t)VMM_HC_ENOTSUP;
    return VMM_CONTINUE;
}

static __attribute__((noinline)) enum vmm_action skip_and_look_up(struct vcpu *v,
                                                                  struct vmm_exit *e)
{
    return vmm_skip_rare(v, e) ? look_up(v) : VMM_CONTINUE;
}

enum vmm_action vmm_handle_hypercall(struct vcpu *v, struct vmm_exit *e)
{
    return vmm_likely(vmm_skip_quick(v, e)) ? look_up(v) : skip_and_look_up(v, e);
}
