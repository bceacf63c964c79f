/* The SVM back end's own structures. Spec: AMD APM vol. 2 chapter 15. */
#pragma once

#include <vmm/types.h>
#include "core/vm.h"
#include "svm/vmcb.h"

/* Features of CPUID 0x8000000a EDX that are used when there. None is needed. */
#define SVM_FEATURE_NP            (UINT32_C(1) << 0) /* this one is */
#define SVM_FEATURE_NRIP          (UINT32_C(1) << 3)
#define SVM_FEATURE_CLEAN         (UINT32_C(1) << 5)
#define SVM_FEATURE_FLUSH_BY_ASID (UINT32_C(1) << 6)
#define SVM_FEATURE_ASSISTS       (UINT32_C(1) << 7)

/* One host CPU. Touched by that CPU with GIF clear. */
struct svm_cpu {
    uint64_t host_pa;    /* VMCB page for the host's VMLOAD state, which never changes */
    uint64_t save_pa;    /* VM_HSAVE_PA */
    uint64_t generation; /* of ASIDs: grows when they have run out and the TLB was flushed */
    uint32_t next_asid;
    uint32_t tsc_aux; /* what the register holds */
};

/* The instance. */
struct svm {
    uint32_t features; /* those in use */
    uint32_t asid_count;
    unsigned npt_levels; /* 4, or 5 */
    bool page_1g;
    hpa_t iopm, msrpm;
    unsigned cpu_count;
    struct svm_cpu cpu[];
};

/* Work that most entries and exits do not have. */
enum svm_rare {
    SVM_RARE_DR = 1 << 0,       /* DR0-3 are loaded, accesses to them cause no exit */
    SVM_RARE_INJECTED = 1 << 1, /* event_inj was set */
    SVM_RARE_FLUSH = 1 << 2,    /* tlb_control was set */
    SVM_RARE_IRET = 1 << 3,     /* the IRET that ends an NMI's handler is about to run */
    SVM_RARE_STEP = 1 << 4,     /* an exit is wanted behind the next instruction */
    SVM_RARE_SOON = 1 << 5,     /* or as soon as the event that it brings is delivered */
};
#define SVM_RARE_ENTRY (SVM_RARE_DR | SVM_RARE_STEP | SVM_RARE_SOON) /* work before it */

struct svm_vcpu {
    struct vmcb *vmcb;
    uint64_t vmcb_pa;
    struct svm *svm;
    struct vmm_nested *nested; /* the VM's */
    struct svm_cpu *cpus;      /* svm->cpu */

    struct svm_cpu *cpu; /* where it ran last */
    uint64_t asid_generation;
    uint64_t flush_generation; /* the tables' when its translations were last thrown away */

    uint64_t injected; /* event_inj of the entry under way: VMRUN may refuse, and forget it */
    uint64_t tpr;      /* V_TPR as the LAPIC knows it */
    uint32_t rare;     /* enum svm_rare */
    uint64_t step_rip; /* the IRET, or the instruction to be stepped over */
    uint64_t step_dr6; /* the guest's, while there is a step */
    bool stepping;     /* TF is ours in the entry under way */
    bool step_left;    /* ... and a fault has put it into the guest's memory */
    uint32_t clean_after_exit; /* clean bits: all, none without the feature */
    struct vmm_exit *exit;     /* what the run under way fills in */
    bool nrip;
    bool follow_xcr0; /* the guest can write XCR0 */
    bool nmi_blocked; /* between the injection of an NMI and its IRET */
    bool window;      /* V_IRQ is set to get an exit when interrupts are possible */
    bool cr8_exits;
};

/* Debug register accesses that exit while the guest's are not loaded: DR6, which VMRUN switches,
 * and reads of DR7 are not among them; DR5 is DR7's other name. */
#define SVM_DR_INTERCEPTS                                                                          \
    (VMCB_READ(0) | VMCB_READ(1) | VMCB_READ(2) | VMCB_READ(3) | VMCB_WRITE(0) | VMCB_WRITE(1) |   \
     VMCB_WRITE(2) | VMCB_WRITE(3) | VMCB_WRITE(5) | VMCB_WRITE(7))

static inline struct svm_vcpu *svm_vcpu(struct vcpu *v)
{
    return v->arch;
}

/* --- switch.asm ------------------------------------------------------------------------------- */

/* GIF is clear. Enter the guest until its exit, with v->gpr but for RAX and RSP, which are the
 * VMCB's; guest and host are physical addresses of VMCBs for VMLOAD and VMSAVE. Returns v. The
 * routine keeps RBP and RSP alone, so that nothing is saved twice: the compiler saves what its
 * caller needs, which is little once v is handed back. */
static inline struct vcpu *svm_switch(struct vcpu *v, uint64_t guest, uint64_t host)
{
    struct vcpu *again;

    _Static_assert(offsetof(struct vcpu, gpr) == 0, "the routine takes v for gpr");
    __asm__ volatile("call svm_world_switch"
                     : "=a"(again), "+D"(v), "+S"(guest), "+d"(host)
                     :
                     : "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory",
                       "cc");
    return again;
}

static inline void svm_stgi(void)
{
    __asm__ volatile("stgi" ::: "memory");
}

static inline void svm_clgi(void)
{
    __asm__ volatile("clgi" ::: "memory");
}

/* --- run.c ------------------------------------------------------------------------------------ */

void svm_run(struct vcpu *v, struct vmm_exit *e);
void svm_dr_acquire(struct vcpu *v);

/* --- asid.c ----------------------------------------------------------------------------------- */

/* Forget the guest's translations before its next entry. */
void svm_flush(struct svm_vcpu *s);
/* Entry on this CPU needs an ASID, or a flush. GIF is clear. */
void svm_asid_renew(struct svm_vcpu *s, struct svm_cpu *cpu);

/* --- exits.c ---------------------------------------------------------------------------------- */

/* What an exit code means when EXITINFO has nothing to add. */
struct svm_exit_entry {
    uint8_t kind;   /* enum vmm_exit_kind */
    uint8_t length; /* of the instruction's opcode, if it is to be skipped, else 0 */
    bool detail;    /* EXITINFO has something to add */
    uint8_t : 8;    /* to a size that addresses can be scaled by */
};
extern const struct svm_exit_entry svm_exit_table[VMCB_EXIT_TABLE_END];

/* Fill in what EXITINFO adds, or all of an exit whose code is not in the table. */
void svm_exit_detail(struct vcpu *v, struct vmm_exit *e);
void svm_exit_beyond_table(struct vcpu *v, struct vmm_exit *e);

/* --- inject.c --------------------------------------------------------------------------------- */

/* Can the next entry bring an event? */
bool svm_event_room(const struct svm_vcpu *s);

bool svm_intr_allowed(struct vcpu *v);
bool svm_nmi_allowed(struct vcpu *v);
void svm_inject_intr(struct vcpu *v, uint8_t vector);
void svm_inject_nmi(struct vcpu *v);
void svm_inject_event(struct vcpu *v, const struct vmm_event *event);
void svm_set_intr_window(struct vcpu *v, bool on);
void svm_withdraw_event(struct vcpu *v);
void svm_set_cr8_exits(struct vcpu *v, bool on);
/* An event whose delivery the exit interrupted, in the VMCB's form, goes back to v->event. */
void svm_event_again(struct vcpu *v, uint64_t info);

/* --- nmi.c ------------------------------------------------------------------------------------ */

/* An NMI waits: get an exit as soon as it can be injected. */
void svm_set_nmi_window(struct vcpu *v);
/* The handler's IRET is next. */
void svm_nmi_iret(struct vcpu *v);
/* Before an entry with SVM_RARE_STEP or SVM_RARE_SOON, GIF clear; after one with either, or with
 * SVM_RARE_IRET: returns what of these is still to be done. */
void svm_nmi_entry(struct vcpu *v);
uint32_t svm_nmi_exit(struct vcpu *v, uint32_t rare);
/* #DB: was it for us alone? */
bool svm_nmi_step_done(struct vcpu *v);

/* --- npt.c ------------------------------------------------------------------------------------ */

int svm_npt_create(struct vm *vm);

/* --- bitmaps.c -------------------------------------------------------------------------------- */

int svm_bitmaps_create(struct vmm *vmm, struct svm *svm);
void svm_bitmaps_destroy(struct vmm *vmm, struct svm *svm);
/* Which MSRs a guest accesses without an exit. */
void svm_msr_map_fill(uint8_t *map);

/* --- vcpu.c ----------------------------------------------------------------------------------- */

int svm_vcpu_create(struct vcpu *v);
void svm_vcpu_destroy(struct vcpu *v);
void svm_vcpu_reset(struct vcpu *v);
void svm_get_segment(struct vcpu *v, enum vmm_segment which, struct vmm_segment_state *out);
void svm_set_segment(struct vcpu *v, enum vmm_segment which, const struct vmm_segment_state *s);
uint64_t svm_get_sysreg(struct vcpu *v, enum vmm_sysreg which);
void svm_set_sysreg(struct vcpu *v, enum vmm_sysreg which, uint64_t value);
void svm_flush_tlb(struct vcpu *v);
void svm_set_tsc_offset(struct vcpu *v, uint64_t offset);
unsigned svm_cpl(struct vcpu *v);
void svm_get_address_mode(struct vcpu *v, struct vmm_address_mode *out);
void svm_dump(struct vcpu *v, enum vmm_log_level level);
