/* Exceptions and interrupts as the entry stubs leave them on the stack (kernel/entry.asm), and the
 * descriptor tables behind them. */
#pragma once

#include "base/percpu.h"
#include "base/types.h"

struct nk_trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector;
    uint64_t error; /* 0 for vectors that push none */
    uint64_t rip, cs, rflags, rsp, ss;
};

enum nk_exception { /* AMD APM vol. 2 table 8-1 */
                    NK_EXCEPTION_DB = 1,
                    NK_EXCEPTION_NMI = 2,
                    NK_EXCEPTION_BP = 3,
                    NK_EXCEPTION_UD = 6,
                    NK_EXCEPTION_NM = 7,
                    NK_EXCEPTION_DF = 8,
                    NK_EXCEPTION_GP = 13,
                    NK_EXCEPTION_PF = 14,
                    NK_EXCEPTION_MC = 18,
                    NK_EXCEPTION_COUNT = 32,
};

/* Boot CPU: IDT, and its own descriptor tables. Needs nothing that is set up at run time. */
void trap_init(void);

/* Memory for another CPU's descriptor tables and stacks, made by the CPU that starts it.
 * Errors: -ENOMEM. */
int trap_prepare_cpu(struct nk_cpu *cpu) NK_MUST_CHECK;

/* That CPU loads them: GDT, TSS, IDTR, and GS base. From here on this_cpu is valid. */
void trap_init_cpu(struct nk_cpu *cpu);

/* A handler for one exception vector (tests, guarded accesses): true if it dealt with it. Runs
 * with interrupts off. Returns the handler it replaces. */
typedef bool (*nk_trap_handler)(struct nk_trap_frame *f);
nk_trap_handler nk_trap_set_handler(unsigned vector, nk_trap_handler handler);

/* rdmsr that reports a #GP instead of faulting. Errors: -EFAULT. */
int nk_rdmsr_safe(uint32_t msr, uint64_t *value) NK_MUST_CHECK;

/* Where a #GP is expected, and where to go on then: entry.asm. */
struct trap_fixup {
    uint64_t fault, resume;
};
extern const struct trap_fixup trap_fixup_table[], trap_fixup_table_end[];

#define TRAP_GDT_WORDS 5 /* behind a CPU's GDT is the address of its record */

void trap_dispatch(struct nk_trap_frame *f); /* from the entry stubs, vectors 0..31 */

const char *trap_name(unsigned vector); /* "#PF page fault" */
