; A kernel without a library, by multiboot with address fields or as a flat image: it says its command line
; on COM1 and on the text port, and ends with the first byte of its module as exit code.

        bits 32
        org 0x200000

HEADER_MAGIC    equ 0x1badb002
HEADER_FLAGS    equ 0x10000     ; the addresses below hold
BOOT_MAGIC      equ 0x2badb002
INFO_ARGS       equ 16
INFO_MODULES    equ 24
COM1            equ 0x3f8
TEXT_PORT       equ 0xe9
EXIT_PORT       equ 0xf4

start:  jmp main

        align 4
header: dd HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS)
        dd header, start, end, end, start

main:   cmp eax, BOOT_MAGIC
        jne .flat
        mov esi, [ebx + INFO_MODULES]
        mov esi, [esi]
        mov ebx, [ebx + INFO_ARGS]
.flat:  mov edi, esi
        mov esi, ebx
.next:  lodsb
        test al, al
        jz .end
        call put
        jmp .next
.end:   mov al, 10
        call put
        movzx eax, byte [edi]
        mov dx, EXIT_PORT
        out dx, eax
        hlt

put:    mov dx, COM1
        out dx, al
        mov dx, TEXT_PORT
        out dx, al
        ret
end:
