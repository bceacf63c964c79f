/* The LAPIC's interrupts without exits: APIC-register virtualisation and virtual-interrupt
 * delivery. While the guest runs, requests, what is in service and TPR are in the virtual-APIC
 * page, and the processor delivers, ends and orders interrupts by it; round each entry they are
 * handed over (dev/vlapic_page.c). Only what comes from the 8259s is injected, as without all this.
 * Spec: Intel SDM vol. 3 chapter 30. */
#include "core/irq.h"
#include "core/lapic_page.h"
#include "core/x86.h"
#include "vmx/vmx.h"

#define REG_ICR      0x300
#define REG_ICR_HIGH 0x310

/* Exit qualification of APIC accesses, table 28-6. */
#define ACCESS_OFFSET     0xfffu
#define ACCESS_TYPE_SHIFT 12
enum access_type { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

static const vmcs64_t eoi_exit_table[4] = {
    {VMCS_ID_EOI_EXIT0}, {VMCS_ID_EOI_EXIT1}, {VMCS_ID_EOI_EXIT2}, {VMCS_ID_EOI_EXIT3}};

void vmx_apicv_reset(struct vmx_vcpu *x)
{
    vmcs_write16(VMCS_GUEST_INTR_STATUS, 0);
    x->intr_status = 0;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(eoi_exit_table); i++) {
        vmcs_write64(eoi_exit_table[i], 0);
        x->level[i] = 0;
    }
    __builtin_memset(x->virtual_apic, 0, VMM_PAGE_SIZE);
    x->apic_mode = VLAPIC_MODE_OFF; /* as the controls are */
    x->apicv = false;
    x->apic_base = 0;
}

/* --- the mode ----------------------------------------------------------------------------------
 */

static bool all_use_memory(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vlapic_mode(vm->vcpu[i]) != VLAPIC_MODE_MEMORY) {
            return false;
        }
    }
    return true;
}

/* The window leads to a page as long as every vCPU uses it: to one that does not, it is no memory,
 * and what is mapped is mapped for all. Without the page accesses exit, and are emulated. */
static void update_window(struct vm *vm)
{
    struct vmx_vm *arch = vm->arch;
    bool wanted = all_use_memory(vm);

    vm->ops->lock(vm->host, &vm->memory.lock);
    if (wanted && !arch->apic_page_mapped) {
        arch->apic_page_mapped = vmm_nested_map(vm, VMM_GPA(PLATFORM_LAPIC_BASE), arch->apic_page,
                                                VMM_PAGE_SIZE, VMM_MAP_READ | VMM_MAP_WRITE) == 0;
    } else if (!wanted && arch->apic_page_mapped) {
        vmm_nested_unmap(vm, VMM_GPA(PLATFORM_LAPIC_BASE), VMM_PAGE_SIZE);
        arch->apic_page_mapped = false;
    }
    vm->ops->unlock(vm->host, &vm->memory.lock);
}

#define MODE_CONTROLS (PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VIRTUAL_INTR)

static uint32_t controls_of(enum vlapic_mode mode)
{
    switch (mode) {
    case VLAPIC_MODE_MEMORY:
        return PROC2_APIC_ACCESS | PROC2_APIC_REGS | PROC2_VIRTUAL_INTR;
    case VLAPIC_MODE_X2APIC:
        return PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VIRTUAL_INTR;
    default:
        return 0;
    }
}

static void change_mode(struct vcpu *v, enum vlapic_mode mode)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    const struct vmx *vmx = x->vmx;
    hpa_t bitmap = mode == VLAPIC_MODE_X2APIC ? vmx->msr_bitmap_x2apic : vmx->msr_bitmap;
    uint64_t flags;

    update_window(v->vm);
    flags = vmx_acquire(v);
    vmx_set_proc2(x, (x->proc2 & ~MODE_CONTROLS) | controls_of(mode));
    vmcs_write64(VMCS_MSR_BITMAP, bitmap.v);
    if (x->posted != NULL) {
        vmcs_write32(VMCS_PIN_CONTROLS, vmx->caps.pin | (mode != VLAPIC_MODE_OFF ? PIN_POSTED : 0));
    }
    vmcs_write64(VMCS_APIC_ACCESS, x->vm->apic_page.v);
    vmx_set_proc(x, x->proc & ~(PROC_INTR_WINDOW | PROC_CR8_LOAD));
    vmx_release(flags);
    x->apic_mode = (uint8_t)mode;
    x->apicv = mode != VLAPIC_MODE_OFF;
    x->tpr = (uint8_t)vlapic_cr8_read(v);
    /* What the run loop asked for was meant for the other way to deliver: it asks again. */
    v->intr_window = v->cr8_exits = false;
    __atomic_or_fetch(&v->requests, VMM_REQ_INTR, __ATOMIC_RELAXED);
}

void vmx_apicv_follow_mode(struct vcpu *v)
{
    struct vmx_vcpu *x = vmx_vcpu(v);
    enum vlapic_mode mode = vlapic_mode(v);

    if (mode != x->apic_mode) {
        change_mode(v, mode);
    }
    x->apic_base = vlapic_of(v)->base;
}

/* --- round an entry -----------------------------------------------------------------------------
 */

static void set_intr_status(struct vmx_vcpu *x, uint16_t status)
{
    if (status != x->intr_status) {
        vmcs_write16(VMCS_GUEST_INTR_STATUS, status);
        x->intr_status = status;
    }
}

/* Level-triggered interrupts, whose EOI has to exit. */
static void set_levels(struct vmx_vcpu *x, const uint64_t level[4])
{
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(eoi_exit_table); i++) {
        vmcs_write64(eoi_exit_table[i], level[i]);
        x->level[i] = level[i];
    }
    vlapic_give_levels(x->virtual_apic, level);
}

void vmx_apicv_external(struct vcpu *v, struct vmx_vcpu *x)
{
    bool external = v->intr_window && vmm_irq_is_external(v);

    vmx_set_proc(x, external ? x->proc | PROC_INTR_WINDOW : x->proc & ~PROC_INTR_WINDOW);
}

void vmx_apicv_give(struct vcpu *v, struct vmx_vcpu *x)
{
    struct vlapic_given given;

    if (!vlapic_give(v, x->virtual_apic, &given)) {
        set_intr_status(x, 0);
        return;
    }
    set_intr_status(x, (uint16_t)(given.in_service << 8 | given.requested));
    if (vmm_unlikely(((given.level[0] ^ x->level[0]) | (given.level[1] ^ x->level[1]) |
                      (given.level[2] ^ x->level[2]) | (given.level[3] ^ x->level[3])) != 0)) {
        set_levels(x, given.level);
    }
}

/* --- exits --------------------------------------------------------------------------------------
 */

/* A register that the page does not stand for, or an instruction that the processor does not carry
 * out there: emulated as any access to device memory. */
void vmx_apicv_decode_access(struct vmm_exit *e)
{
    enum access_type type = (enum access_type)(e->info1 >> ACCESS_TYPE_SHIFT & 0xf);

    e->fault.gpa = VMM_GPA(PLATFORM_LAPIC_BASE + (e->info1 & ACCESS_OFFSET));
    e->info2 = e->fault.gpa.v;
    e->fault.write = type == ACCESS_WRITE;
    e->fault.fetch = type == ACCESS_FETCH;
    e->fault.present = true;
    e->fault.gva_valid = false;
}

void vmx_apicv_decode_write(struct vmx_vcpu *x, struct vmm_exit *e)
{
    const uint32_t *page = (const uint32_t *)x->virtual_apic;
    unsigned offset = e->info1 & 0xff0;

    e->apic.offset = (uint16_t)offset;
    e->apic.value = page[offset / 4];
    if (offset == REG_ICR) {
        e->apic.value |= (uint64_t)page[REG_ICR_HIGH / 4] << 32;
    }
}
