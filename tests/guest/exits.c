/* One check or more per kind of exit; port and device-memory accesses are in the other files.
 * What only a VM promises (the bare emulator is laxer than hardware) is checked in a VM only.
 * early=1: the machine lets an interrupt in before STI, when one of the node's is pending just
 * then; then it wakes nobody, and these checks are left out. */
#include "tests/guest/exits.h"
#include "tests/guest/lib/guest.h"

#define MSR_TSC            0x10
#define MSR_APIC_BASE      0x1b
#define MSR_TSC_ADJUST     0x3b
#define MSR_EFER           0xc0000080
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103
#define EFER_SVME          (UINT64_C(1) << 12)
#define CR0_TS             (UINT64_C(1) << 3)
#define CR0_WP             (UINT64_C(1) << 16)
#define CR4_PGE            (UINT64_C(1) << 7)
#define CR4_OSXSAVE        (UINT64_C(1) << 18)
#define RFLAGS_TF          (UINT64_C(1) << 8)
#define XSAVE_LEGACY_SIZE  576 /* FXSAVE area and header */

#define IPI_VECTOR   0x50
#define TIMER_VECTOR 0x51

/* The instruction ends in this exception, or in none. */
#define CHECK_FAULT(insn, vector, name)                                                            \
    do {                                                                                           \
        uint64_t a_ = 0, c_ = 0, d_ = 0;                                                           \
        guest_fault_clear();                                                                       \
        __asm__ volatile(GUEST_MAY_FAULT(insn)                                                     \
                         : "+a"(a_), "+c"(c_), "+d"(d_)                                            \
                         :                                                                         \
                         : "rbx", "memory");                                                       \
        guest_check_equal(guest_fault_vector(), (vector), (name));                                 \
    } while (0)

static volatile uint32_t interrupts;

static void count_interrupt(struct guest_frame *frame)
{
    (void)frame;
    interrupts++;
    guest_eoi();
}

static void check_cpuid(void)
{
    struct x86_cpuid features = x86_cpuid(1, 0);
    guest_check(x86_cpuid(0, 0).eax >= 1, "cpuid: basic leaves");
    guest_check(x86_cpuid(0x80000000, 0).eax >= 0x80000008, "cpuid: extended leaves");
    guest_check((x86_cpuid(0x80000001, 0).edx & (1u << 29)) != 0, "cpuid: long mode");
    guest_check_equal(features.ebx >> 24, guest_lapic_read(LAPIC_ID) >> 24, "cpuid: APIC id");

    uint64_t cr4 = x86_read_cr4();
    if (features.ecx & (1u << 26)) {
        x86_write_cr4(cr4 | CR4_OSXSAVE);
        guest_check((x86_cpuid(1, 0).ecx & (1u << 27)) != 0, "cpuid: OSXSAVE follows CR4");
        x86_write_cr4(cr4 & ~CR4_OSXSAVE);
        guest_check((x86_cpuid(1, 0).ecx & (1u << 27)) == 0, "cpuid: OSXSAVE cleared");
    }
    if (guest_in_vm()) {
        guest_check(x86_cpuid(0x40000000, 0).eax >= 0x40000000, "cpuid: hypervisor leaf");
        guest_check((x86_cpuid(0x80000001, 0).ecx & (1u << 2)) == 0, "cpuid: SVM hidden");
        guest_check((features.ecx & (1u << 3)) == 0, "cpuid: MONITOR hidden");
    }
}

static void check_msr_keeps(uint32_t msr, uint64_t value, const char *name)
{
    uint64_t before = 0, got = 0;
    unsigned vector = guest_rdmsr(msr, &before);
    if (vector == GUEST_NO_FAULT) {
        vector = guest_wrmsr(msr, value);
    }
    guest_check_equal(vector, GUEST_NO_FAULT, name);
    guest_rdmsr(msr, &got);
    guest_check_equal(got, value, name);
    guest_wrmsr(msr, before);
}

static void check_msr(void)
{
    uint64_t value = 0;
    check_msr_keeps(0x174, 0x10, "msr: SYSENTER_CS");
    check_msr_keeps(0x175, 0x123456789a, "msr: SYSENTER_ESP");
    check_msr_keeps(0x176, 0x123456789b, "msr: SYSENTER_EIP");
    check_msr_keeps(0x277, 0x0007010600070106, "msr: PAT");
    check_msr_keeps(0xc0000081, 0x0023001000000000, "msr: STAR");
    check_msr_keeps(0xc0000082, 0xffffffff81000000, "msr: LSTAR");
    check_msr_keeps(0xc0000084, 0x47700, "msr: SFMASK");
    check_msr_keeps(0xc0000100, 0x7fff12345000, "msr: FS_BASE");
    check_msr_keeps(0xc0000101, 0xffff888012345000, "msr: GS_BASE");
    check_msr_keeps(MSR_KERNEL_GS_BASE, 0xffff888054321000, "msr: KERNEL_GS_BASE");
    if (x86_cpuid(0x80000001, 0).edx & (1u << 27)) {
        check_msr_keeps(MSR_TSC_AUX, 0x1234, "msr: TSC_AUX");
    }

    guest_check_equal(guest_rdmsr(MSR_APIC_BASE, &value), GUEST_NO_FAULT, "msr: APIC_BASE read");
    guest_check_equal(value, GUEST_LAPIC_BASE | 0x900, "msr: APIC_BASE enabled, boot CPU");
    guest_check_equal(guest_rdmsr(MSR_EFER, &value), GUEST_NO_FAULT, "msr: EFER read");
    guest_check_equal(value & 0x500, 0x500, "msr: EFER has LME and LMA");

    if (!guest_in_vm()) {
        return;
    }
    uint64_t before = x86_rdtsc();
    guest_rdmsr(MSR_TSC, &value);
    guest_check_between(value, before, x86_rdtsc(), "msr: TSC agrees with RDTSC");
    guest_check_equal(guest_rdmsr(0x12345678, &value), GUEST_GP, "msr: read of an unknown one");
    guest_check_equal(guest_wrmsr(0x12345678, 1), GUEST_GP, "msr: write of an unknown one");
    guest_check_equal(guest_wrmsr(MSR_EFER, value | EFER_SVME), GUEST_GP, "msr: EFER.SVME");
    guest_check_equal(guest_wrmsr(MSR_EFER, UINT64_C(1) << 40), GUEST_GP, "msr: EFER reserved bit");
    guest_check_equal(guest_wrmsr(0xfe, 0), GUEST_GP, "msr: MTRRcap is read-only");
}

static void check_tsc(void)
{
    uint64_t last = x86_rdtsc(), value = 0;
    bool monotonic = true;
    for (unsigned i = 0; i < 1000; i++) {
        if (i % 10 == 0) {
            x86_cpuid(0, 0);
        }
        uint64_t now = x86_rdtsc();
        monotonic &= now > last;
        last = now;
    }
    guest_check(monotonic, "tsc: monotonic across exits");

    if (!(x86_cpuid(7, 0).ebx & 2)) {
        guest_skip("tsc: TSC_ADJUST", "not offered");
        return;
    }
    guest_rdmsr(MSR_TSC_ADJUST, &value);
    uint64_t before = x86_rdtsc();
    guest_wrmsr(MSR_TSC_ADJUST, value + (UINT64_C(1) << 40));
    uint64_t moved = x86_rdtsc() - before;
    guest_wrmsr(MSR_TSC_ADJUST, value);
    guest_check_between(moved, UINT64_C(1) << 40, (UINT64_C(1) << 40) + 1000000000,
                        "tsc: TSC_ADJUST moves the counter");
}

static void check_control_registers(void)
{
    uint64_t cr0 = x86_read_cr0(), cr4 = x86_read_cr4(), value;
    x86_write_cr0(cr0 & ~CR0_WP);
    guest_check_equal(x86_read_cr0(), cr0 & ~CR0_WP, "cr0: WP cleared");
    x86_write_cr0(cr0);
    __asm__ volatile("movw %w0, %%ax; smsw %%ax; or $8, %%ax; lmsw %%ax" : : "r"(0) : "rax");
    guest_check((x86_read_cr0() & CR0_TS) != 0, "cr0: LMSW sets TS");
    __asm__ volatile("clts");
    guest_check_equal(x86_read_cr0(), cr0, "cr0: CLTS");

    x86_write_cr4(cr4 ^ CR4_PGE);
    guest_check_equal(x86_read_cr4(), cr4 ^ CR4_PGE, "cr4: PGE toggled");
    x86_write_cr4(cr4);
    x86_write_cr3(x86_read_cr3());
    guest_check(true, "cr3: reload");
    if (guest_in_vm()) {
        guest_fault_clear();
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%cr4") : : "r"(cr4 | 1u << 31) : "memory");
        guest_check_equal(guest_fault_vector(), GUEST_GP, "cr4: reserved bit");
        guest_check_equal(x86_read_cr4(), cr4, "cr4: unchanged after the fault");
    }

    /* CR8 is the task priority's upper half. */
    __asm__ volatile("mov %0, %%cr8" : : "r"(UINT64_C(9)));
    __asm__ volatile("mov %%cr8, %0" : "=r"(value));
    guest_check_equal(value, 9, "cr8: keeps its value");
    guest_check_equal(guest_lapic_read(LAPIC_TPR), 0x90, "cr8: seen in TPR");
    guest_lapic_write(LAPIC_TPR, 0x30);
    __asm__ volatile("mov %%cr8, %0" : "=r"(value));
    guest_check_equal(value, 3, "cr8: TPR seen in CR8");

    /* An interrupt below the priority waits. */
    __asm__ volatile("mov %0, %%cr8" : : "r"((uint64_t)IPI_VECTOR >> 4));
    interrupts = 0;
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | IPI_VECTOR);
    __asm__ volatile("sti; nop; nop; cli");
    guest_check_equal(interrupts, 0, "cr8: holds back an interrupt");
    __asm__ volatile("sti; mov %0, %%cr8; nop; nop; cli" : : "r"(UINT64_C(0)) : "memory");
    guest_check_equal(interrupts, 1, "cr8: lets it in when lowered");
}

static volatile uint32_t debug_hits;
static uint64_t debug_rip, debug_dr6;

static void on_debug(struct guest_frame *frame)
{
    __asm__ volatile("mov %%dr6, %0" : "=r"(debug_dr6));
    __asm__ volatile("mov %0, %%dr6" : : "r"(UINT64_C(0xffff0ff0)));
    debug_rip = frame->rip;
    debug_hits++;
    frame->rflags &= ~RFLAGS_TF;
    frame->rflags |= UINT64_C(1) << 16; /* RF: not again at this instruction */
}

static void check_debug_registers(void)
{
    uint64_t value, before, after;
    guest_set_handler(GUEST_DB, on_debug);
    __asm__ volatile("mov %0, %%dr1" : : "r"(UINT64_C(0x123456789)));
    __asm__ volatile("mov %%dr1, %0" : "=r"(value));
    guest_check_equal(value, 0x123456789, "dr1: keeps its value");
    __asm__ volatile("mov %0, %%dr1" : : "r"(UINT64_C(0)));

    __asm__ volatile("lea 1f(%%rip), %%rax\n"
                     "mov %%rax, %%dr0\n"
                     "mov %1, %%dr7\n"
                     "nop\n"
                     "1: nop\n"
                     "mov %2, %%dr7\n"
                     "mov %%rax, %0\n"
                     : "=&r"(value)
                     : "r"(UINT64_C(0x402)), "r"(UINT64_C(0x400))
                     : "rax", "memory");
    guest_check_equal(debug_hits, 1, "dr7: a code breakpoint hits");
    guest_check_equal(debug_rip, value, "dr7: at its address");
    guest_check_equal(debug_dr6 & 0xf, 1, "dr6: names it");

    /* A trap after an instruction that the VMM carries out comes right behind it. */
    debug_hits = 0;
    __asm__ volatile("xor %%eax, %%eax\n"
                     "lea 1f(%%rip), %%r8\n"
                     "pushfq\n"
                     "orl $0x100, (%%rsp)\n"
                     "popfq\n"
                     "cpuid\n"
                     "1: mov %%r8, %0\n"
                     "lea 1b(%%rip), %1\n"
                     : "=r"(before), "=r"(after)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "memory");
    guest_check_equal(debug_hits, 1, "single step: over CPUID");
    guest_check_equal(debug_rip, after, "single step: behind CPUID");
    guest_check_equal(before, after, "single step: goes on there");
    guest_set_handler(GUEST_DB, NULL);
}

static unsigned xsetbv_vector(uint32_t index, uint64_t value)
{
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("xsetbv") : : "c"(index), "a"((uint32_t)value), "d"(0));
    return guest_fault_vector();
}

static uint64_t xgetbv(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo | (uint64_t)hi << 32;
}

static void check_xsetbv(void)
{
    if (!(x86_cpuid(1, 0).ecx & (1u << 26))) {
        guest_skip("xsetbv", "no XSAVE");
        return;
    }
    CHECK_FAULT("xsetbv", GUEST_UD, "xsetbv: without CR4.OSXSAVE");
    x86_write_cr4(x86_read_cr4() | CR4_OSXSAVE);
    uint64_t supported = x86_cpuid(0xd, 0).eax;
    guest_check_equal(xsetbv_vector(0, supported & 3), GUEST_NO_FAULT, "xsetbv: x87 and SSE");
    guest_check_equal(xgetbv(), supported & 3, "xsetbv: XGETBV agrees");
    guest_check_equal(x86_cpuid(0xd, 0).ebx, XSAVE_LEGACY_SIZE, "xsetbv: size of the save area");
    if (supported & 4) {
        struct x86_cpuid avx = x86_cpuid(0xd, 2);
        guest_check_equal(xsetbv_vector(0, 7), GUEST_NO_FAULT, "xsetbv: AVX");
        guest_check_equal(xgetbv(), 7, "xsetbv: XGETBV agrees on AVX");
        guest_check_equal(x86_cpuid(0xd, 0).ebx, avx.ebx + avx.eax, "xsetbv: size with AVX");
    }
    guest_check_equal(xsetbv_vector(0, 2), GUEST_GP, "xsetbv: SSE without x87");
    guest_check_equal(xsetbv_vector(0, 5), GUEST_GP, "xsetbv: AVX without SSE");
    guest_check_equal(xsetbv_vector(0, UINT64_C(1) << 30 | 1), GUEST_GP, "xsetbv: unknown bit");
    guest_check_equal(xsetbv_vector(1, 1), GUEST_GP, "xsetbv: unknown register");
    guest_check_equal(xgetbv() & 3, 3, "xsetbv: unchanged after the faults");
    x86_write_cr4(x86_read_cr4() & ~CR4_OSXSAVE);
}

static void check_refused(void)
{
    CHECK_FAULT("vmrun", GUEST_UD, "svm: VMRUN");
    CHECK_FAULT("vmload", GUEST_UD, "svm: VMLOAD");
    CHECK_FAULT("vmsave", GUEST_UD, "svm: VMSAVE");
    CHECK_FAULT("stgi", GUEST_UD, "svm: STGI");
    CHECK_FAULT("clgi", GUEST_UD, "svm: CLGI");
    CHECK_FAULT("invlpga", GUEST_UD, "svm: INVLPGA");
    CHECK_FAULT("skinit", GUEST_UD, "svm: SKINIT");
    if (!(x86_cpuid(1, 0).ecx & (1u << 3))) {
        CHECK_FAULT("monitor", GUEST_UD, "monitor: not offered");
        CHECK_FAULT("mwait", GUEST_UD, "mwait: not offered");
    }
    if (guest_in_vm()) {
        CHECK_FAULT("rdpmc", GUEST_GP, "rdpmc: no counters");
        if (guest_is_intel()) {
            CHECK_FAULT("vmcall", GUEST_NO_FAULT, "vmcall: a number that means nothing");
        } else {
            CHECK_FAULT("vmmcall", GUEST_NO_FAULT, "vmmcall: a number that means nothing");
        }
    }
    CHECK_FAULT("wbinvd", GUEST_NO_FAULT, "wbinvd");
    CHECK_FAULT("invd", GUEST_NO_FAULT, "invd");
    CHECK_FAULT("pause", GUEST_NO_FAULT, "pause");
}

static void check_exceptions(void)
{
    const uint64_t unmapped = UINT64_C(1) << 40;
    CHECK_FAULT("ud2", GUEST_UD, "exception: #UD");
    CHECK_FAULT("div %%ecx", GUEST_DE, "exception: #DE");
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("mov (%0), %%al") : : "r"(UINT64_C(1) << 62) : "rax");
    guest_check_equal(guest_fault_vector(), GUEST_GP, "exception: #GP, not canonical");
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("mov %%al, (%0)") : : "r"(unmapped) : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_PF, "exception: #PF");
    guest_check_equal(guest_fault_error(), 2, "exception: #PF error code of a write");
    guest_check_equal(x86_read_cr2(), unmapped, "exception: #PF address");
}

/* Command line: halts=N, for a longer search. */
static void check_halt(void)
{
    uint64_t halts = guest_option("halts", 200);

    /* The interrupt that STI lets in may not come before HLT: the wake-up would be lost. */
    interrupts = 0;
    for (uint64_t i = 0; i < halts; i++) {
        guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | IPI_VECTOR);
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    guest_check_equal(interrupts, halts, "hlt: woken by an interrupt that was pending");

    /* The time to the interrupt varies, so that it comes before, between and after the two. */
    interrupts = 0;
    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    for (uint64_t i = 0; i < halts; i++) {
        guest_lapic_write(LAPIC_TIMER_INITIAL, 1000 + (uint32_t)(i * 7919 % 200000));
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    guest_check_equal(interrupts, halts, "hlt: woken by the timer");
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
}

void guest_main(void)
{
    guest_set_handler(IPI_VECTOR, count_interrupt);
    guest_set_handler(TIMER_VECTOR, count_interrupt);
    check_cpuid();
    check_msr();
    check_tsc();
    check_control_registers();
    check_debug_registers();
    check_xsetbv();
    check_refused();
    check_exceptions();
    if (guest_option("early", 0) == 0) {
        check_halt();
    }
    exits_pio();
    exits_mmio();
    exits_prefix();
    guest_check_summary();
}
