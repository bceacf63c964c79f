/* Random port, MSR and device-memory accesses: a VMM must live through all of them, and the guest
 * too if it leaves out what ends it by design. Command line: seed=N count=N. */
#include "tests/guest/lib/guest.h"

static uint64_t state;

static uint64_t random(void) /* xorshift64* */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Ports that reset, power off, end the test or enter SMM, and the console. */
static bool port_forbidden(uint16_t port)
{
    return (port >= 0x60 && port <= 0x64) || port == 0x92 || port == 0xb2 ||
           (port >= 0xf4 && port <= 0xf7) || (port >= 0xcf8 && port <= 0xcff) ||
           (port >= 0x600 && port <= 0x607) || (port >= 0x3f8 - 3 && port <= 0x3ff) ||
           port >= 0xfffc;
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
    static const uint32_t bases[] = {0, 0x170, 0x200, 0x400, 0x800, 0xc0000080, 0xc0010000};
    uint32_t msr = bases[random() % NK_ARRAY_COUNT(bases)] + (uint32_t)(random() % 0x100);
    uint64_t value = random() >> random() % 64;
    guest_rdmsr(msr, &value);
    /* APIC_BASE moves the LAPIC away, EFER this code's mode, the ICR sends INIT. */
    if (random() % 2 && msr != 0x1b && msr != 0xc0000080 && msr != 0x830) {
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
        } else if (reg != LAPIC_ICR_LOW) {
            guest_lapic_write(reg, value);
        }
        return;
    }
    unsigned reg = (unsigned)(random() % 0x44);
    if (random() % 2) {
        guest_ioapic_read(reg);
    } else {
        guest_ioapic_write(reg, value & ~0x700u); /* fixed delivery: no INIT, no SMI */
    }
}

static void take_any(struct guest_frame *frame)
{
    (void)frame;
    guest_eoi();
}

void guest_main(void)
{
    uint64_t count = guest_option("count", 20000);
    if (!guest_in_vm()) {
        guest_die("random accesses are for VMs only");
    }
    state = guest_option("seed", 1) | 1;
    guest_set_handler(2, take_any);
    for (unsigned v = 32; v < 256; v++) {
        guest_set_handler((uint8_t)v, take_any);
    }
    guest_printf("fuzzlet: seed %lu, %lu accesses\n", state, count);
    for (uint64_t i = 0; i < count; i++) {
        switch (random() % 3) {
        case 0:
            random_port();
            break;
        case 1:
            random_msr();
            break;
        default:
            random_mmio();
            break;
        }
        if (i % 64 == 0) {
            __asm__ volatile("sti; nop; nop; cli");
        }
    }
    guest_printf("fuzzlet: survived\n");
}
