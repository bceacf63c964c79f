/* The seam between common code and a hardware back end (svm/, vmx/).
 *
 * Grouped by context. "Entry context": the vCPU's thread, just before or after run(). "Exit
 * context": the vCPU's thread; no sleeping. "Control": any thread, vCPU not running. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

struct vmm;

enum vmm_map_prot { VMM_MAP_READ = 1, VMM_MAP_WRITE = 2, VMM_MAP_EXEC = 4 };

struct vmm_backend {
    const char *name;

    /* --- instance, control context ---------------------------------------------------------- */
    /* Is it there and usable? Errors: -VMM_ENODEV not there, err names it; -VMM_EPERM disabled by
     * firmware, -VMM_ENOTSUP it lacks what is needed: err is the sentence to print. */
    int (*probe)(struct vmm *vmm, struct vmm_error *err);
    int (*create)(struct vmm *vmm, struct vmm_error *err); /* per-instance state, all CPUs on */
    void (*destroy)(struct vmm *vmm);
    void (*describe)(struct vmm *vmm, char *out, size_t size);

    /* --- VM, control context ---------------------------------------------------------------- */
    int (*vm_create)(struct vm *vm); /* nested tables included: vmm_nested_create() */
    void (*vm_destroy)(struct vm *vm);
    /* Optional: have the processor log writes to pages whose entry's dirty bit is clear. False: it
     * cannot. While it is on, each vCPU hands what its buffer has to vmm_dirty_mark_gpa() whenever
     * it leaves the guest. vCPUs may run; those in the guest are kicked before the log counts. */
    bool (*log_writes)(struct vm *vm, bool on);

    /* --- vCPU, control context -------------------------------------------------------------- */
    int (*vcpu_create)(struct vcpu *v);
    void (*vcpu_destroy)(struct vcpu *v);
    void (*vcpu_reset)(struct vcpu *v); /* the state after RESET (APM vol. 2 table 14-1) */

    /* --- entry context ---------------------------------------------------------------------- */
    /* Enter the guest once and fill *e. Holds interrupts off from the choice of per-CPU state
     * to the exit, so that the thread neither moves nor misses a kick in between; kind is
     * VMM_EXIT_retry, without an entry, when a request arrived before that. */
    void (*run)(struct vcpu *v, struct vmm_exit *e);
    /* May a maskable interrupt be taken at the next entry (IF, shadow, no event pending)? */
    bool (*intr_allowed)(struct vcpu *v);
    void (*inject_intr)(struct vcpu *v, uint8_t vector);
    void (*inject_event)(struct vcpu *v, const struct vmm_event *event);
    void (*inject_nmi)(struct vcpu *v);
    bool (*nmi_allowed)(struct vcpu *v);
    /* Exit when it becomes able to take one. */
    void (*set_intr_window)(struct vcpu *v, bool on);
    /* Optional. What the LAPIC requests of a vCPU that is in the guest reaches it without an exit.
     * False: kick it. Any thread. */
    bool (*post)(struct vcpu *v);
    void (*set_nmi_window)(struct vcpu *v); /* exit once when NMIs may be taken again */
    /* An event that was injected for an entry that was called off goes back to v->event. */
    void (*withdraw_event)(struct vcpu *v);
    /* Exit at writes to CR8: TPR alone holds an interrupt back. */
    void (*set_cr8_exits)(struct vcpu *v, bool on);

    /* --- exit context or control ------------------------------------------------------------ */
    void (*get_segment)(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out);
    void (*set_segment)(struct vcpu *v, enum vmm_segment which, const struct vmm_segment_state *s);
    uint64_t (*get_sysreg)(struct vcpu *v, enum vmm_sysreg which);
    void (*set_sysreg)(struct vcpu *v, enum vmm_sysreg which, uint64_t value);
    void (*flush_tlb)(struct vcpu *v); /* the guest's own translations, before its next entry */
    void (*set_tsc_offset)(struct vcpu *v, uint64_t offset);
    /* The guest touched a debug register that is intercepted while they are not loaded: load them
     * with v->dr at the next entry, open the intercept, let the instruction run again. */
    void (*dr_acquire)(struct vcpu *v);
    unsigned (*cpl)(struct vcpu *v);
    void (*get_address_mode)(struct vcpu *v, struct vmm_address_mode *out);
    /* The hardware block, through the print hook. */
    void (*dump)(struct vcpu *v, enum vmm_log_level level);
};

extern const struct vmm_backend svm_backend, vmx_backend;   /* named by core/backends*.c alone */
extern const struct vmm_backend *const vmm_backend_table[]; /* NULL-terminated, core/backends.c */
