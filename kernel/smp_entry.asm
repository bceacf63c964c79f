; The first instructions of another CPU in long mode: it has the kernel's page tables and the boot
; GDT (boot/ap.asm), but no stack and no identity. Its APIC id says which slot is its own.

%include "kernel_offsets.inc"

bits 64
default rel

extern smp_ap_main
extern smp_ap_slots
extern smp_ap_slot_count

CPUID_TOPOLOGY equ 0x0b

section .text

; void smp_ap_entry(void);
global smp_ap_entry
align 16
smp_ap_entry:
    xor eax, eax
    cpuid
    cmp eax, CPUID_TOPOLOGY
    jb .id_of_8_bits
    mov eax, CPUID_TOPOLOGY
    xor ecx, ecx
    cpuid                           ; EDX: the 32-bit id, if the leaf is filled in at all
    test ebx, ebx
    jnz .search
.id_of_8_bits:
    mov eax, 1
    cpuid
    shr ebx, 24
    mov edx, ebx
.search:
    mov rdi, [smp_ap_slots]
    mov ecx, [smp_ap_slot_count]
.next:
    cmp [rdi + AP_SLOT_APIC_ID], edx
    je .found
    add rdi, AP_SLOT_SIZE
    dec ecx
    jnz .next
.halt:                              ; unknown, or given up on
    cli
    hlt
    jmp .halt
.found:
    mov eax, AP_WAITED_FOR
    mov ecx, AP_ARRIVED
    lock cmpxchg [rdi + AP_SLOT_STATE], ecx
    jne .halt
    mov rsp, [rdi + AP_SLOT_STACK_TOP]
    xor ebp, ebp
    call smp_ap_main
