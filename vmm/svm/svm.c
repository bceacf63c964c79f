/* The SVM back end: is it there, switch it on, say what it has. Spec: AMD APM vol. 2 section 15.4.
 */
#include "svm/svm.h"

#include "core/cpuid.h"
#include "core/x86.h"

#define MSR_EFER        0xc0000080
#define MSR_VM_CR       0xc0010114
#define MSR_VM_HSAVE_PA 0xc0010117
#define VM_CR_SVMDIS    (UINT64_C(1) << 4)

#define LEAF_EXT1 UINT32_C(0x80000001)
#define LEAF_SVM  UINT32_C(0x8000000a)

/* Names for the boot log, and for the option "svm.features", which takes features away for tests:
 * "svm.features=-nrip,-clean". */
static const struct {
    uint32_t bit;
    const char *name, *text;
} feature_table[] = {
    {SVM_FEATURE_NRIP, "nrip", "next RIP"},
    {SVM_FEATURE_CLEAN, "clean", "clean bits"},
    {SVM_FEATURE_FLUSH_BY_ASID, "flushbyasid", "flush by ASID"},
    {SVM_FEATURE_ASSISTS, "assists", "decode assists"},
};

static struct vmm_cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct vmm_cpuid_regs r = {0, 0, 0, 0};
    struct vmm_cpuid_regs max;

    vmm_cpuid_raw(leaf & 0x80000000, 0, &max);
    if (leaf <= max.eax) {
        vmm_cpuid_raw(leaf, subleaf, &r);
    }
    return r;
}

static int probe(struct vmm *vmm, struct vmm_error *err)
{
    uint64_t vm_cr;

    if ((cpuid(LEAF_EXT1, 0).ecx & 1u << 2) == 0) {
        return vmm_fail(vmm, err, VMM_ENODEV, "AMD SVM");
    }
    if (vmm->ops->rdmsr_safe(vmm->host, MSR_VM_CR, &vm_cr) == 0 && (vm_cr & VM_CR_SVMDIS) != 0) {
        return vmm_fail(vmm, err, VMM_EPERM, "AMD SVM is disabled by firmware (VM_CR.SVMDIS)");
    }
    if ((cpuid(LEAF_SVM, 0).edx & SVM_FEATURE_NP) == 0) {
        return vmm_fail(vmm, err, VMM_ENOTSUP, "AMD SVM is there, but without nested paging");
    }
    return 0;
}

#define OPTION       "svm.features"
#define OPTION_WORDS "-nrip,-clean,-flushbyasid,-assists,-1g"

static void choose_features(struct vmm *vmm, struct svm *svm)
{
    const char *option = vmm_option(vmm, OPTION);
    uint32_t there = cpuid(LEAF_SVM, 0).edx;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(feature_table); i++) {
        if ((there & feature_table[i].bit) != 0 &&
            !vmm_option_takes_away(option, feature_table[i].name)) {
            svm->features |= feature_table[i].bit;
        }
    }
    svm->asid_count = cpuid(LEAF_SVM, 0).ebx;
    svm->page_1g =
        (cpuid(LEAF_EXT1, 0).edx & 1u << 26) != 0 && !vmm_option_takes_away(option, "1g");
}

static uint64_t read_cr4(void)
{
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return cr4;
}

/* --- CPUs ------------------------------------------------------------------------------------- */

static uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

/* On the CPU itself. Its VMLOAD state is saved here once: it does not change any more. */
static void cpu_on(void *arg)
{
    struct svm_cpu *cpu = arg;

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | X86_EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, cpu->save_pa);
    __asm__ volatile("vmsave %0" ::"a"(cpu->host_pa) : "memory");
}

static void cpu_off(void *arg)
{
    (void)arg;
    wrmsr(MSR_VM_HSAVE_PA, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~X86_EFER_SVME);
}

static void free_cpus(struct vmm *vmm, struct svm *svm)
{
    for (unsigned i = 0; i < svm->cpu_count; i++) {
        struct svm_cpu *cpu = &svm->cpu[i];

        if (cpu->host_pa != 0) {
            vmm->ops->pages_free(vmm->host, VMM_HPA(cpu->host_pa), 1);
        }
        if (cpu->save_pa != 0) {
            vmm->ops->pages_free(vmm->host, VMM_HPA(cpu->save_pa), 1);
        }
    }
}

static int alloc_cpus(struct vmm *vmm, struct svm *svm)
{
    for (unsigned i = 0; i < svm->cpu_count; i++) {
        struct svm_cpu *cpu = &svm->cpu[i];
        hpa_t page;

        if (vmm->ops->pages_alloc(vmm->host, 1, VMM_PAGE_SIZE, -1, &page) != 0) {
            return -VMM_ENOMEM;
        }
        cpu->host_pa = page.v;
        if (vmm->ops->pages_alloc(vmm->host, 1, VMM_PAGE_SIZE, -1, &page) != 0) {
            return -VMM_ENOMEM;
        }
        cpu->save_pa = page.v;
        cpu->next_asid = svm->asid_count; /* the first entry begins generation 1 with a flush */
    }
    return 0;
}

static int create(struct vmm *vmm, struct vmm_error *err)
{
    unsigned cpu_count = vmm->ops->cpu_count(vmm->host);
    struct svm *svm = vmm->ops->alloc(vmm->host, sizeof(*svm) + cpu_count * sizeof(svm->cpu[0]));

    if (svm == NULL) {
        return vmm_fail(vmm, err, VMM_ENOMEM, "no memory for %u CPUs' SVM state", cpu_count);
    }
    svm->cpu_count = cpu_count;
    vmm_option_check(vmm, OPTION, OPTION_WORDS);
    choose_features(vmm, svm);
    svm->npt_levels = (read_cr4() & X86_CR4_LA57) != 0 ? 5 : 4;
    if (alloc_cpus(vmm, svm) != 0 || svm_bitmaps_create(vmm, svm) != 0) {
        free_cpus(vmm, svm);
        vmm->ops->free(vmm->host, svm);
        return vmm_fail(vmm, err, VMM_ENOMEM, "no memory for %u CPUs' SVM state", cpu_count);
    }
    for (unsigned i = 0; i < cpu_count; i++) {
        int error = vmm->ops->cpu_call(vmm->host, i, cpu_on, &svm->cpu[i]);

        vmm_assert(vmm, error == 0); /* a CPU that the host counts */
    }
    vmm->arch = svm;
    return 0;
}

static void destroy(struct vmm *vmm)
{
    struct svm *svm = vmm->arch;

    for (unsigned i = 0; i < svm->cpu_count; i++) {
        int error = vmm->ops->cpu_call(vmm->host, i, cpu_off, NULL);

        vmm_assert(vmm, error == 0);
    }
    svm_bitmaps_destroy(vmm, svm);
    free_cpus(vmm, svm);
    vmm->ops->free(vmm->host, svm);
    vmm->arch = NULL;
}

static void describe(struct vmm *vmm, char *out, size_t size)
{
    const struct svm *svm = vmm->arch;
    int length = vmm_format(vmm, out, size, "AMD SVM: nested paging%s, %u ASIDs",
                            svm->page_1g ? " with 1 GiB pages" : "", svm->asid_count);

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(feature_table); i++) {
        if ((svm->features & feature_table[i].bit) != 0 && (size_t)length < size) {
            length +=
                vmm_format(vmm, out + length, size - (size_t)length, ", %s", feature_table[i].text);
        }
    }
}

const struct vmm_backend svm_backend = {
    .name = "svm",
    .probe = probe,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .vm_create = svm_npt_create,
    .vm_destroy = vmm_nested_destroy,
    .vcpu_create = svm_vcpu_create,
    .vcpu_destroy = svm_vcpu_destroy,
    .vcpu_reset = svm_vcpu_reset,
    .run = svm_run,
    .intr_allowed = svm_intr_allowed,
    .inject_intr = svm_inject_intr,
    .inject_event = svm_inject_event,
    .inject_nmi = svm_inject_nmi,
    .nmi_allowed = svm_nmi_allowed,
    .set_intr_window = svm_set_intr_window,
    .set_nmi_window = svm_set_nmi_window,
    .withdraw_event = svm_withdraw_event,
    .set_cr8_exits = svm_set_cr8_exits,
    .get_segment = svm_get_segment,
    .set_segment = svm_set_segment,
    .get_sysreg = svm_get_sysreg,
    .set_sysreg = svm_set_sysreg,
    .flush_tlb = svm_flush_tlb,
    .set_tsc_offset = svm_set_tsc_offset,
    .dr_acquire = svm_dr_acquire,
    .cpl = svm_cpl,
    .get_address_mode = svm_get_address_mode,
    .dump = svm_dump,
};
