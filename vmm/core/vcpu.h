/* A vCPU and its run loop's state. */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>
#include "core/exits.h"
#include "core/x86.h"

struct vm;
struct vmm_backend;
struct vmm_bus;
struct vmm_bus_range;
struct vmm_timer_queue;
struct zydis_cache;

/* The encoding's numbers. */
enum vmm_gpr {
    VMM_RAX,
    VMM_RCX,
    VMM_RDX,
    VMM_RBX,
    VMM_RSP,
    VMM_RBP,
    VMM_RSI,
    VMM_RDI,
    VMM_R8,
    VMM_R9,
    VMM_R10,
    VMM_R11,
    VMM_R12,
    VMM_R13,
    VMM_R14,
    VMM_R15,
};

/* The encoding's numbers, then the system ones. */
enum vmm_segment {
    VMM_SEG_ES,
    VMM_SEG_CS,
    VMM_SEG_SS,
    VMM_SEG_DS,
    VMM_SEG_FS,
    VMM_SEG_GS,
    VMM_SEG_LDTR,
    VMM_SEG_TR,
    VMM_SEG_GDTR,
    VMM_SEG_IDTR,
    VMM_SEG_COUNT
};

struct vmm_segment_state {
    uint16_t selector;
    uint16_t attributes; /* VMCB form: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, DB 10, G 11 */
    uint32_t limit;      /* bytes, already scaled */
    uint64_t base;
};

#define VMM_SEGMENT_LONG       0x200 /* attributes: CS.L, CS.D */
#define VMM_SEGMENT_DEFAULT_32 0x400

/* All that decides how the guest's code and addresses are read, in one call: the emulator's hot
 * path needs it each time. */
struct vmm_address_mode {
    uint64_t cr0, cr3, cr4, efer, cs_base;
    uint32_t cs_limit;
    uint16_t cs_attributes;
    uint8_t cpl;
};

/* Is it 64-bit code? */
static inline bool vmm_mode_is_64(const struct vmm_address_mode *m)
{
    return (m->cs_attributes & VMM_SEGMENT_LONG) != 0 && (m->efer & X86_EFER_LMA) != 0;
}

/* Read through the backend when needed; never on the hot path. */
enum vmm_sysreg {
    VMM_CR0,
    VMM_CR2,
    VMM_CR3,
    VMM_CR4,
    VMM_CR8,
    VMM_EFER,
    VMM_DR6,
    VMM_DR7,
    VMM_MSR_STAR,
    VMM_MSR_LSTAR,
    VMM_MSR_CSTAR,
    VMM_MSR_SFMASK,
    VMM_MSR_KERNEL_GS_BASE,
    VMM_MSR_SYSENTER_CS,
    VMM_MSR_SYSENTER_ESP,
    VMM_MSR_SYSENTER_EIP,
    VMM_MSR_PAT,
    VMM_BLOCKING, /* no register: what enum vmm_blocking says, for checkpoints */
    VMM_SYSREG_COUNT
};

enum vmm_blocking { VMM_BLOCKED_NMI = 1 << 0, VMM_BLOCKED_SHADOW = 1 << 1 };

/* Bits of vcpu->requests, set by anyone, handled by the vCPU's thread before it enters the guest.
 */
enum vmm_request {
    VMM_REQ_INTR = 1 << 0,  /* look for interrupts again */
    VMM_REQ_TIMER = 1 << 1, /* a timer of this vCPU fired */
    VMM_REQ_STOP = 1 << 2,  /* leave the run loop */
    VMM_REQ_PAUSE = 1 << 3, /* go to the gate (core/vm.c) */
    VMM_REQ_INIT = 1 << 4,  /* INIT IPI */
    VMM_REQ_SIPI = 1 << 5,
    VMM_REQ_NMI = 1 << 6,
    VMM_REQ_EVENT = 1 << 7, /* by its own thread: vcpu->event is to be injected */
    VMM_REQ_FLUSH = 1 << 8, /* vmm_vcpu_pass(): wakes nobody who sleeps */
};

/* Does the vCPU's thread touch guest memory? Only an active one does. */
enum vmm_presence {
    VMM_ACTIVE,
    VMM_ASLEEP, /* in HLT or before SIPI, or about to; a request wakes it */
    VMM_AWAY,   /* at the gate, or there is no thread */
};

/* As VMCB and VMCS encode them. */
enum vmm_event_type {
    VMM_EVENT_INTR = 0,
    VMM_EVENT_NMI = 2,
    VMM_EVENT_EXCEPTION = 3,
};

/* An event waiting to be injected at the next entry: an exception that a handler raised, or one
 * whose delivery an exit interrupted. */
struct vmm_event {
    bool valid, has_error;
    uint8_t type; /* enum vmm_event_type */
    uint8_t vector;
    uint32_t error;
};

/* A vCPU's way to a bus (bus.h). */
struct vmm_port {
    struct vmm_bus *bus;
    const struct vmm_bus_range *last; /* found last, &vmm_no_range: none yet */
};

struct vmm_exit_stat {
    uint64_t count, cycles;
};

enum vmm_park_work {
    VMM_PARK_TIMER = 1 << 0, /* ends_at_deadline: its thread needs the host's timer */
    VMM_PARK_STEAL = 1 << 1, /* the guest asks for steal time */
};

#define VMM_EXITS_KEPT 32 /* for the dump of a crashed VM */

struct vcpu {
    /* World switch state first: offsets are generated for assembly. gpr[RSP], rip and rflags
     * mirror the hardware's copies: filled at each exit, written back at each entry. */
    uint64_t gpr[16];
    uint64_t rip, rflags;

    uint32_t requests; /* atomic, enum vmm_request */
    uint32_t in_guest; /* 1 between entry and exit; read by kickers */
    uint32_t halted;   /* in HLT or before SIPI */
    uint32_t parked;   /* atomic, enum vmm_presence; read by those who wake its thread */
    bool intr_window;  /* asked of the back end: an exit when interrupts can be taken, */
    bool cr8_exits;    /* when the guest writes CR8 */
    bool wait_sipi;    /* after INIT: only a startup IPI ends `halted` */
    /* What was learnt of guest memory and ranges: vmm_vcpu_pass() forgets all of it. */
    uint64_t device_page; /* guest-physical page last found to be no memory */
    uint64_t leaf_base;   /* the 2 MiB whose nested table of 4 KiB pages is */
    uint64_t *leaf;       /* here; NULL: none yet */
    struct vmm_port pio, mmio;
    uint64_t passed; /* atomic: generation (retire.h) up to which it has forgotten */
    /* Of its first timer in host cycles, UINT64_MAX: none. Atomic, core/timer.c. The back end ends
     * the guest's run then with an exit of this name, if ends_at_deadline is set: a timer of the
     * host is needed only while the thread sleeps. */
    uint64_t deadline;
    bool ends_at_deadline;
    uint32_t park_work;  /* enum vmm_park_work: what going to sleep takes */
    uint64_t woken_at;   /* atomic: host cycles of the wake that ends it; VMM_PARK_STEAL only */
    uint8_t sipi_vector; /* set before VMM_REQ_SIPI */
    bool kicked;         /* atomic: ends this HLT or the next, by KVM's KICK_CPU */
    unsigned id;
    bool pv_eoi;          /* vlapic_of(v)->pv_eoi is set, */
    uint8_t pv_eoi_armed; /* and the guest may end the innermost in service without an exit */
    uint32_t irq_look;    /* atomic: VMM_IRQ_..., core/irq.h */
    int cpu;              /* pinned to, or -1 */
    int running_cpu;      /* where its thread runs now */

    struct vm *vm;
    const struct vmm_host_ops *ops;
    void *host;
    const struct vmm_backend *backend;
    void *arch; /* the backend's state */
    struct vdev *lapic;
    struct vmm_thread *thread;

    struct vmm_event event;
    bool nmi_pending;
    uint64_t cr4_free; /* bits of CR4 that a write which exits may change */
    bool intr_shadow;  /* after STI / MOV SS, mirrored at exits */
    uint64_t xcr0;
    uint32_t xsave_size; /* of the XSAVE area for xcr0: CPUID 0xD */
    uint32_t tsc_aux;
    uint64_t tsc_offset;
    uint64_t tsc_adjust;
    uint64_t misc_enable;
    uint64_t mtrr_def_type;
    uint64_t mtrr_fixed[11];
    uint64_t mtrr_var[16];
    uint64_t dr[4];

    struct zydis_cache *decode_cache; /* core/decode.c */
    struct vmm_timer_queue *timers;   /* core/timer.c */
    void *para;                       /* para/: kvmclock and friends */

    uint32_t fpu_job;         /* atomic: enum vmm_fpu_job, asked of its thread at the gate */
    uint8_t *fpu, *fpu_block; /* core/fpu.h: the extended state, during a checkpoint alone */

    struct vmm_exit_stat stat[VMM_EXIT_COUNT];
    struct vmm_exit exit[VMM_EXITS_KEPT]; /* a ring */
    struct vmm_exit *exit_last;           /* NULL: there was none */
};

/* What a handler tells the run loop. */
enum vmm_action {
    VMM_CONTINUE, /* enter the guest again; 0, so that one test sees the others and requests */
    VMM_BLOCK,    /* HLT: park until something is pending */
    VMM_LEAVE,    /* the VM is ending: vm->reason is set */
};

typedef enum vmm_action (*vmm_exit_handler)(struct vcpu *v, struct vmm_exit *e);

#define X(name) enum vmm_action vmm_handle_##name(struct vcpu *v, struct vmm_exit *e);
VMM_EXIT_LIST(X)
#undef X

/* Past the instruction that exited: rip moves by insn_length (decoded if unknown), the interrupt
 * shadow ends, and RF too; TF gives #DB. Returns false when the instruction could not be fetched;
 * then a fault has been queued. */
bool vmm_skip_rare(struct vcpu *v, struct vmm_exit *e); /* unknown length, TF or RF set */
static inline bool vmm_skip_quick(struct vcpu *v, struct vmm_exit *e) /* false: not done */
{
    if (vmm_unlikely(e->insn_length == 0 || (v->rflags & (X86_RFLAGS_TF | X86_RFLAGS_RF)) != 0)) {
        return false;
    }
    v->rip += e->insn_length;
    v->intr_shadow = false;
    return true;
}
static inline bool vmm_skip_instruction(struct vcpu *v, struct vmm_exit *e)
{
    return vmm_skip_quick(v, e) || vmm_skip_rare(v, e);
}

/* With TF, what comes after an instruction or an iteration of a REP: #DB. */
void vmm_end_step(struct vcpu *v);

/* Queue an exception for the next entry (#DF and triple fault rules of APM vol. 2 section 8.2.9
 * apply when one is pending). */
void vmm_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error);
void vmm_inject_page_fault(struct vcpu *v, gva_t address, uint32_t error);

/* Make the vCPU notice: sets the request, wakes its thread if parked, kicks its CPU if in guest.
 * Context: any, interrupts included. */
void vmm_vcpu_request(struct vcpu *v, uint32_t request);

/* Stop the VM: reason, state event, and for crashes a line and a dump. Called by handlers, which
 * return VMM_LEAVE. False: it is ending already, for another reason; no dump then. */
bool vmm_vm_end(struct vcpu *v, int reason);
void vmm_vm_crash(struct vcpu *v, int reason, const char *fmt, ...) VMM_PRINTF(3, 4);

void vmm_vcpu_thread(void *vcpu); /* the run loop */

/* A guest's write to CR0, CR3 or CR4 that exited (core/cr.c). False: #GP. */
bool vmm_write_cr(struct vcpu *v, unsigned number, uint64_t value);

/* Context: control, all or nothing; the vCPU is not running. */
int vmm_vcpu_create(struct vm *vm, unsigned id) VMM_MUST_CHECK;
void vmm_vcpu_destroy(struct vcpu *v);
void vmm_vcpu_reset(struct vcpu *v); /* RESET: APs wait for a startup IPI */
void vmm_vcpu_init(struct vcpu *v);  /* INIT: as RESET, but MSRs, TSC and XCR0 stay */
/* Have v->event injected; for those who fill it by hand. */
void vmm_vcpu_event(struct vcpu *v);
/* The linear address of the instruction at CS:RIP. */
gva_t vmm_vcpu_linear_rip(struct vcpu *v);
void vmm_vcpu_set_xcr0(struct vcpu *v, uint64_t xcr0); /* validated by the caller */
bool vmm_xcr0_valid(const struct vcpu *v, uint64_t value);
