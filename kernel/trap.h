/* Exceptions and interrupts as the entry stubs leave them on the stack (kernel/entry.asm). */
#pragma once

#include "base/types.h"

struct nk_trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector;
    uint64_t error; /* 0 for vectors that push none */
    uint64_t rip, cs, rflags, rsp, ss;
};

void trap_init(void);     /* IDT, boot CPU */
void trap_init_cpu(void); /* GDT, TSS, IST stacks, IDTR, GS base of this CPU */

/* A handler for one exception vector (tests, guarded accesses): true if it dealt with it. */
typedef bool (*nk_trap_handler)(struct nk_trap_frame *f);
nk_trap_handler nk_trap_set_handler(unsigned vector, nk_trap_handler handler);

/* rdmsr/wrmsr that report a #GP instead of faulting. Errors: -EFAULT. */
int nk_rdmsr_safe(uint32_t msr, uint64_t *value) NK_MUST_CHECK;
int nk_wrmsr_safe(uint32_t msr, uint64_t value) NK_MUST_CHECK;
