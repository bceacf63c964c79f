/* The way by which other CPUs come in. */
#include "tests/guest/lib/guest.h"

#define INIT_US 10000 /* between INIT and the start-up IPI: SDM vol. 3 section 9.4.4 */

extern const uint8_t guest_trampoline[], guest_trampoline_end[];

void guest_ap_prepare(void)
{
    uint8_t *to = (uint8_t *)(uint64_t)GUEST_AP_START;
    for (const uint8_t *from = guest_trampoline; from < guest_trampoline_end; from++) {
        *to++ = *from;
    }
}

void guest_ap_start_others(void)
{
    guest_ap_prepare();
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_OTHERS | LAPIC_ICR_INIT);
    guest_delay_us(INIT_US);
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_OTHERS | LAPIC_ICR_STARTUP | GUEST_AP_START >> 12);
}

uint32_t guest_cpu_id(void)
{
    return x86_cpuid(1, 0).ebx >> 24;
}
