/* The task's state: stacks for interrupts. */
#include "tests/guest/lib/guest.h"

#define TSS_SELECTOR 0x38
#define TSS_64       UINT64_C(0x89) /* present, available */

/* APM vol. 2 figure 12-8. */
static struct tss {
    uint32_t reserved;
    uint64_t rsp[3], none, ist[7];
    uint64_t none2;
    uint16_t none3, ports_at;
} NK_PACKED tss = {.ports_at = sizeof(tss)};

extern uint64_t guest_gdt[];

static void load(void)
{
    static bool loaded;
    uint64_t base = (uint64_t)&tss, *descriptor = &guest_gdt[TSS_SELECTOR / 8];
    if (!loaded) {
        descriptor[0] =
            (base >> 24 & 0xff) << 56 | TSS_64 << 40 | (base & 0xffffff) << 16 | (sizeof(tss) - 1);
        descriptor[1] = base >> 32;
        __asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
        loaded = true;
    }
}

void guest_stack(unsigned ist, uint64_t top)
{
    load();
    tss.ist[ist - 1] = top;
}

void guest_kernel_stack(uint64_t top)
{
    load();
    tss.rsp[0] = top;
}
