/* A guest that spares nothing and yet lives long: what it does it does in a sandbox, from which any
 * exception and a watchdog lead back, with the processor put right again. Instructions of any kind
 * on any memory, page tables of any content, control, debug and extended registers, MSRs,
 * descriptors and gates, interrupts between processors, PCI and virtio registers, hypercalls. With
 * a second CPU the code changes while it runs. It may all the same end in any way.
 * Command line: seed=N (0: the TSC), count=N actions. */
#include "tests/guest/lib/guest.h"

#define SCRATCH     UINT64_C(0x400000) /* RAM for everything that is written at random */
#define RINGS       UINT64_C(0x500000)
#define TABLES      UINT64_C(0x600000) /* page tables of the window */
#define TABLE_COUNT 16
#define WINDOW      (UINT64_C(1) << 39) /* linear: what the tables map */
#define CODE        (SCRATCH + 0x10000)
#define PCI_WINDOW  0xe0000000u

#define CODE64 0x10
#define DATA64 0x18
#define TSS    0x28
#define NMI    2
#define TICKS  2 /* of the watchdog that an action may take */
#define REPORT 5000

extern uint64_t guest_pml4[512];
extern const uint64_t guest_vectors[256];

static uint64_t state;

static uint64_t random(void)
{
    return guest_random(&state);
}

static unsigned one_of(unsigned count)
{
    return (unsigned)(random() >> 33) % count;
}

/* --- the sandbox ------------------------------------------------------------------------------ */

struct pointer {
    uint16_t limit;
    uint64_t base;
} NK_PACKED;

struct gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
    uint32_t high, reserved;
};

static struct gate idt[256] NK_ALIGNED(16);
static uint64_t gdt[8] NK_ALIGNED(16);
static uint32_t tss[26] NK_ALIGNED(16);
static uint8_t exception_stack[4096] NK_ALIGNED(16), nmi_stack[4096] NK_ALIGNED(16),
    escape_stack[4096] NK_ALIGNED(16);
static uint64_t cr0, cr3, cr4, efer, xcr0;
static void *way_back[5];
static volatile bool inside;
static volatile uint32_t ticks, begun;

static void put_right(void)
{
    const struct pointer g = {sizeof(gdt) - 1, (uint64_t)gdt}, i = {sizeof(idt) - 1, (uint64_t)idt};

    __asm__ volatile("lgdt %0; lidt %1" ::"m"(g), "m"(i));
    __asm__ volatile(
        "mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %1, %%fs; mov %1, %%gs" ::"r"(DATA64),
        "r"(0));
    gdt[TSS / 8] &= ~(UINT64_C(2) << 40); /* no longer busy */
    __asm__ volatile("ltr %w0" ::"r"(TSS));
    x86_write_cr4(cr4);
    x86_write_cr0(cr0);
    x86_write_cr3(cr3);
    x86_wrmsr(0xc0000080, efer);
    __asm__ volatile("mov %0, %%cr8; mov %0, %%dr7; cld" ::"r"(UINT64_C(0)));
    if ((cr4 & 1 << 18) != 0) {
        x86_xsetbv(0, xcr0);
    }
}

static void escape(void)
{
    put_right();
    __builtin_longjmp(way_back, 1);
}

static void lead_back(struct guest_frame *frame)
{
    inside = false;
    frame->rip = (uint64_t)escape;
    frame->cs = CODE64;
    frame->ss = DATA64;
    frame->rsp = (uint64_t)escape_stack + sizeof(escape_stack) - 8;
    frame->rflags = 2;
}

static void take_exception(struct guest_frame *frame)
{
    if (!inside) {
        guest_printf("wild: vector %lu at 0x%lx\n", frame->vector, frame->rip);
        guest_power_off();
    }
    lead_back(frame);
}

static void take_nmi(struct guest_frame *frame)
{
    ticks++;
    if (inside && ticks - begun >= TICKS) {
        lead_back(frame);
    }
}

static void take_interrupt(struct guest_frame *frame)
{
    (void)frame;
    guest_lapic_write(LAPIC_EOI, 0);
}

static void in_sandbox(void (*action)(void))
{
    if (__builtin_setjmp(way_back) != 0) {
        return;
    }
    begun = ticks;
    inside = true;
    action();
    inside = false;
    x86_cli();
    put_right();
}

static void set_gate(struct gate *g, unsigned vector, uint8_t ist)
{
    uint64_t to = guest_vectors[vector];

    *g = (struct gate){(uint16_t)to,         CODE64, ist, 0x8e, (uint16_t)(to >> 16),
                       (uint32_t)(to >> 32), 0};
}

/* The watchdog is the PIT, by NMI: code that has interrupts off does not get away. */
static void make_sandbox(void)
{
    uint64_t at = (uint64_t)tss;
    uint64_t exceptions = (uint64_t)exception_stack + sizeof(exception_stack);
    uint64_t nmis = (uint64_t)nmi_stack + sizeof(nmi_stack);

    gdt[2] = UINT64_C(0x00af9b000000ffff);
    gdt[3] = UINT64_C(0x00cf93000000ffff);
    gdt[4] = UINT64_C(0x00cf9b000000ffff);
    gdt[5] = 103 | (at & 0xffffff) << 16 | UINT64_C(0x89) << 40 | (at >> 24 & 0xff) << 56;
    gdt[6] = at >> 32;
    __builtin_memcpy(&tss[9], &exceptions, 8); /* IST1 */
    __builtin_memcpy(&tss[11], &nmis, 8);
    for (unsigned i = 0; i < 256; i++) {
        set_gate(&idt[i], i, i == NMI ? 2 : 1);
        guest_set_handler((uint8_t)i, i == NMI ? take_nmi
                                      : i < 32 ? take_exception
                                               : take_interrupt);
    }
    cr0 = x86_read_cr0();
    cr3 = x86_read_cr3();
    cr4 = x86_read_cr4();
    guest_rdmsr(0xc0000080, &efer);
    if ((x86_cpuid(1, 0).ecx & 1 << 26) != 0) {
        cr4 |= 1 << 18 | 1 << 9; /* OSXSAVE, OSFXSR */
        xcr0 = x86_cpuid(0xd, 0).eax & 7;
    }
    put_right();
    guest_ioapic_write(0x10 + 2 * 2, 0x400 | NMI); /* pin 2: NMI, edge */
    guest_ioapic_write(0x11 + 2 * 2, 0);
    guest_pit_periodic(GUEST_PIT_HZ / 200);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static uint64_t window_address(void)
{
    uint64_t at = WINDOW | (random() & 0x3fff);

    for (unsigned shift = 12; shift < 39; shift += 9) {
        at |= (uint64_t)one_of(4) << shift;
    }
    return at;
}

static uint64_t any_address(void)
{
    static const uint64_t base_table[] = {0,          0xa0000,    0xf0000,    0xd0000000,
                                          0xfec00000, 0xfed00000, 0xfee00000, 0xfffff000,
                                          0xe0000000, 0x100000000};

    switch (one_of(8)) {
    case 0:
        return random();
    case 1 ... 2:
        return window_address();
    case 3:
        return SCRATCH + (random() & 0xffff);
    case 4:
        return PCI_WINDOW + (one_of(8) << 20) + (unsigned)(random() & 0x3fff);
    default:
        return base_table[one_of(NK_ARRAY_COUNT(base_table))] + (random() & 0xfff);
    }
}

static uint64_t any_number(void)
{
    switch (one_of(4)) {
    case 0:
        return random();
    case 1:
        return random() >> one_of(64);
    case 2:
        return UINT64_C(1) << one_of(64);
    default:
        return any_address();
    }
}

/* --- code ------------------------------------------------------------------------------------- */

static unsigned put_instruction(uint8_t *to)
{
    static const uint8_t prefix_table[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x64, 0x48, 0x44};
    static const uint8_t opcode_table[] = {
        0x00, 0x01, 0x0b, 0x31, 0x39, 0x63, 0x69, 0x80, 0x81, 0x83, 0x85, 0x87, 0x88, 0x89,
        0x8a, 0x8b, 0x8c, 0x8e, 0x8f, 0xa1, 0xa3, 0xa4, 0xa5, 0xa7, 0xaa, 0xab, 0xad, 0xae,
        0xc1, 0xc5, 0xc6, 0xc7, 0xcc, 0xcd, 0xcf, 0xd3, 0xdd, 0xe4, 0xe5, 0xe6, 0xe7, 0xec,
        0xed, 0xee, 0xef, 0x6c, 0x6d, 0x6e, 0x6f, 0xf1, 0xf4, 0xf7, 0xfa, 0xfb, 0xfe, 0xff};
    static const uint8_t second_table[] = {
        0x01, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0d, 0x10, 0x11, 0x18, 0x20, 0x21, 0x22, 0x23, 0x28,
        0x29, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x38, 0x44, 0x6e, 0x6f, 0x7e, 0x7f, 0x94, 0xa2,
        0xa3, 0xab, 0xae, 0xaf, 0xb1, 0xb6, 0xba, 0xbe, 0xc1, 0xc3, 0xc7, 0xd6, 0xe7};
    unsigned length = 0;

    while (one_of(3) == 0 && length < 3) {
        to[length++] = prefix_table[one_of(NK_ARRAY_COUNT(prefix_table))];
    }
    if (one_of(2) == 0) {
        to[length++] = opcode_table[one_of(NK_ARRAY_COUNT(opcode_table))];
    } else {
        to[length++] = 0x0f;
        to[length++] = second_table[one_of(NK_ARRAY_COUNT(second_table))];
    }
    to[length++] = (uint8_t)random();
    for (unsigned i = one_of(6); i > 0; i--) {
        to[length++] = (uint8_t)(one_of(4) == 0 ? random() : 0);
    }
    return length;
}

/* QEMU 7.2 loads TR with a null selector, and ends itself at the next interrupt: no 0f 00. */
static void spare_ltr(uint8_t *code, const uint8_t *end)
{
    for (; code < end; code++) {
        if (code[0] == 0x0f && code[1] == 0x00) {
            code[1] = 0x01;
        }
    }
}

/* Every register but RSP gets a number, then come some instructions, and RET. Now and then the
 * whole lies before the end of a page, or where a device is. */
static void run_code(void)
{
    uint8_t *at = (uint8_t *)CODE + (one_of(4) == 0 ? 4096 - one_of(200) : 0), *code = at;

    for (unsigned reg = 0; reg < 16; reg++) {
        uint64_t value = any_number();

        if (reg != 4 && one_of(3) != 0) {
            *at++ = (uint8_t)(0x48 | reg >> 3);
            *at++ = (uint8_t)(0xb8 | (reg & 7));
            __builtin_memcpy(at, &value, 8);
            at += 8;
        }
    }
    for (unsigned i = one_of(6); i > 0; i--) {
        at += put_instruction(at);
    }
    *at = 0xc3;
    spare_ltr(code, at);
    if (one_of(2) == 0) {
        x86_sti();
    }
    if (one_of(16) == 0) {
        code = (uint8_t *)any_address();
    }
    __asm__ volatile("call *%0" ::"r"(code)
                     : "memory", "cc", "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10",
                       "r11", "r12", "r13", "r14", "r15");
}

/* The same in 32-bit or, with a descriptor made for it, 16-bit code. */
static void run_old_code(void)
{
    uint8_t *at = (uint8_t *)CODE;
    uint64_t selector = 0x20;

    if (one_of(2) == 0) {
        gdt[7] = UINT64_C(0x00009b000000ffff) | CODE << 16;
        selector = 0x38;
    }
    for (unsigned i = 0; i < 8; i++) {
        at += put_instruction(at);
    }
    *at = 0xf4;
    spare_ltr((uint8_t *)CODE, at);
    __asm__ volatile("push %0; push %1; lretq" ::"r"(selector),
                     "r"(selector == 0x20 ? CODE : UINT64_C(0)), "a"(any_number()),
                     "b"(any_number()), "c"(any_number()), "d"(any_number()), "S"(any_number()),
                     "D"(any_number())
                     : "memory");
}

/* --- memory ----------------------------------------------------------------------------------- */

static void write_tables(void)
{
    static const uint64_t to_table[] = {0xfec00000, 0xfed00000, 0xfee00000, 0xa0000,     0xd0000000,
                                        0xfffff000, 0xe0100000, 0x40000000, 0x200000000, SCRATCH};

    for (unsigned i = 0; i < 8; i++) {
        uint64_t *entry = (uint64_t *)(TABLES + one_of(TABLE_COUNT) * 4096u) + one_of(4);
        uint64_t flags = one_of(8) == 0 ? random() & UINT64_C(0xfff0000000000fff) : random() & 0x67;

        *entry = (one_of(3) != 0 ? TABLES + one_of(TABLE_COUNT) * 4096u
                                 : to_table[one_of(NK_ARRAY_COUNT(to_table))]) |
                 flags | (one_of(4) != 0);
    }
    guest_pml4[WINDOW >> 39] = TABLES | 7;
    x86_write_cr3(cr3);
}

static void move_strings(void)
{
    uint64_t from = any_address(), to = any_address(), count = random() & 0x1ff;
    uint16_t port = (uint16_t)(random() & 0xfff);

    if (one_of(4) == 0) {
        count = random();
    }
    if (one_of(4) == 0) {
        __asm__ volatile("std");
    }
    switch (one_of(7)) {
    case 0:
        __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
        break;
    case 1:
        __asm__ volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count)::"memory");
        break;
    case 2:
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(from) : "memory");
        break;
    case 3:
        __asm__ volatile("repe cmpsb" : "+S"(from), "+D"(to), "+c"(count)::"memory", "cc");
        break;
    case 4:
        __asm__ volatile("repne scasw" : "+D"(to), "+c"(count) : "a"(from) : "memory", "cc");
        break;
    case 5:
        __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
        break;
    default:
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
        break;
    }
}

/* --- registers -------------------------------------------------------------------------------- */

static void write_register(void)
{
    uint64_t value = any_number();

    switch (one_of(10)) {
    case 0:
        x86_write_cr0(cr0 ^ UINT64_C(1) << one_of(64));
        break;
    case 1:
        x86_write_cr3(one_of(8) == 0 ? value : cr3 ^ UINT64_C(1) << one_of(12));
        break;
    case 2:
        x86_write_cr4(cr4 ^ UINT64_C(1) << one_of(64));
        break;
    case 3:
        __asm__ volatile("mov %0, %%cr8" ::"r"(value & (one_of(2) ? 15 : ~UINT64_C(0))));
        break;
    case 4:
        __asm__ volatile("mov %0, %%dr0; mov %0, %%dr3" ::"r"(value));
        break;
    case 5:
        __asm__ volatile("mov %0, %%dr6; mov %0, %%dr7" ::"r"(value));
        break;
    case 6:
        x86_xsetbv((uint32_t)(random() & 1), value);
        break;
    case 7:
        x86_wrmsr(0xc0000080, efer ^ UINT64_C(1) << one_of(16));
        break;
    case 8: /* single step, alignment checks, I/O privilege, nested task */
        __asm__ volatile("push %0; popfq; nop; nop" ::"r"((value & 0x257fd5) | 2) : "cc");
        break;
    default:
        __asm__ volatile("mov %w0, %%ds; mov %w0, %%fs; lldt %w0" ::"r"(value & 0x3f));
        break;
    }
}

static void write_msr(void)
{
    static const uint32_t base_table[] = {
        0,     0x10,  0x1a0,      0x1d9,      0x200,      0x250,      0x6e0,      0x800,
        0x830, 0xda0, 0x4b564d00, 0xc0000080, 0xc0000100, 0xc0010000, 0xc0010110, 0xc0011020};
    uint32_t msr = base_table[one_of(NK_ARRAY_COUNT(base_table))] + one_of(one_of(2) ? 16 : 256);

    if (msr != 0x1b || one_of(64) == 0) { /* moves the LAPIC away, and the watchdog with it */
        x86_wrmsr(msr, any_number());
    }
    (void)x86_rdmsr(msr);
}

static void call_host(void)
{
    static const uint64_t base_table[] = {0x4f430000, 0, 5, 10};
    uint64_t rax = base_table[one_of(NK_ARRAY_COUNT(base_table))] + one_of(12);
    uint64_t rbx = any_number(), rcx = any_number(), rdx = any_number(), rsi = any_number(),
             rdi = any_number();

    if (guest_is_intel()) {
        __asm__ volatile("vmcall"
                         : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx)
                         : "S"(rsi), "D"(rdi));
    } else {
        __asm__ volatile("vmmcall"
                         : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx)
                         : "S"(rsi), "D"(rdi));
    }
}

/* Gates of any kind, and the interrupt that goes through one; tables in any place. */
static void enter_gate(void)
{
    struct gate *mine = (struct gate *)(SCRATCH + 0x8000);
    struct pointer p = {sizeof(idt) - 1, (uint64_t)mine};

    __builtin_memcpy(mine, idt, sizeof(idt));
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *half = (uint64_t *)&mine[0x80];

        half[i] = one_of(2) ? random() : (half[i] ^ UINT64_C(1) << one_of(64));
    }
    if (one_of(64) == 0) {
        p.base = any_address();
    }
    __asm__ volatile("lidt %0" ::"m"(p));
    __asm__ volatile("int $0x80; int $0x81; int3" ::: "memory");
}

/* --- devices ---------------------------------------------------------------------------------- */

static void send_interrupt(void)
{
    uint32_t low = (uint32_t)random() & 0xcffff;

    if (((low >> 8 & 7) == 5 || one_of(4) == 0) && one_of(16) != 0) { /* INIT: mostly not */
        low = (low & ~0x700u) | 0x40;
    }
    guest_lapic_write(LAPIC_ICR_HIGH, (uint32_t)random());
    guest_lapic_write(LAPIC_ICR_LOW, low);
    guest_lapic_write(one_of(0x40) * 0x10 & ~0x300u, (uint32_t)random());
}

static void write_ports(void)
{
    static const uint16_t base_table[] = {0x20,  0x40,  0x60,  0x70,  0xa0,  0x2f8, 0x3d4,
                                          0x510, 0x600, 0x608, 0xb00, 0xcf8, 0x402, 0x4d0};
    uint16_t port = (uint16_t)(base_table[one_of(NK_ARRAY_COUNT(base_table))] + one_of(8));

    if (port == 0x604 || port == 0x64 || port == 0x40 || port == 0x43 || port == 0xcf9) {
        return; /* the ends of a machine, and the watchdog's clock */
    }
    switch (one_of(4)) {
    case 0:
        x86_outl(port, (uint32_t)random());
        break;
    case 1:
        x86_outw(port, (uint16_t)random());
        break;
    case 2:
        x86_outb(port, (uint8_t)random());
        break;
    default:
        (void)x86_inl(port);
        break;
    }
}

static void config_write(unsigned slot, unsigned reg, uint32_t value)
{
    x86_outl(0xcf8, 0x80000000u | slot << 11 | reg);
    x86_outl(0xcfc, value);
}

static void write_config(void)
{
    config_write(one_of(8), one_of(64) * 4, (uint32_t)any_number());
}

/* Firmware's part, then a driver's; the rings are what is in RAM. */
static void start_virtio(void)
{
    static const uint16_t step_table[][2] = {
        {0x14, 0}, {0x08, 0}, {0x0c, 0},     {0x08, 1},     {0x0c, 1}, {0x14, 0xb}, {0x16, 0},
        {0x18, 8}, {0x20, 0}, {0x28, 0x100}, {0x30, 0x200}, {0x1c, 1}, {0x14, 0xf}};
    unsigned slot = 1 + one_of(7);
    uint64_t base = PCI_WINDOW + (slot << 20);

    config_write(slot, 0x10, (uint32_t)base);
    config_write(slot, 0x04, 7);
    for (unsigned i = 0; i < NK_ARRAY_COUNT(step_table); i++) {
        unsigned at = step_table[i][0];

        *(volatile uint32_t *)(base + at) = step_table[i][1] + (at >= 0x20 ? (uint32_t)RINGS : 0);
    }
    for (unsigned i = 0; i < 32; i++) {
        ((volatile uint64_t *)RINGS)[one_of(0x60)] = one_of(2) ? any_number() : random() & 0x70007;
    }
    *(volatile uint16_t *)(RINGS + 0x102) += 1;
    *(volatile uint16_t *)(base + 0x3000) = (uint16_t)one_of(3);
}

/* --- the guest -------------------------------------------------------------------------------- */

static void (*const action_table[])(void) = {
    run_code,  run_code,  run_code,   run_old_code,   write_tables, move_strings, write_register,
    write_msr, call_host, enter_gate, send_interrupt, write_ports,  write_config, start_virtio,
};

/* The other CPU changes what the first one runs and reads. */
void guest_ap_start(uint32_t id)
{
    (void)id;
    uint64_t mine = x86_rdtsc() | 1;

    for (;;) {
        mine = mine * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((volatile uint8_t *)CODE)[mine >> 40 & 0xff] = (uint8_t)(mine >> 50) | 0x10;
        ((volatile uint64_t *)TABLES)[mine >> 33 & 0x1fff & ~0x1fcu] ^= UINT64_C(1) << (mine >> 58);
        ((volatile uint16_t *)RINGS)[0x81]++;
    }
}

void guest_main(void)
{
    uint64_t count = guest_option("count", 20000), seed = guest_option("seed", 1);

    if (!guest_in_vm()) {
        guest_die("anything at all is for VMs only");
    }
    state = (seed != 0 ? seed : x86_rdtsc()) | 1;
    guest_printf("wild: seed %lu\n", state);
    make_sandbox();
    guest_ap_start_others();
    for (uint64_t i = 1; i <= count; i++) {
        in_sandbox(action_table[one_of(NK_ARRAY_COUNT(action_table))]);
        if (i % REPORT == 0) {
            guest_printf("wild: %lu actions, %u ticks\n", i, ticks);
        }
    }
    guest_printf("wild: survived\n");
}
