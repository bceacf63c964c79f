/* See lapic.h. */

#include "kernel/lapic.h"

#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/acpi.h"
#include "kernel/cpu.h"
#include "kernel/irq.h"
#include "mm/paging.h"

#define MSR_APIC_BASE    0x1bu
#define APIC_BASE_X2     (UINT64_C(1) << 10)
#define APIC_BASE_ENABLE (UINT64_C(1) << 11)
#define APIC_BASE_MASK   UINT64_C(0x000ffffffffff000)

#define SVR_ENABLE (1u << 8)

#define LVT_EXTINT (7u << 8)
#define LVT_NMI    (4u << 8)

#define ICR_NMI     (4u << 8)
#define ICR_INIT    (5u << 8)
#define ICR_STARTUP (6u << 8)
#define ICR_PENDING (1u << 12)
#define ICR_ASSERT  (1u << 14)
#define ICR_LEVEL   (1u << 15)
#define ICR_SELF    (1u << 18)

volatile uint8_t *lapic_base;

void lapic_init(void)
{
    uint64_t base = x86_rdmsr(MSR_APIC_BASE);
    /* x2APIC where there is: its EOI and IPI are one WRMSR. Once firmware chose it, there is no
     * way back but a reset. */
    if (nk_cpu_features.x2apic || (base & APIC_BASE_X2) != 0) {
        return;
    }
    uint64_t address = acpi.lapic_address != 0 ? acpi.lapic_address : base & APIC_BASE_MASK;
    lapic_base = paging_map_mmio(NK_PA(address), NK_PAGE_SIZE);
    if (lapic_base == NULL) {
        nk_panic("lapic: no memory to map its registers");
    }
}

void lapic_init_cpu(void)
{
    uint64_t base = x86_rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    x86_wrmsr(MSR_APIC_BASE, base); /* x2APIC may only follow an enabled xAPIC */
    if (lapic_base == NULL) {
        x86_wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2);
    }
    lapic_write(LAPIC_LVT_TIMER, LAPIC_LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT0, LAPIC_LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
    lapic_write(LAPIC_LVT_ERROR, NK_VECTOR_ERROR);
    lapic_write(LAPIC_SVR, SVR_ENABLE | NK_VECTOR_SPURIOUS);
    lapic_write(LAPIC_ESR, 0);
    lapic_write(LAPIC_TPR, 0);
    lapic_eoi(); /* whatever firmware left in service */
    this_cpu->apic_id = lapic_id();
}

void lapic_accept_8259(void)
{
    lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
}

bool lapic_is_x2apic(void)
{
    return lapic_base == NULL;
}

uint32_t lapic_id(void)
{
    uint32_t id = lapic_read(LAPIC_ID);
    return lapic_base != NULL ? id >> 24 : id;
}

/* Two writes make an IPI in xAPIC mode: an interrupt between them could send its own. The previous
 * one may still be on its way, and must be let go first. */
static void send(uint32_t apic_id, uint32_t command)
{
    if (lapic_base == NULL) {
        /* WRMSR to x2APIC registers does not wait for earlier stores (SDM vol. 3, 11.12.3). */
        __asm__ volatile("mfence; lfence" : : : "memory");
        x86_wrmsr(LAPIC_X2_MSR(LAPIC_ICR), (uint64_t)apic_id << 32 | command);
        return;
    }
    uint64_t flags = nk_irq_save();
    while (lapic_read(LAPIC_ICR) & ICR_PENDING) {
        x86_pause();
    }
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR, command);
    nk_irq_restore(flags);
}

void lapic_send_ipi(uint32_t apic_id, unsigned vector)
{
    if (apic_id != this_cpu->apic_id) {
        send(apic_id, ICR_ASSERT | vector);
    } else {
        lapic_write(LAPIC_ICR, ICR_SELF | ICR_ASSERT | vector);
    }
}

void lapic_send_nmi(uint32_t apic_id)
{
    send(apic_id, ICR_NMI | ICR_ASSERT);
}

void lapic_send_init(uint32_t apic_id)
{
    send(apic_id, ICR_INIT | ICR_ASSERT | ICR_LEVEL);
    send(apic_id, ICR_INIT | ICR_LEVEL);
}

void lapic_send_startup(uint32_t apic_id, unsigned page)
{
    send(apic_id, ICR_STARTUP | ICR_ASSERT | page);
}
