/* What an exit costs, seen by the guest: the median of TSC differences, "bench: name ticks".
 * Under QEMU's -icount shift=0 a tick is an instruction, the VMM's included. The pair of RDTSC and
 * the loading of operands that RDTSC destroys are in the figures. Command line: only=NAME, or
 * compute=MILLISECONDS, which measures nothing. */
#include "tests/guest/lib/guest.h"

#define SAMPLES          101
#define MSR_TSC_DEADLINE 0x6e0
#define DEADLINE_AHEAD   1000000 /* longer than a hypervisor polls before it halts */
#define IPI_VECTOR       0x50
#define TOUCH_BASE       UINT64_C(0x1000000)
#define LARGE_BASE       UINT64_C(0x2000000)
#define LARGE_SIZE       UINT64_C(0x200000)
#define LARGE_SAMPLES    8

uint64_t bench_handler_tsc;
void bench_on_xapic(void);
void bench_on_x2apic(void);

/* Handlers that note the time first. */
__asm__(".text\n"
        "bench_on_xapic:\n"
        "push %rax; push %rdx\n"
        "rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, bench_handler_tsc\n"
        "mov $0xfee000b0, %eax; movl $0, (%rax)\n"
        "pop %rdx; pop %rax; iretq\n"
        "bench_on_x2apic:\n"
        "push %rax; push %rdx; push %rcx\n"
        "rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, bench_handler_tsc\n"
        "mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr\n"
        "pop %rcx; pop %rdx; pop %rax; iretq\n");

/* A function that times `insn` once. `setup` loads what RDTSC leaves alone: not RAX, RDX, R15. */
#define TIMED(name, setup, insn)                                                                   \
    static uint64_t name(void)                                                                     \
    {                                                                                              \
        uint32_t ticks;                                                                            \
        __asm__ volatile(setup "; rdtsc; mov %%eax, %%r15d; " insn "; rdtsc; sub %%r15d, %%eax"    \
                         : "=a"(ticks)                                                             \
                         :                                                                         \
                         : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r15", "memory", "cc");  \
        return ticks;                                                                              \
    }

TIMED(time_nothing, "", "")
TIMED(time_cpuid, "", "xor %%eax, %%eax; cpuid")
TIMED(time_wbinvd, "", "wbinvd")
TIMED(time_invd, "", "invd")
TIMED(time_amd_hypercall, "", "mov $-1, %%eax; vmmcall")
TIMED(time_intel_hypercall, "", "mov $-1, %%eax; vmcall")
TIMED(time_msr_read, "mov $0x3b, %%ecx", "rdmsr")
TIMED(time_msr_write, "mov $0x3b, %%ecx", "xor %%eax, %%eax; xor %%edx, %%edx; wrmsr")
TIMED(time_pio_out, "", "mov $0xff, %%al; outb %%al, $0x21")
TIMED(time_pio_in, "", "inb $0x21, %%al")
TIMED(time_pm_timer, "", "mov $0x608, %%edx; inl %%dx, %%eax")
TIMED(time_mmio_write, "mov $0xfec00000, %%edi", "movl $1, (%%rdi)")
TIMED(time_mmio_read, "mov $0xfec00010, %%edi", "mov (%%rdi), %%eax")
TIMED(time_eoi_xapic, "mov $0xfee000b0, %%edi", "movl $0, (%%rdi)")
TIMED(time_eoi_x2apic, "mov $0x80b, %%ecx", "xor %%eax, %%eax; xor %%edx, %%edx; wrmsr")
TIMED(time_cr0_wp, "mov %%cr0, %%rsi; mov %%rsi, %%rdi; btr $16, %%rdi",
      "mov %%rdi, %%cr0; mov %%rsi, %%cr0")
TIMED(time_cr4_pge, "mov %%cr4, %%rsi; mov %%rsi, %%rdi; btc $7, %%rdi",
      "mov %%rdi, %%cr4; mov %%rsi, %%cr4")
TIMED(time_cr3, "mov %%cr3, %%rdi", "mov %%rdi, %%cr3")
TIMED(time_cr8, "xor %%edi, %%edi", "mov %%rdi, %%cr8")
TIMED(time_dr, "xor %%edi, %%edi", "mov %%rdi, %%dr0")
TIMED(time_kernel_gs_base, "mov $0xc0000102, %%ecx", "xor %%eax, %%eax; xor %%edx, %%edx; wrmsr")
TIMED(time_ipi_halt_xapic, "mov $0xfee00300, %%edi", "movl $0x40050, (%%rdi); sti; hlt; cli")
TIMED(time_ipi_halt_x2apic, "mov $0x83f, %%ecx",
      "mov $0x50, %%eax; xor %%edx, %%edx; wrmsr; sti; hlt; cli")

/* From the sending instruction to the handler's first one. */
static uint64_t time_hypercall(void)
{
    return guest_is_intel() ? time_intel_hypercall() : time_amd_hypercall();
}

static uint64_t time_ipi_xapic(void)
{
    uint64_t start = x86_rdtsc();
    __asm__ volatile("sti; movl $0x40050, (%0); nop; cli" : : "r"(UINT64_C(0xfee00300)) : "memory");
    return bench_handler_tsc - start;
}

static uint64_t time_ipi_x2apic(void)
{
    uint64_t start = x86_rdtsc();
    __asm__ volatile("sti; wrmsr; nop; cli" : : "c"(0x83f), "a"(IPI_VECTOR), "d"(0) : "memory");
    return bench_handler_tsc - start;
}

/* How long after its deadline the timer's handler runs when the guest was halted. */
static uint64_t time_deadline(void)
{
    uint64_t deadline = x86_rdtsc() + DEADLINE_AHEAD;
    x86_wrmsr(MSR_TSC_DEADLINE, deadline);
    __asm__ volatile("sti; hlt; cli" : : : "memory");
    return bench_handler_tsc - deadline;
}

static uint64_t time_deadline_write(void)
{
    uint64_t start = x86_rdtsc();
    x86_wrmsr(MSR_TSC_DEADLINE, start + UINT32_MAX);
    uint64_t ticks = x86_rdtsc() - start;
    x86_wrmsr(MSR_TSC_DEADLINE, 0);
    return ticks;
}

static uint64_t time_first_touch(void)
{
    static uint64_t page = TOUCH_BASE;
    uint64_t start = x86_rdtsc();
    *(volatile uint8_t *)page = 1;
    uint64_t ticks = x86_rdtsc() - start;
    page += 4096;
    return ticks;
}

/* Of each 4 KiB page of 2 MiB that are touched one by one. */
static void touch_large(uint64_t *samples)
{
    for (unsigned n = 0; n < LARGE_SAMPLES; n++) {
        uint64_t first = LARGE_BASE + n * LARGE_SIZE, start = x86_rdtsc();
        for (uint64_t page = first; page < first + LARGE_SIZE; page += 4096) {
            *(volatile uint8_t *)page = 1;
        }
        samples[n] = (x86_rdtsc() - start) / (LARGE_SIZE / 4096);
    }
}

/* As time_mmio_write, but each sample is an instruction that has not run before. */
static void mmio_first(uint64_t *samples)
{
    __asm__ volatile("mov $0xfec00000, %%edi\n"
                     ".rept 101\n"
                     "rdtsc; mov %%eax, %%r15d; movl $1, (%%rdi); rdtsc; sub %%r15d, %%eax\n"
                     "mov %%rax, (%0); add $8, %0\n"
                     ".endr\n"
                     : "+r"(samples)
                     :
                     : "rax", "rdx", "rdi", "r15", "memory", "cc");
}

enum needs { ANY, VM_ONLY, TSC_ADJUST, DEADLINE, X2APIC };

static const struct {
    const char *name;
    uint64_t (*run)(void);
    enum needs needs;
} bench_table[] = {
    {"nothing", time_nothing, ANY},
    {"cpuid", time_cpuid, ANY},
    {"wbinvd", time_wbinvd, ANY},
    {"invd", time_invd, ANY},
    {"vmmcall", time_hypercall, VM_ONLY},
    {"msr_read", time_msr_read, TSC_ADJUST},
    {"msr_write", time_msr_write, TSC_ADJUST},
    {"pio_out", time_pio_out, ANY},
    {"pio_in", time_pio_in, ANY},
    {"pm_timer", time_pm_timer, ANY},
    {"mmio_write", time_mmio_write, ANY},
    {"mmio_read", time_mmio_read, ANY},
    {"eoi_xapic", time_eoi_xapic, ANY},
    {"self_ipi_xapic", time_ipi_xapic, ANY},
    {"self_ipi_halt_xapic", time_ipi_halt_xapic, ANY},
    {"deadline_write", time_deadline_write, DEADLINE},
    {"deadline_late", time_deadline, DEADLINE},
    {"cr0_wp_pair", time_cr0_wp, ANY},
    {"cr4_pge_pair", time_cr4_pge, ANY},
    {"cr3_write", time_cr3, ANY},
    {"cr8_write", time_cr8, ANY},
    {"dr_write", time_dr, ANY},
    {"kernel_gs_base_write", time_kernel_gs_base, ANY},
    {"first_touch", time_first_touch, ANY},
    {"eoi_x2apic", time_eoi_x2apic, X2APIC},
    {"self_ipi_x2apic", time_ipi_x2apic, X2APIC},
    {"self_ipi_halt_x2apic", time_ipi_halt_x2apic, X2APIC},
};

static bool met(enum needs needs)
{
    static bool x2apic;
    switch (needs) {
    case VM_ONLY:
        return guest_in_vm();
    case TSC_ADJUST:
        return (x86_cpuid(7, 0).ebx & 2) != 0;
    case DEADLINE:
        return (x86_cpuid(1, 0).ecx & 1u << 24) != 0;
    case X2APIC:
        if (!x2apic && guest_x2apic_available()) {
            x2apic = true;
            guest_x2apic_enable();
            guest_set_gate(IPI_VECTOR, bench_on_x2apic);
        }
        return x2apic;
    default:
        return true;
    }
}

/* Nothing but computing, by the VM's own frequency. */
static void compute(uint64_t ms)
{
    uint64_t until = x86_rdtsc() + x86_cpuid(0x40000010, 0).eax * ms;
    while (x86_rdtsc() < until) {
        for (unsigned i = 0; i < 100000; i++) { /* an emulator takes long over RDTSC */
            __asm__ volatile("" ::: "memory");
        }
    }
}

void guest_main(void)
{
    if (guest_option_given("compute")) {
        compute(guest_option("compute", 0));
        return;
    }
    static uint64_t samples[SAMPLES];
    guest_set_gate(IPI_VECTOR, bench_on_xapic);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_DEADLINE | IPI_VECTOR);
    bool all = !guest_option_given("only");
    if (all) {
        mmio_first(samples);
        guest_print_median("mmio_write_first", samples, SAMPLES);
        touch_large(samples);
        guest_print_median("first_touch_large", samples, LARGE_SAMPLES);
    }
    for (unsigned i = 0; i < NK_ARRAY_COUNT(bench_table); i++) {
        bool wanted = all || guest_option_is("only", bench_table[i].name);
        if (!wanted || !met(bench_table[i].needs)) {
            continue;
        }
        for (unsigned n = 0; n < SAMPLES; n++) {
            samples[n] = bench_table[i].run();
        }
        guest_print_median(bench_table[i].name, samples, SAMPLES);
    }
    guest_printf("bench: done\n");
}
