/* The exit kinds: one list, from which the enum, the names and the handler table are made, so that
 * a kind without a handler does not link. Backends turn hardware codes into these. */
#pragma once

#include <vmm/types.h>

#define VMM_EXIT_LIST(X)                                                                           \
    X(unknown)      /* first: 0 is what a table does not name */                                   \
    X(cpuid)        /* CPUID */                                                                    \
    X(msr_read)     /* RDMSR that is not passed through */                                         \
    X(msr_write)    /* WRMSR */                                                                    \
    X(pio)          /* IN, OUT, INS, OUTS, REP */                                                  \
    X(nested_fault) /* no nested mapping, or it forbids the access: MMIO or RAM on first touch */  \
    X(hlt)                                                                                         \
    X(intr) /* a physical interrupt: the host has handled it */                                    \
    X(nmi)                                                                                         \
    X(intr_window) /* the guest can take an interrupt now */                                       \
    X(exception)   /* an intercepted exception */                                                  \
    X(cr_access)                                                                                   \
    X(dr_access)                                                                                   \
    X(xsetbv)                                                                                      \
    X(wbinvd)                                                                                      \
    X(invd)                                                                                        \
    X(shutdown)  /* triple fault */                                                                \
    X(hypercall) /* VMMCALL, VMCALL */                                                             \
    X(monitor)                                                                                     \
    X(mwait)                                                                                       \
    X(pause)                                                                                       \
    X(refused) /* SVM/VMX instructions, SKINIT: #UD */                                             \
    X(task_switch)                                                                                 \
    X(rdpmc)        /* #GP: no counters are offered */                                             \
    X(entry_failed) /* the hardware refused the guest state */                                     \
    X(deadline)     /* what vcpu->deadline said has come */                                        \
    X(apic_write)   /* the guest wrote a LAPIC register; the hardware's page has the value */      \
    X(apic_eoi)     /* the guest ended a level-triggered interrupt */                              \
    X(retry)        /* nothing happened: go round the loop */

enum vmm_exit_kind {
#define X(name) VMM_EXIT_##name,
    VMM_EXIT_LIST(X)
#undef X
        VMM_EXIT_COUNT
};

const char *vmm_exit_name(enum vmm_exit_kind kind);

#define VMM_INSN_MAX 15

/* What a task switch came by, as VMX numbers it. */
enum vmm_task_source { VMM_TASK_CALL, VMM_TASK_IRET, VMM_TASK_JMP, VMM_TASK_GATE /* in the IDT */ };

struct vmm_exit {
    enum vmm_exit_kind kind;
    uint32_t code;       /* the hardware's, for dumps; its information in info1, info2 */
    uint8_t insn_length; /* 0: not known, decode */
    uint8_t insn_count;  /* valid bytes in insn (decode assist), 0: fetch them */
    uint8_t insn[VMM_INSN_MAX];
    union {
        struct {
            uint16_t port;
            uint8_t size;         /* 1, 2, 4 */
            uint8_t address_size; /* 2, 4, 8 */
            uint8_t segment;      /* enum vmm_segment, of OUTS */
            bool in, string, rep;
        } pio;
        struct {
            gpa_t gpa;
            bool write, fetch, present;
            bool gva_valid;
            gva_t gva;
        } fault;
        struct {
            uint8_t vector;
            bool has_error;
            uint32_t error;
            uint64_t address; /* CR2 of a page fault */
        } exception;
        struct {
            uint8_t number;
            uint8_t gpr; /* valid when known */
            bool write, gpr_valid;
            bool value_valid; /* CLTS, LMSW: no register holds what is to be written ... */
            uint64_t value;   /* ... to CR0 */
        } reg;                /* cr_access, dr_access */
        struct {
            uint16_t offset; /* of the register in the LAPIC's page */
            uint8_t vector;  /* of an EOI */
            uint64_t value;  /* low half: what was written; high half: the register behind it */
        } apic;              /* apic_write, apic_eoi */
        struct {
            uint16_t selector; /* of the new TSS */
            uint8_t source;    /* enum vmm_task_source */
        } task;
    };
    uint64_t rip, info1, info2;
};
