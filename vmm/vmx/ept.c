/* The form of EPT entries, and what processors remember of them. Spec: Intel SDM vol. 3 sections
 * 29.3 (EPT) and 29.4 (caching). */
#include "vmx/vmx.h"

#define READ       (UINT64_C(1) << 0) /* of every entry that is there: nested.h's present bit */
#define WRITE      (UINT64_C(1) << 1)
#define EXEC       (UINT64_C(1) << 2)
#define WRITE_BACK (UINT64_C(6) << 3)

#define EPTP_WRITE_BACK     UINT64_C(6)
#define EPTP_LEVELS(n)      ((uint64_t)((n)-1) << 3)
#define EPTP_ACCESSED_DIRTY (UINT64_C(1) << 6)

#define LEVELS    4
#define LAST_VPID 0xffff

enum invalidate { ONE_CONTEXT = 1, ALL_CONTEXTS = 2 };

static const struct vmm_nested_format ept_format = {
    .table = READ | WRITE | EXEC,
    .page = READ | WRITE_BACK,
    .write = WRITE,
    .exec = EXEC,
    .accessed = UINT64_C(1) << 8,
    .dirty = UINT64_C(1) << 9,
};

void *vmx_alloc_page(struct vm *vm, hpa_t *out)
{
    void *va;

    if (vm->ops->pages_alloc(vm->host, 1, VMM_PAGE_SIZE, vm->config.node, out) != 0) {
        out->v = 0;
        return NULL;
    }
    va = vm->ops->hpa_to_va(vm->host, *out);
    __builtin_memset(va, 0, VMM_PAGE_SIZE);
    return va;
}

static void free_arch(struct vm *vm, struct vmx_vm *arch)
{
    const struct vmx *vmx = vm->vmm->arch;

    if (arch->flat_page.v != 0) {
        vmm_pages_free(vm, arch->flat_page, 1);
    }
    if (arch->apic_page.v != 0) {
        vmm_pages_free(vm, arch->apic_page, 1);
    }
    vmm_vm_free(vm, arch, sizeof(*arch) + vmx->cpu_count * sizeof(arch->ept_seen[0]));
}

int vmx_ept_create(struct vm *vm)
{
    const struct vmx *vmx = vm->vmm->arch;
    struct vmx_vm *arch =
        vmm_vm_alloc(vm, sizeof(*arch) + vmx->cpu_count * sizeof(arch->ept_seen[0]));
    int error;

    if (arch == NULL) {
        return -VMM_ENOMEM;
    }
    if (vmx->caps.apicv && vmx_alloc_page(vm, &arch->apic_page) == NULL) {
        free_arch(vm, arch);
        return -VMM_ENOMEM;
    }
    error = vmm_nested_create(vm, &ept_format, LEVELS, vmx->caps.page_1g);
    if (error != 0) {
        free_arch(vm, arch);
        return error;
    }
    if ((vmx->caps.proc2 & PROC2_UNRESTRICTED) == 0 && vmx_flat_create(vm, arch) != 0) {
        vmm_nested_destroy(vm);
        free_arch(vm, arch);
        return -VMM_ENOMEM;
    }
    /* No CPU has seen the first generation: another VM's tables may have been at the same place. */
    vm->nested.flush_generation = 1;
    vm->arch = arch;
    return 0;
}

void vmx_ept_destroy(struct vm *vm)
{
    vmm_nested_destroy(vm);
    free_arch(vm, vm->arch);
    vm->arch = NULL;
}

uint64_t vmx_ept_pointer(const struct vmx_caps *caps, const struct vmm_nested *ept)
{
    return ept->root.v | EPTP_WRITE_BACK | EPTP_LEVELS(LEVELS) |
           (caps->ept_ad ? EPTP_ACCESSED_DIRTY : 0);
}

static void invept(enum invalidate what, uint64_t pointer)
{
    const uint64_t descriptor[2] = {pointer, 0};

    __asm__ volatile("invept %0, %1" ::"m"(descriptor), "r"((uint64_t)what) : "cc", "memory");
}

static void invvpid(enum invalidate what)
{
    const uint64_t descriptor[2] = {0, 0};

    __asm__ volatile("invvpid %0, %1" ::"m"(descriptor), "r"((uint64_t)what) : "cc", "memory");
}

void vmx_flush(struct vmx_vcpu *x)
{
    x->vpid_generation = 0;
}

/* VPIDs are handed out as SVM's ASIDs are: one after another on each CPU, with one flush and a new
 * generation when they have run out. */
void vmx_vpid_renew(struct vmx_vcpu *x, struct vmx_cpu *cpu)
{
    if ((x->vmx->caps.proc2 & PROC2_VPID) == 0) {
        x->vpid_generation =
            cpu->generation; /* each entry and exit flushes what a VPID would tag */
        return;
    }
    if (cpu->next_vpid > LAST_VPID) {
        invvpid(ALL_CONTEXTS);
        cpu->generation++;
        cpu->next_vpid = 1; /* 0 is the host */
    }
    x->vpid_generation = cpu->generation;
    vmcs_write16(VMCS_VPID, (uint16_t)cpu->next_vpid++);
}

/* What the EPT tags has to go from this CPU when a mapping went away since it last ran a vCPU of
 * the VM, and only then: a vCPU's own changes are its VPID's affair. */
void vmx_ept_flush(struct vmx_vcpu *x, struct vmx_cpu *cpu, uint64_t generation)
{
    x->ept_seen[cpu->id] = generation;
    if (x->vmx->caps.invept_single) {
        invept(ONE_CONTEXT, vmx_ept_pointer(&x->vmx->caps, x->nested));
    } else {
        invept(ALL_CONTEXTS, 0);
    }
}
