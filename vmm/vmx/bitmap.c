/* Which MSRs a guest reaches without an exit. Spec: Intel SDM vol. 3 section 25.6.9. */
#include "vmx/vmx.h"

/* The page: a bit for each MSR of two ranges, for reads and then for writes. Set: exit. */
#define MAP_HIGH_FIRST UINT32_C(0xc0000000)
#define MAP_MSRS       UINT32_C(0x2000)
#define MAP_HIGH       0x400 /* bytes */
#define MAP_WRITE      0x800

/* What entries and exits switch, or own.c does: the guest's own value is in the register. */
struct pass {
    uint32_t first, count;
    bool write;
};

static const struct pass pass_table[] = {
    {0x174, 3, true},       /* SYSENTER_CS, ESP, EIP */
    {0xc0000081, 4, true},  /* STAR, LSTAR, CSTAR, SFMASK */
    {0xc0000100, 3, true},  /* FS.base, GS.base, KernelGSBase */
    {0xc0000103, 1, false}, /* TSC_AUX: run.c loads it when it differs */
};

/* In x2APIC mode with APIC-register virtualisation: reads come from the virtual-APIC page whether
 * the register exists or not, so only those that do are here; not the current count, which runs.
 * Writes: what the hardware carries out. Spec: section 30.5. */
static const struct pass x2apic_table[] = {
    {0x802, 2, false},  /* ID, version */
    {0x808, 1, true},   /* TPR */
    {0x80a, 1, false},  /* PPR */
    {0x80d, 1, false},  /* LDR */
    {0x80f, 26, false}, /* SVR, ISR, TMR, IRR, ESR */
    {0x830, 1, false},  /* ICR */
    {0x832, 7, false},  /* LVT, initial count */
    {0x83e, 1, false},  /* divide */
};

/* Registers that are written only: reads fault, by an exit. */
static const uint32_t x2apic_write_table[] = {0x80b /* EOI */, 0x83f /* self-IPI */};

static void clear(uint8_t *map, uint32_t msr)
{
    uint32_t index = msr & (MAP_MSRS - 1);

    map[(msr >= MAP_HIGH_FIRST ? MAP_HIGH : 0) + index / 8] &= (uint8_t) ~(1u << index % 8);
}

static void open(uint8_t *map, const struct pass *table, unsigned rows)
{
    for (unsigned i = 0; i < rows; i++) {
        for (uint32_t n = 0; n < table[i].count; n++) {
            clear(map, table[i].first + n);
            if (table[i].write) {
                clear(map + MAP_WRITE, table[i].first + n);
            }
        }
    }
}

void vmx_msr_map_fill(uint8_t *map)
{
    __builtin_memset(map, 0xff, VMM_PAGE_SIZE);
    open(map, pass_table, VMM_ARRAY_COUNT(pass_table));
}

void vmx_msr_map_open_x2apic(uint8_t *map)
{
    open(map, x2apic_table, VMM_ARRAY_COUNT(x2apic_table));
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(x2apic_write_table); i++) {
        clear(map + MAP_WRITE, x2apic_write_table[i]);
    }
}
