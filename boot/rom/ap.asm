; What every other CPU does when the loader starts it: memory types, its name, and wait.
; cpus.c copies this to a page of its own below 1 MiB and keeps what is shared on it.

AP_COUNT   equ 0x400
AP_IDS     equ 0x408
AP_IDS_MAX equ 256
AP_MTRRS   equ 0x600
CR0_CACHES equ ~(1 << 30 | 1 << 29) ; CD, NW

section .rodata
bits 16
; extern const uint8_t ap_start[], ap_end[];
global ap_start
global ap_end
ap_start:
    cli
    mov ax, cs
    mov ds, ax
    mov si, AP_MTRRS
.next:
    mov ecx, [si]
    jecxz .ready
    mov eax, [si + 4]
    mov edx, [si + 8]
    wrmsr
    add si, 12
    jmp .next
.ready:
    mov eax, cr0
    and eax, CR0_CACHES
    mov cr0, eax
    mov eax, 1
    cpuid
    shr ebx, 24                     ; the APIC's identifier
    mov eax, 1
    lock xadd [AP_COUNT], eax
    cmp eax, AP_IDS_MAX - 1
    jae .halt
    mov [eax + AP_IDS], bl
.halt:
    hlt
    jmp .halt
ap_end:
