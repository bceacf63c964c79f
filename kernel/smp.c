/* Starting and stopping the other CPUs. Spec: Intel SDM vol. 3 section 8.4 "MP Initialization". */

#include "kernel/smp.h"

#include <string.h>

#include "base/layout.h"
#include "base/platform.h"
#include "base/x86.h"
#include "boot/ap.h"
#include "kernel/acpi.h"
#include "kernel/cpu.h"
#include "kernel/irq.h"
#include "kernel/lapic.h"
#include "kernel/smp_call.h"
#include "kernel/time.h"
#include "kernel/trap.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/sched.h"

#define MSR_EFER 0xc0000080u
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_NXE (UINT64_C(1) << 11)

#define XAPIC_ID_MAX 254 /* 255 is everybody */

#define INIT_DELAY_US    10000
#define STARTUP_DELAY_US 200
#define ARRIVAL_LIMIT_US 2000000 /* generous: an emulated CPU may have to wait for a real one */
#define ONLINE_LIMIT_US  5000000
#define STOP_LIMIT_US    500000

void smp_ap_entry(void); /* smp_entry.asm */
NK_NORETURN void smp_ap_main(struct smp_ap_slot *slot);

/* Read by smp_entry.asm. They stay after the start: a withdrawn CPU may still come late. */
struct smp_ap_slot *smp_ap_slots;
uint32_t smp_ap_slot_count;

/* On its own stack, not yet a CPU of the node: nothing may be used that needs this_cpu. */
void smp_ap_main(struct smp_ap_slot *slot)
{
    struct nk_cpu *cpu;
    while ((cpu = __atomic_load_n(&slot->cpu, __ATOMIC_ACQUIRE)) == NULL) {
        x86_pause();
    }
    trap_init_cpu(cpu);
    paging_init_cpu();
    cpu_init();
    lapic_init_cpu();
    lapic_timer_init_cpu();
    sched_init_cpu(slot->stack_top);
    __atomic_store_n(&cpu->online, 1, __ATOMIC_RELEASE);
    sched_idle_loop();
}

/* One slot for every enabled CPU but this one. */
static void make_slots(void)
{
    smp_ap_slots = kzalloc(acpi.cpu_count * sizeof(*smp_ap_slots));
    if (smp_ap_slots == NULL) {
        nk_panic("smp: no memory to start other CPUs");
    }
    for (unsigned i = 0; i < acpi.cpu_count; i++) {
        if (!acpi.cpu[i].enabled || acpi.cpu[i].apic_id == this_cpu->apic_id) {
            continue;
        }
        if (acpi.cpu[i].apic_id > XAPIC_ID_MAX && !lapic_is_x2apic()) {
            nk_warn("smp: APIC id %u cannot be reached without x2APIC; it stays off",
                    acpi.cpu[i].apic_id);
            continue;
        }
        if (smp_ap_slot_count + 1 == CONFIG_NR_CPUS) {
            nk_warn("smp: this kernel is built for %d CPUs; the rest stay off", CONFIG_NR_CPUS);
            return;
        }
        void *stack_top = paging_stack_alloc(0);
        if (stack_top == NULL) {
            nk_warn("smp: no memory for the stack of APIC id %u", acpi.cpu[i].apic_id);
            return;
        }
        smp_ap_slots[smp_ap_slot_count++] = (struct smp_ap_slot){
            .apic_id = acpi.cpu[i].apic_id,
            .state = SMP_AP_WAITED_FOR,
            .stack_top = stack_top,
        };
    }
}

static void place_trampoline(void)
{
    boot_ap.efer = EFER_LME | (nk_cpu_features.nx ? EFER_NXE : 0);
    boot_ap.root = paging_root().v;
    boot_ap.entry = smp_ap_entry;
    memcpy(nk_pa_to_va(NK_PA(NK_TRAMPOLINE_PA)), boot_ap_trampoline,
           (size_t)(boot_ap_trampoline_end - boot_ap_trampoline));
}

static uint32_t slot_state(const struct smp_ap_slot *slot)
{
    return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
}

/* All CPUs go through INIT and startup together, so that the delays are paid once. */
static void wake_all(void)
{
    for (uint32_t i = 0; i < smp_ap_slot_count; i++) {
        lapic_send_init(smp_ap_slots[i].apic_id);
    }
    nk_udelay(INIT_DELAY_US);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        for (uint32_t i = 0; i < smp_ap_slot_count; i++) {
            if (slot_state(&smp_ap_slots[i]) == SMP_AP_WAITED_FOR) {
                lapic_send_startup(smp_ap_slots[i].apic_id,
                                   (unsigned)(NK_TRAMPOLINE_PA >> NK_PAGE_SHIFT));
            }
        }
        nk_udelay(STARTUP_DELAY_US);
    }
}

static bool deadline_passed(uint64_t start, uint64_t limit_us)
{
    return x86_rdtsc() - start > nk_tsc_hz / 1000000 * limit_us;
}

/* True when the slot's CPU came; else it is withdrawn, and the CPU halts if it comes yet. */
static bool await_arrival(struct smp_ap_slot *slot, uint64_t start)
{
    while (slot_state(slot) == SMP_AP_WAITED_FOR && !deadline_passed(start, ARRIVAL_LIMIT_US)) {
        x86_pause();
    }
    uint32_t expected = SMP_AP_WAITED_FOR;
    return !__atomic_compare_exchange_n(&slot->state, &expected, SMP_AP_WITHDRAWN, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void admit(struct smp_ap_slot *slot, unsigned id)
{
    struct nk_cpu *cpu = &nk_cpu_table[id];
    cpu->self = cpu;
    cpu->id = id;
    cpu->apic_id = slot->apic_id;
    cpu->node = acpi_node_of_apic(slot->apic_id);
    if (trap_prepare_cpu(cpu) != 0) {
        nk_panic("smp: no memory for the descriptor tables of CPU %u", id);
    }
    slab_init_cpu(id);
    __atomic_store_n(&slot->cpu, cpu, __ATOMIC_RELEASE);
}

static void await_online(const struct nk_cpu *cpu)
{
    uint64_t start = x86_rdtsc();
    while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE)) {
        if (deadline_passed(start, ONLINE_LIMIT_US)) {
            nk_panic("smp: CPU %u arrived but did not come up", cpu->id);
        }
        x86_pause();
    }
}

static void read_tsc(void *arg)
{
    *(uint64_t *)arg = x86_rdtsc();
}

/* Threads carry TSC values from CPU to CPU as times, so the counters must agree: another CPU's
 * reading must lie between two of ours around it. */
static void check_tsc(unsigned id)
{
    uint64_t theirs = 0;
    uint64_t before = x86_rdtsc();
    int err = nk_cpu_call(id, read_tsc, &theirs, true);
    uint64_t after = x86_rdtsc();
    if (err == 0 && (theirs < before || theirs > after)) {
        nk_warn("smp: the TSC of CPU %u is off by %ld ticks; times will jump between CPUs", id,
                (long)(theirs < before ? theirs - before : theirs - after));
    }
}

void smp_start_all(void)
{
    if (acpi.cpu_count < 2) {
        return;
    }
    make_slots();
    place_trampoline();
    uint64_t start = x86_rdtsc();
    wake_all();

    unsigned count = 1;
    for (uint32_t i = 0; i < smp_ap_slot_count; i++) {
        if (await_arrival(&smp_ap_slots[i], start)) {
            admit(&smp_ap_slots[i], count++);
        } else {
            nk_warn("smp: the CPU with APIC id %u does not start", smp_ap_slots[i].apic_id);
        }
    }
    for (unsigned id = 1; id < count; id++) {
        await_online(&nk_cpu_table[id]);
    }
    __atomic_store_n(&nk_cpu_count, count, __ATOMIC_RELEASE);
    paging_shootdown = smp_shootdown;
    for (unsigned id = 1; id < count; id++) {
        check_tsc(id);
    }
    nk_info("smp: %u CPUs online", count);
}

void smp_stop_others(void)
{
    uint64_t start = x86_rdtsc();
    for (unsigned id = 0; id < CONFIG_NR_CPUS; id++) {
        if (nk_cpu_table[id].online && id != this_cpu->id) {
            lapic_send_nmi(nk_cpu_table[id].apic_id);
        }
    }
    for (unsigned id = 0; id < CONFIG_NR_CPUS; id++) {
        const struct nk_cpu *cpu = &nk_cpu_table[id];
        while (cpu->online && id != this_cpu->id &&
               __atomic_load_n(&cpu->panic_frame, __ATOMIC_ACQUIRE) == NULL &&
               !deadline_passed(start, STOP_LIMIT_US)) {
            x86_pause();
        }
    }
}
