; The boot block: the last 4 KiB of the flash part, from the reset vector to the loader in RAM.
;
; The CPU starts in real mode at 0xfffffff0, and whether RAM works is not known. So until the test
; below has passed nothing is pushed and nothing but registers is written: ESP holds the return
; address of the routine at work. Then the loader (one of two copies, each with a checksum) goes to
; the tested memory, which has its stack, too, and is entered in long mode.
; Spec: Intel SDM vol. 3 "Processor Management and Initialization"; AMD APM vol. 2 chapter 14.

%include "boot/rom/layout.inc"

BLOCK        equ 0xfffff000
FLASH_END    equ 0                  ; 4 GiB, in 32 bits

COM1         equ 0x3f8
PORT_A20     equ 0x92               ; bit 0 resets the machine, bit 1 opens A20
CR0_PE       equ 1 << 0
CR0_ET       equ 1 << 4
CR0_NE       equ 1 << 5
CR0_WP       equ 1 << 16
CR0_PG       equ 1 << 31
CR4_PAE      equ 1 << 5
MSR_EFER     equ 0xc0000080
EFER_LME     equ 1 << 8

CODE32       equ 0x08
DATA         equ 0x10
CODE64       equ 0x18

PAGE         equ 0x003              ; present, writable
PAGE_LARGE   equ 0x083

; call without a stack: %1 jumps back to ESP
%macro stackless 1
    mov esp, %%back
    jmp %1
%%back:
%endmacro

bits 16
org BLOCK

start16:
    cli
    cld
    in al, PORT_A20
    and al, 0xfe
    or al, 2
    out PORT_A20, al
    o32 lgdt [cs:gdt_pointer - $$ + (BLOCK & 0xffff)]
    mov eax, CR0_PE | CR0_ET | CR0_NE ; reset leaves the caches off: CD and NW go
    mov cr0, eax
    jmp dword CODE32:start32

bits 32
start32:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    stackless serial_init

    mov esi, text_no_long_mode
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb fail
    mov eax, 0x80000001
    cpuid
    mov esi, text_no_long_mode
    bt edx, 29
    jnc fail

; Each word of the memory we are going to use takes its own address, then the complement: words
; that answer to two addresses, and bits that stick, are found.
test_ram:
    xor ebp, ebp
.pattern:
    mov edi, LOADER_TABLES
.fill:
    mov eax, edi
    xor eax, ebp
    stosd
    cmp edi, LOADER_END
    jb .fill
    mov edi, LOADER_TABLES
    mov esi, text_ram
.compare:
    mov eax, edi
    xor eax, ebp
    scasd
    jne fail
    cmp edi, LOADER_END
    jb .compare
    not ebp
    test ebp, ebp
    jnz .pattern

; The first good copy of the loader.
    mov ebx, [anchor.loader]
    mov esi, ebx
    sub esi, [anchor.size]
    stackless try_loader
    mov esi, text_first
    stackless puts
    mov ebx, [anchor.loader + 4]
    mov esi, ebx
    sub esi, [anchor.size]
    stackless try_loader
    mov esi, text_second
    jmp fail

; ESI: a copy of the loader. Goes to ESP when it is not one; else never comes back.
try_loader:
    cmp dword [esi], LOADER_MAGIC
    jne .bad
    mov ecx, [esi + 4]
    cmp ecx, LOADER_END - LOADER_BASE - 16384
    ja .bad
    test ecx, 3
    jnz .bad
    cmp ecx, 16
    jb .bad
    mov ebp, [esi + 8]
    shr ecx, 2
    mov edi, LOADER_BASE
    rep movsd
    mov dword [LOADER_BASE + 8], 0  ; the checksum is of the rest
    mov esi, LOADER_BASE
    mov ecx, [LOADER_BASE + 4]
    mov eax, -1
.next_byte:                         ; CRC-32C, a bit at a time: a loader is small
    movzx edx, byte [esi]
    inc esi
    xor eax, edx
    mov dl, 8
.next_bit:
    shr eax, 1
    jnc .no_carry
    xor eax, 0x82f63b78
.no_carry:
    dec dl
    jnz .next_bit
    dec ecx
    jnz .next_byte
    not eax
    cmp eax, ebp
    je to_long_mode
.bad:
    jmp esp

; The low 4 GiB, identically.
to_long_mode:
    mov edi, LOADER_TABLES
    xor eax, eax
    mov ecx, 2 * 4096 / 4
    rep stosd
    mov dword [LOADER_TABLES], LOADER_TABLES + 4096 + PAGE
    mov edi, LOADER_TABLES + 4096
    mov eax, LOADER_TABLES + 2 * 4096 + PAGE
    mov ecx, 4
.directory:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop .directory
    mov edi, LOADER_TABLES + 2 * 4096
    mov eax, PAGE_LARGE
    mov ecx, 4 * 512
.page:
    mov [edi], eax
    mov dword [edi + 4], 0
    add edi, 8
    add eax, 0x200000
    loop .page

    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, LOADER_TABLES
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG
    mov cr0, eax
    jmp CODE64:.long_mode
bits 64
.long_mode:
    mov esp, LOADER_END
    mov edi, anchor                 ; the argument of rom_main()
    mov esi, ebx                    ; which loader: its offset
    mov eax, [abs LOADER_BASE + 12]
    jmp rax
bits 32

; ------------------------------------------------------------ the serial line, without a stack

serial_init:
    mov ebp, serial_table
.next:
    movzx edx, word [ebp]
    test edx, edx
    jz .done
    mov al, [ebp + 2]
    out dx, al
    add ebp, 3
    jmp .next
.done:
    jmp esp

serial_table:                       ; 115200 baud, 8N1, FIFO on; National 16550D data sheet
%macro write 2
    dw COM1 + %1
    db %2
%endmacro
    write 1, 0x00
    write 3, 0x83
    write 0, 0x01
    write 1, 0x00
    write 3, 0x03
    write 2, 0x07
    write 4, 0x03
    dw 0

; ESI: the text
puts:
    lodsb
    test al, al
    jz .done
    mov ah, al
    mov edx, COM1 + 5
    mov ecx, 100000                 ; no line, no wait
.wait:
    in al, dx
    test al, 0x20
    loopz .wait
    mov edx, COM1
    mov al, ah
    out dx, al
    jmp puts
.done:
    jmp esp

fail:
    stackless puts
    mov esi, text_stop
    stackless puts
.stop:
    cli
    hlt
    jmp .stop

text_no_long_mode:
    db "rom: this CPU has no 64-bit mode", 0
text_ram:
    db "rom: memory below 1 MiB fails its test", 0
text_first:
    db "rom: the loader's first copy is damaged, the second one is taken", 13, 10, 0
text_second:
    db "rom: both copies of the loader are damaged", 0
text_stop:
    db "; the machine stops here", 13, 10, 0

align 8
gdt:
    dq 0
    dq 0x00cf9b000000ffff           ; 32-bit code
    dq 0x00cf93000000ffff           ; data
    dq 0x00af9b000000ffff           ; 64-bit code
gdt_pointer:
    dw gdt_pointer - gdt - 1
    dd gdt

; What tools/romtool fills in (struct rom_anchor in rom.h).
times 0xfc0 - ($ - $$) db 0xff
anchor:
    db "OCFLASH", 1
.size:
    dd 0
.loader:
    dd 0, 0                         ; offsets in the flash part
    dd 0, 0                         ; of the directories
    dd 0                            ; CRC-32C of the boot block, this field taken as zero

times 0xff0 - ($ - $$) db 0xff
bits 16
    jmp start16
times 0x1000 - ($ - $$) db 0xff
