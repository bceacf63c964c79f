; From UEFI's long mode to a kernel that knows multiboot 2. main.c copies this to a page below
; 4 GiB, for the application itself may lie anywhere.
; Spec: Multiboot2 Specification 2.0 section 3.3; AMD APM vol. 2 "Leaving Long Mode".

CODE32    equ 0x08
DATA      equ 0x10
MSR_EFER  equ 0xc0000080
EFER_LME  equ 1 << 8
CR0_PG    equ 1 << 31
MB2_MAGIC equ 0x36d76289

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
    mov eax, cr0
    and eax, ~CR0_PG
    mov cr0, eax
    mov ecx, MSR_EFER
    rdmsr
    and eax, ~EFER_LME
    wrmsr
    xor eax, eax
    mov cr4, eax
    mov eax, MB2_MAGIC
    jmp edi

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
