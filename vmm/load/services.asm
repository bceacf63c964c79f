; The services of a PC's BIOS that kernels entered in real mode call: boot loaders, Linux's 16-bit setup
; code. One page at 0xff000, below the end of the first MiB, with the interrupt vectors that lead into it.
; The screen and the keyboard are the first serial port.
; Spec: IBM "Personal System/2 and Personal Computer BIOS Interface Technical Reference"; for AX=E820h
; ACPI 6.5 section 15.1.

        bits 16
        org 0xf000              ; in segment 0xf000

SEGMENT_BIOS    equ 0xf000
BDA             equ 0x400       ; BIOS data area
BDA_CURSOR      equ BDA + 0x50  ; column, row
BDA_TICKS       equ BDA + 0x6c
BDA_WAITING     equ BDA + 0xf0  ; character shown at the cursor, to be sent when the cursor moves on; 0: none
BDA_KEY         equ BDA + 0xf1  ; read from the line, not yet taken; 0: none
LOW_KIB         equ 639         ; conventional memory, up to the EBDA's place
COM1            equ 0x3f8
COM1_STATUS     equ COM1 + 5
E820_ROOM       equ 32
E820_SIZE       equ 20
LAST_COLUMN     equ 79
LAST_ROW        equ 24
CARRY           equ 1
ZERO            equ 0x40
SMAP            equ 0x534d4150

; --- struct services_head of services.c ---------------------------------------------------------

%macro vectors 2                ; count, handler
        times %1 dw %2
%endmacro

        vectors 8, plain        ; exceptions
        dw irq0                 ; 08h
        vectors 7, irq_first    ; 09h
        dw int10
        dw int11
        dw int12
        vectors 2, refuse       ; 13h disks, 14h
        dw int15
        dw int16
        dw refuse               ; 17h
        vectors 2, reset        ; 18h, 19h: nothing to boot
        dw int1a
        dw refuse
        dw plain                ; 1ch: the user's timer tick
        vectors 0x70 - 0x1d, refuse
        vectors 8, irq_second   ; 70h
        vectors 0x100 - 0x78, refuse
entry:  dw start
target: dd 0                    ; offset, segment
extended_kib: dw 0              ; above 1 MiB, at most 64 MiB less one
to_16_mib: dw 0                 ; KiB from 1 to 16 MiB
above_16_mib: dw 0              ; 64 KiB units
e820_count: dw 0
e820:   times E820_ROOM * E820_SIZE db 0

; --- how the guest begins -------------------------------------------------------------------------

; Registers are the guest's already; the 8259s, the 8254 and the serial port become what a BIOS leaves.
start:
        push ax
        push dx
        mov al, 0x11            ; ICW1: edge, cascade, ICW4
        out 0x20, al
        out 0xa0, al
        mov al, 0x08            ; ICW2: vectors
        out 0x21, al
        mov al, 0x70
        out 0xa1, al
        mov al, 4               ; ICW3: the second is at line 2
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1               ; ICW4: 8086
        out 0x21, al
        out 0xa1, al
        mov al, 0xfe            ; only the timer
        out 0x21, al
        mov al, 0xff
        out 0xa1, al
        mov al, 0x34            ; channel 0, rate generator, 65536
        out 0x43, al
        xor al, al
        out 0x40, al
        out 0x40, al
        mov dx, COM1 + 3        ; 8 bits, no parity
        mov al, 3
        out dx, al
        inc dx                  ; DTR, RTS
        out dx, al
        pop dx
        pop ax
        sti
        jmp far [cs:target]

; --- what interrupts share ------------------------------------------------------------------------

irq0:
        push ds
        push word 0
        pop ds
        inc dword [BDA_TICKS]
        pop ds
        int 0x1c
        jmp irq_first

irq_second:
        push ax
        mov al, 0x20            ; end of interrupt
        out 0xa0, al
        pop ax
irq_first:
        push ax
        mov al, 0x20
        out 0x20, al
        pop ax
plain:
        iret

; Flags of the caller: IP, CS and the flags are above the saved BP.
refuse:
        mov ah, 0x86
set_carry:
        push bp
        mov bp, sp
        or byte [bp + 6], CARRY
        pop bp
        iret

clear_carry:
        push bp
        mov bp, sp
        and byte [bp + 6], ~CARRY
        pop bp
        iret

reset:
        cli
        mov dx, 0xcf9
        mov al, 6
        out dx, al
.stop:  hlt
        jmp .stop

; --- 10h: screen ----------------------------------------------------------------------------------

int10:
        push ds
        push word 0
        pop ds
        cmp ah, 0x0e
        je .teletype
        cmp ah, 0x09
        je .show
        cmp ah, 0x0a
        je .show
        cmp ah, 0x02
        je .move
        cmp ah, 0x03
        je .where
        cmp ah, 0x0f
        je .mode
        pop ds
        iret

.teletype:
        mov byte [BDA_WAITING], 0
        call send
        call advance
        pop ds
        iret

; Callers that follow with a teletype of the same character would show it twice.
.show:  mov [BDA_WAITING], al
        pop ds
        iret

.move:  push ax
        xor al, al
        xchg al, [BDA_WAITING]
        test al, al
        jz .shown
        call send
.shown: cmp dh, [BDA_CURSOR + 1]
        je .moved
        mov al, 13
        call send
        mov al, 10
        call send
.moved: mov [BDA_CURSOR], dx
        pop ax
        pop ds
        iret

.where: mov dx, [BDA_CURSOR]
        mov cx, 0x0607          ; an underline
        pop ds
        iret

.mode:  mov ax, 0x5003          ; 80 columns, colour text
        xor bh, bh
        pop ds
        iret

; AL to the line.
send:
        push dx
        push ax
        mov dx, COM1_STATUS
.busy:  in al, dx
        test al, 0x20
        jz .busy
        pop ax
        mov dx, COM1
        out dx, al
        pop dx
        ret

; The cursor behind AL.
advance:
        push dx
        mov dx, [BDA_CURSOR]
        cmp al, 13
        je .first
        cmp al, 10
        je .next
        cmp al, 8
        je .back
        cmp al, 7
        je .done
        inc dl
        cmp dl, LAST_COLUMN
        jbe .done
        mov dl, 0
.next:  cmp dh, LAST_ROW
        je .done
        inc dh
        jmp .done
.first: mov dl, 0
        jmp .done
.back:  test dl, dl
        jz .done
        dec dl
.done:  mov [BDA_CURSOR], dx
        pop dx
        ret

; --- 11h, 12h: equipment, conventional memory -----------------------------------------------------

int11:
        mov ax, 0x0220          ; 80 columns, one serial port
        iret

int12:
        mov ax, LOW_KIB
        iret

; --- 15h: memory, A20 -----------------------------------------------------------------------------

int15:
        cmp eax, 0xe820
        je .map
        cmp ax, 0xe801
        je .sizes
        cmp ah, 0x88
        je .extended
        cmp ah, 0x24
        je .a20
        jmp refuse

.map:   cmp edx, SMAP
        jne refuse
        cmp ecx, E820_SIZE
        jb refuse
        cmp bx, [cs:e820_count]
        jae refuse
        push si
        push di
        push ds
        push cs
        pop ds
        imul si, bx, E820_SIZE
        add si, e820
        mov cx, E820_SIZE / 2
        cld
        rep movsw
        pop ds
        pop di
        pop si
        mov ecx, E820_SIZE
        mov eax, SMAP
        inc bx
        movzx ebx, bx
        cmp bx, [cs:e820_count]
        jb clear_carry
        xor ebx, ebx            ; that was the last
        jmp clear_carry

.sizes: mov ax, [cs:to_16_mib]
        mov cx, ax
        mov bx, [cs:above_16_mib]
        mov dx, bx
        jmp clear_carry

.extended:
        mov ax, [cs:extended_kib]
        jmp clear_carry

; Always open: 2400h and 2401h close and open it, 2402h asks, 2403h what there is: port 92h.
.a20:   cmp al, 3
        ja refuse
        cmp al, 0
        je refuse
        cmp al, 2
        jb .open
        mov bx, 2
        mov al, 1
.open:  mov ah, 0
        jmp clear_carry

; --- 16h: keyboard --------------------------------------------------------------------------------

int16:
        push ds
        push word 0
        pop ds
        test ah, 0xef
        jz .take                ; 00h, 10h
        cmp ah, 0x01
        je .look
        cmp ah, 0x11
        je .look
        xor al, al              ; 02h, 12h: no shift key; others do nothing
        pop ds
        iret

.take:  call key
        jz .take
        mov byte [BDA_KEY], 0
        pop ds
        iret

.look:  call key
        pop ds
        push bp
        mov bp, sp
        jz .none
        and byte [bp + 6], ~ZERO
        pop bp
        iret
.none:  or byte [bp + 6], ZERO
        pop bp
        iret

; The next key to AL, which stays, and to AH its scan code, if it has a key of its own; zero flag: there is
; none, AX is as it was.
key:
        push dx
        cmp byte [BDA_KEY], 0
        jne .there
        push ax
        mov dx, COM1_STATUS
        in al, dx
        test al, 1
        jz .none
        mov dx, COM1
        in al, dx
        mov [BDA_KEY], al
.none:  pop ax
        cmp byte [BDA_KEY], 0
        je .end
.there: mov al, [BDA_KEY]
        xor ah, ah
        push si
        mov si, named_keys
.next:  cmp byte [cs:si], 0
        je .named
        cmp al, [cs:si]
        lea si, [si + 2]
        jne .next
        mov ah, [cs:si - 1]
.named: pop si
        test al, al
.end:   pop dx
        ret

; Those that a control key would give, too: Escape, Backspace, Tab, Enter.
named_keys:
        db 27, 0x01, 8, 0x0e, 9, 0x0f, 13, 0x1c, 0

; --- 1ah: time ------------------------------------------------------------------------------------

int1a:
        test ah, ah
        jnz refuse
        push ds
        push word 0
        pop ds
        mov dx, [BDA_TICKS]
        mov cx, [BDA_TICKS + 2]
        xor al, al
        pop ds
        jmp clear_carry

; --- the reset vector, for those who jump there ---------------------------------------------------

        times 0xff0 - ($ - $$) db 0
        jmp SEGMENT_BIOS:reset
        times 0x1000 - ($ - $$) db 0
