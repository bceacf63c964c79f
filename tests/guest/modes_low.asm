; The guest "modes", below 64 bits: what runs in each mode leaves its results, in order, at RESULTS.
; DS has base 0 in every mode, so that the variables have the same address everywhere.

%include "tests/guest/modes.inc"

        extern modes_gdt_pointer, modes_idt_pointer, guest_pml4, modes_main_tss, modes_gdt
        extern modes_directory, modes_pae_pointers
        global modes_run, modes_vectors, modes_low, modes_low_end, modes_task_b, modes_task_c
        global modes_task_d, modes_protected, modes_16_and_real, modes_pse, modes_pae, modes_v86
        global modes_tasks

CR0_PE   equ 1 << 0
CR0_TS   equ 1 << 3
CR0_PG   equ 1 << 31
CR4_PSE  equ 1 << 4
CR4_PAE  equ 1 << 5
EFER     equ 0xc0000080
EFER_LME equ 1 << 8
FLAG_NT  equ 1 << 14
FLAG_VM  equ 1 << 17

LAPIC_VERSION equ 0xfee00030
LAPIC_TPR     equ 0xfee00080
PIC_MASK      equ 0x21
PIC_MASK_PLUS equ 0x22          ; no device's, and not in the permission bitmap
REAL_INT      equ 0x60
REAL_STACK    equ 0x6f00
ALIAS         equ 0x80000000    ; of 4 MiB, or 2 MiB with PAE, around the LAPIC
ALIAS_4K      equ 0x80400000    ; of the LAPIC's page alone
NOT_MAPPED    equ 0x90000000

%define ORIGIN 0

%macro KEEP 1                   ; the next result; EAX and ECX can be kept
        mov [RESULTS + 4 * slot], %1
        %assign slot slot + 1
%endmacro

; An instruction that should fault: the result is its vector and the error code's low half.
%macro FAULTS 1+
        mov dword [VECTOR], 0x100
        mov dword [ERROR], 0
        mov dword [RESUME], %%after - ORIGIN
        %1
%%after:
        mov dword [RESUME], 0
        mov eax, [VECTOR]
        shl eax, 16
        mov ax, [ERROR]
        KEEP eax
%endmacro

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
        pop eax
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

pse_on: mov eax, [modes_directory]
        mov cr3, eax
        mov eax, cr4
        or eax, CR4_PSE
        mov cr4, eax
paging_on:
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        ret

paging_off:
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        ret

modes_pse:
        call pse_on
        PAGES 0x200030
        jmp paging_off

modes_pae:
        mov eax, cr4
        or eax, CR4_PAE
        mov cr4, eax
        mov eax, modes_pae_pointers
        mov cr3, eax
        call paging_on
        PAGES 0x30
        jmp paging_off

; --- V86 mode, with pages ----------------------------------------------------------------------

modes_v86:
        call pse_on
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
        jmp paging_off

; --- task switches -----------------------------------------------------------------------------

%macro KEEP_STATE 0             ; of the main task, and what task B saw
        KEEP ebx
        pushfd
        pop eax
        and eax, FLAG_NT
        KEEP eax
        str eax
        KEEP eax
        mov eax, cr3
        sub eax, [modes_directory]
        KEEP eax
        movzx eax, byte [modes_gdt + MAIN_TSS + 5]
        KEEP eax
        movzx eax, byte [modes_gdt + TASK_B + 5]
        KEEP eax
    %assign i 0
    %rep 9
        mov eax, [TASK_SAW + 4 * i]
        KEEP eax
      %assign i i + 1
    %endrep
%endmacro

modes_tasks:
%assign slot 0
        call pse_on
        mov eax, MAIN_TSS
        ltr ax
        mov dword [TASK_SAW + 32], 0
        mov ebx, 0x12345678
        call TASK_B:0
        KEEP_STATE
        mov ebx, 0x9abcdef0
        call TASK_B:0
        KEEP_STATE
        jmp TASK_B:0
        KEEP_STATE
        mov dword [TASK_SAW], 0
        int TASK_VECTOR         ; to task C by a task gate
        mov eax, [TASK_SAW]
        KEEP eax
        FAULTS mov fs, [.absent] ; to task D by the task gate of #NP
        FAULTS call ABSENT_TSS:0
        FAULTS call MAIN_TSS:0
        FAULTS call SHORT_TSS:0
        FAULTS call BAD_TASK:0
        str eax                 ; the fault is the new task's, which goes back here, too
        cmp eax, BAD_TASK
        jne .back
        mov [TASK_SAW], eax
        iretd
.back:  mov eax, [TASK_SAW]
        KEEP eax
        str eax
        KEEP eax
        jmp paging_off
.absent: dw ABSENT_DATA

; Called or jumped to.
modes_task_b:
        xor eax, eax
        cpuid
        mov [TASK_SAW], ebx
        mov eax, [fs:LAPIC_VERSION] ; FS is in the task's own local table
        mov [TASK_SAW + 4], eax
        xor eax, eax
        in al, PIC_MASK
        mov [TASK_SAW + 8], eax
        str eax
        mov [TASK_SAW + 12], eax
        mov eax, cr0
        and eax, CR0_TS
        mov [TASK_SAW + 16], eax
        clts
        mov eax, cr3
        sub eax, [modes_directory]
        mov [TASK_SAW + 20], eax
        movzx eax, byte [modes_gdt + MAIN_TSS + 5]
        mov [TASK_SAW + 24], eax
        inc dword [TASK_SAW + 32]
        pushfd
        pop eax
        and eax, FLAG_NT
        mov [TASK_SAW + 28], eax
        jz .jumped_to
        iretd
        jmp modes_task_b
.jumped_to:
        jmp MAIN_TSS:0
        jmp modes_task_b

modes_task_c:
        xor eax, eax
        cpuid
        mov [TASK_SAW], ebx
        iretd
        jmp modes_task_c

; The handler of #NP: its error code is on this task's stack.
modes_task_d:
        mov dword [VECTOR], 11
        pop dword [ERROR]
        mov eax, [RESUME]
        mov [modes_main_tss + TSS_EIP], eax
        iretd
        jmp modes_task_d

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
        mov ds, ax
        mov es, ax
        mov ss, ax
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
        xor eax, eax
        cpuid
        KEEP ebx
        xor eax, eax
        in al, PIC_MASK
        KEEP eax
        mov dx, PIC_MASK
        in al, dx
        out dx, al
        KEEP eax
        mov dword [SCRATCH], 0
        mov di, SCRATCH
        mov cx, 3
        cld
        rep insb
        mov eax, [SCRATCH]
        KEEP eax
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
