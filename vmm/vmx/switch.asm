; The world switch. Spec: Intel SDM vol. 3 chapters 27 "VM Entries" and 28 "VM Exits".
;
; The processor switches all that is in the VMCS; general registers but RSP are switched here.

bits 64
default rel
section .text

%include "vmm/core/switch.inc"

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
    mov rax, [rdi + VCPU_RAX]
    VCPU_LOAD_GPRS
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

; void vmx_enter_gate(uint64_t handler): what the delivery of an interrupt does. Its IRETQ comes back.
global vmx_enter_gate:function
vmx_enter_gate:
    mov rax, rsp
    and rsp, -16                ; as the processor aligns it
    mov ecx, ss
    push rcx
    push rax
    pushfq
    mov ecx, cs
    push rcx
    call rdi
    ret

; HOST_RIP: every exit comes here, with the RSP of the entry.
global vmx_exit_point
vmx_exit_point:
    push rax
    mov rax, [rsp + 8]          ; gpr
    pop qword [rax + VCPU_RAX]
    VCPU_SAVE_GPRS
    add rsp, 8
    pop rbp
    xor edx, edx
    ret
