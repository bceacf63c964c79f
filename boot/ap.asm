; The way of every other CPU from the startup IPI to long mode.
;
; kernel/smp.c copies the trampoline to a page below 1 MiB and fills boot_ap (boot/ap.h).
; The trampoline holds no address of its own page: DS = CS reaches its data, and the far jump
; goes straight into the image, which is below 4 GiB.
; Spec: Intel SDM vol. 3 "Multiple-Processor (MP) Initialization"; AMD APM vol. 2 section 16.5.

%include "boot/layout.inc"
%include "boot_offsets.inc"

extern boot_gdt
extern boot_gdt_pointer
extern boot_pml4

section .rodata
bits 16
; extern const uint8_t boot_ap_trampoline[], boot_ap_trampoline_end[];
global boot_ap_trampoline
global boot_ap_trampoline_end
boot_ap_trampoline:
    cli
    mov ax, cs
    mov ds, ax
    o32 lgdt [.gdt_pointer - boot_ap_trampoline]
    mov eax, 0x11                   ; PE and ET; caches on (INIT leaves CD and NW set)
    mov cr0, eax
    jmp dword BOOT_CODE32:PHYS(ap_protected)

.gdt_pointer:
    dw 4 * 8 - 1
    dd PHYS(boot_gdt)
boot_ap_trampoline_end:

section .boot.text progbits alloc exec nowrite align=16
bits 32
ap_protected:
    mov eax, BOOT_DATA
    mov ds, eax
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, PHYS(boot_pml4)
    mov cr3, eax
    ; NXE must be on before the kernel's tables are: bit 63 of an entry is reserved without it.
    mov ecx, MSR_EFER
    mov eax, [PHYS(boot_ap) + BOOT_AP_EFER]
    xor edx, edx
    wrmsr
    mov eax, CR0_PE_MP_ET_NE_WP_PG
    mov cr0, eax
    jmp BOOT_CODE64:PHYS(.long_mode)

bits 64
.long_mode:
    mov rax, .high
    jmp rax
.high:
    mov rax, [rel boot_ap + BOOT_AP_ROOT]
    mov cr3, rax
    lgdt [rel boot_gdt_pointer]
    mov eax, BOOT_DATA
    mov ss, eax
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    jmp [rel boot_ap + BOOT_AP_ENTRY]

section .bss nobits alloc noexec write align=8
; struct boot_ap boot_ap;
global boot_ap
boot_ap: resb BOOT_AP_SIZE
