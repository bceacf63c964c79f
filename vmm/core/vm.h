/* The VM object: everything about one guest is reachable from here, nothing is file-scope. */
#pragma once

#include <vmm/host.h>
#include <vmm/vdev.h>
#include <vmm/vm.h>
#include "core/backend.h"
#include "core/bus.h"
#include "core/memory.h"
#include "core/nested.h"
#include "core/vcpu.h"

struct vmm_cpuid;
struct vmm_control_waiter;

#define VMM_MSR_INDEX_COUNT 0x900 /* to the end of x2APIC's range */

struct vmm {
    const struct vmm_host_ops *ops;
    void *host;
    const struct vmm_backend *backend;
    void *arch;           /* the backend's: host save areas, ASID state */
    struct vmm_lock lock; /* protects: the list of VMs */
    struct vm *vms;
    char description[160];
    uint32_t hidden; /* enum vmm_hidden: what the back end cannot give to guests */
    uint8_t msr_index[VMM_MSR_INDEX_COUNT]; /* core/msr.c */
};

struct vm {
    struct vmm *vmm;
    const struct vmm_host_ops *ops; /* copies, so that hot paths take one load less */
    void *host;
    struct vm *next;
    struct vm_config config;

    struct vmm_lock control; /* protects: the next two, gate_waiter */
    bool control_busy;       /* a control call is going on; others wait their turn */
    struct vmm_control_waiter *control_queue; /* in that order */
    uint32_t state;                           /* enum vm_state, atomic */
    uint32_t reason;    /* enum vm_reason, atomic; the first one to end the VM sets it */
    uint32_t exit_code; /* of VM_REASON_EXIT */

    /* Where vCPU threads meet while the VM pauses, resets or ends (core/vm.c). */
    uint32_t paused, reset_wanted, ending; /* atomic: what is asked for */
    uint32_t vcpus_at_gate;                /* atomic: threads that wait there */
    uint32_t vcpus_running; /* atomic: threads inside the run loop, and 1 until the VM has ended */
    struct vmm_thread *gate_waiter; /* control thread to wake when that changes */

    struct vmm_memory memory; /* guest-physical map */
    struct vmm_nested nested; /* the tables that give it to the hardware */
    struct vmm_bus pio, mmio;
    struct vcpu *vcpu[VMM_VCPUS_MAX];
    unsigned vcpu_count;
    void *arch;              /* the backend's own, if it needs more */
    struct vmm_cpuid *cpuid; /* the answers, computed at creation */
    uint64_t warned_msrs[4]; /* hash of MSRs already reported: one line each */

    struct vdev *devices;       /* list, in creation order */
    struct vmm_irq_fabric *irq; /* core/irq.h */
    struct vdev *pci, *balloon; /* NULL: none */
    struct vdev *pic, *ioapic;  /* the chips the fabric talks to */
    void *console_stream;       /* host character stream of the first UART */

    uint64_t clock_base_cycles; /* host cycles at guest time zero; signed: a restored guest may be
                                   older than the host */
    uint64_t clock_paused_at;   /* host cycles when paused, 0: runs */
    uint64_t tsc_offset;        /* added to the host's TSC for every vCPU */
    uint64_t small_bytes;       /* small memory held, for the statistics */
    uint64_t create_cycles;     /* host cycles that its creation took, for the same */
    uint64_t reset_said_next;   /* host cycles: no line about a reset before */
    uint32_t resets_unsaid;     /* since the last one */
};

/* Formatting and logging through the host's hooks; lines begin with the VM's name. */
void vmm_vm_log(struct vm *vm, enum vmm_log_level level, const char *fmt, ...) VMM_PRINTF(3, 4);
int vmm_format(struct vmm *vmm, char *out, size_t size, const char *fmt, ...) VMM_PRINTF(4, 5);
/* Fill err and return -error. */
int vmm_fail(struct vmm *vmm, struct vmm_error *err, int error, const char *fmt, ...)
    VMM_PRINTF(4, 5);

/* core/option.c. The text of a host option, valid until the next is asked for; NULL: not given. */
const char *vmm_option(struct vmm *vmm, const char *key);
/* A line in the log for each word of it that is not among `known`, "-a,+b". */
void vmm_option_check(struct vmm *vmm, const char *key, const char *known);
/* Is `name` among the features that a host option, "-a,-b" or NULL, takes away? */
bool vmm_option_takes_away(const char *option, const char *name);
/* Does it ask for one that is off by default: "+a"? */
bool vmm_option_adds(const char *option, const char *name);

/* core/control.c. Between the two the thread is the only one that controls the VM, and may touch
 * its memory. May sleep. leave: returns result. */
void vmm_control_enter(struct vm *vm);
int vmm_control_leave(struct vm *vm, int result);

/* --- life (core/vm.c) ------------------------------------------------------------------------ */

/* The vCPU's thread stands at the gate until the VM may go on; vCPU 0 carries out a reset when all
 * others stand there. False: the VM is ending, leave the run loop. */
bool vmm_vm_gate(struct vcpu *v);
/* The last words of a vCPU's thread; the last one out makes the VM STOPPED or CRASHED. */
void vmm_vm_thread_done(struct vcpu *v);

/* Between the two, in a control call, the vCPUs of a RUNNING VM wait at the gate, while its clock
 * goes on. hold: false, and nothing to do, when it is not running or has just ended. */
bool vmm_vm_hold(struct vm *vm);
void vmm_vm_go_on(struct vm *vm);

/* On the instance's list and off it (core/vmm.c). Errors: -VMM_EEXIST one has this name. */
int vmm_list_add(struct vm *vm) VMM_MUST_CHECK;
void vmm_list_remove(struct vm *vm);

/* Everything that creation has made so far (core/vm_create.c), the VM itself included. */
void vmm_vm_release(struct vm *vm);

/* Zeroed small memory, counted for the VM. */
void *vmm_vm_alloc(struct vm *vm, size_t size);
void vmm_vm_free(struct vm *vm, void *p, size_t size);

/* For invariants of the library only; nothing a guest, manifest or device controls. */
#define vmm_assert(vmm, cond)                                                                      \
    do {                                                                                           \
        if (vmm_unlikely(!(cond))) {                                                               \
            (vmm)->ops->panic((vmm)->host, "assertion failed: " #cond ", " __FILE__);              \
        }                                                                                          \
    } while (0)
