; An option ROM that enters a multiboot 1 kernel which lies in memory already (lib/bochs.py puts it there).
;
; Bochs gives memory its place in blocks, when one is first touched. An optramimage is read as a whole to the place of
; its first block: what is behind that appears in whichever blocks are touched next. The BIOS has touched some before
; it comes here, so the image has STAMPS blocks to spare, each with its number in front, and the payload behind them.
;
; The BIOS calls it when its ACPI and MP tables stand; nothing returns. Given by -D: IMAGE (where the image was put),
; BLOCK, STAMPS, and of the payload SIZE, TARGET, ENTRY, RECORD (multiboot information).
; Spec: PC BIOS Boot Specification 1.01 section 3.3; Multiboot 0.6.96 section 3.2.

ROM_SIZE     equ 2048
LOADER_MAGIC equ 0x2badb002
PORT_A20     equ 0x92

org 0
bits 16
    dw 0xaa55
    db ROM_SIZE / 512

    cli
    in al, PORT_A20
    or al, 2
    out PORT_A20, al
    lgdt [cs:gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:ROM_BASE + protected

bits 32
protected:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov esi, IMAGE + BLOCK          ; the second block shows how many the BIOS took
    mov eax, [esi]
    mov ecx, STAMPS + 1
    sub ecx, eax                    ; stamped blocks from here on
    jbe lost
    imul ecx, ecx, BLOCK
    add ecx, SIZE
    mov ebx, esi
.touch:
    mov edx, [ebx]
    add ebx, BLOCK
    sub ecx, BLOCK
    ja .touch

    mov ecx, STAMPS + 1
    sub ecx, eax
    imul ecx, ecx, BLOCK
    add esi, ecx
    mov edi, TARGET
    mov ecx, (SIZE + 3) / 4
    cld
    rep movsd
    mov eax, LOADER_MAGIC
    mov ebx, RECORD
    mov ecx, ENTRY
    jmp ecx

lost:
    cli
    hlt
    jmp lost

align 8
gdt:
    dq 0
    dq 0x00cf9b000000ffff           ; code, flat
    dq 0x00cf93000000ffff           ; data, flat
gdt_pointer:
    dw $ - gdt - 1
    dd ROM_BASE + gdt

    times ROM_SIZE - ($ - $$) db 0  ; the last byte makes the sum zero
