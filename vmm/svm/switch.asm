; The world switch. Spec: AMD APM vol. 2 sections 15.5 and 15.16.
;
; VMRUN and #VMEXIT themselves switch CR0, CR3, CR4, EFER, RIP, RSP, RAX, RFLAGS, ES, CS, SS, DS,
; GDTR, IDTR, DR6 and DR7. VMLOAD and VMSAVE do FS, GS, TR, LDTR, KernelGSBase and the SYSCALL and
; SYSENTER registers; the host's never change, so they are only loaded. The extended state is the
; thread's and stays where it is.

bits 64
default rel
section .text

%include "vmm/core/switch.inc"

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
    VCPU_LOAD_GPRS

    vmrun                       ; RAX and RSP come back as they were here

    vmsave
    pop rax
    vmload
    pop rax                     ; gpr
    VCPU_SAVE_GPRS

    pop rbp
    ret
