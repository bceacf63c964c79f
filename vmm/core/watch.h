/* Emulation for guests that have breakpoints. */
#pragma once

#include "core/vcpu.h"
#include "core/vm.h"

#define VMM_DR7_ENABLED UINT64_C(0xff) /* L0-G3 */

static inline bool vmm_watches(struct vcpu *v)
{
    return (v->backend->get_sysreg(v, VMM_DR7) & VMM_DR7_ENABLED) != 0;
}

/* vmm_emulate_pio(), vmm_emulate_mmio(), and the trap of a breakpoint there. */
enum vmm_action vmm_watched_pio(struct vcpu *v, struct vmm_exit *e);
enum vmm_action vmm_watched_mmio(struct vcpu *v, struct vmm_exit *e);
