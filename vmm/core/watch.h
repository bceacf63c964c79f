/* Emulation for guests that have breakpoints. */
#pragma once

#include "core/vcpu.h"
#include "core/vm.h"

#define VMM_DR7_ENABLED UINT64_C(0xff) /* L0-G3 */

#define VMM_READ_DR(n, out)    __asm__ volatile("mov %%db" #n ", %0" : "=r"(out))
#define VMM_WRITE_DR(n, value) __asm__ volatile("mov %0, %%db" #n ::"r"(value))

/* DR0-3, which no hardware switches. Context: the thread stays on its CPU. */
static inline void vmm_load_breakpoints(const struct vcpu *v)
{
    VMM_WRITE_DR(0, v->dr[0]);
    VMM_WRITE_DR(1, v->dr[1]);
    VMM_WRITE_DR(2, v->dr[2]);
    VMM_WRITE_DR(3, v->dr[3]);
}

static inline void vmm_save_breakpoints(struct vcpu *v)
{
    VMM_READ_DR(0, v->dr[0]);
    VMM_READ_DR(1, v->dr[1]);
    VMM_READ_DR(2, v->dr[2]);
    VMM_READ_DR(3, v->dr[3]);
}

static inline bool vmm_watches(struct vcpu *v)
{
    return (v->backend->get_sysreg(v, VMM_DR7) & VMM_DR7_ENABLED) != 0;
}

/* vmm_emulate_pio(), vmm_emulate_mmio(), and the trap of a breakpoint there. */
enum vmm_action vmm_watched_pio(struct vcpu *v, struct vmm_exit *e);
enum vmm_action vmm_watched_mmio(struct vcpu *v, struct vmm_exit *e);
