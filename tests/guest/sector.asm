; A boot sector: the BIOS services that a guest entered in real mode finds. It asks each, says what failed,
; waits for a key and ends with the key's digit as exit code.

        bits 16
        org 0x7c00

SMAP    equ 0x534d4150

%macro check 2                  ; condition that must hold, what
        j%1 %%good
        mov si, %%name
        jmp fail
%%name: db %2, 0
%%good:
%endmacro

        xor ax, ax
        mov ds, ax
        mov es, ax
        cmp dl, 0x80
        check e, "DL"
        int 0x12
        cmp ax, 639
        check e, "INT 12h"
        mov ah, 0x88
        int 0x15
        check nc, "INT 15h, AH=88h"
        cmp ax, 31 * 1024       ; the machine has 32 MiB
        check e, "its KiB"
        mov ax, 0xe801
        int 0x15
        check nc, "INT 15h, AX=E801h"
        cmp bx, 16 * 16
        check e, "its blocks"

        xor ebx, ebx
        mov bp, 0               ; entries
        mov di, map
.next:  mov eax, 0xe820
        mov edx, SMAP
        mov ecx, 20
        int 0x15
        check nc, "INT 15h, AX=E820h"
        cmp eax, SMAP
        check e, "its signature"
        inc bp
        test ebx, ebx
        jnz .next
        cmp dword [map + 16], 1 ; the last: RAM from 1 MiB
        check e, "its type"
        cmp dword [map + 8], 31 << 20
        check e, "its length"
        cmp bp, 4               ; and conventional, reserved, ROM area
        check e, "its entries"

        mov ah, 0x42
        mov dl, 0x80
        int 0x13
        check c, "INT 13h"      ; no disk

        mov ah, 0               ; the timer ticks
        int 0x1a
        mov bx, dx
.tick:  hlt
        mov ah, 0
        int 0x1a
        cmp dx, bx
        je .tick

        mov si, ready
        call print
        mov ah, 0
        int 0x16
        push ax
        mov ah, 0x0e
        int 0x10
        pop ax
        sub al, '0'
        jmp end

fail:   call print
        mov si, failed
        call print
        mov al, 0xff
end:    out 0xf4, al
        hlt

print:  lodsb
        test al, al
        jz .done
        mov ah, 0x0e
        int 0x10
        jmp print
.done:  ret

ready:  db "sector: a digit? ", 0
failed: db ": wrong", 13, 10, 0

        times 510 - ($ - $$) db 0
        dw 0xaa55
map:
