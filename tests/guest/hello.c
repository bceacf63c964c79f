/* What a guest sees first: memory map, CPU, command line. */
#include "tests/guest/lib/guest.h"

static void print_signature(const char *what, uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t word[] = {a, b, c};
    char text[13];
    for (unsigned i = 0; i < 12; i++) {
        text[i] = (char)(word[i / 4] >> (i % 4 * 8));
    }
    text[12] = 0;
    guest_printf("hello: %s \"%s\"\n", what, text);
}

void guest_main(void)
{
    guest_printf("hello: command line \"%s\"\n", guest_cmdline());
    guest_printf("hello: tsc %lu at entry\n", guest_entry_tsc());

    uint64_t ram = 0;
    for (unsigned i = 0; i < guest_e820_count(); i++) {
        struct guest_e820 e = guest_e820(i);
        guest_printf("hello: memory 0x%lx-0x%lx type %u\n", e.base, e.base + e.size - 1, e.type);
        ram += e.type == 1 ? e.size : 0;
    }
    guest_printf("hello: ram %lu KiB\n", ram / 1024);

    struct x86_cpuid vendor = x86_cpuid(0, 0), hypervisor = x86_cpuid(0x40000000, 0);
    print_signature("cpu", vendor.ebx, vendor.edx, vendor.ecx);
    if (x86_cpuid(1, 0).ecx & (1u << 31)) {
        print_signature("hypervisor", hypervisor.ebx, hypervisor.ecx, hypervisor.edx);
    }
    guest_printf("hello: tsc %lu kHz\n", guest_tsc_hz() / 1000);
    guest_printf("hello: done\n");
}
