; The way into an application's code, on a stack of its own, and out of it from any depth.

%include "kernel_offsets.inc"

bits 64
default rel

section .text

; void native_call(struct native_thread *t, void *stack_top,
;                  void (*fn)(struct native_thread *, void *), void *arg);
; Calls fn(t, arg), which does not return, with the stack pointer at stack_top (16-byte aligned).
; Returns when native_unwind(t) is called. The zero RBP ends backtraces.
global native_call
align 16
native_call:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi + NATIVE_KERNEL_SP], rsp
    mov rsp, rsi
    mov rsi, rcx
    xor ebp, ebp
    call rdx
    ud2

; noreturn void native_unwind(struct native_thread *t);
global native_unwind
align 16
native_unwind:
    mov rsp, [rdi + NATIVE_KERNEL_SP]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
