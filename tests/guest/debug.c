/* Debugging: single steps over what exits, breakpoints, the debug registers, RF. With "exact=1" the
 * machine is one that does all of it as processors do; QEMU's knows no GD, sets no RF and lets MOV
 * SS hold back no breakpoint. causes=0: it does not tell in DR6 which breakpoint it was; gd=0: GD
 * is not to be tried. */
#include "tests/guest/lib/guest.h"

#define CR4_DE       (UINT64_C(1) << 3)
#define DR6_RESET    UINT64_C(0xffff0ff0)
#define DR6_BD       (UINT64_C(1) << 13)
#define DR6_BS       (UINT64_C(1) << 14)
#define DR7_RESET    UINT64_C(0x400)
#define DR7_GD       (UINT64_C(1) << 13)
#define DR7_LOCAL(n) (UINT64_C(1) << 2 * (n))
#define DR7_IO       2 /* kinds and sizes of a breakpoint */
#define DR7_WRITE    1
#define DR7_ANY      3
#define DR7_1        0
#define DR7_4        3
#define NO_MSR       0x12345678
#define PORT         0x80
#define TPR_ADDRESS  ((uint64_t)GUEST_LAPIC_BASE + LAPIC_TPR)
#define HITS_MAX     4

static volatile uint32_t hits;
static uint64_t hit_rip[HITS_MAX], hit_dr6[HITS_MAX], hit_dr7, hit_flags;
static uint64_t at, after;
static bool again_with_rf; /* the handler wants to go on at a breakpoint */

#define READ_DR(n)                                                                                 \
    ({                                                                                             \
        uint64_t dr_;                                                                              \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(dr_));                                        \
        dr_;                                                                                       \
    })
#define WRITE_DR(n, value) __asm__ volatile("mov %0, %%dr" #n : : "r"((uint64_t)(value)) : "memory")

/* The instruction in question between two labels, in registers that suit them all. */
#define MARKED(before, insn)                                                                       \
    "lea 1f(%%rip), %%rax; mov %%rax, %0; lea 2f(%%rip), %%rax; mov %%rax, %1; xor %%eax, %%eax;"  \
    "xor %%ecx, %%ecx; mov $0x80, %%edx; " before "\n1: " insn "\n2: nop"
#define RUN(before, insn)                                                                          \
    __asm__ volatile(MARKED(before, insn)                                                          \
                     : "=m"(at), "=m"(after)                                                       \
                     : "D"(TPR_ADDRESS), "S"(buffer)                                               \
                     : "rax", "rbx", "rcx", "rdx", "r8", "memory", "cc")
#define STEP "pushfq; orl $0x100, (%%rsp); popfq; "

static uint32_t buffer[4] NK_ALIGNED(16);

static void on_debug(struct guest_frame *frame)
{
    hit_dr7 = READ_DR(7);
    if (hits < HITS_MAX) {
        hit_rip[hits] = frame->rip;
        hit_dr6[hits] = READ_DR(6);
    }
    WRITE_DR(6, DR6_RESET);
    hits++;
    hit_flags = frame->rflags;
    frame->rflags &= ~X86_RFLAGS_TF;
    if (again_with_rf) {
        frame->rflags |= X86_RFLAGS_RF;
    }
}

static bool one_hit(uint64_t rip, uint64_t causes)
{
    bool known = causes == DR6_BS || guest_option("causes", 1) != 0;
    bool ok = hits == 1 && hit_rip[0] == rip && (!known || (hit_dr6[0] ^ DR6_RESET) == causes);
    if (!ok) {
        guest_printf("# %u hits, rip 0x%lx (0x%lx), dr6 0x%lx\n", hits, hit_rip[0], rip,
                     hit_dr6[0]);
    }
    hits = 0;
    hit_rip[0] = hit_dr6[0] = 0;
    return ok;
}

/* --- single steps
 * ----------------------------------------------------------------------------------- */

static bool exact(void)
{
    return guest_option("exact", 0) != 0;
}

#define CHECK_STEP(insn, name)                                                                     \
    do {                                                                                           \
        RUN(STEP, insn);                                                                           \
        guest_check(one_hit(after, DR6_BS), "step: " name);                                        \
    } while (0)
/* RCX names an MSR. */
#define CHECK_STEP_MSR(insn, name)                                                                 \
    do {                                                                                           \
        RUN("mov $0x1b, %%ecx; rdmsr; " STEP, insn);                                               \
        guest_check(one_hit(after, DR6_BS), "step: " name);                                        \
    } while (0)

static void check_steps(void)
{
    CHECK_STEP("nop", "NOP");
    CHECK_STEP("cpuid", "CPUID");
    CHECK_STEP_MSR("rdmsr", "RDMSR");
    CHECK_STEP_MSR("wrmsr", "WRMSR");
    CHECK_STEP("wbinvd", "WBINVD");
    CHECK_STEP("invd", "INVD");
    if (exact()) {
        CHECK_STEP("pause", "PAUSE");
    }
    CHECK_STEP("rdtsc", "RDTSC");
    CHECK_STEP("outb %%al, %%dx", "OUT");
    CHECK_STEP("inb %%dx, %%al", "IN");
    CHECK_STEP("outsb", "OUTSB");
    CHECK_STEP("mov (%%rdi), %%eax", "read of device memory");
    CHECK_STEP("mov %%eax, (%%rdi)", "write to device memory");
    CHECK_STEP("orl $0x10, (%%rdi)", "OR on device memory");
    CHECK_STEP("xchg %%eax, (%%rdi)", "XCHG with device memory");
    CHECK_STEP("mov %%cr0, %%rax", "MOV from CR0");
    CHECK_STEP("mov %%cr3, %%rax", "MOV from CR3");
    CHECK_STEP("mov %%cr8, %%rax", "MOV from CR8");
    CHECK_STEP("mov %%rax, %%cr8", "MOV to CR8");
    READ_DR(3); /* Bochs steps before an instruction that exits and is run again */
    CHECK_STEP("mov %%dr3, %%rax", "MOV from DR3");
    CHECK_STEP("clts", "CLTS");
    if (guest_in_vm()) { /* the bare emulator sleeps */
        CHECK_STEP("hlt", "HLT");
    }
    *(volatile uint32_t *)TPR_ADDRESS = 0;
}

/* Each iteration is an instruction. */
static void check_repeated_step(const char *name)
{
    bool ok = hits == 1 && hit_rip[0] == at;
    guest_check(ok, name);
    hits = 0;
}

static void check_repeated(void)
{
    RUN("mov $3, %%ecx; " STEP, "rep outsb");
    check_repeated_step("step: REP OUTSB, one of three");
    RUN("mov $3, %%ecx; cld; " STEP, "rep stosl");
    check_repeated_step("step: REP STOS to device memory, one of three");
    *(volatile uint32_t *)TPR_ADDRESS = 0;
}

/* --- breakpoints
 * --------------------------------------------------------------------------------------- */

static void arm(unsigned kind, unsigned size)
{
    WRITE_DR(7, DR7_RESET | DR7_LOCAL(0) | (uint64_t)(kind | size << 2) << 16);
}

static void disarm(void)
{
    WRITE_DR(7, DR7_RESET);
    WRITE_DR(0, 0);
}

/* DR0 is at the instruction; it is carried out after one #DB. */
#define CHECK_CODE(insn, name)                                                                     \
    do {                                                                                           \
        again_with_rf = true;                                                                      \
        RUN("lea 1f(%%rip), %%rax; mov %%rax, %%dr0; mov $0x401, %%eax; mov %%rax, %%dr7; "        \
            "xor %%eax, %%eax",                                                                    \
            insn);                                                                                 \
        disarm();                                                                                  \
        guest_check(one_hit(at, 1), "breakpoint: " name);                                          \
        guest_check((x86_read_flags() & X86_RFLAGS_RF) == 0, "breakpoint: ... and RF is used up"); \
        again_with_rf = false;                                                                     \
    } while (0)

static void check_code(void)
{
    CHECK_CODE("nop", "at NOP");
    CHECK_CODE("cpuid", "at CPUID");
    CHECK_CODE("outb %%al, %%dx", "at OUT");
    CHECK_CODE("mov (%%rdi), %%eax", "at a read of device memory");
}

/* Without RF each turn has its #DB. */
static void check_code_twice(void)
{
    again_with_rf = true;
    for (unsigned i = 0; i < 2; i++) {
        __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %%dr0; mov $0x401, %%eax;"
                         "mov %%rax, %%dr7; mov $2, %%r8d; mov $0x80, %%edx\n"
                         "1: outb %%al, %%dx\n"
                         "dec %%r8d\n"
                         "jnz 1b"
                         :
                         :
                         : "rax", "rdx", "r8", "memory", "cc");
        disarm();
    }
    again_with_rf = false;
    guest_check_equal(hits, 4, "breakpoint: at OUT, each time");
    hits = 0;
}

#define CHECK_DATA(address, kind, insn, causes, name)                                              \
    do {                                                                                           \
        WRITE_DR(0, address);                                                                      \
        arm(kind, DR7_4);                                                                          \
        RUN("", insn);                                                                             \
        disarm();                                                                                  \
        if (causes) {                                                                              \
            guest_check(one_hit(after, causes), "breakpoint: " name);                              \
        } else {                                                                                   \
            guest_check_equal(hits, 0, "breakpoint: " name);                                       \
        }                                                                                          \
    } while (0)

static void check_data(void)
{
    CHECK_DATA((uint64_t)buffer, DR7_WRITE, "mov %%eax, (%%rsi)", 1, "on a write");
    CHECK_DATA((uint64_t)buffer, DR7_WRITE, "mov (%%rsi), %%eax", 0, "on writes, not a read");
    CHECK_DATA((uint64_t)buffer, DR7_ANY, "mov (%%rsi), %%eax", 1, "on a read");
}

static void check_device_data(void)
{
    CHECK_DATA(TPR_ADDRESS, DR7_WRITE, "mov %%eax, (%%rdi)", 1, "on a write to device memory");
    CHECK_DATA(TPR_ADDRESS, DR7_WRITE, "mov (%%rdi), %%eax", 0,
               "on writes, not a read of device memory");
    CHECK_DATA(TPR_ADDRESS, DR7_ANY, "mov (%%rdi), %%eax", 1, "on a read of device memory");
    CHECK_DATA(TPR_ADDRESS, DR7_ANY, "orl $0, (%%rdi)", 1, "on OR on device memory");
    CHECK_DATA(TPR_ADDRESS + 0x10, DR7_ANY, "mov (%%rdi), %%eax", 0, "beside device memory");
}

static void check_ports(void)
{
    x86_write_cr4(x86_read_cr4() | CR4_DE);
    CHECK_DATA(PORT, DR7_IO, "outb %%al, %%dx", 1, "on OUT");
    CHECK_DATA(PORT, DR7_IO, "inb %%dx, %%al", 1, "on IN");
    CHECK_DATA(PORT, DR7_IO, "outb %%al, $0xed", 0, "on another port");
    CHECK_DATA(PORT, DR7_IO, "mov %%eax, 0x80", 0, "on a port, not on memory");
    x86_write_cr4(x86_read_cr4() & ~CR4_DE);
}

/* --- registers
 * ------------------------------------------------------------------------------------------ */

static void check_registers(void)
{
    uint64_t value = 0;
    WRITE_DR(6, 0);
    guest_check_equal(READ_DR(6), DR6_RESET, "dr6: bits that are always set");
    WRITE_DR(6, DR6_RESET | 0xf);
    guest_check_equal(READ_DR(6), DR6_RESET | 0xf, "dr6: keeps its causes");
    WRITE_DR(6, DR6_RESET);
    WRITE_DR(7, 0);
    guest_check_equal(READ_DR(7), DR7_RESET, "dr7: a bit that is always set");
    guest_check_equal(READ_DR(4), READ_DR(6), "dr4: is DR6");
    guest_check_equal(READ_DR(5), READ_DR(7), "dr5: is DR7");

    x86_write_cr4(x86_read_cr4() | CR4_DE);
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("mov %%dr4, %0") : "+r"(value) : : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_UD, "dr4: with CR4.DE there is none");
    x86_write_cr4(x86_read_cr4() & ~CR4_DE);
    if (guest_in_vm()) { /* the bare emulator takes it */
        guest_fault_clear();
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%dr7") : : "r"(UINT64_C(1) << 32) : "memory");
        guest_check_equal(guest_fault_vector(), GUEST_GP, "dr7: has no upper half");
    }
}

static void check_general_detect(void)
{
    WRITE_DR(7, DR7_RESET | DR7_GD);
    __asm__ volatile(MARKED("", "mov %%dr3, %%rax")
                     : "=m"(at), "=m"(after)
                     :
                     : "rax", "rcx", "rdx", "memory", "cc");
    guest_check((hit_dr7 & DR7_GD) == 0, "dr7: GD is off in the handler");
    guest_check(one_hit(at, DR6_BD), "dr7: GD guards the registers");
    disarm();
}

/* --- RF
 * --------------------------------------------------------------------------------------------------
 */

static uint64_t fault_flags;

static void on_fault(struct guest_frame *frame)
{
    fault_flags = frame->rflags;
    frame->rip = after;
    frame->rflags &= ~X86_RFLAGS_RF;
}

static void check_fault_flags(void)
{
    guest_set_handler(GUEST_UD, on_fault);
    guest_set_handler(GUEST_GP, on_fault);
    guest_set_handler(GUEST_BP, on_fault);
    if (exact()) {
        RUN("", "ud2");
        guest_check((fault_flags & X86_RFLAGS_RF) != 0, "rf: set in what a fault saves");
    }
    if (guest_in_vm()) {
        RUN("mov $0x12345678, %%ecx", "rdmsr");
        guest_check((fault_flags & X86_RFLAGS_RF) != 0, "rf: ... of an instruction that exits");
    }
    RUN("", "int3");
    guest_check((fault_flags & X86_RFLAGS_RF) == 0, "rf: clear in what a trap saves");
    guest_set_handler(GUEST_UD, NULL);
    guest_set_handler(GUEST_GP, NULL);
    guest_set_handler(GUEST_BP, NULL);
}

/* --- MOV SS
 * -----------------------------------------------------------------------------------------------
 */

/* A breakpoint on what MOV SS loads from: its trap comes behind the next instruction. */
static void check_mov_ss(void)
{
    buffer[0] = GUEST_DATA64;
    WRITE_DR(0, (uint64_t)buffer);
    arm(DR7_ANY, DR7_4);
    RUN("mov (%%rsi), %%ss", "nop");
    disarm();
    guest_check(one_hit(after, 1), "mov ss: a breakpoint's trap waits");
    if (guest_is_intel()) { /* AMD's exits do not keep it */
        WRITE_DR(0, (uint64_t)buffer);
        arm(DR7_ANY, DR7_4);
        RUN("mov (%%rsi), %%ss", "cpuid");
        disarm();
        guest_check(one_hit(after, 1), "mov ss: ... over an instruction that exits");
    }
}

void guest_main(void)
{
    guest_set_handler(GUEST_DB, on_debug);
    check_registers();
    if (exact() && guest_option("gd", 1) != 0) {
        check_general_detect();
    }
    check_steps();
    check_repeated();
    check_code();
    check_code_twice();
    check_data();
    check_device_data();
    check_ports();
    check_fault_flags();
    if (exact()) {
        check_mov_ss();
    }
    guest_check_summary();
}
