; The loader's two ends: its entry in long mode, and the kernel's in 32-bit protected mode.

%include "boot/rom/layout.inc"
%include "boot/pack/enter.inc"

extern rom_main
extern rom_exception
extern _loader_size
extern _bss
extern _end

CODE32      equ 0x08                ; selectors of the boot block's descriptors (reset.asm)
DATA        equ 0x10
CODE64      equ 0x18

VECTORS     equ 32
WITH_ERROR  equ 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 \
                | 1 << 29 | 1 << 30

; What the boot block looks at; tools/romtool fills in the checksum.
section .header progbits alloc exec nowrite
    dd LOADER_MAGIC
    dd _loader_size
    dd 0
    dd loader_entry

section .text
bits 64
; EDI: the boot block's anchor; ESI: offset of the copy of the loader that runs.
global loader_entry
loader_entry:
    mov r8d, edi
    mov edi, _bss
    mov ecx, _end
    sub ecx, edi
    xor eax, eax
    rep stosb
    mov r9d, idt
    mov eax, stubs
    mov ecx, VECTORS
.gate:
    mov [r9], ax                    ; AMD APM vol. 2 "Gate Descriptors"
    mov word [r9 + 2], CODE64
    mov word [r9 + 4], 0x8e00
    mov edx, eax
    shr edx, 16
    mov [r9 + 6], dx
    add eax, STUB_SIZE
    add r9d, 16
    loop .gate
    lidt [idt_pointer]
    mov edi, r8d
    xor ebp, ebp
    call rom_main
.stop:
    cli
    hlt
    jmp .stop

; An exception is a defect of ours, or of the machine: say what is known, and stop.
STUB_SIZE equ 16
align STUB_SIZE
stubs:
%assign vector 0
%rep VECTORS
    align STUB_SIZE
%if !(WITH_ERROR & (1 << vector))
    push 0
%endif
    push vector
    jmp exception
%assign vector vector + 1
%endrep

; void rom_exception(uint64_t vector, uint64_t error, uint64_t rip, uint64_t address);
align STUB_SIZE
exception:
    pop rdi
    pop rsi
    mov rdx, [rsp]
    mov rcx, cr2
    and rsp, -16
    call rom_exception

; void rom_enter(uint32_t entry, uint32_t record): start a kernel that knows multiboot 2.
global rom_enter
rom_enter:
    mov ebx, esi
    push CODE32
    push .compatibility
    retfq
bits 32
.compatibility:
    ENTER_MULTIBOOT2

section .data
idt_pointer:
    dw VECTORS * 16 - 1
    dq idt

section .bss
align 16
idt: resb VECTORS * 16
