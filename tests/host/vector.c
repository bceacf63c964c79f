/* In place of vmm/core/vector.c: the process's own registers are in use by the compiler. */
#include "core/vector.h"

#include <string.h>
#include "vector.h"

struct test_vector_file vector_file;

void vmm_vector_read(unsigned reg, struct vmm_vector *out, bool whole)
{
    memcpy(out, &vector_file.ymm[reg], whole ? 32 : 16);
}

void vmm_vector_write(unsigned reg, const struct vmm_vector *value, enum vmm_vector_part part)
{
    struct vmm_vector *r = &vector_file.ymm[reg];

    if (part != VMM_VECTOR_LOW) {
        memset(r, 0, sizeof(*r));
    }
    memcpy(r, value, part == VMM_VECTOR_WHOLE ? 32 : 16);
}

bool vmm_x87_waits(void)
{
    return vector_file.x87_waits;
}

uint64_t vmm_mmx_read(unsigned reg)
{
    vector_file.mmx_used = true;
    return vector_file.mm[reg & 7];
}

void vmm_mmx_write(unsigned reg, uint64_t value)
{
    vector_file.mmx_used = true;
    vector_file.mm[reg & 7] = value;
}

uint32_t vmm_mxcsr_read(void)
{
    return vector_file.mxcsr;
}

void vmm_mxcsr_write(uint32_t value)
{
    vector_file.mxcsr = value;
}
