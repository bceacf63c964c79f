/* Writes to the same pages again and again, without an exit. Command line: pages=N. */
#include "tests/guest/lib/guest.h"

#define FIRST UINT64_C(0x1000000)

void guest_main(void)
{
    uint64_t pages = guest_option("pages", 1000);

    guest_printf("writer: %lu pages\n", pages);
    for (uint64_t round = 0;; round++) {
        for (uint64_t i = 0; i < pages; i++) {
            *(volatile uint64_t *)(FIRST + i * 4096) = round;
        }
        __asm__ volatile("sti; nop; cli"); /* what waits comes in */
    }
}
