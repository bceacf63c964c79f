/* In place of vmm/core/xmm.c: the process's own registers are in use by the compiler. */
#include "core/emulate_inner.h"

static struct vmm_xmm xmm[16];

void vmm_xmm_read(unsigned reg, struct vmm_xmm *out)
{
    *out = xmm[reg];
}

void vmm_xmm_write(unsigned reg, const struct vmm_xmm *value)
{
    xmm[reg] = *value;
}
