; Entry points of a test guest and its interrupt stubs.

%include "base/registers.inc"
%include "tests/guest/lib/layout.inc"

        extern guest_start, guest_interrupt, guest_bss, guest_bss_end
        global guest_pml4, guest_vectors, guest_gdt, guest_gdt_limit

STACK_SIZE equ 0x8000
CODE64     equ 0x10
DATA64     equ 0x18
CODE32     equ 0x20

PAGE_PRESENT equ 1 << 0
PAGE_WRITE   equ 1 << 1
PAGE_LARGE   equ 1 << 7

section .entry progbits alloc exec write

; 32-bit entry of the boot protocol: flat segments, paging off, ESI = boot_params.
        bits 32
entry32:
        global entry32
        cli
        lgdt [guest_gdt_pointer]
        mov eax, cr4
        or eax, 1 << 5          ; PAE
        mov cr4, eax
        mov eax, guest_pml4
        mov cr3, eax
        mov ecx, 0xc0000080     ; EFER
        rdmsr
        or eax, 1 << 8          ; LME
        wrmsr
        mov eax, cr0
        or eax, (1 << 31) | (1 << 16)
        mov cr0, eax
        jmp CODE64:entry64

; 64-bit entry of the boot protocol: identity map of the loader, RSI = boot_params.
        bits 64
        times 0x200 - ($ - entry32) db 0
entry64:
        cli
        cld
        rdtsc
        shl rdx, 32
        lea r12, [rdx + rax]    ; the TSC at entry, for the first argument but one
        mov rsp, stack_top
        lgdt [guest_gdt_pointer]
        mov rax, guest_pml4
        mov cr3, rax
        mov rax, cr0
        or eax, 1 << 16         ; WP: the loader may have left it clear
        mov cr0, rax
        push CODE64
        push .segments
        retfq
.segments:
        mov eax, DATA64
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        mov rdi, guest_bss
        mov rcx, guest_bss_end
        sub rcx, rdi
        rep stosb
        mov rdi, rsi
        mov rsi, r12
        xor ebp, ebp
        call guest_start        ; does not return
        ud2

section .data
        align 16
guest_gdt:
        dq 0, 0
        dq 0x00af9b000000ffff   ; CODE64
        dq 0x00cf93000000ffff   ; DATA64
        dq 0x00cf9b000000ffff   ; CODE32
        dq 0x00cff3000000ffff   ; data and code of ring 3
        dq 0x00affb000000ffff
        dq 0, 0                 ; the task's state: task.c
guest_gdt_limit equ $ - guest_gdt - 1
guest_gdt_pointer:
        dw guest_gdt_limit
        dq guest_gdt

; Identity map of the first 4 GiB, made by the assembler: both entries can load it at once.
        align 4096
guest_pml4:
        dq page_directory_pointers + (PAGE_PRESENT | PAGE_WRITE)
        times 511 dq 0
page_directory_pointers:
%assign i 0
%rep 4
        dq page_directories + i * 4096 + (PAGE_PRESENT | PAGE_WRITE)
%assign i i + 1
%endrep
        times 508 dq 0
page_directories:
%assign i 0
%rep 2048
        dq (i << 21) | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE
%assign i i + 1
%endrep

; The stack lies outside .bss: it is in use while .bss is cleared.
section .stack nobits alloc write align=16
stack:  resb STACK_SIZE
stack_top:

section .text

; One stub per vector; those whose exception pushes an error code are 8, 10-14, 17, 21, 29 and 30
; (APM vol. 2 section 8.2, SDM vol. 3 table 6-1).
%macro STUB 1
stub_%1:
    %if %1 = 8 || (%1 >= 10 && %1 <= 14) || %1 = 17 || %1 = 21 || %1 = 29 || %1 = 30
    %else
        push qword 0
    %endif
        push qword %1
        jmp stub_common
%endmacro
%assign i 0
%rep 256
        STUB i
%assign i i + 1
%endrep

; void guest_interrupt(struct guest_frame *frame)
stub_common:
        PUSH_REGISTERS
        cld
        mov rdi, rsp
        mov rbp, rsp
        and rsp, -16
        call guest_interrupt
        mov rsp, rbp
        POP_REGISTERS
        add rsp, 16
        iretq

section .rodata
guest_vectors:
%assign i 0
%rep 256
        dq stub_ %+ i
%assign i i + 1
%endrep
