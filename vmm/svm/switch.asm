; The world switch. Spec: AMD APM vol. 2 sections 15.5 and 15.16.
;
; VMRUN and #VMEXIT themselves switch CR0, CR3, CR4, EFER, RIP, RSP, RAX, RFLAGS, ES, CS, SS, DS,
; GDTR, IDTR, DR6 and DR7. VMLOAD and VMSAVE do FS, GS, TR, LDTR, KernelGSBase and the SYSCALL and
; SYSENTER registers; the host's never change, so they are only loaded. The extended state is the
; thread's and stays where it is.

bits 64
default rel
section .text

; Offsets in uint64_t gpr[16], in the encoding's order.
%define RCX_AT  1 * 8
%define RDX_AT  2 * 8
%define RBX_AT  3 * 8
%define RBP_AT  5 * 8
%define RSI_AT  6 * 8
%define RDI_AT  7 * 8
%define R8_AT   8 * 8
%define R9_AT   9 * 8
%define R10_AT 10 * 8
%define R11_AT 11 * 8
%define R12_AT 12 * 8
%define R13_AT 13 * 8
%define R14_AT 14 * 8
%define R15_AT 15 * 8

; uint64_t *svm_world_switch(uint64_t *gpr, uint64_t guest, uint64_t host); returns gpr
; Called by svm_switch() in svm.h, which names the registers that do not survive: all but RBP, RSP.
; GIF is clear: nothing interrupts, so guest values may stand in FS, GS and TR meanwhile. IF is set,
; which makes a physical interrupt end the guest's run.
global svm_world_switch:function
svm_world_switch:
    push rbp
    push rdi                    ; gpr
    push rdx                    ; host

    mov rax, rsi
    vmload                      ; RAX is the implied operand of this and the next two
    mov rcx, [rdi + RCX_AT]
    mov rdx, [rdi + RDX_AT]
    mov rbx, [rdi + RBX_AT]
    mov rbp, [rdi + RBP_AT]
    mov rsi, [rdi + RSI_AT]
    mov r8,  [rdi + R8_AT]
    mov r9,  [rdi + R9_AT]
    mov r10, [rdi + R10_AT]
    mov r11, [rdi + R11_AT]
    mov r12, [rdi + R12_AT]
    mov r13, [rdi + R13_AT]
    mov r14, [rdi + R14_AT]
    mov r15, [rdi + R15_AT]
    mov rdi, [rdi + RDI_AT]

    vmrun                       ; RAX and RSP come back as they were here

    vmsave
    pop rax
    vmload
    pop rax                     ; gpr
    mov [rax + RCX_AT], rcx
    mov [rax + RDX_AT], rdx
    mov [rax + RBX_AT], rbx
    mov [rax + RBP_AT], rbp
    mov [rax + RSI_AT], rsi
    mov [rax + RDI_AT], rdi
    mov [rax + R8_AT],  r8
    mov [rax + R9_AT],  r9
    mov [rax + R10_AT], r10
    mov [rax + R11_AT], r11
    mov [rax + R12_AT], r12
    mov [rax + R13_AT], r13
    mov [rax + R14_AT], r14
    mov [rax + R15_AT], r15

    pop rbp
    ret
