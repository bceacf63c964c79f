; The first process of the benchmark's Linux guest: prints the TSC and powers the machine off.
; A static ELF without a C library. Spec: Linux x86-64 system calls.

        bits 64
        global _start

SYS_WRITE     equ 1
SYS_PAUSE     equ 34
SYS_REBOOT    equ 169
REBOOT_MAGIC1 equ 0xfee1dead
REBOOT_MAGIC2 equ 672274793
POWER_OFF     equ 0x4321fedc

section .text
_start: rdtsc
        shl rdx, 32
        or rax, rdx
        lea rdi, [rel digits_end]
        mov ecx, 10
.digit: xor edx, edx
        div rcx
        add dl, '0'
        dec rdi
        mov [rdi], dl
        test rax, rax
        jnz .digit

        mov r12, rdi
        lea rsi, [rel label]
        mov edx, label_end - label
        call print
        mov rsi, r12
        lea rdx, [rel digits_end + 1]
        sub rdx, rsi
        call print

        mov edi, REBOOT_MAGIC1
        mov esi, REBOOT_MAGIC2
        mov edx, POWER_OFF
        mov eax, SYS_REBOOT
        syscall
.stay:  mov eax, SYS_PAUSE
        syscall
        jmp .stay

print:  mov edi, 1
        mov eax, SYS_WRITE
        syscall
        ret

section .data
label:  db 10, "bench: init_tsc "
label_end:
digits: times 20 db '0'
digits_end:
        db 10
