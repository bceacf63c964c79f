/* Which MSRs a guest reaches without an exit. Spec: Intel SDM vol. 3 section 25.6.9. */
#include "vmx/vmx.h"

/* The page: a bit for each MSR of two ranges, for reads and then for writes. Set: exit. */
#define MAP_HIGH_FIRST UINT32_C(0xc0000000)
#define MAP_MSRS       UINT32_C(0x2000)
#define MAP_HIGH       0x400 /* bytes */
#define MAP_WRITE      0x800

/* What entries and exits switch, or own.c does: the guest's own value is in the register. */
static const struct {
    uint32_t first, count;
    bool write;
} pass_table[] = {
    {0x174, 3, true},       /* SYSENTER_CS, ESP, EIP */
    {0xc0000081, 4, true},  /* STAR, LSTAR, CSTAR, SFMASK */
    {0xc0000100, 3, true},  /* FS.base, GS.base, KernelGSBase */
    {0xc0000103, 1, false}, /* TSC_AUX: run.c loads it when it differs */
};

void vmx_msr_map_fill(uint8_t *map)
{
    __builtin_memset(map, 0xff, VMM_PAGE_SIZE);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(pass_table); i++) {
        for (uint32_t n = 0; n < pass_table[i].count; n++) {
            uint32_t msr = pass_table[i].first + n;
            uint32_t index = msr & (MAP_MSRS - 1);
            uint32_t byte = (msr >= MAP_HIGH_FIRST ? MAP_HIGH : 0) + index / 8;
            uint8_t mask = (uint8_t) ~(1u << index % 8);

            map[byte] &= mask;
            if (pass_table[i].write) {
                map[MAP_WRITE + byte] &= mask;
            }
        }
    }
}
