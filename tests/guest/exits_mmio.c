/* Device memory by the instructions that compilers and kernels use on it. The target is the LAPIC's
 * task priority: eight bits that keep what is written; and the IOAPIC, a second device. */
#include "tests/guest/exits.h"
#include "tests/guest/lib/guest.h"

#define TPR_ADDRESS (GUEST_LAPIC_BASE + LAPIC_TPR)

static volatile uint32_t *const tpr = (volatile uint32_t *)(uint64_t)TPR_ADDRESS;

/* TPR holds `before`; after the instruction (operand: the register, r8d: 0x11, eax: 0x22) it
 * holds `after`. */
#define CHECK_WRITE(insn, before, after, name)                                                     \
    do {                                                                                           \
        *tpr = (before);                                                                           \
        __asm__ volatile("mov $0x11, %%r8d; mov $0x22, %%eax; " insn                               \
                         :                                                                         \
                         : "D"(tpr)                                                                \
                         : "rax", "rcx", "r8", "memory", "cc");                                    \
        guest_check_equal(*tpr, (after), "mmio: " name);                                           \
    } while (0)

/* TPR holds 0x35; the instruction gives `result` in RAX. */
#define CHECK_READ(insn, result, name)                                                             \
    do {                                                                                           \
        uint64_t rax_ = 0xffffffffffffff00;                                                        \
        *tpr = 0x35;                                                                               \
        __asm__ volatile(insn : "+a"(rax_) : "D"(tpr) : "r8", "rcx", "memory", "cc");              \
        guest_check_equal(rax_, (result), "mmio: " name);                                          \
    } while (0)

static void check_moves(void)
{
    CHECK_WRITE("mov %%r8d, (%%rdi)", 0, 0x11, "mov m32, r32");
    CHECK_WRITE("movl $0x33, (%%rdi)", 0, 0x33, "mov m32, imm32");
    CHECK_WRITE("movabs %%eax, 0xfee00080", 0, 0x22, "mov moffs, eax");
    CHECK_WRITE("mov $-0x80, %%rcx; mov %%eax, 0x100(%%rdi,%%rcx,2)", 0, 0x22, "mov with SIB");
    CHECK_WRITE("mov %%eax, (%%edi)", 0, 0x22, "mov with a 32-bit address");
    CHECK_WRITE("xchg %%r8d, (%%rdi)", 0x44, 0x11, "xchg writes");
    CHECK_WRITE("cld; stosl", 0, 0x22, "stosd");
    CHECK_WRITE("mov $1, %%ecx; rep stosl", 0, 0x22, "rep stosd");
    CHECK_READ("mov (%%rdi), %%eax", 0x35, "mov r32, m32");
    CHECK_READ("movabs 0xfee00080, %%eax", 0x35, "mov eax, moffs");
    CHECK_READ("movslq (%%rdi), %%rax", 0x35, "movsxd");
    CHECK_READ("xchg %%eax, (%%rdi)", 0x35, "xchg reads");
    CHECK_READ("mov %%rdi, %%rsi; cld; lodsl", 0x35, "lodsd");
    CHECK_READ("mov $0, %%eax; cmpl $0x35, (%%rdi); sete %%al", 1, "cmp m32, imm8");
    CHECK_READ("mov $0x36, %%eax; cmp (%%rdi), %%eax; mov $0, %%eax; seta %%al", 1, "cmp r32, m32");
    CHECK_READ("mov $0, %%eax; testl $4, (%%rdi); setnz %%al", 1, "test m32, imm32");
    CHECK_READ("mov $0, %%eax; btl $2, (%%rdi); setc %%al", 1, "bt m32, imm8");
    CHECK_READ("mov $1, %%eax; add (%%rdi), %%eax", 0x36, "add r32, m32");
    CHECK_READ("mov $0xf, %%eax; and (%%rdi), %%eax", 5, "and r32, m32");
    CHECK_READ("bsr (%%rdi), %%eax; mov %%eax, %%eax", 5, "bsr r32, m32");
    CHECK_READ("mov $0, %%eax; cmp %%eax, %%eax; cmovz (%%rdi), %%eax", 0x35, "cmov r32, m32");
}

static void check_arithmetic(void)
{
    CHECK_WRITE("or %%r8d, (%%rdi)", 0x22, 0x33, "or m32, r32");
    CHECK_WRITE("orl $0x40, (%%rdi)", 0x02, 0x42, "or m32, imm8");
    CHECK_WRITE("and %%eax, (%%rdi)", 0x33, 0x22, "and m32, r32");
    CHECK_WRITE("xorl $0xff, (%%rdi)", 0x0f, 0xf0, "xor m32, imm32");
    CHECK_WRITE("add %%r8d, (%%rdi)", 0x22, 0x33, "add m32, r32");
    CHECK_WRITE("stc; adc %%r8d, (%%rdi)", 0x22, 0x34, "adc m32, r32");
    CHECK_WRITE("sub %%r8d, (%%rdi)", 0x33, 0x22, "sub m32, r32");
    CHECK_WRITE("stc; sbb %%r8d, (%%rdi)", 0x33, 0x21, "sbb m32, r32");
    CHECK_WRITE("incl (%%rdi)", 0x10, 0x11, "inc m32");
    CHECK_WRITE("decl (%%rdi)", 0x10, 0x0f, "dec m32");
    CHECK_WRITE("notl (%%rdi); andl $0xff, (%%rdi)", 0xf0, 0x0f, "not m32");
    CHECK_WRITE("btsl $3, (%%rdi)", 0x10, 0x18, "bts m32, imm8");
    CHECK_WRITE("lock btrl $4, (%%rdi)", 0x18, 0x08, "lock btr m32, imm8");
    CHECK_WRITE("xadd %%r8d, (%%rdi)", 0x20, 0x31, "xadd m32, r32");
    CHECK_WRITE("lock cmpxchg %%r8d, (%%rdi)", 0x22, 0x11, "cmpxchg, equal");
    CHECK_WRITE("lock cmpxchg %%r8d, (%%rdi)", 0x23, 0x23, "cmpxchg, not equal");
}

static void check_string_moves(void)
{
    uint32_t value[2] = {0x47, 0};
    void *to = (void *)tpr;
    const void *from = value;
    __asm__ volatile("cld; movsl" : "+D"(to), "+S"(from) : : "memory");
    guest_check_equal(*tpr, 0x47, "mmio: movsd to the device");
    guest_check_equal((uint64_t)to, TPR_ADDRESS + 4, "mmio: movsd moves RDI");
    to = &value[1];
    from = (const void *)tpr;
    uint64_t count = 1;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    guest_check_equal(value[1], 0x47, "mmio: rep movsd from the device");
    guest_check_equal(count, 0, "mmio: rep movsd counts down");
}

/* The guest's SSE registers are in the processor while the VMM handles the exit. */
static void check_sse_moves(void)
{
    uint64_t cr4 = x86_read_cr4();
    x86_write_cr4(cr4 | 3 << 9); /* OSFXSR, OSXMMEXCPT */
    CHECK_WRITE("movd %%r8d, %%xmm9; movd %%xmm9, (%%rdi)", 0, 0x11, "movd m32, xmm");
    CHECK_WRITE("movd %%r8d, %%xmm3; movss %%xmm3, (%%rdi)", 0, 0x11, "movss m32, xmm");
    CHECK_READ("movd (%%rdi), %%xmm14; movq %%xmm14, %%rax", 0x35, "movd xmm, m32");
    CHECK_READ("pcmpeqb %%xmm0, %%xmm0; movss (%%rdi), %%xmm0; movq %%xmm0, %%rax", 0x35,
               "movss xmm, m32");
    CHECK_WRITE("movd %%r8d, %%mm3; movd %%mm3, (%%rdi); emms", 0, 0x11, "movd m32, mm");
    CHECK_READ("movd (%%rdi), %%mm5; movq %%mm5, %%rax; emms", 0x35, "movd mm, m32");
    CHECK_WRITE("stmxcsr (%%rdi)", 0, 0x80, "stmxcsr");
    x86_write_cr4(cr4);
}

static void check_avx_moves(void)
{
    uint64_t cr4 = x86_read_cr4();
    if ((x86_cpuid(1, 0).ecx & 1u << 28) == 0) {
        guest_skip("mmio: AVX", "this processor has none");
        return;
    }
    x86_write_cr4(cr4 | 3 << 9 | 1 << 18); /* and OSXSAVE */
    __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    CHECK_WRITE("vmovd %%r8d, %%xmm9; vmovd %%xmm9, (%%rdi)", 0, 0x11, "vmovd m32, xmm");
    CHECK_READ("vcmptrueps %%ymm0, %%ymm0, %%ymm0; vmovd (%%rdi), %%xmm0; "
               "vextractf128 $1, %%ymm0, %%xmm1; por %%xmm1, %%xmm0; movq %%xmm0, %%rax",
               0x35, "vmovd xmm, m32 clears what lies above");
    x86_write_cr4(cr4);
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("vmovd (%0), %%xmm0") : : "r"(tpr) : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_UD, "mmio: vmovd without CR4.OSXSAVE");
}

/* The instruction's bytes lie in two pages; the VMM fetches them itself on hardware without decode
 * assists. */
static void check_page_crossing(void)
{
    static uint8_t code[2 * 4096] NK_ALIGNED(4096);
    static const uint8_t insn[] = {0xc7, 0x07, 0x66, 0,
                                   0,    0,    0xc3}; /* mov dword [rdi], 0x66; ret */
    for (unsigned split = 1; split < 6; split++) {
        uint8_t *at = code + 4096 - split;
        for (unsigned i = 0; i < sizeof(insn); i++) {
            at[i] = insn[i];
        }
        *tpr = 0;
        __asm__ volatile("call *%0" : : "r"(at), "D"(tpr) : "memory");
        guest_check_equal(*tpr, 0x66, "mmio: instruction across a page boundary");
    }
}

/* The same register through a 4 KiB page far from the identity map. */
static void check_alias(void)
{
    static uint64_t pointers[512] NK_ALIGNED(4096), directory[512] NK_ALIGNED(4096),
        table[512] NK_ALIGNED(4096);
    uint64_t *root = (uint64_t *)x86_read_cr3();
    root[256] = (uint64_t)pointers | 3;
    pointers[1] = (uint64_t)directory | 3;
    directory[2] = (uint64_t)table | 3;
    table[3] = GUEST_LAPIC_BASE | 0x1b; /* present, writable, uncached */
    volatile uint32_t *alias = (void *)(UINT64_C(0xffff800040403000) + LAPIC_TPR);
    *alias = 0x77;
    guest_check_equal(*tpr, 0x77, "mmio: through an alias in the upper half");
    table[3] = GUEST_LAPIC_BASE | 0x19; /* read-only; CR0.WP is on */
    x86_invlpg((const void *)alias);
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("incl (%0)") : : "r"(alias) : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_PF, "mmio: write through a read-only page");
    guest_check_equal(guest_fault_error(), 3, "mmio: ... error code");
    guest_check_equal(*tpr, 0x77, "mmio: ... nothing written");
    root[256] = 0;
    x86_write_cr3((uint64_t)root);
}

/* 32-bit code in compatibility mode: other defaults for addresses, operands and the stack. */
static void check_compatibility_mode(void)
{
    *tpr = 0;
    __asm__ volatile("push $0x20; lea 1f(%%rip), %%rax; push %%rax; lretq\n"
                     ".code32\n"
                     "1: movl $0xfee00080, %%edi\n"
                     "movl $0x58, (%%edi)\n"
                     "incl 0xfee00080\n"
                     "ljmp $0x10, $2f\n"
                     ".code64\n"
                     "2:"
                     :
                     :
                     : "rax", "rdi", "memory", "cc");
    guest_check_equal(*tpr, 0x59, "mmio: 32-bit code");
}

static void check_ioapic(void)
{
    guest_check_equal(guest_ioapic_read(1) >> 16 & 0xff, 23, "mmio: IOAPIC has 24 pins");
    guest_ioapic_write(0x10 + 2 * 5, IOAPIC_MASKED | 0x65);
    guest_check_equal(guest_ioapic_read(0x10 + 2 * 5), IOAPIC_MASKED | 0x65, "mmio: IOAPIC entry");
}

static void check_unclaimed(void)
{
    /* In the PCI hole of both machines. */
    volatile uint32_t *hole = (volatile uint32_t *)UINT64_C(0xf0000000);
    *hole = 0x12345678;
    guest_check_equal(*hole, 0xffffffff, "mmio: unclaimed reads as ones");
}

void exits_mmio(void)
{
    check_moves();
    check_arithmetic();
    check_string_moves();
    check_sse_moves();
    check_avx_moves();
    check_page_crossing();
    check_alias();
    check_compatibility_mode();
    check_ioapic();
    if (guest_in_vm()) {
        check_unclaimed();
    }
    *tpr = 0;
}
