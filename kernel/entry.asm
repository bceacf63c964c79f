; Where the CPU enters the kernel: one stub per vector, two common paths.
;
; Exceptions (0..31) save everything, as struct nk_trap_frame, for handlers and reports.
; Interrupts (32..255) are a hot path: they save what the C calling convention does not preserve,
; count, call the vector's function, and leave; the scheduler is entered only when it was asked for.
; The kernel has no user mode, so GS holds this CPU's record and is never swapped. Guests' values
; stand in it for some instructions around a guest's run, where interrupts and NMIs are blocked, but
; an exception may come: that path finds the record through the GDTR, which is always the host's.
; Spec: AMD APM vol. 2 chapter 8 "Exceptions and Interrupts".

%include "base/registers.inc"
%include "kernel_offsets.inc"

bits 64
default rel

extern panic_call
extern trap_dispatch
extern irq_vector_table
extern sched_interrupt_tail

STUB_SIZE     equ 16
SELECTOR_CODE equ 0x08
SELECTOR_DATA equ 0x10
MSR_GS_BASE   equ 0xc0000101

section .text

; A vector whose exception pushes no error code gets a zero in its place.
%macro TRAP 1
    align STUB_SIZE
    push 0
    push %1
    jmp trap_common
%endmacro

%macro TRAP_WITH_ERROR 1
    align STUB_SIZE
    push %1
    jmp trap_common
%endmacro

%macro INTERRUPT 1
    align STUB_SIZE
    push rdi
    mov edi, %1
    jmp interrupt_common
%endmacro

; extern const uint8_t trap_stubs[256][16];
global trap_stubs
align STUB_SIZE
trap_stubs:
    TRAP 0                          ; #DE divide
    TRAP 1                          ; #DB debug
    TRAP 2                          ; NMI
    TRAP 3                          ; #BP breakpoint
    TRAP 4                          ; #OF overflow
    TRAP 5                          ; #BR bound range
    TRAP 6                          ; #UD invalid opcode
    TRAP 7                          ; #NM device not available
    TRAP_WITH_ERROR 8               ; #DF double fault
    TRAP 9                          ; coprocessor segment overrun
    TRAP_WITH_ERROR 10              ; #TS invalid TSS
    TRAP_WITH_ERROR 11              ; #NP segment not present
    TRAP_WITH_ERROR 12              ; #SS stack
    TRAP_WITH_ERROR 13              ; #GP general protection
    TRAP_WITH_ERROR 14              ; #PF page fault
    TRAP 15                         ; reserved
    TRAP 16                         ; #MF x87
    TRAP_WITH_ERROR 17              ; #AC alignment check
    TRAP 18                         ; #MC machine check
    TRAP 19                         ; #XF SIMD
    TRAP 20                         ; #VE virtualisation
    TRAP_WITH_ERROR 21              ; #CP control protection
    TRAP 22                         ; reserved
    TRAP 23                         ; reserved
    TRAP 24                         ; reserved
    TRAP 25                         ; reserved
    TRAP 26                         ; reserved
    TRAP 27                         ; reserved
    TRAP 28                         ; #HV hypervisor injection
    TRAP_WITH_ERROR 29              ; #VC VMM communication
    TRAP_WITH_ERROR 30              ; #SX security
    TRAP 31                         ; reserved
%assign vector 32
%rep 256 - 32
    INTERRUPT vector
%assign vector vector + 1
%endrep
    align STUB_SIZE

trap_common:
    PUSH_REGISTERS
    cld
    sub rsp, 16
    sgdt [rsp]
    mov rbx, [rsp + 2]
    add rsp, 16
    mov rbx, [rbx + GDT_CPU]
    mov ecx, MSR_GS_BASE
    rdmsr
    mov r12d, eax
    mov r13d, edx                   ; what is in GS, to be put back
    mov eax, ebx
    mov rdx, rbx
    shr rdx, 32
    wrmsr
    mov rdi, rsp                    ; 16-byte aligned: the CPU aligned it and 22 words were pushed
    call trap_dispatch
global trap_return                  ; nk_backtrace() knows what lies above these two
trap_return:
    mov ecx, MSR_GS_BASE
    mov eax, r12d
    mov edx, r13d
    wrmsr
    POP_REGISTERS
    add rsp, 16                     ; vector and error code
    iretq

; EDI is the vector, the argument of its function; RDI itself was pushed by the stub.
INTERRUPT_SAVED equ 9 * 8           ; kernel/symbols.c counts on it
align 64
interrupt_common:
    push rax
    push rcx
    push rdx
    push rsi
    push r8
    push r9
    push r10
    push r11
    cld
    inc dword [gs:CPU_IRQ_DEPTH]
    inc dword [gs:CPU_PREEMPT_COUNT]
    call [abs irq_vector_table + rdi * 8]
global interrupt_return
interrupt_return:
    dec dword [gs:CPU_IRQ_DEPTH]
    dec dword [gs:CPU_PREEMPT_COUNT]
    jz .reschedule                  ; may be preempted, and should be (base/percpu.h)
.leave:
    pop r11
    pop r10
    pop r9
    pop r8
    pop rsi
    pop rdx
    pop rcx
    pop rax
    pop rdi
    iretq
.reschedule:
    call sched_interrupt_tail       ; comes back when this thread runs again
    jmp .leave

; void nk_panic(const char *fmt, ...);
; Makes a trap frame of the caller's registers, whole, for panic_call(fmt, frame) to report.
global nk_panic
align 16
nk_panic:
    pushfq
    cli
    lea rax, [rsp + 16]             ; the caller's stack pointer; RAX held nothing of interest
    push SELECTOR_DATA
    push rax
    push qword [rax - 16]           ; its flags
    push SELECTOR_CODE
    push qword [rax - 8]            ; and where it goes on
    push 0
    push 0
    PUSH_REGISTERS
    mov rsi, rsp
    call panic_call

; A spurious interrupt of the local APIC wants nothing, not even an EOI.
; Spec: Intel SDM vol. 3 "Spurious Interrupt".
global trap_spurious_stub
align STUB_SIZE
trap_spurious_stub:
    iretq

; int nk_rdmsr_safe(uint32_t msr, uint64_t *value);
global nk_rdmsr_safe
align 16
nk_rdmsr_safe:
    mov ecx, edi
rdmsr_may_fault:
    rdmsr
    shl rdx, 32
    or rax, rdx
    mov [rsi], rax
    xor eax, eax
    ret

EFAULT equ 14
msr_faulted:
    mov eax, -EFAULT
    ret

section .rodata
; extern const struct trap_fixup trap_fixup_table[], trap_fixup_table_end[];
; Where a #GP is expected, and where to go on then.
align 8
global trap_fixup_table
global trap_fixup_table_end
trap_fixup_table:
    dq rdmsr_may_fault, msr_faulted
trap_fixup_table_end:
