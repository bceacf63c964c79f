; From the loader's 32-bit protected mode to kernel_main() in long mode.
;
; The boot page tables map the low 4 GiB three times: identically, at NK_DIRECT_BASE (so that
; nk_pa_to_va() works from the first line of C), and the image at NK_IMAGE_BASE. mm/paging
; replaces them; the other CPUs pass through them again on their way up (boot/ap.asm).
; Spec: AMD APM vol. 2 "Long-Mode Initialization"; Multiboot 0.6.96 section 3.2.

%include "boot/layout.inc"

extern kernel_main
extern nk_cpu_table

PAGE_PRESENT_WRITE equ 0x003
PAGE_LARGE         equ 0x080

BOOT_STACK_SIZE    equ 16384
COM1               equ 0x3f8
COM1_LSR           equ COM1 + 5
LSR_THR_EMPTY      equ 1 << 5

PVH_MAGIC          equ 0x336ec578   ; of the record (boot/record.h)

section .boot.text progbits alloc exec nowrite align=16
bits 32

; Entry from a PVH loader: EBX is its record, the rest as by multiboot.
; Spec: Xen docs/misc/pvh.pandoc.
global pvh_entry
pvh_entry:
    mov eax, PVH_MAGIC

; Entry from a multiboot loader: EAX is its magic, EBX its record. Interrupts are off, paging is off.
global boot_entry
boot_entry:
    cld
    mov edi, eax                    ; the arguments of kernel_main
    mov esi, ebx
    mov esp, PHYS(boot_stack_top)

    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode

    xor ecx, ecx
    mov eax, PAGE_PRESENT_WRITE | PAGE_LARGE
.map_2mib:
    mov [PHYS(boot_pd) + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jne .map_2mib

    mov eax, PHYS(boot_pd) + PAGE_PRESENT_WRITE
    mov [PHYS(boot_pdpt_low)], eax
    mov [PHYS(boot_pdpt_image) + 510 * 8], eax
    add eax, 4096
    mov [PHYS(boot_pdpt_low) + 8], eax
    mov [PHYS(boot_pdpt_image) + 511 * 8], eax
    add eax, 4096
    mov [PHYS(boot_pdpt_low) + 16], eax
    add eax, 4096
    mov [PHYS(boot_pdpt_low) + 24], eax

    mov dword [PHYS(boot_pml4)], PHYS(boot_pdpt_low) + PAGE_PRESENT_WRITE
    mov dword [PHYS(boot_pml4) + 256 * 8], PHYS(boot_pdpt_low) + PAGE_PRESENT_WRITE
    mov dword [PHYS(boot_pml4) + 511 * 8], PHYS(boot_pdpt_image) + PAGE_PRESENT_WRITE

    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, PHYS(boot_pml4)
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_PE_MP_ET_NE_WP_PG
    mov cr0, eax

    lgdt [PHYS(boot_gdt_pointer_low)]
    jmp BOOT_CODE64:PHYS(.long_mode)

bits 64
.long_mode:
    mov rax, .high
    jmp rax
.high:
    lgdt [rel boot_gdt_pointer]
    mov eax, BOOT_DATA
    mov ss, eax
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, boot_stack_top
    push 0
    popfq                           ; no flag of the loader's stays

    ; GS points at the boot CPU's record before any C runs: locks and traps count on it.
    mov rax, nk_cpu_table
    mov rdx, rax
    shr rdx, 32
    mov ecx, MSR_GS_BASE
    wrmsr

    xor ebp, ebp                    ; the end of every backtrace
    call kernel_main
.stop:
    cli
    hlt
    jmp .stop

bits 32
; There is nothing to run the kernel on; say so where somebody may look.
no_long_mode:
    mov esi, PHYS(no_long_mode_text)
    mov edi, 0xb8000                ; VGA text memory
.next:
    lodsb
    test al, al
    jz .stop
    mov ah, 0x4f                    ; white on red
    stosw
    mov bl, al
    mov dx, COM1_LSR
    mov ecx, 100000
.wait:
    in al, dx
    test al, LSR_THR_EMPTY
    loopz .wait
    mov dx, COM1
    mov al, bl
    out dx, al
    jmp .next
.stop:
    cli
    hlt
    jmp .stop

section .rodata
no_long_mode_text:
    db "orthocone: this CPU has no 64-bit mode", 13, 10, 0

; The 32-bit code segment is for the other CPUs, which come from real mode.
align 8
global boot_gdt
boot_gdt:
    dq 0
    dq 0x00af9b000000ffff           ; 0x08: 64-bit code
    dq 0x00cf93000000ffff           ; 0x10: data
    dq 0x00cf9b000000ffff           ; 0x18: 32-bit code
boot_gdt_end:

global boot_gdt_pointer_low
boot_gdt_pointer_low:
    dw boot_gdt_end - boot_gdt - 1
    dd PHYS(boot_gdt)

global boot_gdt_pointer
boot_gdt_pointer:
    dw boot_gdt_end - boot_gdt - 1
    dq boot_gdt

section .bss.page_aligned nobits alloc noexec write align=4096
global boot_pml4
boot_pml4:       resb 4096
boot_pdpt_low:   resb 4096
boot_pdpt_image: resb 4096
boot_pd:         resb 4 * 4096

; mm/paging leaves the guard page unmapped, so that an overflow faults.
global boot_stack_guard
global boot_stack_bottom
global boot_stack_top
boot_stack_guard: resb 4096
boot_stack_bottom:
    resb BOOT_STACK_SIZE
boot_stack_top:
