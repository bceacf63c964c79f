/* Extended state: each CPU's x87, SSE and AVX registers and its XCR0 are its own, whatever the CPU
 * it shares with others does meanwhile, through exits and sleep. Command line: cpus=N. */
#include "tests/guest/lib/guest.h"

#define TIMER_VECTOR  0x50
#define ROUNDS        100
#define WAIT_US       20000000
#define REGISTERS     16
#define SIZE          32                 /* bytes of each */
#define CR4_OSFXSR    (UINT64_C(3) << 9) /* and OSXMMEXCPT */
#define CR4_OSXSAVE   (UINT64_C(1) << 18)
#define XCR0_SSE      3
#define XCR0_AVX      7
#define MXCSR_DEFAULT 0x1f80u

static volatile uint32_t done, wrong, ready;
static bool xsave, avx;

/* One instruction for each register, of which \n is the number. */
#define EACH(insn) ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" insn "\n.endr"

static void load(const uint8_t *from, bool wide)
{
    if (wide) {
        __asm__ volatile(EACH("vmovdqu \\n*32(%0), %%ymm\\n") : : "r"(from) : "memory");
    } else {
        __asm__ volatile(EACH("movdqu \\n*32(%0), %%xmm\\n") : : "r"(from) : "memory");
    }
}

static void store(uint8_t *to, bool wide)
{
    if (wide) {
        __asm__ volatile(EACH("vmovdqu %%ymm\\n, \\n*32(%0)") : : "r"(to) : "memory");
    } else {
        __asm__ volatile(EACH("movdqu %%xmm\\n, \\n*32(%0)") : : "r"(to) : "memory");
    }
}

static uint8_t pattern(uint32_t cpu, unsigned round, unsigned i)
{
    return (uint8_t)(cpu * 61 + round * 7 + i);
}

static uint64_t xcr0_of(uint32_t cpu)
{
    return avx && cpu % 2 == 0 ? XCR0_AVX : XCR0_SSE;
}

/* What takes the CPU away: exits, and a sleep that the timer ends. */
static void be_elsewhere(unsigned round)
{
    x86_cpuid(0, 0);
    guest_lapic_read(LAPIC_ID);
    if (round % 4 == 0) {
        guest_lapic_write(LAPIC_TIMER_INITIAL, 200000);
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    } else {
        for (unsigned i = 0; i < 100; i++) {
            x86_pause();
        }
    }
}

static bool xcr0_is(uint64_t expected)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo | (uint64_t)hi << 32) == expected;
}

static bool round_is_right(uint32_t cpu, unsigned round)
{
    uint8_t put[REGISTERS][SIZE], got[REGISTERS][SIZE] = {0};
    bool wide = xsave && xcr0_of(cpu) == XCR0_AVX, ok = true;
    uint32_t mxcsr = MXCSR_DEFAULT | (cpu & 3) << 13, mxcsr_now;
    uint16_t fcw = (uint16_t)(0x7f | (round & 3) << 10), fcw_now;
    uint64_t number = (uint64_t)cpu << 32 | round, number_now = 0;
    for (unsigned i = 0; i < sizeof(put); i++) {
        ((uint8_t *)put)[i] = pattern(cpu, round, i);
    }
    __asm__ volatile("fninit; fldcw %0; fildll %1; ldmxcsr %2"
                     :
                     : "m"(fcw), "m"(number), "m"(mxcsr)
                     : "memory");
    load((const uint8_t *)put, wide);
    be_elsewhere(round);
    store((uint8_t *)got, wide);
    __asm__ volatile("fnstcw %0; stmxcsr %1; fistpll %2"
                     : "=m"(fcw_now), "=m"(mxcsr_now), "=m"(number_now));
    for (unsigned n = 0; n < REGISTERS; n++) {
        for (unsigned i = 0; i < (wide ? SIZE : SIZE / 2); i++) {
            ok &= got[n][i] == put[n][i];
        }
    }
    return ok && fcw_now == fcw && mxcsr_now == mxcsr && number_now == number &&
           (!xsave || xcr0_is(xcr0_of(cpu)));
}

static void work(uint32_t cpu)
{
    x86_write_cr0(x86_read_cr0() & ~UINT64_C(4)); /* EM */
    x86_write_cr4(x86_read_cr4() | CR4_OSFXSR | (xsave ? CR4_OSXSAVE : 0));
    if (xsave) {
        x86_xsetbv(0, xcr0_of(cpu));
    }
    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | TIMER_VECTOR);
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (!round_is_right(cpu, round)) {
            __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
        }
    }
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
    __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
}

static void on_timer(struct guest_frame *frame)
{
    (void)frame;
    guest_eoi();
}

void guest_ap_start(uint32_t id)
{
    guest_trap_load();
    guest_lapic_init();
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    work(id);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* What CPUID does not show cannot be switched on. */
static void check_masks(void)
{
    uint64_t offered = x86_cpuid(0xd, 0).eax;
    bool ok = true;
    for (unsigned bit = 2; bit < 63; bit++) {
        uint64_t value = XCR0_SSE | UINT64_C(1) << bit;
        guest_fault_clear();
        if ((offered >> bit & 1) == 0) {
            __asm__ volatile(GUEST_MAY_FAULT("xsetbv")
                             :
                             : "c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
            ok &= guest_fault_vector() == GUEST_GP;
        }
    }
    if (guest_option("exact", 0) != 0 || !guest_in_vm()) {
        guest_check(ok, "xcr0: takes what CPUID offers, no more");
    }
    guest_check(avx == ((offered & 4) != 0), "xcr0: AVX by both leaves");
    if (!avx) {
        guest_fault_clear();
        __asm__ volatile(GUEST_MAY_FAULT("vzeroupper"));
        guest_check_equal(guest_fault_vector(), GUEST_UD, "avx: is not there");
    }
}

void guest_main(void)
{
    uint32_t features = x86_cpuid(1, 0).ecx;
    unsigned count = (unsigned)guest_option("cpus", 1);
    xsave = (features & 1u << 26) != 0;
    avx = (features & 1u << 28) != 0;
    guest_printf("# %s, %s\n", xsave ? "XSAVE" : "no XSAVE", avx ? "AVX" : "no AVX");
    guest_set_handler(TIMER_VECTOR, on_timer);
    if (count > 1) {
        guest_ap_start_others();
    }
    work(0);
    uint64_t end = x86_rdtsc() + guest_tsc_hz() / 1000000 * WAIT_US;
    while (done < count && (int64_t)(end - x86_rdtsc()) > 0) {
        __asm__ volatile("sti; nop; cli; pause" : : : "memory");
    }
    guest_check_equal(done, count, "fpu: every CPU gets to its end");
    guest_check_equal(wrong, 0, "fpu: registers are each CPU's own");
    if (xsave) {
        check_masks();
    } else {
        guest_fault_clear();
        __asm__ volatile(GUEST_MAY_FAULT("xgetbv") : : "c"(0) : "rax", "rdx");
        guest_check_equal(guest_fault_vector(), GUEST_UD, "xcr0: without XSAVE there is none");
    }
    guest_check_summary();
}
