/* The VMX back end's own structures. Spec: Intel SDM vol. 3 chapters 24-29, appendix A. */
#pragma once

#include "core/nested.h"
#include "core/vm.h"
#include "vmx/vmcs.h"

/* MSRs that guests use without exits and VM entries do not switch. The host has no use for them,
 * so the guest's values stay in the CPU until another vCPU comes to it. */
#define VMX_LAZY_MSRS 5

#define VMX_VTPR 0x80 /* of the virtual-APIC page: TPR, CR8 in bits 7:4 */

struct vmx_vcpu;

/* What VMX can do here, and what is made of it. From the capability MSRs, appendix A. */
struct vmx_caps {
    uint32_t revision;
    uint32_t pin, proc, proc2, exit, entry; /* controls as vCPUs have them at reset */
    uint32_t proc2_offered;                 /* with those that come and go */
    uint64_t pin_allowed, proc_allowed, proc2_allowed, exit_allowed, entry_allowed; /* the MSRs */
    uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    uint64_t ept_vpid;
    bool page_1g, ept_ad, invept_single;
    bool posted, ack;     /* post interrupts; acknowledge those that cause exits: posted.c */
    bool apicv;           /* the LAPIC's interrupts without exits, by the vCPU's mode: apicv.c */
    unsigned timer_shift; /* the preemption timer counts one for 1 << this of the TSC */
};

/* One host CPU. Touched by that CPU with interrupts off. */
struct vmx_cpu {
    unsigned id;
    struct vmx *vmx;
    uint64_t vmxon_pa;
    int error;                  /* of cpu_on: which of enum vmx_cpu_error */
    struct vmx_vcpu *current;   /* whose VMCS is loaded */
    struct vmx_vcpu *msr_owner; /* whose values the lazy MSRs have */
    uint64_t generation;        /* of VPIDs, as with SVM's ASIDs; 0 is no generation */
    uint32_t next_vpid;
    uint32_t tsc_aux; /* what the register holds */
};

/* The instance. */
struct vmx {
    struct vmx_caps caps;
    hpa_t msr_bitmap, msr_bitmap_x2apic; /* the second for a LAPIC whose MSRs need no exits */
    uint8_t posted_vector;
    bool posted;         /* processor and host can, and it is asked for */
    uint32_t closed_run; /* of the preemption timer: a run with the guest's interrupts off */
    unsigned cpu_count;
    struct vmx_cpu cpu[];
};

/* Of one VM, vm->arch. */
struct vmx_vm {
    uint32_t logging;      /* atomic: which log of writes by PML goes on, 0: none */
    uint32_t logs;         /* that there were */
    hpa_t flat_page;       /* page directory of flat.c; 0: guests are unrestricted */
    hpa_t apic_page;       /* where the LAPIC's window leads to while all vCPUs use it; 0: none */
    bool apic_page_mapped; /* under the memory's lock */
    uint64_t ept_seen[];   /* by CPU: the nested tables' flush generation when it last flushed */
};

/* Posted-interrupt descriptor, table 30-1. */
struct vmx_posted {
    uint64_t requests[4];
    uint32_t control;
    uint32_t reserved[7];
};

struct vmx_vcpu {
    hpa_t vmcs;
    struct vmx *vmx;
    struct vmm_nested *nested; /* the VM's */
    uint64_t *ept_seen;        /* the VM's */

    struct vmx_cpu *cpu; /* where the VMCS is active; NULL: nowhere, and all of it is in memory */
    bool launched;
    uint64_t host_rsp; /* as the VMCS has it */
    uint64_t vpid_generation;

    uint64_t rip, rsp, rflags; /* as the VMCS has them */
    uint32_t blocked;          /* interruptibility, likewise */
    uint32_t proc, proc2;      /* processor-based controls, likewise */
    uint64_t event;            /* entry interruption information, error code << 32; 0: none */
    uint64_t entered_with;     /* `event` of the last entry, which may be refused, and forget it */
    uint64_t cr2, dr6;
    uint64_t lazy_msr[VMX_LAZY_MSRS];
    uint8_t *virtual_apic; /* NULL: no TPR shadow */
    hpa_t virtual_apic_pa;
    uint8_t tpr;          /* CR8 as the LAPIC knows it */
    uint8_t apic_mode;    /* enum vlapic_mode that the controls are for */
    uint64_t apic_base;   /* of the LAPIC, when that mode was looked at */
    bool apicv;           /* in that mode, interrupts need no exits */
    uint16_t intr_status; /* as the VMCS has it: RVI, SVI */
    uint64_t level[4];    /* vectors whose EOI exits, likewise */
    uint32_t timer;       /* preemption timer, likewise */
    const struct vmx_vm *vm;
    uint64_t *pml; /* while writes are logged */
    hpa_t pml_pa;
    struct vmx_posted *posted; /* NULL: interrupts are not posted */
    hpa_t posted_pa;
    uint8_t acknowledged; /* interrupt that the exit took from the LAPIC; 0: none */
    uint32_t logging;     /* the controls and the buffer are for that log */
    bool dr_loaded;
    /* Protected mode without paging, which only an unrestricted guest may have: it runs with pages
     * that map all addresses to themselves (flat.c), and these are the guest's own values. */
    bool flat;
    uint64_t flat_cr3, flat_efer;
    bool cannot_run; /* CR0 is one that only an unrestricted guest may have */
    bool fail;       /* the last entry ended at VMLAUNCH or VMRESUME itself */
};

static inline struct vmx_vcpu *vmx_vcpu(struct vcpu *v)
{
    return v->arch;
}

static inline uint64_t vmx_rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void vmx_wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

/* --- switch.asm ------------------------------------------------------------------------------- */

/* Interrupts are off. Enter the guest with v->gpr but for RSP, which is the VMCS's, until its exit.
 * *fail: the entry ended at the instruction. Returns v; the compiler saves what its caller needs.
 */
static inline struct vcpu *vmx_switch(struct vcpu *v, uint64_t *host_rsp, bool launched, bool *fail)
{
    struct vcpu *again;
    uint64_t failed;

    _Static_assert(offsetof(struct vcpu, gpr) == 0, "the routine takes v for gpr");
    __asm__ volatile("call vmx_world_switch"
                     : "=a"(again), "=d"(failed), "+D"(v), "+S"(host_rsp)
                     : "d"((uint64_t)launched)
                     : "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory",
                       "cc");
    *fail = failed != 0;
    return again;
}
extern const char vmx_exit_point[]; /* HOST_RIP */
/* What the delivery of an interrupt does; IRETQ comes back. */
void vmx_enter_gate(uint64_t handler);

/* --- caps.c: pure ----------------------------------------------------------------------------- */

/* The value of a control field: `need` and what there is of `like`, with the bits that must be set.
 * Capability MSRs have those in the low half, those that may be set in the high one. Returns the
 * bits of `need` that are not to be had. */
uint32_t vmx_controls(uint64_t capability, uint32_t need, uint32_t like, uint32_t *out);

typedef uint64_t (*vmx_msr_reader)(void *arg, uint32_t msr);
/* Errors: -VMM_ENOTSUP, *lacks says what is missing. `without` is the option that takes features
 * away for tests: "-vpid,-1g". */
int vmx_caps_read(struct vmx_caps *caps, vmx_msr_reader read, void *arg, const char *without,
                  const char **lacks);

/* --- bitmap.c ------------------------------------------------------------------------------------
 */

void vmx_msr_map_fill(uint8_t *map);
/* As well the LAPIC's registers that the hardware keeps: for a vCPU in x2APIC mode. */
void vmx_msr_map_open_x2apic(uint8_t *map);

/* --- own.c ------------------------------------------------------------------------------------ */

/* Between these two the vCPU's VMCS is this CPU's current one, and interrupts are off. For all but
 * the run itself. Context: exit context or control. */
uint64_t vmx_acquire(struct vcpu *v);
void vmx_release(uint64_t flags);
/* Make it the current one here. False: it is active on another CPU, have vmx_detach() first.
 * Interrupts are off. */
bool vmx_load(struct vmx_vcpu *x, struct vmx_cpu *cpu);
/* Nowhere active any more; its MSRs are in memory. Interrupts are on. */
void vmx_detach(struct vcpu *v);
/* This vCPU's values into the lazy MSRs, the former owner's out of them. */
void vmx_load_msrs(struct vmx_vcpu *x, struct vmx_cpu *cpu);
uint64_t vmx_lazy_msr_read(struct vcpu *v, unsigned index);
void vmx_lazy_msr_write(struct vcpu *v, unsigned index, uint64_t value);
extern const uint32_t vmx_lazy_msr_table[VMX_LAZY_MSRS];
void vmx_vmclear(hpa_t vmcs);

/* --- run.c ------------------------------------------------------------------------------------ */

void vmx_run(struct vcpu *v, struct vmm_exit *e);
void vmx_dr_acquire(struct vcpu *v);

/* --- exits.c ---------------------------------------------------------------------------------- */

/* From the VMCS, which is loaded, to *e. Interrupts are off. */
void vmx_exit_decode(struct vcpu *v, struct vmm_exit *e);

/* --- inject.c --------------------------------------------------------------------------------- */

bool vmx_intr_allowed(struct vcpu *v);
bool vmx_nmi_allowed(struct vcpu *v);
void vmx_inject_intr(struct vcpu *v, uint8_t vector);
void vmx_inject_nmi(struct vcpu *v);
void vmx_inject_event(struct vcpu *v, const struct vmm_event *event);
void vmx_set_intr_window(struct vcpu *v, bool on);
void vmx_set_nmi_window(struct vcpu *v);
void vmx_withdraw_event(struct vcpu *v);
void vmx_set_cr8_exits(struct vcpu *v, bool on);
/* An event whose delivery the exit interrupted goes back to v->event. The VMCS is loaded. */
void vmx_event_again(struct vcpu *v, uint32_t info, uint32_t error);
/* Write the processor-based controls if they change. The VMCS is loaded. */
void vmx_set_proc(struct vmx_vcpu *x, uint32_t proc);
void vmx_set_proc2(struct vmx_vcpu *x, uint32_t proc2);

/* --- apicv.c -------------------------------------------------------------------------------------
 */

/* Before an entry: the LAPIC's mode may have changed. Interrupts are on. */
void vmx_apicv_follow_mode(struct vcpu *v);
/* Round the entry, the VMCS loaded, interrupts off. */
void vmx_apicv_give(struct vcpu *v, struct vmx_vcpu *x);
void vmx_apicv_external(struct vcpu *v, struct vmx_vcpu *x); /* what waits is the 8259s' */
void vmx_apicv_reset(struct vmx_vcpu *x);
void vmx_apicv_decode_access(struct vmm_exit *e);
void vmx_apicv_decode_write(struct vmx_vcpu *x, struct vmm_exit *e);

/* --- posted.c --------------------------------------------------------------------------------- */

int vmx_posted_create(struct vcpu *v, struct vmx_vcpu *x);
bool vmx_posted_post(struct vcpu *v);
/* What was posted and not delivered is requested as without all this. */
void vmx_posted_collect(struct vcpu *v, struct vmx_posted *p);

/* --- pml.c ------------------------------------------------------------------------------------ */

bool vmx_log_writes(struct vm *vm, bool on);
/* The VMCS loaded, interrupts off: at an entry that finds logging changed, after each exit. */
void vmx_pml_switch(struct vmx_vcpu *x, uint32_t logging);
void vmx_pml_drain(struct vcpu *v, struct vmx_vcpu *x);

/* --- ept.c ------------------------------------------------------------------------------------ */

int vmx_ept_create(struct vm *vm);
void vmx_ept_destroy(struct vm *vm);
uint64_t vmx_ept_pointer(const struct vmx_caps *caps, const struct vmm_nested *ept);
/* The vCPU's own translations are no longer right: it gets a new VPID. */
void vmx_flush(struct vmx_vcpu *x);
void vmx_vpid_renew(struct vmx_vcpu *x, struct vmx_cpu *cpu);
void vmx_ept_flush(struct vmx_vcpu *x, struct vmx_cpu *cpu, uint64_t generation);

/* --- vcpu.c ----------------------------------------------------------------------------------- */

/* A zeroed page of the VM's; NULL: none. */
void *vmx_alloc_page(struct vm *vm, hpa_t *out);
int vmx_vcpu_create(struct vcpu *v);
void vmx_vcpu_destroy(struct vcpu *v);
void vmx_vcpu_reset(struct vcpu *v);
/* The host's part of the VMCS, for the CPU that runs this. The VMCS is loaded. */
void vmx_host_state(struct vmx_vcpu *x);

/* --- regs.c ----------------------------------------------------------------------------------- */

void vmx_get_segment(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out);
void vmx_set_segment(struct vcpu *v, enum vmm_segment which, const struct vmm_segment_state *s);
uint64_t vmx_get_sysreg(struct vcpu *v, enum vmm_sysreg which);
void vmx_set_sysreg(struct vcpu *v, enum vmm_sysreg which, uint64_t value);
void vmx_flush_tlb(struct vcpu *v);
void vmx_set_tsc_offset(struct vcpu *v, uint64_t offset);
unsigned vmx_cpl(struct vcpu *v);
void vmx_get_address_mode(struct vcpu *v, struct vmm_address_mode *out);
uint64_t vmx_cr0_owned(const struct vmx_caps *caps);
uint64_t vmx_cr4_owned(const struct vmx_caps *caps);
/* Pure: common attributes to access rights and back. */
uint32_t vmx_rights(enum vmm_segment which, uint16_t attributes, uint32_t limit);
uint16_t vmx_attributes(uint32_t rights);
/* The VMCS is loaded. */
void vmx_load_efer(uint64_t value);                /* and the entry controls that go with it */
uint64_t vmx_cr4_loaded(const struct vmx_vcpu *x); /* as the guest sees it */
void vmx_set_cr4(struct vmx_vcpu *x, uint64_t value);
void vmx_dump(struct vcpu *v, enum vmm_log_level level);

/* --- flat.c ----------------------------------------------------------------------------------- */

/* The VM's page directory, where processors lack "unrestricted guest". Errors: -VMM_ENOMEM. */
int vmx_flat_create(struct vm *vm, struct vmx_vm *arch);
/* The VMCS is loaded. */
void vmx_flat_enter(struct vcpu *v, struct vmx_vcpu *x);
void vmx_flat_leave(struct vcpu *v, struct vmx_vcpu *x);
uint64_t vmx_flat_cr4(uint64_t value); /* what the processor gets for it */

/* --- audit.c: pure ---------------------------------------------------------------------------- */

typedef uint64_t (*vmx_field_reader)(void *arg, uint32_t field);
typedef void (*vmx_audit_report)(void *arg, const char *section, const char *field, uint64_t value,
                                 const char *rule);
/* Which rules of SDM vol. 3 sections 27.2 and 27.3 do these fields break? `report` gets each with
 * its section. Returns how many. */
unsigned vmx_audit(const struct vmx_caps *caps, vmx_field_reader read, void *arg,
                   vmx_audit_report report);

/* --- shadow.c: pure ---------------------------------------------------------------------------
 */

/* What enum vmm_blocking says, in the VMCS's form. */
uint32_t vmx_interruptibility(uint64_t blocking);
/* Pending debug exceptions for an entry after an exit in a shadow: shadow, it goes on. */
uint64_t vmx_pending_in_shadow(bool shadow, uint64_t rflags, uint64_t pending);

/* --- audit_launch.c, in debug builds; audit_trust.c in others ----------------------------------
 */

/* Before the first entry on a CPU, the VMCS loaded and complete: would it be refused? */
bool vmx_audit_launch(struct vcpu *v);
