/* The VMX back end: is it there, switch it on, say what it has. Spec: Intel SDM vol. 3 chapter 24.
 */
#include "vmx/vmx.h"

#include "core/cpuid.h"
#include "core/x86.h"

#define MSR_FEATURE_CONTROL 0x3a
#define FEATURE_LOCK        (UINT64_C(1) << 0)
#define FEATURE_VMXON       (UINT64_C(1) << 2) /* outside SMX */

#define CR4_VMXE (UINT64_C(1) << 13)

#define CLOSED_RUN_MS 10

enum vmx_cpu_error { CPU_OK, CPU_LOCKED_OFF, CPU_FIXED_BITS, CPU_VMXON_FAILED };

static uint64_t read_msr(void *arg, uint32_t msr)
{
    (void)arg;
    return vmx_rdmsr(msr);
}

#define OPTION "vmx.features"
#define OPTION_WORDS                                                                               \
    "-rdtscp,-vpid,-wbinvd,-invpcid,-ple,-unrestricted,-xsaves,-1g,-ad,-timer,-pml,-apicv,-tpr,"   \
    "+posted"

static int probe(struct vmm *vmm, struct vmm_error *err)
{
    struct vmm_cpuid_regs r;
    struct vmx_caps caps;
    const char *lacks;
    uint64_t control;

    vmm_cpuid_raw(1, 0, &r);
    if ((r.ecx & 1u << 5) == 0) {
        return vmm_fail(vmm, err, VMM_ENODEV, "Intel VMX");
    }
    if (vmm->ops->rdmsr_safe(vmm->host, MSR_FEATURE_CONTROL, &control) == 0 &&
        (control & (FEATURE_LOCK | FEATURE_VMXON)) == FEATURE_LOCK) {
        return vmm_fail(vmm, err, VMM_EPERM,
                        "Intel VMX is locked off by firmware (IA32_FEATURE_CONTROL 0x%llx)",
                        (unsigned long long)control);
    }
    if (vmx_caps_read(&caps, read_msr, NULL, vmm_option(vmm, OPTION), &lacks) != 0) {
        return vmm_fail(vmm, err, VMM_ENOTSUP, "Intel VMX is there, but without %s", lacks);
    }
    return 0;
}

/* --- CPUs ------------------------------------------------------------------------------------- */

static uint64_t read_cr4(void)
{
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return cr4;
}

static void write_cr4(uint64_t cr4)
{
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4) : "memory");
}

/* Firmware may have left this CPU's register open, or locked it otherwise than the first one's. */
static bool enable_feature(void)
{
    uint64_t control = vmx_rdmsr(MSR_FEATURE_CONTROL);

    if ((control & FEATURE_LOCK) == 0) {
        vmx_wrmsr(MSR_FEATURE_CONTROL, control | FEATURE_LOCK | FEATURE_VMXON);
        return true;
    }
    return (control & FEATURE_VMXON) != 0;
}

static bool fixed_bits_hold(const struct vmx_caps *caps)
{
    uint64_t cr0, cr4 = read_cr4();

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    return (cr0 & caps->cr0_fixed0) == caps->cr0_fixed0 && (cr0 & ~caps->cr0_fixed1) == 0 &&
           (cr4 & caps->cr4_fixed0) == caps->cr4_fixed0 && (cr4 & ~caps->cr4_fixed1) == 0;
}

/* On the CPU itself. */
static void cpu_on(void *arg)
{
    struct vmx_cpu *cpu = arg;
    bool failed;

    if (!enable_feature()) {
        cpu->error = CPU_LOCKED_OFF;
        return;
    }
    write_cr4(read_cr4() | CR4_VMXE);
    if (!fixed_bits_hold(&cpu->vmx->caps)) {
        write_cr4(read_cr4() & ~CR4_VMXE);
        cpu->error = CPU_FIXED_BITS;
        return;
    }
    __asm__ volatile("vmxon %1; setna %0" : "=qm"(failed) : "m"(cpu->vmxon_pa) : "cc", "memory");
    if (failed) {
        write_cr4(read_cr4() & ~CR4_VMXE);
        cpu->error = CPU_VMXON_FAILED;
    }
}

static void cpu_off(void *arg)
{
    const struct vmx_cpu *cpu = arg;

    if (cpu->error == CPU_OK) {
        __asm__ volatile("vmxoff" ::: "cc", "memory");
        write_cr4(read_cr4() & ~CR4_VMXE);
    }
}

static int switch_on(struct vmm *vmm, struct vmx *vmx, struct vmm_error *err)
{
    static const char *const why_table[] = {
        [CPU_LOCKED_OFF] = "locked off by firmware (IA32_FEATURE_CONTROL)",
        [CPU_FIXED_BITS] = "refused: CR0 or CR4 has bits that VMX does not allow",
        [CPU_VMXON_FAILED] = "refused: VMXON failed",
    };

    for (unsigned i = 0; i < vmx->cpu_count; i++) {
        int error = vmm->ops->cpu_call(vmm->host, i, cpu_on, &vmx->cpu[i]);

        vmm_assert(vmm, error == 0); /* a CPU that the host counts */
        if (vmx->cpu[i].error != CPU_OK) {
            while (i-- > 0) {
                error = vmm->ops->cpu_call(vmm->host, i, cpu_off, &vmx->cpu[i]);
                vmm_assert(vmm, error == 0);
            }
            return vmm_fail(vmm, err, VMM_ENODEV, "Intel VMX is %s",
                            why_table[vmx->cpu[i + 1].error]);
        }
    }
    return 0;
}

/* --- the instance ----------------------------------------------------------------------------- */

static int alloc_page(struct vmm *vmm, hpa_t *out, void **va)
{
    if (vmm->ops->pages_alloc(vmm->host, 1, VMM_PAGE_SIZE, -1, out) != 0) {
        return -VMM_ENOMEM;
    }
    *va = vmm->ops->hpa_to_va(vmm->host, *out);
    __builtin_memset(*va, 0, VMM_PAGE_SIZE);
    return 0;
}

static void free_all(struct vmm *vmm, struct vmx *vmx)
{
    if (vmx->msr_bitmap.v != 0) {
        vmm->ops->pages_free(vmm->host, vmx->msr_bitmap, 1);
    }
    if (vmx->msr_bitmap_x2apic.v != 0) {
        vmm->ops->pages_free(vmm->host, vmx->msr_bitmap_x2apic, 1);
    }
    for (unsigned i = 0; i < vmx->cpu_count; i++) {
        if (vmx->cpu[i].vmxon_pa != 0) {
            vmm->ops->pages_free(vmm->host, VMM_HPA(vmx->cpu[i].vmxon_pa), 1);
        }
    }
    vmm->ops->free(vmm->host, vmx);
}

static int alloc_pages(struct vmm *vmm, struct vmx *vmx)
{
    hpa_t page;
    void *va;

    if (alloc_page(vmm, &vmx->msr_bitmap, &va) != 0) {
        return -VMM_ENOMEM;
    }
    vmx_msr_map_fill(va);
    if (alloc_page(vmm, &vmx->msr_bitmap_x2apic, &va) != 0) {
        return -VMM_ENOMEM;
    }
    vmx_msr_map_fill(va);
    vmx_msr_map_open_x2apic(va);
    for (unsigned i = 0; i < vmx->cpu_count; i++) {
        if (alloc_page(vmm, &page, &va) != 0) {
            return -VMM_ENOMEM;
        }
        *(uint32_t *)va = vmx->caps.revision;
        vmx->cpu[i].vmxon_pa = page.v;
    }
    return 0;
}

static int create(struct vmm *vmm, struct vmm_error *err)
{
    unsigned cpu_count = vmm->ops->cpu_count(vmm->host);
    struct vmx *vmx = vmm->ops->alloc(vmm->host, sizeof(*vmx) + cpu_count * sizeof(vmx->cpu[0]));
    const char *lacks;
    int error;

    if (vmx == NULL) {
        return vmm_fail(vmm, err, VMM_ENOMEM, "no memory for %u CPUs' VMX state", cpu_count);
    }
    vmm_option_check(vmm, OPTION, OPTION_WORDS);
    error = vmx_caps_read(&vmx->caps, read_msr, NULL, vmm_option(vmm, OPTION), &lacks);
    vmm_assert(vmm, error == 0); /* probe() saw the same MSRs */
    vmx->posted = vmx->caps.posted && vmm->ops->cpu_post != NULL && vmm->ops->posted_vector != 0;
    vmx->posted_vector = vmm->ops->posted_vector;
    vmx->closed_run = (uint32_t)(vmm->ops->cycles_khz * CLOSED_RUN_MS >> vmx->caps.timer_shift);
    vmx->cpu_count = cpu_count;
    for (unsigned i = 0; i < cpu_count; i++) {
        vmx->cpu[i].id = i;
        vmx->cpu[i].vmx = vmx;
        vmx->cpu[i].generation = 1;
        vmx->cpu[i].next_vpid = UINT32_MAX; /* the first entry begins a generation with a flush */
    }
    if (alloc_pages(vmm, vmx) != 0) {
        free_all(vmm, vmx);
        return vmm_fail(vmm, err, VMM_ENOMEM, "no memory for %u CPUs' VMX state", cpu_count);
    }
    error = switch_on(vmm, vmx, err);
    if (error != 0) {
        free_all(vmm, vmx);
        return error;
    }
    vmm->hidden = ((vmx->caps.proc2 & PROC2_RDTSCP) == 0 ? VMM_HIDDEN_RDTSCP : 0u) |
                  ((vmx->caps.proc2 & PROC2_INVPCID) == 0 ? VMM_HIDDEN_INVPCID : 0u) |
                  ((vmx->caps.proc2 & PROC2_XSAVES) == 0 ? VMM_HIDDEN_XSAVES : 0u);
    vmm->arch = vmx;
    return 0;
}

static void destroy(struct vmm *vmm)
{
    struct vmx *vmx = vmm->arch;

    for (unsigned i = 0; i < vmx->cpu_count; i++) {
        int error = vmm->ops->cpu_call(vmm->host, i, cpu_off, &vmx->cpu[i]);

        vmm_assert(vmm, error == 0);
    }
    free_all(vmm, vmx);
    vmm->arch = NULL;
}

static void describe(struct vmm *vmm, char *out, size_t size)
{
    const struct vmx_caps *caps = &((const struct vmx *)vmm->arch)->caps;

    vmm_format(vmm, out, size, "Intel VMX: EPT%s%s%s%s%s%s%s%s%s",
               caps->page_1g ? " with 1 GiB pages" : "",
               caps->ept_ad ? ", accessed and dirty bits" : "",
               (caps->proc2 & PROC2_VPID) != 0 ? ", VPIDs" : "",
               (caps->proc2 & PROC2_UNRESTRICTED) != 0 ? ", unrestricted guest" : "",
               caps->apicv                           ? ", virtual interrupts"
               : (caps->proc & PROC_TPR_SHADOW) != 0 ? ", TPR shadow"
                                                     : "",
               ((const struct vmx *)vmm->arch)->posted ? ", posted interrupts" : "",
               (caps->pin & PIN_TIMER) != 0 ? ", preemption timer" : "",
               (caps->proc2_offered & PROC2_PML) != 0 ? ", PML" : "",
               (caps->proc2 & PROC2_PAUSE_LOOP) != 0 ? ", PAUSE-loop exits" : "");
}

const struct vmm_backend vmx_backend = {
    .name = "vmx",
    .probe = probe,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .vm_create = vmx_ept_create,
    .vm_destroy = vmx_ept_destroy,
    .log_writes = vmx_log_writes,
    .vcpu_create = vmx_vcpu_create,
    .vcpu_destroy = vmx_vcpu_destroy,
    .vcpu_reset = vmx_vcpu_reset,
    .run = vmx_run,
    .intr_allowed = vmx_intr_allowed,
    .inject_intr = vmx_inject_intr,
    .inject_event = vmx_inject_event,
    .inject_nmi = vmx_inject_nmi,
    .nmi_allowed = vmx_nmi_allowed,
    .set_intr_window = vmx_set_intr_window,
    .post = vmx_posted_post,
    .set_nmi_window = vmx_set_nmi_window,
    .withdraw_event = vmx_withdraw_event,
    .set_cr8_exits = vmx_set_cr8_exits,
    .get_segment = vmx_get_segment,
    .set_segment = vmx_set_segment,
    .get_sysreg = vmx_get_sysreg,
    .set_sysreg = vmx_set_sysreg,
    .flush_tlb = vmx_flush_tlb,
    .set_tsc_offset = vmx_set_tsc_offset,
    .dr_acquire = vmx_dr_acquire,
    .cpl = vmx_cpl,
    .get_address_mode = vmx_get_address_mode,
    .dump = vmx_dump,
};
