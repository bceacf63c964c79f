; Start of another CPU: real mode after the start-up IPI, then as the 32-bit entry does it.

%include "tests/guest/lib/layout.inc"

        extern guest_pml4, guest_gdt, guest_gdt_limit, guest_ap_start
        global guest_trampoline, guest_trampoline_end

CODE64 equ 0x10
DATA64 equ 0x18
CODE32 equ 0x20

GUEST_CPUS_MAX equ 64           ; of guest.h
AP_STACK_SIZE  equ 0x2000

section .text

; Copied to GUEST_AP_START; runs with CS = GUEST_AP_START / 16 and IP = 0.
        bits 16
guest_trampoline:
        cli
        o32 lgdt [cs:ap_gdt_pointer - guest_trampoline] ; real mode's segments end at 64 KiB
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword CODE32:ap32
ap_gdt_pointer:
        dw guest_gdt_limit
        dd guest_gdt
guest_trampoline_end:

        bits 32
ap32:   mov eax, DATA64
        mov ds, eax
        mov es, eax
        mov ss, eax
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
        and eax, ~((1 << 30) | (1 << 29)) ; caches on: CD and NW are set by INIT
        mov cr0, eax
        jmp CODE64:ap64

        bits 64
ap64:   mov eax, 1              ; the initial APIC id, whatever mode the LAPIC is in
        cpuid
        shr ebx, 24
        mov edi, ebx            ; its stack, and guest_ap_start's argument
        inc ebx
        imul ebx, AP_STACK_SIZE
        lea rsp, [rbx + ap_stacks]
        xor ebp, ebp
        call guest_ap_start     ; does not return
        ud2

section .stack nobits alloc write align=16
ap_stacks:
        resb GUEST_CPUS_MAX * AP_STACK_SIZE
