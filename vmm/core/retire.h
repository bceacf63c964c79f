/* Giving back what vCPUs may still be using: guest pages, tables of regions and ranges.
 *
 * Who takes something away first makes it unreachable, then retires it. A vCPU in guest mode may
 * have it in its TLB, one in a handler a pointer to it. Both end when the vCPU has "passed": its
 * thread came to the top of the run loop and forgot what it remembered, or it sleeps, waits at the
 * gate or is not there. When every vCPU has passed since, the thing is given back.
 *
 * Each retirement is a new generation (vm->nested.flush_generation). vCPUs in guest mode are kicked
 * once; all others notice by themselves, those asleep when they next wake. A back end compares the
 * generation before each entry and gives the TLB up when it has changed.
 *
 * A control thread that looks at guest memory counts as one more who has to pass: it does so when
 * it ends its control call. */
#pragma once

#include <vmm/types.h>

struct vcpu;
struct vm;

struct vmm_retired {
    struct vmm_retired *next;
    uint64_t generation;
    void (*release)(struct vm *vm, struct vmm_retired *r);
};

/* Have r released when nobody can be using it any more. Context: any thread, memory lock not held;
 * release() is called in any thread, exit context included, without locks. */
void vmm_retire(struct vm *vm, struct vmm_retired *r,
                void (*release)(struct vm *vm, struct vmm_retired *r));
/* Wait until every vCPU has passed. Context: a control call. */
void vmm_quiesce(struct vm *vm);
/* All vCPUs are to forget what they remember of guest memory and of ranges; does not wait. */
void vmm_forget_soon(struct vm *vm);

/* The vCPU's thread, on VMM_REQ_FLUSH: forget, and release what waited for this vCPU last. */
void vmm_vcpu_pass(struct vcpu *v);
/* Around what the thread does without touching guest memory; enum vmm_presence says why. Between
 * the two it is taken to have passed. leave: false when it must pass first and try again. */
bool vmm_vcpu_leave(struct vcpu *v, uint32_t presence);
void vmm_vcpu_return(struct vcpu *v);

/* A control call begins and ends to read guest memory. */
void vmm_reader_enter(struct vm *vm);
void vmm_reader_leave(struct vm *vm);
/* No thread of the VM is left: release everything. */
void vmm_retired_release(struct vm *vm);
