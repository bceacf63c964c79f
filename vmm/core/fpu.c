/* Spec: Intel SDM vol. 1 sections 10.5 (FXSAVE), 13.4 (XSAVE area), 13.8 (what XRSTOR refuses). */
#include "core/fpu.h"

#include "core/cpuid.h"
#include "core/vm.h"

#define ALIGNMENT          64
#define FXSAVE_BYTES       512
#define HEADER_BYTES       64
#define MXCSR_OFFSET       24
#define MXCSR_MASK_OFFSET  28
#define MXCSR_MASK_DEFAULT UINT32_C(0xffbf) /* where the processor gives none */

static uint64_t components(const struct vm *vm)
{
    return vmm_cpuid_xcr0_allowed(vm->cpuid);
}

uint32_t vmm_fpu_bytes(const struct vm *vm)
{
    return components(vm) == 0 ? FXSAVE_BYTES : vmm_cpuid_xsave_size(vm->cpuid, components(vm));
}

int vmm_fpu_alloc(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        v->fpu_block = vmm_vm_alloc(vm, vmm_fpu_bytes(vm) + ALIGNMENT);
        if (v->fpu_block == NULL) {
            vmm_fpu_free(vm);
            return -VMM_ENOMEM;
        }
        v->fpu = (uint8_t *)(((uintptr_t)v->fpu_block + ALIGNMENT - 1) & -(uintptr_t)ALIGNMENT);
    }
    return 0;
}

void vmm_fpu_free(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        vmm_vm_free(vm, v->fpu_block, vmm_fpu_bytes(vm) + ALIGNMENT);
        v->fpu_block = v->fpu = NULL;
    }
}

bool vmm_fpu_valid(const struct vm *vm, const uint8_t *area)
{
    const uint8_t *header = area + FXSAVE_BYTES;
    uint64_t in_use;

    if (components(vm) == 0) {
        return true;
    }
    __builtin_memcpy(&in_use, header, sizeof(in_use));
    for (unsigned i = sizeof(in_use); i < HEADER_BYTES; i++) {
        if (header[i] != 0) { /* compacted, or reserved */
            return false;
        }
    }
    return (in_use & ~components(vm)) == 0;
}

static void save(const struct vcpu *v)
{
    uint64_t mask = components(v->vm);

    if (mask == 0) {
        __asm__ volatile("fxsave64 (%0)" ::"r"(v->fpu) : "memory");
    } else {
        v->ops->thread_set_xcr0(v->host, mask);
        __asm__ volatile("xsave64 (%0)" ::"r"(v->fpu), "a"((uint32_t)mask),
                         "d"((uint32_t)(mask >> 32))
                         : "memory");
    }
}

uint32_t vmm_mxcsr_mask(void)
{
    uint8_t own[FXSAVE_BYTES] __attribute__((aligned(16)));
    uint32_t mask;

    __asm__ volatile("fxsave64 (%0)" ::"r"(own) : "memory");
    __builtin_memcpy(&mask, own + MXCSR_MASK_OFFSET, sizeof(mask));
    return mask != 0 ? mask : MXCSR_MASK_DEFAULT;
}

/* Bits of MXCSR that this processor does not have would fault. */
static void clear_mxcsr(uint8_t *area)
{
    uint32_t mxcsr;

    __builtin_memcpy(&mxcsr, area + MXCSR_OFFSET, sizeof(mxcsr));
    mxcsr &= vmm_mxcsr_mask();
    __builtin_memcpy(area + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
}

static void restore(const struct vcpu *v)
{
    uint64_t mask = components(v->vm);

    clear_mxcsr(v->fpu);
    if (mask == 0) {
        __asm__ volatile("fxrstor64 (%0)" ::"r"(v->fpu) : "memory");
    } else {
        v->ops->thread_set_xcr0(v->host, mask);
        __asm__ volatile("xrstor64 (%0)" ::"r"(v->fpu), "a"((uint32_t)mask),
                         "d"((uint32_t)(mask >> 32))
                         : "memory");
    }
}

/* The gate sets XCR0 back to the guest's. */
void vmm_fpu_carry_out(struct vcpu *v)
{
    if (__atomic_load_n(&v->fpu_job, __ATOMIC_ACQUIRE) == VMM_FPU_SAVE) {
        save(v);
    } else {
        restore(v);
    }
    __atomic_store_n(&v->fpu_job, VMM_FPU_IDLE, __ATOMIC_SEQ_CST);
}
