/* Offsets for the assembly of kernel/. */

#include "base/percpu.h"
#include "kernel/native_thread.h"
#include "kernel/smp.h"
#include "kernel/trap.h"

void nk_kernel_offsets(void);
void nk_kernel_offsets(void)
{
    OFFSETS_MEMBER(CPU_PREEMPT_COUNT, struct nk_cpu, preempt_count);
    OFFSETS_MEMBER(CPU_IRQ_DEPTH, struct nk_cpu, irq_depth);
    OFFSETS_VALUE(GDT_CPU, TRAP_GDT_WORDS * 8);
    OFFSETS_MEMBER(FRAME_VECTOR, struct nk_trap_frame, vector);
    OFFSETS_MEMBER(NATIVE_KERNEL_SP, struct native_thread, kernel_sp);

    OFFSETS_MEMBER(AP_SLOT_APIC_ID, struct smp_ap_slot, apic_id);
    OFFSETS_MEMBER(AP_SLOT_STATE, struct smp_ap_slot, state);
    OFFSETS_MEMBER(AP_SLOT_STACK_TOP, struct smp_ap_slot, stack_top);
    OFFSETS_VALUE(AP_SLOT_SIZE, sizeof(struct smp_ap_slot));
    OFFSETS_VALUE(AP_WAITED_FOR, SMP_AP_WAITED_FOR);
    OFFSETS_VALUE(AP_ARRIVED, SMP_AP_ARRIVED);
}
