; The guest "modes": hardware task switches, from flat 32-bit code with pages.

%include "tests/guest/modes.inc"

        extern modes_main_tss, modes_gdt, modes_directory, modes_pse_on, modes_paging_off
        global modes_tasks, modes_more_tasks, modes_v86_task, modes_task_b, modes_task_c
        global modes_task_d, modes_task_trap, modes_task_nmi, modes_task_nests

LAPIC_ICR equ 0xfee00300
ICR_NMI   equ 0x4400
DR6_BT    equ 1 << 15
BLOCKED   equ 1000              ; turns of a loop with exits, in which an NMI that may come does

section .text
        bits 32

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
        call modes_pse_on
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
        jmp modes_paging_off
.absent: dw ABSENT_DATA

; The new task has a fault, and goes on here; then the caller does.
%macro TASK_FAULTS 1
        FAULTS call %1:0
        str eax
        cmp eax, %1
        jne %%back
        iretd
%%back:
%endmacro

modes_more_tasks:
%assign slot 0
        call modes_pse_on
        mov eax, MAIN_TSS
        ltr ax
        mov ebx, 0x12345678
        mov dword [TASK_SAW + 20], 0
  %rep 2
        call TASK_16:0
        KEEP ebx
    %assign i 0
    %rep 6
        mov eax, [TASK_SAW + 4 * i]
        KEEP eax
      %assign i i + 1
    %endrep
  %endrep
        movzx eax, byte [modes_gdt + TASK_16 + 5]
        KEEP eax

        mov dword [TASK_SAW], 0
        call TASK_GATE:0
        mov eax, [TASK_SAW]
        KEEP eax

        call TASK_NESTS:0
        mov eax, [TASK_SAW]
        KEEP eax
        mov eax, [TASK_SAW + 4]
        KEEP eax

        mov dword [VECTOR], 0x100
        mov dword [RESUME], modes_task_trap.trapped
        call TASK_TRAP:0
        mov dword [RESUME], 0
        mov eax, [VECTOR]
        KEEP eax
        mov eax, [TASK_SAW]
        KEEP eax

        mov dword [TASK_SAW], 0
        mov dword [LAPIC_ICR], ICR_NMI
        mov ecx, BLOCKED
.wait:  in al, PIC_MASK
        cmp dword [TASK_SAW], 2
        loopne .wait
        mov eax, [TASK_SAW]
        KEEP eax
        mov eax, [TASK_SAW + 4]
        KEEP eax
        str eax
        KEEP eax

        FAULTS int TASK_VECTOR + 1      ; the gate's task is this one, which is busy
        pushfd
        or dword [esp], FLAG_NT
        popfd
        mov word [modes_main_tss], TASK_B
        FAULTS iretd                    ; the caller is not busy
        mov word [modes_main_tss], DATA32
        FAULTS iretd                    ; or no task
        pushfd
        and dword [esp], ~FLAG_NT
        popfd

        TASK_FAULTS TASK_NO_DS
        str eax
        KEEP eax
        cmp dword [EXACT], 0
        je .done
        mov dword [RESUME_CS], CODE32
        TASK_FAULTS TASK_NO_CODE
        TASK_FAULTS TASK_ABSENT
        TASK_FAULTS TASK_FAR
        mov dword [RESUME_CS], 0
.done:  jmp modes_paging_off

modes_v86_task:
%assign slot 0
        call modes_pse_on
        mov eax, MAIN_TSS
        ltr ax
        mov dword [ESCAPE], .left
        jmp TASK_V86:0
        mov eax, [TASK_SAW]
        KEEP eax
        mov eax, [TASK_SAW + 4]
        KEEP eax
        mov eax, [TASK_SAW + 8]
        KEEP eax
        jmp modes_paging_off
.left:  str eax                 ; still in that task, at privilege level 0
        mov [TASK_SAW + 8], eax
        jmp MAIN_TSS:0

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

modes_task_trap:
.trapped:                       ; the trap comes before the first instruction
        mov eax, dr6
        and eax, DR6_BT
        mov [TASK_SAW], eax
        xor eax, eax
        mov dr6, eax
        iretd
        jmp modes_task_trap

; Another NMI waits until this one's IRET.
modes_task_nmi:
        inc dword [TASK_SAW]
        cmp dword [TASK_SAW], 1
        jne .done
        mov dword [LAPIC_ICR], ICR_NMI
        mov ecx, BLOCKED
.wait:  in al, PIC_MASK
        cmp dword [TASK_SAW], 1
        loope .wait
        mov eax, [TASK_SAW]
        mov [TASK_SAW + 4], eax
.done:  iretd
        jmp modes_task_nmi

modes_task_nests:
        mov dword [TASK_SAW], 0
        call TASK_C:0
        movzx eax, byte [modes_gdt + MAIN_TSS + 5]
        mov [TASK_SAW + 4], eax
        iretd
        jmp modes_task_nests
