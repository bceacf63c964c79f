/* Descriptor tables and the dispatch of exceptions.
 * Spec: AMD APM vol. 2 chapters 4.8 "Long-Mode Segment Descriptors" and 8 "Exceptions". */

#include "kernel/trap.h"

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/irq.h"
#include "kernel/panic.h"
#include "kernel/watchdog.h"
#include "mm/paging.h"
#include "mm/slab.h"

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x18

#define GDT_CODE64          UINT64_C(0x00af9b000000ffff)
#define GDT_DATA            UINT64_C(0x00cf93000000ffff)
#define GDT_TSS_AVAILABLE   UINT64_C(0x0000890000000000)
#define GATE_INTERRUPT      0x8e00u /* present, DPL 0, 64-bit interrupt gate */
#define MSR_GS_BASE         0xc0000101u
#define BOOT_IST_STACK_SIZE 8192
#define DR7_ENABLED         UINT64_C(0xff) /* L0-G3 */

/* Exceptions that may come with a broken or missing stack get one of their own. */
enum ist_index { IST_NMI = 1, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_END };
#define IST_COUNT (IST_END - 1)

struct x86_tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map_base;
} NK_PACKED;
_Static_assert(sizeof(struct x86_tss) == 104, "TSS layout");

struct x86_gate {
    uint16_t offset_low, selector, flags, offset_mid;
    uint32_t offset_high, reserved;
};
_Static_assert(sizeof(struct x86_gate) == 16, "IDT layout");

struct x86_table_pointer {
    uint16_t limit;
    uint64_t base;
} NK_PACKED;

struct cpu_tables {
    uint64_t gdt[TRAP_GDT_WORDS]; /* null, code, data, and two words of TSS descriptor */
    struct nk_cpu *cpu;           /* behind it, for trap_common */
    struct x86_tss tss NK_ALIGNED(16);
};

_Static_assert(offsetof(struct cpu_tables, cpu) == TRAP_GDT_WORDS * 8, "entry.asm counts on it");

extern const uint8_t trap_stubs[256][16];
extern const uint8_t trap_spurious_stub[];

static struct x86_gate idt[256] NK_ALIGNED(4096);
static struct cpu_tables boot_tables;
static uint8_t boot_ist_stacks[IST_COUNT][BOOT_IST_STACK_SIZE] NK_ALIGNED(16);
static nk_trap_handler handlers[NK_EXCEPTION_COUNT];

static void set_gate(unsigned vector, const void *stub, unsigned ist)
{
    uint64_t offset = (uint64_t)stub;
    idt[vector] = (struct x86_gate){
        .offset_low = (uint16_t)offset,
        .selector = SELECTOR_CODE,
        .flags = (uint16_t)(GATE_INTERRUPT | ist),
        .offset_mid = (uint16_t)(offset >> 16),
        .offset_high = (uint32_t)(offset >> 32),
    };
}

static void fill_tables(struct nk_cpu *cpu, struct cpu_tables *t)
{
    uint64_t base = (uint64_t)&t->tss;
    t->gdt[SELECTOR_CODE / 8] = GDT_CODE64;
    t->gdt[SELECTOR_DATA / 8] = GDT_DATA;
    t->gdt[SELECTOR_TSS / 8] = GDT_TSS_AVAILABLE | (sizeof(t->tss) - 1) |
                               ((base & 0xffffff) << 16) | ((base >> 24 & 0xff) << 56);
    t->gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
    t->tss.io_map_base = sizeof(t->tss);
    t->cpu = cpu;
    cpu->tss = &t->tss;
}

int trap_prepare_cpu(struct nk_cpu *cpu)
{
    struct cpu_tables *t = kzalloc(sizeof(*t));
    if (t == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < IST_COUNT; i++) {
        void *top = paging_stack_alloc((int)cpu->node);
        if (top == NULL) {
            while (i-- > 0) {
                paging_stack_free((void *)t->tss.ist[i]);
            }
            kfree(t);
            return -ENOMEM;
        }
        t->tss.ist[i] = (uint64_t)top;
    }
    fill_tables(cpu, t);
    return 0;
}

void trap_init_cpu(struct nk_cpu *cpu)
{
    struct cpu_tables *t = NK_CONTAINER_OF(cpu->tss, struct cpu_tables, tss);
    struct x86_table_pointer gdtr = {sizeof(t->gdt) - 1, (uint64_t)t->gdt};
    struct x86_table_pointer idtr = {sizeof(idt) - 1, (uint64_t)idt};

    /* The selectors are those of the boot GDT: the loaded CS and SS stay right. */
    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    __asm__ volatile("lidt %0" : : "m"(idtr));
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
    x86_wrmsr(MSR_GS_BASE, (uint64_t)cpu);
}

void trap_init(void)
{
    for (unsigned v = 0; v < 256; v++) {
        set_gate(v, trap_stubs[v], 0);
    }
    set_gate(NK_EXCEPTION_NMI, trap_stubs[NK_EXCEPTION_NMI], IST_NMI);
    set_gate(NK_EXCEPTION_DF, trap_stubs[NK_EXCEPTION_DF], IST_DOUBLE_FAULT);
    set_gate(NK_EXCEPTION_MC, trap_stubs[NK_EXCEPTION_MC], IST_MACHINE_CHECK);
    set_gate(NK_VECTOR_SPURIOUS, trap_spurious_stub, 0);

    for (unsigned i = 0; i < IST_COUNT; i++) {
        boot_tables.tss.ist[i] = (uint64_t)(boot_ist_stacks[i] + BOOT_IST_STACK_SIZE);
    }
    fill_tables(&nk_cpu_table[0], &boot_tables);
    trap_init_cpu(&nk_cpu_table[0]);
}

nk_trap_handler nk_trap_set_handler(unsigned vector, nk_trap_handler handler)
{
    nk_assert(vector < NK_EXCEPTION_COUNT);
    return __atomic_exchange_n(&handlers[vector], handler, __ATOMIC_ACQ_REL);
}

static bool fix_up(struct nk_trap_frame *f)
{
    for (const struct trap_fixup *x = trap_fixup_table; x < trap_fixup_table_end; x++) {
        if (f->rip == x->fault) {
            f->rip = x->resume;
            return true;
        }
    }
    return false;
}

/* Nothing here asked for it: some (emulated) processors deliver a guest's pending single step to
 * the host. What a guest does is no reason to panic. */
static bool is_stray_debug_trap(const struct nk_trap_frame *f)
{
    uint64_t dr7;

    __asm__ volatile("mov %%db7, %0" : "=r"(dr7));
    return f->vector == NK_EXCEPTION_DB && (f->rflags & X86_RFLAGS_TF) == 0 &&
           (dr7 & DR7_ENABLED) == 0;
}

void trap_dispatch(struct nk_trap_frame *f)
{
    if (f->vector == NK_EXCEPTION_NMI) {
        panic_stop_if_asked(f);
        if (watchdog_nmi(f)) {
            return;
        }
    }
    nk_trap_handler handler = __atomic_load_n(&handlers[f->vector], __ATOMIC_ACQUIRE);
    if (handler != NULL && handler(f)) {
        return;
    }
    if ((f->vector == NK_EXCEPTION_GP && fix_up(f)) || is_stray_debug_trap(f)) {
        return;
    }
    panic_exception(f);
}

const char *trap_name(unsigned vector)
{
    static const char *const name_table[NK_EXCEPTION_COUNT] = {
        [0] = "#DE divide error",
        [1] = "#DB debug",
        [2] = "NMI",
        [3] = "#BP breakpoint",
        [4] = "#OF overflow",
        [5] = "#BR bound range",
        [6] = "#UD invalid opcode",
        [7] = "#NM device not available",
        [8] = "#DF double fault",
        [10] = "#TS invalid TSS",
        [11] = "#NP segment not present",
        [12] = "#SS stack fault",
        [13] = "#GP general protection",
        [14] = "#PF page fault",
        [16] = "#MF x87 error",
        [17] = "#AC alignment check",
        [18] = "#MC machine check",
        [19] = "#XF SIMD error",
        [20] = "#VE virtualisation",
        [21] = "#CP control protection",
        [28] = "#HV hypervisor injection",
        [29] = "#VC VMM communication",
        [30] = "#SX security",
    };
    const char *name = vector < NK_EXCEPTION_COUNT ? name_table[vector] : NULL;
    return name != NULL ? name : "reserved exception";
}
