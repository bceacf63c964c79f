; The world switch. Spec: Intel SDM vol. 3 chapters 27 "VM Entries" and 28 "VM Exits".
;
; The processor switches all that is in the VMCS; general registers but RSP are switched here.

bits 64
default rel
section .text

; Offsets in uint64_t gpr[16], in the encoding's order.
%define RAX_AT  0 * 8
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

VMCS_HOST_RSP equ 0x6c14

; uint64_t *vmx_world_switch(uint64_t *gpr, uint64_t *host_rsp, uint64_t launched)
; Returns gpr; RDX is not 0 when the instruction failed. Called by vmx_switch() in vmx.h, which names
; the registers that do not survive: all but RBP and RSP. Interrupts are off.
global vmx_world_switch:function
vmx_world_switch:
    push rbp
    push rdi                    ; gpr
    cmp [rsi], rsp              ; mostly the VMCS has the right one already
    jne .new_host_rsp
.enter:
    cmp edx, 0                  ; decides below: MOV leaves flags alone
    mov rax, [rdi + RAX_AT]
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
    je .launch
    vmresume
    jmp .failed
.launch:
    vmlaunch
.failed:                        ; the guest was not entered
    pop rax                     ; gpr
    mov edx, 1
    pop rbp
    ret

.new_host_rsp:
    mov [rsi], rsp
    mov eax, VMCS_HOST_RSP
    vmwrite rax, rsp
    jmp .enter

; HOST_RIP: every exit comes here, with the RSP of the entry.
global vmx_exit_point
vmx_exit_point:
    push rax
    mov rax, [rsp + 8]          ; gpr
    pop qword [rax + RAX_AT]
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
    add rsp, 8
    pop rbp
    xor edx, edx
    ret
