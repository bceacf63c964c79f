#include "core/vector.h"

#define EACH_REGISTER(X)                                                                           \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define EACH_MMX_REGISTER(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

void vmm_vector_read(unsigned reg, struct vmm_vector *out, bool whole)
{
    switch (reg + (whole ? 16 : 0)) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movups %%xmm" #n ", %0" : "+m"(*out));                                   \
        break;                                                                                     \
    case 16 + n:                                                                                   \
        __asm__ volatile("vmovups %%ymm" #n ", %0" : "+m"(*out));                                  \
        break;
        EACH_REGISTER(X)
#undef X
    }
}

void vmm_vector_write(unsigned reg, const struct vmm_vector *value, enum vmm_vector_part part)
{
    switch (reg + 16 * part) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movups %0, %%xmm" #n : : "m"(*value));                                   \
        break;                                                                                     \
    case 16 + n:                                                                                   \
        __asm__ volatile("vmovups %0, %%xmm" #n : : "m"(*value));                                  \
        break;                                                                                     \
    case 32 + n:                                                                                   \
        __asm__ volatile("vmovups %0, %%ymm" #n : : "m"(*value));                                  \
        break;
        EACH_REGISTER(X)
#undef X
    }
}

bool vmm_x87_waits(void)
{
    uint16_t status;

    __asm__ volatile("fnstsw %0" : "=a"(status));
    return (status & 0x80) != 0; /* ES: an unmasked exception */
}

uint64_t vmm_mmx_read(unsigned reg)
{
    uint64_t value = 0;

    switch (reg & 7) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movq %%mm" #n ", %0" : "=m"(value));                                     \
        break;
        EACH_MMX_REGISTER(X)
#undef X
    }
    return value;
}

void vmm_mmx_write(unsigned reg, uint64_t value)
{
    switch (reg & 7) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movq %0, %%mm" #n : : "m"(value));                                       \
        break;
        EACH_MMX_REGISTER(X)
#undef X
    }
}

uint32_t vmm_mxcsr_read(void)
{
    uint32_t value;

    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}

void vmm_mxcsr_write(uint32_t value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}
