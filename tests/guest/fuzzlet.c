/* Random ports, addresses, MSRs, hypercalls and descriptors: a VMM must live through all of them,
 * and the guest too if it leaves out what ends it by design. With "wild" it leaves out nothing.
 * Command line: seed=N (0: the TSC) count=N wild. */
#include "tests/guest/lib/guest.h"

static uint64_t state;
static bool wild; /* spare nothing */

static uint64_t random(void)
{
    return guest_random(&state);
}

/* Ports that reset, power off, end the test or enter SMM, and the console. */
static bool port_forbidden(uint16_t port)
{
    return !wild && ((port >= 0x60 && port <= 0x64) || port == 0x92 || port == 0xb2 ||
                     (port >= 0xf4 && port <= 0xf7) || (port >= 0xcf8 && port <= 0xcff) ||
                     (port >= 0x600 && port <= 0x607) || (port >= 0x3f8 - 3 && port <= 0x3ff) ||
                     port >= 0xfffc);
}

static void random_port(void)
{
    /* Mostly where devices are. */
    uint16_t port = (uint16_t)(random() % 4 ? random() % 0x1000 : random());
    uint32_t value = (uint32_t)random();
    for (uint16_t p = port; p < port + 4; p++) {
        if (port_forbidden(p)) {
            return;
        }
    }
    switch (random() % 6) {
    case 0:
        x86_outb(port, (uint8_t)value);
        break;
    case 1:
        x86_outw(port, (uint16_t)value);
        break;
    case 2:
        x86_outl(port, value);
        break;
    case 3:
        x86_inb(port);
        break;
    case 4:
        x86_inw(port);
        break;
    default:
        x86_inl(port);
        break;
    }
}

static void random_msr(void)
{
    static const uint32_t bases[] = {0,     0x170,      0x200,      0x400,      0x6c0,     0x800,
                                     0xd80, 0x4b564d00, 0xc0000080, 0xc0010000, 0xc0011000};
    uint32_t msr = bases[random() % NK_ARRAY_COUNT(bases)] + (uint32_t)(random() % 0x100);
    uint64_t value = random() >> random() % 64;
    guest_rdmsr(msr, &value);
    /* APIC_BASE moves the LAPIC away, EFER this code's mode, the ICR sends INIT; KVM's have the
     * host write into memory, which may be this guest's code. */
    if (random() % 2 &&
        (wild || (msr != 0x1b && msr != 0xc0000080 && msr != 0x830 && msr >> 8 != 0x4b564d))) {
        guest_wrmsr(msr, random() % 4 ? value ^ 1ull << random() % 64 : random());
    }
}

static void random_mmio(void)
{
    /* Vectors 64 and up: one that an exception has could not be told from it. */
    uint32_t value = (uint32_t)random() | 0x40;
    if (random() % 2) {
        unsigned reg = (unsigned)(random() % 0x40) * 0x10;
        if (random() % 2) {
            guest_lapic_read(reg);
        } else if (wild || reg != LAPIC_ICR_LOW) {
            guest_lapic_write(reg, value);
        }
        return;
    }
    unsigned reg = (unsigned)(random() % 0x44);
    if (random() % 2) {
        guest_ioapic_read(reg);
    } else {
        guest_ioapic_write(reg,
                           wild ? value : value & ~0x700u); /* fixed delivery: no INIT, no SMI */
    }
}

/* Numbers of both spaces and near them, with any arguments. */
static void random_hypercall(void)
{
    static const uint64_t bases[] = {0x4f430000, 0, 0x4f430000 - 4, UINT64_MAX - 3};
    uint64_t rax = bases[random() % NK_ARRAY_COUNT(bases)] + random() % 16;
    uint64_t rbx = random() >> random() % 64, rcx = random() >> random() % 64;
    uint64_t rdx = random() >> random() % 64, rsi = random() >> random() % 64, rdi = random();
    if (!wild && (uint32_t)rax == 10) { /* IPIs with any vector, which an exception may have */
        rsi = 0x40 | (rsi & 0xbf);
    }
    if (guest_is_intel()) {
        __asm__ volatile("vmcall"
                         : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx), "+S"(rsi),
                           "+D"(rdi)::"memory");
    } else {
        __asm__ volatile("vmmcall"
                         : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx), "+S"(rsi),
                           "+D"(rdi)::"memory");
    }
}

/* Physical addresses where there is nothing, or a device. The identity map has 4 GiB. */
static void random_address(void)
{
    static const uint64_t windows[] = {0xc0000000, 0xd0000000, 0xfebff000, 0xfec00000, 0xfed00000,
                                       0xfed40000, 0xfee00000, 0xfff00000, 0xa0000};
    uint64_t at = random() % 2 ? 0xc0000000 + random() % 0x40000000
                               : windows[random() % NK_ARRAY_COUNT(windows)] + random() % 0x1008;
    bool lapic = at >= 0xfee00000 - 8 && at < 0xfee01000;
    uint64_t value = random();
    if (at > 0xfffffff0 || (!wild && lapic)) { /* random_mmio() knows what to spare there */
        return;
    }
    switch (random() % 6) {
    case 0:
        *(volatile uint8_t *)at = (uint8_t)value;
        break;
    case 1:
        *(volatile uint32_t *)at = (uint32_t)value;
        break;
    case 2:
        *(volatile uint64_t *)at = value;
        break;
    case 3:
        (void)*(volatile uint16_t *)at;
        break;
    case 4:
        (void)*(volatile uint64_t *)at;
        break;
    default:
        __asm__ volatile("lock incl %0" : "+m"(*(volatile uint32_t *)at));
        break;
    }
}

/* --- descriptors ------------------------------------------------------------------------------ */

struct table {
    uint16_t limit;
    uint64_t base;
} NK_PACKED;

static uint64_t descriptors[64] __attribute__((aligned(16)));

/* Selectors, LDTs and TSSs out of a table of rubbish; what faults is passed over. */
static void random_descriptor(void)
{
    struct table mine, old;
    uint16_t selector = (uint16_t)(random() % sizeof(descriptors));
    __asm__ volatile("sgdt %0" : "=m"(old));
    for (unsigned i = 0; i < NK_ARRAY_COUNT(descriptors); i++) {
        descriptors[i] = random() % 2 ? random() | UINT64_C(1) << 47 : random();
    }
    /* The running code's own stay, or the way back would be lost. */
    __builtin_memcpy(descriptors, (const void *)old.base,
                     old.limit + 1u < 64 ? old.limit + 1u : 64);
    mine = (struct table){sizeof(descriptors) - 1, (uint64_t)descriptors};
    uint16_t ds, es, fs, gs;
    __asm__ volatile("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3"
                     : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
    __asm__ volatile("lgdt %0" ::"m"(mine));
    guest_fault_clear();
    switch (random() % 7) {
    case 0:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%ds")::"r"(selector));
        break;
    case 1:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%fs")::"r"(selector));
        break;
    case 2:
        __asm__ volatile(GUEST_MAY_FAULT("lldt %0")::"r"(selector));
        break;
    case 3:
        __asm__ volatile(GUEST_MAY_FAULT("ltr %0")::"r"(selector));
        break;
    case 4:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%gs")::"r"(selector));
        break;
    case 5:
        __asm__ volatile(GUEST_MAY_FAULT("lar %w0, %k0") : "+r"(selector)::"cc");
        break;
    default:
        __asm__ volatile(GUEST_MAY_FAULT("verw %0")::"r"(selector) : "cc");
        break;
    }
    __asm__ volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%fs; mov %3, %%gs" ::"r"(ds), "r"(es),
                     "r"(fs), "r"(gs));
    __asm__ volatile("lgdt %0" ::"m"(old));
}

/* --- anything at all -------------------------------------------------------------------------- */

static uint8_t code[64] __attribute__((aligned(64)));

/* Control registers and tables with any values, and rubbish as code: no guest lives through it. */
static void random_end(void)
{
    uint64_t value = random() >> random() % 64;
    struct table t = {(uint16_t)random(), random() >> random() % 64};
    for (unsigned i = 0; i < sizeof(code); i++) {
        code[i] = (uint8_t)random();
    }
    guest_fault_clear();
    switch (random() % 8) {
    case 0:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%cr0")::"r"(value));
        break;
    case 1:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%cr3")::"r"(value));
        break;
    case 2:
        __asm__ volatile(GUEST_MAY_FAULT("mov %0, %%cr4")::"r"(value));
        break;
    case 3:
        __asm__ volatile("lidt %0; int3" ::"m"(t));
        break;
    case 4:
        __asm__ volatile("lgdt %0; pushq $8; pushq $1f; lretq; 1:" ::"m"(t));
        break;
    case 5:
        guest_wrmsr(0xc0000080, value);
        break;
    default:
        __asm__ volatile("call *%0" ::"r"(code) : "memory");
        break;
    }
}

static void take_any(struct guest_frame *frame)
{
    (void)frame;
    guest_eoi();
}

static void (*const action_table[])(void) = {
    random_port, random_port,      random_msr,     random_msr,        random_mmio,
    random_mmio, random_hypercall, random_address, random_descriptor,
};

void guest_main(void)
{
    uint64_t count = guest_option("count", 20000), seed = guest_option("seed", 1);
    if (!guest_in_vm()) {
        guest_die("random accesses are for VMs only");
    }
    wild = guest_option_given("wild");
    state = (seed != 0 ? seed : x86_rdtsc()) | 1;
    guest_set_handler(2, take_any);
    for (unsigned v = 32; v < 256; v++) {
        guest_set_handler((uint8_t)v, take_any);
    }
    guest_printf("fuzzlet: seed %lu, %lu accesses\n", state, count);
    for (uint64_t i = 0; i < count; i++) {
        action_table[random() % NK_ARRAY_COUNT(action_table)]();
        if (i % 64 == 0) {
            __asm__ volatile("sti; nop; nop; cli");
        }
        if (wild && random() % 512 == 0) {
            random_end();
        }
    }
    guest_printf("fuzzlet: survived\n");
}
