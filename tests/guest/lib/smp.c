/* The way by which other CPUs come in. */
#include "tests/guest/lib/guest.h"

extern const uint8_t guest_trampoline[], guest_trampoline_end[];

void guest_ap_prepare(void)
{
    uint8_t *to = (uint8_t *)(uint64_t)GUEST_AP_START;
    for (const uint8_t *from = guest_trampoline; from < guest_trampoline_end; from++) {
        *to++ = *from;
    }
}

uint32_t guest_cpu_id(void)
{
    return x86_cpuid(1, 0).ebx >> 24;
}
