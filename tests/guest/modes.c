/* The modes a processor has beside the 64-bit one: real, unreal, 16- and 32-bit protected, V86,
 * both kinds of 32-bit paging, and task switches. In each some instructions exit: CPUID, port I/O
 * and accesses to the LAPIC's registers. modes_low.asm is what runs there; its results, in order,
 * are checked here. With "limits=1" the machine is one that checks segment limits; QEMU's does not.
 */
#include "tests/guest/lib/guest.h"

/* As in modes.inc. */
#define VARIABLES      0x7000u
#define GAVE_UP        (VARIABLES + 20)
#define VECTOR         (VARIABLES + 4)
#define RESULTS        (VARIABLES + 0x80)
#define ONLY_PROTECTED (VARIABLES + 76)
#define EXACT          (VARIABLES + 80)
#define LOW            0x8000u
#define V86_LAPIC      0xb0000u
#define TASK_VECTOR    32
#define LARGE_ALIAS    0x80000000u
#define SMALL_ALIAS    0x80400000u

enum selector {
    CODE32 = 0x20,
    DATA32 = 0x18,
    MAIN_TSS = 0x60,
    TASK_B = 0x68,
    TASK_C = 0x70,
    TASK_D = 0x78,
    ABSENT_TSS = 0x80,
    SHORT_TSS = 0x88,
    BAD_TASK = 0x90,
    LOCAL_TABLE = 0x98,
    TASK_16 = 0xa0,
    TASK_TRAP = 0xa8,
    TASK_NMI = 0xb0,
    TASK_V86 = 0xb8,
    TASK_NESTS = 0xc0,
    TASK_GATE = 0xc8,
    TASK_NO_CODE = 0xd0,
    TASK_ABSENT = 0xd8,
    TASK_FAR = 0xe0,
    TASK_NO_DS = 0xe8,
    ABSENT_CODE = 0xf0,
    GDT_SIZE = 0xf8,
    CODE16 = 0x28,
    DATA16 = 0x30,
    ABSENT_DATA = 0x58,
};

#define TSS_TYPE       UINT64_C(0x89)
#define TSS_16_TYPE    UINT64_C(0x81)
#define TSS_ABSENT     UINT64_C(0x09)
#define LDT_PRESENT    UINT64_C(0x82)
#define LOCAL_FIRST    4u /* the selector of a local table's first entry */
#define TSS_SIZE       104
#define STACK_16       0x6e00
#define FLAG_NT        (1u << 14)
#define FLAG_VM        (1u << 17)
#define DR6_BT         (1u << 15)
#define TSS_SIZE_SHORT 103
#define PORT_BYTES     32 /* of the bitmap: ports up to 0xff */
#define PIC_MASK       0x21

#define PAGE_ALL   7u /* present, writable, everybody's */
#define PAGE_LARGE (1u << 7)
#define MIB4       0x400000u

#define FAULT(vector, error) ((uint32_t)(vector) << 16 | (error))
#define GUEST_NMI            2
#define GUEST_TS             10
#define GUEST_NP             11
#define GUEST_SS             12

struct tss {
    uint32_t link, stacks[6], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, ports_at;
    uint8_t ports[PORT_BYTES + 1];
} NK_PACKED;

struct tss_16 {
    uint16_t link, stacks[6], ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
} NK_PACKED;

struct pointer {
    uint16_t limit;
    uint64_t base;
} NK_PACKED;

extern const uint8_t modes_low[], modes_low_end[], modes_task_16[], modes_task_v86[];
extern const uint32_t modes_vectors[32];
void modes_run(void (*fn)(void));
void modes_protected(void);
void modes_16_and_real(void);
void modes_pse(void);
void modes_pae(void);
void modes_v86(void);
void modes_tasks(void);
void modes_more_tasks(void);
void modes_v86_task(void);
void modes_task_b(void);
void modes_task_c(void);
void modes_task_d(void);
void modes_task_trap(void);
void modes_task_nmi(void);
void modes_task_nests(void);

uint64_t modes_gdt[GDT_SIZE / 8] NK_ALIGNED(16) = {
    [0x10 / 8] = 0x00af9b000000ffff, /* 64-bit code */
    [0x18 / 8] = 0x00cf93000000ffff, /* flat data */
    [0x20 / 8] = 0x00cf9b000000ffff, /* flat code */
    [0x28 / 8] = 0x00009b008000ffff, /* 16-bit code at LOW */
    [0x30 / 8] = 0x000093000000ffff, /* 16-bit data */
    [0x38 / 8] = 0xfe4093e00000002f, /* the LAPIC, not its version */
    [0x40 / 8] = 0xfe4093e000000033, /* the LAPIC and its version */
    [0x48 / 8] = 0x00cf93000000edff, /* ends at 0xfee00000 */
    [0x50 / 8] = 0x0040930000000fff, /* 4 KiB */
    [0x58 / 8] = 0x00cf13000000ffff, /* not present */
    [0xf0 / 8] = 0x00cf1b000000ffff, /* not present, code */
};
const struct pointer modes_gdt_pointer = {sizeof(modes_gdt) - 1, (uint64_t)modes_gdt};
static uint64_t idt[TASK_VECTOR + 2] NK_ALIGNED(16);
const struct pointer modes_idt_pointer = {sizeof(idt) - 1, (uint64_t)idt};

/* The tasks beside the main one: where they begin, and what is unusual about them. */
enum task { B, C, D, BAD, TRAP, NMI, V86, NESTS, NO_CODE, ABSENT, FAR, NO_DS, TASKS };
static const struct {
    uint16_t selector;
    void (*entry)(void);
} task_table[TASKS] = {
    [B] = {TASK_B, modes_task_b},
    [C] = {TASK_C, modes_task_c},
    [D] = {TASK_D, modes_task_d},
    [BAD] = {BAD_TASK, modes_task_c},
    [TRAP] = {TASK_TRAP, modes_task_trap},
    [NMI] = {TASK_NMI, modes_task_nmi},
    [V86] = {TASK_V86, NULL},
    [NESTS] = {TASK_NESTS, modes_task_nests},
    [NO_CODE] = {TASK_NO_CODE, modes_task_c},
    [ABSENT] = {TASK_ABSENT, modes_task_c},
    [FAR] = {TASK_FAR, modes_task_c},
    [NO_DS] = {TASK_NO_DS, modes_task_c},
};

struct tss modes_main_tss NK_ALIGNED(256);
static struct tss other_tss[TASKS] NK_ALIGNED(256);
static struct tss_16 tss_16 NK_ALIGNED(64);
static uint32_t stacks[TASKS + 1][256] NK_ALIGNED(16);

static uint32_t directories[2][1024] NK_ALIGNED(4096); /* the main task's and task B's */
static uint32_t low_table[1024] NK_ALIGNED(4096), alias_table[1024] NK_ALIGNED(4096);
uint32_t modes_directory;
uint64_t modes_pae_pointers[4] NK_ALIGNED(32);
static uint64_t pae_directories[4][512] NK_ALIGNED(4096);
static uint64_t pae_alias_table[512] NK_ALIGNED(4096);

static uint32_t address(const volatile void *p)
{
    return (uint32_t)(uint64_t)p;
}

static uint64_t system_descriptor(const void *at, uint32_t limit, uint64_t type)
{
    uint64_t base = address(at);
    return (base >> 24) << 56 | type << 40 | (base & 0xffffff) << 16 | limit;
}

static uint32_t stack_end(unsigned task)
{
    return address(stacks[task]) + sizeof(stacks[task]);
}

static void make_odd_tasks(void)
{
    other_tss[B].ldt = LOCAL_TABLE;
    other_tss[B].fs = LOCAL_FIRST;
    other_tss[B].cr3 = address(directories[1]);
    other_tss[BAD].ds = MAIN_TSS;
    other_tss[TRAP].trap = 1;
    other_tss[NO_CODE].cs = DATA32;
    other_tss[ABSENT].cs = ABSENT_CODE;
    other_tss[FAR].cs = CODE16;
    other_tss[FAR].eip = 0x10000;
    other_tss[NO_DS].ds = ABSENT_DATA;
    other_tss[V86] = (struct tss){
        .stacks = {stack_end(V86), DATA32},
        .cr3 = address(directories[0]),
        .eip = (uint32_t)(modes_task_v86 - modes_low),
        .eflags = FLAG_VM | 2,
        .esp = STACK_16,
        .cs = LOW / 16,
        .ports_at = TSS_SIZE,
    };
    tss_16 = (struct tss_16){
        .ip = (uint16_t)(modes_task_16 - modes_low),
        .flags = 2,
        .sp = STACK_16,
        .si = 0x5678,
        .es = DATA16,
        .cs = CODE16,
        .ss = DATA16,
        .ds = DATA16,
    };
}

/* Each part begins with no task busy. */
static void make_tasks(void)
{
    modes_main_tss = (struct tss){
        .stacks = {stack_end(TASKS), DATA32},
        .cr3 = address(directories[0]),
        .ports_at = TSS_SIZE,
    };
    for (unsigned i = 0; i <= PORT_BYTES; i++) {
        modes_main_tss.ports[i] = 0xff;
    }
    modes_main_tss.ports[PIC_MASK / 8] &= (uint8_t) ~(1u << PIC_MASK % 8);
    modes_gdt[MAIN_TSS / 8] = system_descriptor(&modes_main_tss, TSS_SIZE + PORT_BYTES, TSS_TYPE);
    for (unsigned i = 0; i < TASKS; i++) {
        other_tss[i] = (struct tss){
            .cr3 = address(directories[0]),
            .eip = address((const void *)task_table[i].entry),
            .eflags = 2,
            .esp = stack_end(i),
            .es = DATA32,
            .cs = CODE32,
            .ss = DATA32,
            .ds = DATA32,
            .ports_at = TSS_SIZE,
        };
        modes_gdt[task_table[i].selector / 8] =
            system_descriptor(&other_tss[i], TSS_SIZE - 1, TSS_TYPE);
    }
    make_odd_tasks();
    modes_gdt[TASK_16 / 8] = system_descriptor(&tss_16, sizeof(tss_16) - 1, TSS_16_TYPE);
    modes_gdt[LOCAL_TABLE / 8] =
        system_descriptor(&modes_gdt[DATA32 / 8], sizeof(uint64_t) - 1, LDT_PRESENT);
    modes_gdt[ABSENT_TSS / 8] = system_descriptor(&other_tss[B], TSS_SIZE - 1, TSS_ABSENT);
    modes_gdt[SHORT_TSS / 8] = system_descriptor(&other_tss[B], TSS_SIZE_SHORT - 1, TSS_TYPE);
}

static uint64_t task_gate(enum selector task)
{
    return UINT64_C(0x8500) << 32 | (uint64_t)task << 16;
}

static uint64_t interrupt_gate(unsigned vector)
{
    uint64_t offset = modes_vectors[vector];
    return (offset >> 16) << 48 | UINT64_C(0x8e00) << 32 | CODE32 << 16 | (offset & 0xffff);
}

static void make_gates(void)
{
    for (unsigned i = 0; i < 32; i++) {
        idt[i] = interrupt_gate(i);
    }
    idt[GUEST_NMI] = task_gate(TASK_NMI);
    idt[GUEST_NP] = task_gate(TASK_D);
    idt[TASK_VECTOR] = task_gate(TASK_C);
    idt[TASK_VECTOR + 1] = task_gate(MAIN_TSS);
    modes_gdt[TASK_GATE / 8] = task_gate(TASK_C);
}

/* Everything where it is; beside that the LAPIC by a large page, by a small one, and where V86 mode
 * sees it. */
static void make_pages(void)
{
    for (unsigned d = 0; d < 2; d++) {
        for (uint32_t i = 0; i < 1024; i++) {
            directories[d][i] = i * MIB4 | PAGE_ALL | PAGE_LARGE;
            low_table[i] = i * 4096 | PAGE_ALL;
        }
        directories[d][0] = address(low_table) | PAGE_ALL;
        directories[d][LARGE_ALIAS / MIB4] =
            (GUEST_LAPIC_BASE & ~(MIB4 - 1)) | PAGE_ALL | PAGE_LARGE;
        directories[d][SMALL_ALIAS / MIB4] = address(alias_table) | PAGE_ALL;
        directories[d][0x90000000 / MIB4] = 0;
    }
    low_table[V86_LAPIC / 4096] = GUEST_LAPIC_BASE | PAGE_ALL;
    alias_table[0] = GUEST_LAPIC_BASE | PAGE_ALL;
    modes_directory = address(directories[0]);

    for (uint64_t i = 0; i < 2048; i++) {
        pae_directories[i / 512][i % 512] = i << 21 | PAGE_ALL | PAGE_LARGE;
    }
    for (unsigned i = 0; i < 4; i++) {
        modes_pae_pointers[i] = address(pae_directories[i]) | 1;
    }
    pae_directories[2][0] = GUEST_LAPIC_BASE | PAGE_ALL | PAGE_LARGE;
    pae_directories[2][2] = address(pae_alias_table) | PAGE_ALL;
    pae_directories[2][0x80] = 0;
    pae_alias_table[0] = GUEST_LAPIC_BASE | PAGE_ALL;
}

/* --- results ---------------------------------------------------------------------------------- */

static const volatile uint32_t *result;
static const char *part;

static void run(const char *name, void (*fn)(void))
{
    volatile uint32_t *gave_up = (volatile uint32_t *)(uint64_t)GAVE_UP;

    part = name;
    result = (const volatile uint32_t *)(uint64_t)RESULTS;
    *gave_up = 0;
    make_tasks();
    modes_run(fn);
    if (*gave_up) {
        const volatile uint32_t *fault = (const volatile uint32_t *)(uint64_t)VECTOR;
        guest_printf("# exception %u, error 0x%x\n", fault[0], fault[1]);
    }
    guest_check(!*gave_up, name);
}

/* The next result. */
static void expect(uint32_t expected, const char *name)
{
    uint32_t got = *result++;
    if (got != expected) {
        guest_printf("# %s: got 0x%x, expected 0x%x\n", part, got, expected);
    }
    guest_check(got == expected, name);
}

/* What QEMU's processor does not do. */
static void expect_exact(uint32_t expected, const char *name, const char *why)
{
    if (guest_option("exact", 0) != 0) {
        expect(expected, name);
    } else {
        result++;
        guest_skip(name, why);
    }
}

/* An access beyond a segment's end. To device memory it is the VMM that looks, wherever it runs. */
static void expect_limit(uint32_t expected, bool device, const char *name)
{
    if (device && guest_in_vm()) {
        expect(expected, name);
    } else {
        expect_exact(expected, name, "QEMU checks no segment limits");
    }
}

static uint32_t vendor, version;

static void expect_exits(void)
{
    expect(vendor, "CPUID");
    expect(0xff, "IN from an immediate port");
    expect(0xff, "IN and OUT");
    expect(0xffffff, "REP INSB");
    expect(3, "REP INSB moves (E)DI");
}

static void check_16_and_real(bool real)
{
    volatile uint32_t *only_protected = (volatile uint32_t *)(uint64_t)ONLY_PROTECTED;
    *only_protected = !real;
    run("16-bit protected, real and unreal mode", modes_16_and_real);
    expect_exits();
    expect(version, "16 bits: device memory");
    expect_limit(FAULT(GUEST_GP, 0), true, "16 bits: device memory beyond the limit");
    expect_limit(FAULT(GUEST_GP, 0), false, "16 bits: beyond the limit");
    expect_limit(FAULT(GUEST_SS, 0), true, "16 bits: beyond the stack's limit");
    if (!real) {
        return;
    }
    expect_exits();
    expect(vendor, "real: INT through the table of vectors");
    expect(FAULT(GUEST_DE, 0), "real: an exception");
    expect_limit(FAULT(GUEST_GP, 0), false, "real: beyond 64 KiB");
    expect(version, "unreal: device memory");
    expect(0x30, "unreal: device memory written");
    expect(address(modes_gdt), "unreal: memory");
}

static void check_protected(void)
{
    run("32-bit protected mode", modes_protected);
    expect_exits();
    expect(version, "32 bits: device memory");
    expect(version, "32 bits: device memory up to the limit");
    expect_limit(FAULT(GUEST_GP, 0), true, "32 bits: device memory beyond the limit");
    expect_limit(FAULT(GUEST_GP, 0), true, "32 bits: device memory written beyond the limit");
    expect_limit(FAULT(GUEST_GP, 0), false, "32 bits: partly beyond the limit");
    expect_limit(FAULT(GUEST_SS, 0), true, "32 bits: beyond the stack's limit");
}

static void check_pages(const char *name, void (*fn)(void))
{
    run(name, fn);
    expect_exits();
    expect(version, "paging: device memory");
    expect(version, "paging: device memory by another large page");
    expect(version, "paging: device memory by a small page");
    expect(0x20, "paging: device memory written by a small page");
    expect(0, "paging: device memory written by a large page");
    expect(FAULT(GUEST_PF, 0), "paging: not present");
    expect(0x90000000, "paging: CR2");
}

static void check_v86(void)
{
    run("V86 mode", modes_v86);
    expect_exits();
    expect(version, "V86: device memory");
    expect(1, "V86: SMSW");
    expect(FAULT(GUEST_GP, 0), "V86: CLI");
    expect(FAULT(GUEST_GP, 0), "V86: IN, not in the bitmap");
    expect(FAULT(GUEST_GP, 0), "V86: INT");
    expect(FAULT(GUEST_GP, 0), "V86: MOV from CR0");
}

static void expect_task_b(uint32_t ebx, bool nested, uint32_t count)
{
    expect(ebx, "tasks: registers are back");
    expect_exact(0, "tasks: back, NT is off", "QEMU's IRET to a caller leaves it on");
    expect(MAIN_TSS, "tasks: back, TR");
    expect(0, "tasks: back, CR3");
    expect(0x8b, "tasks: back, busy");
    expect(0x89, "tasks: the other is not");
    expect(vendor, "tasks: CPUID");
    expect(version, "tasks: device memory, by a local segment");
    expect(0xff, "tasks: IN");
    expect(TASK_B, "tasks: TR");
    expect(1 << 3, "tasks: CR0.TS");
    expect(address(directories[1]) - address(directories[0]), "tasks: CR3");
    expect(nested ? 0x8b : 0x89, "tasks: a caller stays busy");
    expect(nested ? 1 << 14 : 0, "tasks: NT when called");
    expect(count, "tasks: on behind where it left");
}

static void check_tasks(void)
{
    run("task switches", modes_tasks);
    expect_task_b(0x12345678, true, 1);
    expect_task_b(0x9abcdef0, true, 2);
    expect_task_b(0x9abcdef0, false, 3);
    expect(vendor, "tasks: INT through a task gate");
    expect(FAULT(GUEST_NP, 0x58), "tasks: an exception through a task gate, its error code");
    expect(FAULT(GUEST_NP, ABSENT_TSS), "tasks: a task that is not present");
    expect(FAULT(GUEST_GP, MAIN_TSS), "tasks: a busy one called");
    expect(FAULT(GUEST_TS, SHORT_TSS), "tasks: its segment is too short");
    expect(FAULT(GUEST_TS, MAIN_TSS), "tasks: its DS is no data segment");
    expect(BAD_TASK, "tasks: which it is told itself");
    expect(MAIN_TSS, "tasks: TR after refusals");
}

static void expect_task_16(uint32_t count)
{
    expect(0x12345678, "16-bit task: the caller's registers are back");
    expect(0x5678, "16-bit task: its registers");
    expect(vendor, "16-bit task: CPUID");
    expect(FLAG_NT, "16-bit task: NT");
    expect(TASK_16, "16-bit task: TR");
    expect(STACK_16, "16-bit task: SP");
    expect(count, "16-bit task: on behind where it left");
}

static void check_more_tasks(void)
{
    static const char lost_cs[] = "QEMU cannot deliver a fault of a new task's CS";
    volatile uint32_t *exact = (volatile uint32_t *)(uint64_t)EXACT;
    *exact = guest_option("exact", 0) != 0;
    idt[GUEST_NP] = interrupt_gate(GUEST_NP);
    run("more task switches", modes_more_tasks);
    expect_task_16(1);
    expect_task_16(2);
    expect(0x81, "16-bit task: no longer busy");
    guest_check_equal(tss_16.link, MAIN_TSS, "16-bit task: its caller");
    guest_check_equal(tss_16.flags & FLAG_NT, 0, "16-bit task: IRET ends NT in what it keeps");
    expect(vendor, "tasks: CALL through a task gate");
    expect(vendor, "tasks: a called one calls");
    expect(0x8b, "tasks: ... its caller stays busy");
    guest_check_equal(other_tss[NESTS].link, MAIN_TSS, "tasks: ... the first's caller");
    guest_check_equal(other_tss[C].link, TASK_NESTS, "tasks: ... the second's caller");
    expect_exact(GUEST_DB, "tasks: T gives #DB in the new task", "QEMU does not look at T");
    if (guest_option("bt", 1) != 0) {
        expect_exact(DR6_BT, "tasks: ... DR6.BT", "QEMU does not look at T");
    } else {
        result++;
    }
    expect(2, "tasks: NMIs through a task gate");
    expect(1, "tasks: ... the second waits for the first's IRET");
    expect(MAIN_TSS, "tasks: ... TR");
    expect(FAULT(GUEST_GP, MAIN_TSS), "tasks: INT to a busy one");
    expect(FAULT(GUEST_TS, TASK_B), "tasks: IRET to one that is not busy");
    expect(FAULT(GUEST_TS, DATA32), "tasks: IRET to what is no task");
    expect(FAULT(GUEST_NP, ABSENT_DATA), "tasks: its DS is not present");
    expect(MAIN_TSS, "tasks: TR after a fault in a new task");
    expect_exact(FAULT(GUEST_TS, DATA32), "tasks: its CS is no code", lost_cs);
    expect_exact(FAULT(GUEST_NP, ABSENT_CODE), "tasks: its CS is not present", lost_cs);
    expect_exact(FAULT(GUEST_GP, 0), "tasks: its EIP is beyond CS", lost_cs);
    idt[GUEST_NP] = task_gate(TASK_D);
}

static void check_v86_task(void)
{
    run("a task in V86 mode", modes_v86_task);
    expect(vendor, "V86 task: CPUID");
    expect(LOW / 16, "V86 task: CS");
    expect(TASK_V86, "V86 task: TR");
}

void guest_main(void)
{
    uint8_t *to = (uint8_t *)(uint64_t)LOW;
    for (const uint8_t *from = modes_low; from < modes_low_end; from++) {
        *to++ = *from;
    }
    make_gates();
    make_pages();
    vendor = x86_cpuid(0, 0).ebx;
    version = guest_lapic_read(LAPIC_VERSION);

    check_protected();
    check_16_and_real(guest_option("real", 1) != 0);
    check_pages("32-bit paging, 4-MiB pages", modes_pse);
    check_pages("PAE paging", modes_pae);
    if (guest_option("v86", 1) != 0) {
        check_v86();
    }
    check_tasks();
    check_more_tasks();
    if (guest_option("v86", 1) != 0) {
        check_v86_task();
    }
    guest_check_summary();
}
