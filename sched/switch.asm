; The switch between two threads. Interrupts are off; everything else about the switch (states,
; accounting, extended state) has been done by sched/switch.c.
; Spec: System V ABI, callee-saved registers.

%include "sched_offsets.inc"

bits 64
default rel

section .text

; void sched_switch(struct nk_thread *prev, struct nk_thread *next);
; Returns in `next`, where it called sched_switch itself, or at the start function that
; thread_prepare() put on its stack.
global sched_switch
align 32
sched_switch:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi + THREAD_SP], rsp
    mov rsp, [rsi + THREAD_SP]
    ; From here on nothing of prev is touched: another CPU may run it, or free its stack.
    mov dword [rdi + THREAD_ON_CPU], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
