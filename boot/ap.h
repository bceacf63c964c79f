/* Starting the other CPUs: what boot/ap.asm needs and offers. */
#pragma once

#include "base/types.h"

struct boot_ap {
    uint64_t efer;       /* EFER for long mode; LME and, where the CPU has it, NXE */
    uint64_t root;       /* CR3 of the kernel's page tables */
    void (*entry)(void); /* jumped to in long mode, interrupts off, without a stack */
};

/* Filled before the first startup IPI; all CPUs read it at once. */
extern struct boot_ap boot_ap;

/* Position-independent real-mode code, less than a page; the startup IPI's vector is its page. */
extern const uint8_t boot_ap_trampoline[], boot_ap_trampoline_end[];

/* The stack that boot/entry.asm gives to kernel_main(), with the guard page below it. */
extern uint8_t boot_stack_guard[], boot_stack_bottom[], boot_stack_top[];
