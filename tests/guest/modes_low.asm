; The guest "modes", below 64 bits: what runs in each mode leaves its results, in order, at RESULTS.
; DS has base 0 in every mode, so that the variables have the same address everywhere.

%include "tests/guest/modes.inc"

        extern modes_gdt_pointer, modes_idt_pointer, guest_pml4, modes_main_tss, modes_gdt
        extern modes_directory, modes_pae_pointers
        global modes_run, modes_vectors, modes_low, modes_low_end, modes_protected
        global modes_16_and_real, modes_pse, modes_pae, modes_v86, modes_pse_on, modes_paging_off
        global modes_task_16, modes_task_v86

EFER     equ 0xc0000080
EFER_LME equ 1 << 8

PIC_MASK_PLUS equ 0x22          ; no device's, and not in the permission bitmap
REAL_INT      equ 0x60
ALIAS         equ 0x80000000    ; of 4 MiB, or 2 MiB with PAE, around the LAPIC
ALIAS_4K      equ 0x80400000    ; of the LAPIC's page alone
NOT_MAPPED    equ 0x90000000

; What exits in every mode: CPUID, and port I/O with an immediate, a register and a string.
%macro EXITS 0
        mov eax, 0
        cpuid
        KEEP ebx
        xor eax, eax
        in al, PIC_MASK
        KEEP eax
        mov dx, PIC_MASK
        xor eax, eax
        in al, dx
        out dx, al
        KEEP eax
        mov dword [SCRATCH], 0
        mov edi, SCRATCH
        mov ecx, 3
        cld
        rep insb
        mov eax, [SCRATCH]
        KEEP eax
        lea eax, [edi - SCRATCH]
        KEEP eax
%endmacro

section .text

; void modes_run(void (*fn)(void)): fn runs in flat 32-bit protected mode without paging.
        bits 64
modes_run:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        pushfq
        cli
        sub rsp, 32
        sgdt [rsp]
        sidt [rsp + 16]
        mov [saved_rsp], rsp
        mov rax, cr4
        mov [saved_cr4], rax
        lgdt [modes_gdt_pointer]
        push CODE32
        push .compatibility
        retfq
        bits 32
.compatibility:
        mov eax, DATA32
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        mov ecx, EFER
        rdmsr
        and eax, ~EFER_LME
        wrmsr
        mov eax, cr4
        and eax, ~CR4_PAE
        mov cr4, eax
        lidt [modes_idt_pointer]
        mov dword [RESUME], 0
        mov dword [RESUME_CS], 0
        mov dword [ESCAPE], give_up
        call edi
        jmp back
give_up:                        ; a fault that nobody expected
        mov dword [GAVE_UP], 1
back:   mov esp, [saved_rsp]
        clts
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        mov eax, [saved_cr4]
        mov cr4, eax
        mov eax, guest_pml4
        mov cr3, eax
        mov ecx, EFER
        rdmsr
        or eax, EFER_LME
        wrmsr
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        jmp CODE64:.long
        bits 64
.long:  mov rsp, [saved_rsp]
        mov eax, DATA32
        mov ss, eax
        lgdt [rsp]
        lidt [rsp + 16]
        add rsp, 32
        popfq
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

; --- 32-bit exceptions -------------------------------------------------------------------------

        bits 32
%assign i 0
%rep 32
vector_ %+ i:
    %if i = 8 || (i >= 10 && i <= 14) || i = 17 || i = 21 || i = 29 || i = 30
    %else
        push dword 0
    %endif
        push dword i
        jmp exception
%assign i i + 1
%endrep

; On at RESUME, with ES flat; with none given to ESCAPE, which finds a stack of its own.
exception:
        push eax
        mov eax, DATA32         ; V86 mode has left null selectors
        mov ds, eax
        mov es, eax
        mov eax, [esp + 4]
        mov [VECTOR], eax
        mov eax, [esp + 8]
        mov [ERROR], eax
        mov eax, [RESUME]
        test eax, eax
        jz .escape
        mov [esp + 12], eax
        mov eax, [RESUME_CS]
        test eax, eax
        jz .same
        mov [esp + 16], eax
.same:  pop eax
        add esp, 8
        iretd
.escape: jmp [ESCAPE]

; --- 32-bit protected mode ---------------------------------------------------------------------

modes_protected:
%assign slot 0
        EXITS
        mov eax, [LAPIC_VERSION]
        KEEP eax
        mov eax, LAPIC_FITS
        mov es, eax
        mov eax, [es:LAPIC_VERSION & 0xfff]
        KEEP eax
        mov eax, LAPIC_SHORT
        mov es, eax
        FAULTS mov eax, [es:LAPIC_VERSION & 0xfff]
        mov eax, LAPIC_SHORT
        mov es, eax
        FAULTS mov [es:LAPIC_TPR & 0xfff], eax
        mov eax, RAM_SHORT
        mov es, eax
        FAULTS mov eax, [es:0xffd]
        mov eax, STACK_BELOW
        mov ss, eax
        FAULTS mov eax, [ss:LAPIC_VERSION]
        mov eax, DATA32
        mov ss, eax
        mov es, eax
        ret

; --- 32-bit paging -----------------------------------------------------------------------------

%macro PAGES 1                  ; the LAPIC's version register in the large page
%assign slot 0
        EXITS
        mov eax, [LAPIC_VERSION]
        KEEP eax
        mov eax, [ALIAS + %1]
        KEEP eax
        mov eax, [ALIAS_4K + (LAPIC_VERSION & 0xfff)]
        KEEP eax
        mov dword [ALIAS_4K + (LAPIC_TPR & 0xfff)], 0x20
        mov eax, [LAPIC_TPR]
        KEEP eax
        mov dword [ALIAS + %1 + LAPIC_TPR - LAPIC_VERSION], 0
        mov eax, [LAPIC_TPR]
        KEEP eax
        FAULTS mov eax, [NOT_MAPPED]
        mov eax, cr2
        KEEP eax
%endmacro

modes_pse_on:
        mov eax, [modes_directory]
        mov cr3, eax
        mov eax, cr4
        or eax, CR4_PSE
        mov cr4, eax
paging_on:
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        ret

modes_paging_off:
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        ret

modes_pse:
        call modes_pse_on
        PAGES 0x200030
        jmp modes_paging_off

modes_pae:
        mov eax, cr4
        or eax, CR4_PAE
        mov cr4, eax
        mov eax, modes_pae_pointers
        mov cr3, eax
        call paging_on
        PAGES 0x30
        jmp modes_paging_off

; --- V86 mode, with pages ----------------------------------------------------------------------

modes_v86:
        call modes_pse_on
        mov eax, MAIN_TSS
        ltr ax
        mov dword [ESCAPE], .left
        mov [ESCAPE_ESP], esp
        push dword 0            ; GS, FS, DS, ES
        push dword 0
        push dword 0
        push dword 0
        push dword 0            ; SS:ESP
        push dword REAL_STACK
        push dword FLAG_VM | 2  ; IOPL 0
        push dword LOW / 16
        push dword v86 - modes_low
        iretd
.left:  mov esp, [ESCAPE_ESP]
        mov eax, DATA32
        mov fs, eax
        mov gs, eax
        jmp modes_paging_off

; --- 16-bit protected mode and real mode -------------------------------------------------------

modes_16_and_real:
        mov [ESCAPE_ESP], esp
        jmp CODE16:protected16 - modes_low

real_done:
        mov eax, DATA32
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov esp, [ESCAPE_ESP]
        lidt [modes_idt_pointer]
        ret

; Copied to LOW, which is where CODE16's segment begins.
%define ORIGIN modes_low
modes_low:
        bits 16
protected16:
%assign slot 0
        EXITS
        mov eax, [fs:dword LAPIC_VERSION]
        KEEP eax
        mov ax, LAPIC_SHORT
        mov es, ax
        FAULTS mov eax, [es:LAPIC_VERSION & 0xfff]
        mov ax, RAM_SHORT
        mov es, ax
        FAULTS mov eax, [es:0xffd]
        mov ax, STACK_BELOW
        mov ss, ax
        FAULTS mov eax, [ss:dword LAPIC_VERSION]
        mov ax, DATA16
        mov ss, ax
        cmp dword [ONLY_PROTECTED], 0
        jne .done
        mov ds, ax
        mov es, ax
        mov gs, ax
        mov eax, cr0
        and al, ~CR0_PE
        mov cr0, eax
        jmp LOW / 16:.real - modes_low
.real:  xor ax, ax              ; FS keeps its limit of 4 GiB
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, REAL_STACK
        lidt [cs:ivt_pointer - modes_low]
        mov dword [4 * 0], (LOW / 16 << 16) + real_divide_error - modes_low
        mov dword [4 * 13], (LOW / 16 << 16) + real_protection - modes_low
        mov dword [4 * REAL_INT], (LOW / 16 << 16) + real_interrupt - modes_low
        EXITS
        mov dword [SCRATCH], 0
        int REAL_INT
        mov eax, [SCRATCH]
        KEEP eax
        xor ecx, ecx
        FAULTS div ecx
        FAULTS mov ax, [0xffff]
        mov eax, [fs:dword LAPIC_VERSION]
        KEEP eax
        mov ecx, LAPIC_TPR
        mov dword [fs:ecx], 0x30
        mov eax, [fs:ecx]
        KEEP eax
        mov dword [fs:ecx], 0
        mov eax, [fs:dword modes_gdt_pointer + 2]
        KEEP eax
        mov eax, cr0
        or al, CR0_PE
        mov cr0, eax
protected16.done:
        jmp dword CODE32:real_done

real_interrupt:
        pushad
        xor eax, eax
        cpuid
        mov [SCRATCH], ebx
        popad
        iret
real_divide_error:
        mov dword [VECTOR], 0
        jmp real_exception
real_protection:
        mov dword [VECTOR], 13
real_exception:                 ; in real mode no exception has an error code
        push bp
        mov bp, sp
        push ax
        mov ax, [RESUME]
        mov [bp + 2], ax
        pop ax
        pop bp
        iret
ivt_pointer:
        dw 4 * 256 - 1
        dd 0

v86:
%assign slot 0
        EXITS                   ; the ports by the permission bitmap
        mov ax, V86_LAPIC / 16
        mov es, ax
        mov eax, [es:LAPIC_VERSION & 0xfff]
        KEEP eax
        smsw ax
        and eax, CR0_PE
        KEEP eax
        FAULTS cli
        FAULTS in al, PIC_MASK_PLUS
        FAULTS int REAL_INT
        FAULTS mov eax, cr0
        hlt                     ; #GP with nothing to go on at: the end

; Called, from 32-bit code; DS is DATA16.
modes_task_16:
        mov [TASK_SAW], si
        xor eax, eax
        cpuid
        mov [TASK_SAW + 4], ebx
        pushf
        pop ax
        and ax, FLAG_NT
        mov [TASK_SAW + 8], ax
        str ax
        mov [TASK_SAW + 12], ax
        mov [TASK_SAW + 16], sp
        inc dword [TASK_SAW + 20]
        iret
        jmp modes_task_16

; A task in V86 mode, jumped to; DS is 0.
modes_task_v86:
        xor eax, eax
        cpuid
        mov [TASK_SAW], ebx
        mov [TASK_SAW + 4], cs
        hlt                     ; #GP: to the handler, which goes on at ESCAPE
modes_low_end:

section .rodata
modes_vectors:
%assign i 0
%rep 32
        dd vector_ %+ i
%assign i i + 1
%endrep

section .data
saved_rsp: dq 0
saved_cr4: dq 0
