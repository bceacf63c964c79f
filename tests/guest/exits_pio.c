/* Port accesses: every size, string forms, REP, directions, faults. */
#include "tests/guest/exits.h"
#include "tests/guest/lib/guest.h"

#define SCRATCH    0x3ff /* COM1's scratch register */
#define PM_TIMER   0x608
#define PCI_SELECT 0xcf8
#define UNCLAIMED  0x5a50

static void check_sizes(void)
{
    x86_outb(SCRATCH, 0xa5);
    guest_check_equal(x86_inb(SCRATCH), 0xa5, "pio: byte");
    x86_outl(PCI_SELECT, 0x80000000);
    guest_check_equal(x86_inl(PCI_SELECT), 0x80000000, "pio: double word");
    guest_check_equal(x86_inw(0xcfc), x86_inl(0xcfc) & 0xffff, "pio: word of a double word");
    guest_check_equal(x86_inb(0xcfd), x86_inl(0xcfc) >> 8 & 0xff, "pio: byte of a double word");

    uint64_t rax;
    __asm__ volatile("mov $-1, %0; inb %w1, %b0" : "=&a"(rax) : "d"(SCRATCH));
    guest_check_equal(rax, 0xffffffffffffffa5, "pio: IN AL keeps the rest of RAX");
    __asm__ volatile("mov $-1, %0; inl %w1, %k0" : "=&a"(rax) : "d"(PCI_SELECT));
    guest_check_equal(rax, 0x80000000, "pio: IN EAX clears the upper half of RAX");
    __asm__ volatile("inb $0x21, %b0" : "=a"(rax));
    guest_check_equal(rax & 0xff, 0xff, "pio: port in the instruction");

    guest_check_equal(x86_inb(UNCLAIMED), 0xff, "pio: unclaimed byte");
    guest_check_equal(x86_inw(UNCLAIMED), 0xffff, "pio: unclaimed word");
    guest_check_equal(x86_inl(UNCLAIMED), 0xffffffff, "pio: unclaimed double word");
    x86_outl(UNCLAIMED, 0);
}

static bool all_equal(const uint8_t *p, unsigned count, uint8_t value)
{
    for (unsigned i = 0; i < count; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

static void check_string_input(void)
{
    static uint8_t buffer[3 * 4096] NK_ALIGNED(4096);
    uint8_t *to = buffer + 4000;
    uint64_t count = 2000;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    guest_check(all_equal(buffer + 4000, 2000, 0xa5), "pio: REP INSB across pages");
    guest_check(buffer[3999] == 0 && buffer[6000] == 0, "pio: REP INSB keeps within bounds");
    guest_check_equal((uint64_t)to, (uint64_t)buffer + 6000, "pio: REP INSB moves RDI");
    guest_check_equal(count, 0, "pio: REP INSB counts down");

    to = buffer;
    count = 0;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    guest_check_equal((uint64_t)to, (uint64_t)buffer, "pio: REP INSB of none");

    uint32_t words[4] = {0};
    void *end = &words[3];
    count = 4;
    __asm__ volatile("std; rep insl; cld" : "+D"(end), "+c"(count) : "d"(PM_TIMER) : "memory");
    guest_check_equal((uint64_t)end, (uint64_t)words - 4, "pio: REP INSD downward");
    guest_check(((words[0] - words[3]) & 0xffffff) < GUEST_PM_TIMER_HZ, "pio: in that order");

    void *low = words;
    __asm__ volatile("addr32 insw" : "+D"(low) : "d"(0xcfc) : "memory");
    guest_check_equal(words[0] & 0xffff, x86_inw(0xcfc), "pio: INSW with a 32-bit address");
    guest_check_equal((uint64_t)low, (uint64_t)words + 2, "pio: INSW moves EDI");
}

static void check_string_output(void)
{
    static uint8_t bytes[] = {1, 2, 3, 0x5a};
    const void *from = bytes;
    uint64_t count = sizeof(bytes);
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(SCRATCH) : "memory");
    guest_check_equal(x86_inb(SCRATCH), 0x5a, "pio: REP OUTSB ends with the last byte");
    guest_check_equal((uint64_t)from, (uint64_t)bytes + 4, "pio: REP OUTSB moves RSI");

    static const uint32_t selects[] = {0x80000000, 0x80000004};
    from = selects;
    __asm__ volatile("outsl" : "+S"(from) : "d"(PCI_SELECT) : "memory");
    guest_check_equal(x86_inl(PCI_SELECT), 0x80000000, "pio: OUTSD");

    /* A segment override counts for OUTS. */
    uint64_t offset = 0;
    x86_wrmsr(0xc0000100, (uint64_t)&bytes[2]);
    __asm__ volatile("outsb %%fs:(%%rsi), %%dx" : "+S"(offset) : "d"(SCRATCH) : "memory");
    x86_wrmsr(0xc0000100, 0);
    guest_check_equal(x86_inb(SCRATCH), 3, "pio: OUTSB with FS");
    guest_check_equal(offset, 1, "pio: OUTSB with FS moves RSI");
}

static void check_string_faults(void)
{
    uint64_t bad = UINT64_C(1) << 40, count = 3;
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("rep insb")
                     : "+D"(bad), "+c"(count)
                     : "d"(SCRATCH)
                     : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_PF, "pio: INSB to an unmapped page");
    guest_check_equal(guest_fault_error(), 2, "pio: ... is a write");
    guest_check_equal(x86_read_cr2(), UINT64_C(1) << 40, "pio: ... at that address");
    guest_check_equal(count, 3, "pio: ... with nothing counted");
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("outsb") : "+S"(bad) : "d"(SCRATCH) : "memory");
    guest_check_equal(guest_fault_vector(), GUEST_PF, "pio: OUTSB from an unmapped page");
    guest_check_equal(guest_fault_error(), 0, "pio: ... is a read");
}

void exits_pio(void)
{
    check_sizes();
    check_string_input();
    check_string_output();
    check_string_faults();
}
