; The headers by which loaders know the kernel. Multiboot's lie in the first 8 KiB of the file.
; Spec: Multiboot Specification 0.6.96 "OS image format"; Multiboot2 Specification 2.0, chapter 3;
; Xen public/elfnote.h (PVH).

%include "boot/layout.inc"

extern boot_entry
extern pvh_entry
extern _text
extern _edata
extern _end

MB1_MAGIC         equ 0x1badb002
MB1_ALIGN_MODULES equ 1 << 0
MB1_MEMORY_INFO   equ 1 << 1
MB1_ADDRESSES     equ 1 << 16      ; the address fields are valid: loaders then take a 64-bit ELF
MB1_FLAGS         equ MB1_ALIGN_MODULES | MB1_MEMORY_INFO | MB1_ADDRESSES

MB2_MAGIC         equ 0xe85250d6
MB2_TAG_END       equ 0
MB2_TAG_REQUEST   equ 1
MB2_TAG_ADDRESSES equ 2             ; with entry, too: loaders need not look at the ELF headers
MB2_TAG_ENTRY     equ 3
MB2_TAG_CONSOLE   equ 4
MB2_TAG_SCREEN    equ 5
MB2_TAG_ALIGN     equ 6
MB2_CONSOLE_TEXT  equ 1 << 1       ; VGA text mode will do
MB2_OPTIONAL      equ 1

section .boot.header progbits alloc exec nowrite align=8

mb1_header:
    dd MB1_MAGIC
    dd MB1_FLAGS
    dd -(MB1_MAGIC + MB1_FLAGS)
    dd PHYS(mb1_header)
    dd PHYS(_text)
    dd PHYS(_edata)
    dd PHYS(_end)
    dd PHYS(boot_entry)

align 8
mb2_header:
    dd MB2_MAGIC
    dd 0                            ; i386 protected mode
    dd mb2_header_end - mb2_header
    dd -(MB2_MAGIC + (mb2_header_end - mb2_header))

mb2_request:
    dw MB2_TAG_REQUEST, MB2_OPTIONAL
    dd mb2_request_end - mb2_request
    dd 1, 3, 6, 8, 14, 15           ; command line, modules, memory map, framebuffer, RSDPs
mb2_request_end:

align 8
    dw MB2_TAG_ADDRESSES, 0
    dd 24
    dd PHYS(mb2_header), PHYS(_text), PHYS(_edata), PHYS(_end)

align 8
    dw MB2_TAG_ENTRY, 0
    dd 12
    dd PHYS(boot_entry)

align 8
    dw MB2_TAG_CONSOLE, MB2_OPTIONAL
    dd 12
    dd MB2_CONSOLE_TEXT

align 8                             ; where there is no text mode: a framebuffer, of any size
    dw MB2_TAG_SCREEN, MB2_OPTIONAL
    dd 20
    dd 0, 0, 32                     ; width, height, bits per pixel

align 8
    dw MB2_TAG_ALIGN, 0
    dd 8

    dw MB2_TAG_END, 0
    dd 8
mb2_header_end:

XEN_ELFNOTE_PHYS32_ENTRY equ 18

section .note.pvh note alloc noexec nowrite align=4
    dd 4                            ; bytes of name
    dd 8                            ; bytes of value: QEMU reads as many of a 64-bit image
    dd XEN_ELFNOTE_PHYS32_ENTRY
    db "Xen", 0
    dq PHYS(pvh_entry)
