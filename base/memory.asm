; memcpy, memmove, memset, memcmp with general registers only: the kernel owns no SSE state.
;
; Small sizes are done with two or four overlapping accesses, all loads before all stores, which
; needs no loop and is right for overlapping buffers too. Beyond LARGE bytes one `rep` instruction
; moves eight bytes per iteration (and lets a real CPU use its microcode's wide path).
; Spec: System V ABI: rdi, rsi, rdx in, rax out, DF clear; AMD APM vol. 3 "REP Prefix".

bits 64
default rel

LARGE equ 128

section .text

; void *memcpy(void *to, const void *from, size_t n);
global memcpy
align 32
memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb move_below_16
    cmp rdx, 32
    jbe move_16_to_32
    cmp rdx, LARGE
    ja copy_large
; 33..LARGE bytes upwards: 32 at a time; the last 32 end exactly at the end.
copy_forward:
    mov r8, [rsi + rdx - 8]
    mov r9, [rsi + rdx - 16]
    mov r10, [rsi + rdx - 24]
    mov r11, [rsi + rdx - 32]
    add rdx, rdi                    ; end of the target
.next:
    mov rcx, [rsi]
    mov [rdi], rcx
    mov rcx, [rsi + 8]
    mov [rdi + 8], rcx
    mov rcx, [rsi + 16]
    mov [rdi + 16], rcx
    mov rcx, [rsi + 24]
    mov [rdi + 24], rcx
    add rsi, 32
    add rdi, 32
    lea rcx, [rdi + 32]
    cmp rcx, rdx
    jb .next
    mov [rdx - 8], r8
    mov [rdx - 16], r9
    mov [rdx - 24], r10
    mov [rdx - 32], r11
    ret

align 16
copy_large:
    mov r8, [rsi + rdx - 8]         ; the last bytes, which need not be a multiple of eight
    lea r9, [rdi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov [r9], r8
    ret

align 16
move_16_to_32:
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + rdx - 16]
    mov r10, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + rdx - 16], r9
    mov [rdi + rdx - 8], r10
    ret

align 16
move_below_16:
    cmp edx, 8
    jb .below_8
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
.below_8:
    cmp edx, 4
    jb .below_4
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
.below_4:
    test edx, edx
    jz .done
    movzx ecx, byte [rsi]
    movzx r8d, byte [rsi + rdx - 1]
    shr edx, 1                      ; 1: 0; 2 and 3: 1, the middle byte
    movzx r9d, byte [rsi + rdx]
    lea r10, [rdi + rdx]
    adc rdx, rdx                    ; the size again
    mov [rdi], cl
    mov [r10], r9b
    mov [rdi + rdx - 1], r8b
.done:
    ret

; void *memmove(void *to, const void *from, size_t n);
global memmove
align 32
memmove:
    mov rax, rdi
    cmp rdx, 16
    jb move_below_16
    cmp rdx, 32
    jbe move_16_to_32
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx                    ; unsigned: above when the target is below the source, too
    jb .backward
    ; `copy_forward` keeps the last 32 bytes in registers; each of its turns loads before a later
    ; store can reach: the target is below the source or does not overlap.
    cmp rdx, LARGE
    jbe copy_forward
    jmp copy_large
; The target begins within the source: from the end downwards, the first 32 bytes saved first.
.backward:
    mov r8, [rsi]
    mov r9, [rsi + 8]
    mov r10, [rsi + 16]
    mov r11, [rsi + 24]
.next:
    mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
    mov rcx, [rsi + rdx - 16]
    mov [rdi + rdx - 16], rcx
    mov rcx, [rsi + rdx - 24]
    mov [rdi + rdx - 24], rcx
    mov rcx, [rsi + rdx - 32]
    mov [rdi + rdx - 32], rcx
    sub rdx, 32
    cmp rdx, 32
    ja .next
    mov [rdi], r8
    mov [rdi + 8], r9
    mov [rdi + 16], r10
    mov [rdi + 24], r11
    ret

; void *memset(void *to, int byte, size_t n);
global memset
align 32
memset:
    mov rax, rdi
    movzx ecx, sil
    mov r8, 0x0101010101010101
    imul rcx, r8
    cmp rdx, 16
    jb .below_16
    cmp rdx, LARGE
    ja .large
    lea r8, [rdi + rdx - 16]        ; the last 16 bytes end exactly at the end
.next:
    mov [rdi], rcx
    mov [rdi + 8], rcx
    add rdi, 16
    cmp rdi, r8
    jb .next
    mov [r8], rcx
    mov [r8 + 8], rcx
    ret

align 16
.large:
    mov r9, rax
    mov [rdi + rdx - 8], rcx
    mov rax, rcx
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov rax, r9
    ret

align 16
.below_16:
    cmp edx, 8
    jb .below_8
    mov [rdi], rcx
    mov [rdi + rdx - 8], rcx
    ret
.below_8:
    cmp edx, 4
    jb .below_4
    mov [rdi], ecx
    mov [rdi + rdx - 4], ecx
    ret
.below_4:
    test edx, edx
    jz .done
    mov [rdi], cl
    mov [rdi + rdx - 1], cl
    shr edx, 1
    mov [rdi + rdx], cl
.done:
    ret

; int memcmp(const void *a, const void *b, size_t n);
global memcmp
align 32
memcmp:
    sub rdx, 8
    jb .tail
.next:
    mov rax, [rdi]
    mov rcx, [rsi]
    cmp rax, rcx
    jne .differ
    add rdi, 8
    add rsi, 8
    sub rdx, 8
    jae .next
.tail:
    add edx, 8                      ; 0..7 left
    jz .equal
.byte:
    movzx eax, byte [rdi]
    movzx ecx, byte [rsi]
    sub eax, ecx
    jnz .done
    inc rdi
    inc rsi
    dec edx
    jnz .byte
.equal:
    xor eax, eax
.done:
    ret
.differ:                            ; the first byte in memory decides: make it the highest
    bswap rax
    bswap rcx
    cmp rax, rcx
    sbb eax, eax
    or eax, 1
    ret
