; The first part of a test guest's bzImage: the setup header and the 16-bit entry.
;
; The first page has the layout of struct boot_params, so that the 16-bit road can hand the page itself
; to the kernel: header in place, E820 map filled in by the BIOS. Code lies outside what boot_params
; uses. A 64-bit loader copies the header and never runs this file's code.
; Spec: Linux Documentation/arch/x86/boot.rst (protocol 2.15) and zero-page.rst.

%include "tests/guest/lib/layout.inc"

        bits 16
        org 0

E820_COUNT      equ 0x1e8
E820_TABLE      equ 0x2d0
E820_ROOM       equ 128
E820_ENTRY_SIZE equ 20
SETUP_SIZE      equ 0x1800

        times 0x1f1 - ($ - $$) db 0
setup_sects:    db SETUP_SIZE / 512 - 1
root_flags:     dw 0
syssize:        dd PAYLOAD_SIZE / 16
ram_size:       dw 0
vid_mode:       dw 0
root_dev:       dw 0
boot_flag:      dw 0xaa55
entry16:        jmp short setup ; its displacement byte ends the header for a loader
header:         db "HdrS"
version:        dw 0x020f
realmode_swtch: dd 0
start_sys_seg:  dw 0
kernel_version: dw version_text - 0x200
type_of_loader: db 0
loadflags:      db 1 ; LOADED_HIGH
setup_move:     dw 0
code32_start:   dd LOAD_ADDRESS
ramdisk_image:  dd 0
ramdisk_size:   dd 0
bootsect_kludge: dd 0
heap_end_ptr:   dw 0
ext_loader:     dw 0
cmd_line_ptr:   dd 0
initrd_max:     dd 0x7fffffff
alignment:      dd 0x1000
relocatable:    db 0
min_alignment:  db 12
xloadflags:     dw 1 ; XLF_KERNEL_64: 64-bit entry at 0x200 of the payload
cmdline_size:   dd 2047
hardware_subarch: dd 0
subarch_data:   dq 0
payload_offset: dd 0
payload_length: dd 0
setup_data:     dq 0
pref_address:   dq LOAD_ADDRESS
init_size:      dd INIT_SIZE
handover:       dd 0
kernel_info:    dd 0

; Between the header and what boot_params keeps at 0x290.
setup:
        jmp near setup_code
        times 0x290 - ($ - $$) db 0

        times 0x1000 - ($ - $$) db 0
version_text:   db "orthocone test guest", 0

setup_code:
        cli
        cld
        mov ax, ds
        mov es, ax

        ; Memory map: INT 15h, AX=E820h (ACPI 6.4 section 15.1).
        mov di, E820_TABLE
        xor ebx, ebx
.next:  mov eax, 0xe820
        mov edx, 0x534d4150
        mov ecx, E820_ENTRY_SIZE
        int 0x15
        jc .mapped
        cmp eax, 0x534d4150
        jne .mapped
        add di, E820_ENTRY_SIZE
        inc byte [E820_COUNT]
        cmp byte [E820_COUNT], E820_ROOM
        je .mapped
        test ebx, ebx
        jnz .next
.mapped:
        cli
        in al, 0x92             ; A20 by the system control port
        or al, 2
        and al, 0xfe            ; bit 0 would reset the machine
        out 0x92, al

        ; The page's address goes to ESI; the GDT's address depends on the segment we are in.
        xor esi, esi
        mov si, ds
        shl esi, 4
        add [gdt_pointer + 2], esi
        lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov ax, 0x18
        mov ds, ax
        mov es, ax
        mov ss, ax
        jmp dword 0x10:LOAD_ADDRESS ; the payload is linked at a fixed address

        align 8
; Selectors 0x10 and 0x18 as the 32-bit boot protocol asks.
gdt:    dq 0
        dq 0
        dq 0x00cf9b000000ffff   ; flat code
        dq 0x00cf93000000ffff   ; flat data
gdt_pointer:
        dw $ - gdt - 1
        dd gdt

        times SETUP_SIZE - ($ - $$) db 0
payload:
        incbin PAYLOAD_FILE
        align 16, db 0          ; syssize counts paragraphs
PAYLOAD_SIZE    equ $ - payload
