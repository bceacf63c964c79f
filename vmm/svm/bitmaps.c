/* Which ports and MSRs a guest reaches without an exit: data, turned into the hardware's maps once.
 * Spec: AMD APM vol. 2 sections 15.10 and 15.11. */
#include "svm/svm.h"

#define IOPM_PAGES  3 /* 64 Ki ports, one bit each, and some for accesses that wrap */
#define MSRPM_PAGES 2
#define MSRPM_BYTES (MSRPM_PAGES * VMM_PAGE_SIZE)

/* Each vector of the map: 0x2000 MSRs, two bits each: read, write. Set: exit. */
#define VECTOR_MSRS  0x2000
#define VECTOR_BYTES 0x800

static const uint32_t vector_base_table[] = {0x00000000, 0xc0000000, 0xc0010000};

/* What VMRUN or VMLOAD switch, so the guest's own value is in the register. */
static const struct {
    uint32_t first, count;
    bool read, write;
} pass_table[] = {
    {0x174, 3, true, true},       /* SYSENTER_CS, ESP, EIP */
    {0xc0000081, 4, true, true},  /* STAR, LSTAR, CSTAR, SFMASK */
    {0xc0000100, 3, true, true},  /* FS.base, GS.base, KernelGSBase */
    {0xc0000103, 1, true, false}, /* TSC_AUX: run.c loads it when it differs */
};

static bool locate(uint32_t msr, unsigned *byte, unsigned *shift)
{
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(vector_base_table); i++) {
        uint32_t index = msr - vector_base_table[i];

        if (index < VECTOR_MSRS) {
            *byte = i * VECTOR_BYTES + index / 4;
            *shift = index % 4 * 2;
            return true;
        }
    }
    return false;
}

void svm_msr_map_fill(uint8_t *map)
{
    __builtin_memset(map, 0xff, MSRPM_BYTES);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(pass_table); i++) {
        for (uint32_t n = 0; n < pass_table[i].count; n++) {
            unsigned byte, shift;

            if (locate(pass_table[i].first + n, &byte, &shift)) {
                map[byte] &=
                    (uint8_t) ~(pass_table[i].read << shift | pass_table[i].write << (shift + 1));
            }
        }
    }
}

int svm_bitmaps_create(struct vmm *vmm, struct svm *svm)
{
    const struct vmm_host_ops *ops = vmm->ops;

    if (ops->pages_alloc(vmm->host, IOPM_PAGES, VMM_PAGE_SIZE, -1, &svm->iopm) != 0) {
        return -VMM_ENOMEM;
    }
    if (ops->pages_alloc(vmm->host, MSRPM_PAGES, VMM_PAGE_SIZE, -1, &svm->msrpm) != 0) {
        ops->pages_free(vmm->host, svm->iopm, IOPM_PAGES);
        return -VMM_ENOMEM;
    }
    /* No port is the guest's. */
    __builtin_memset(ops->hpa_to_va(vmm->host, svm->iopm), 0xff, IOPM_PAGES * VMM_PAGE_SIZE);
    svm_msr_map_fill(ops->hpa_to_va(vmm->host, svm->msrpm));
    return 0;
}

void svm_bitmaps_destroy(struct vmm *vmm, struct svm *svm)
{
    vmm->ops->pages_free(vmm->host, svm->iopm, IOPM_PAGES);
    vmm->ops->pages_free(vmm->host, svm->msrpm, MSRPM_PAGES);
}
