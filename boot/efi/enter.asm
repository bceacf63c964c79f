; From UEFI's long mode to a kernel that knows multiboot 2. main.c copies this to a page below
; 4 GiB, for the application itself may lie anywhere.

%include "boot/pack/enter.inc"

CODE32 equ 0x08
DATA   equ 0x10

section .text
bits 64
default rel
; void enter(uint32_t entry, uint32_t record);
; extern const uint8_t enter_start[], enter_end[];
global enter_start
global enter_end
enter_start:
    cli
    mov ebx, esi
    lea rsp, [stack_top]
    lea rax, [gdt]
    mov [gdt_pointer + 2], rax
    lgdt [gdt_pointer]
    push CODE32
    lea rax, [.compatibility]
    push rax
    retfq
bits 32
.compatibility:
    mov eax, DATA
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    ENTER_MULTIBOOT2

align 8
gdt:
    dq 0
    dq 0x00cf9b000000ffff           ; 32-bit code
    dq 0x00cf93000000ffff           ; data
gdt_pointer:
    dw gdt_pointer - gdt - 1
    dq 0
align 16
    times 64 db 0
stack_top:
enter_end:
