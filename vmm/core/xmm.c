/* The guest's 16-byte registers. They stay in the processor while an exit is handled: the thread
 * owns the extended state and the library itself is built without SSE. */
#include "core/emulate_inner.h"

#define EACH_REGISTER(X)                                                                           \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

void vmm_xmm_read(unsigned reg, struct vmm_xmm *out)
{
    switch (reg) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movups %%xmm" #n ", %0" : "=m"(*out));                                   \
        break;
        EACH_REGISTER(X)
#undef X
    }
}

void vmm_xmm_write(unsigned reg, const struct vmm_xmm *value)
{
    switch (reg) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        __asm__ volatile("movups %0, %%xmm" #n : : "m"(*value));                                   \
        break;
        EACH_REGISTER(X)
#undef X
    }
}
