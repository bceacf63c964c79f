#include "native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t *page;

void native_enter(struct native_registers *r, const void *code);

/* rdi: registers, rsi: code that ends with RET. The registers' pointer waits on the stack. */
__asm__(".text\n"
        ".globl native_enter\n"
        "native_enter:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    push %rdi\n"
        "    push %rsi\n"
        "    pushq 128(%rdi); popfq\n"
        "    mov 0(%rdi), %rax;   mov 8(%rdi), %rcx;   mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "    mov 40(%rdi), %rbp;  mov 48(%rdi), %rsi\n"
        "    mov 64(%rdi), %r8;   mov 72(%rdi), %r9;   mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "    mov 96(%rdi), %r12;  mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "    mov 56(%rdi), %rdi\n"
        "    call *(%rsp)\n"
        "    pushfq\n"
        "    push %rdi\n"
        "    mov 24(%rsp), %rdi\n"
        "    mov %rax, 0(%rdi);   mov %rcx, 8(%rdi);   mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
        "    mov %rbp, 40(%rdi);  mov %rsi, 48(%rdi)\n"
        "    mov %r8, 64(%rdi);   mov %r9, 72(%rdi);   mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
        "    mov %r12, 96(%rdi);  mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
        "    popq 56(%rdi)\n"
        "    popq 128(%rdi)\n"
        "    cld\n"
        "    add $16, %rsp\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n");

void native_create(void)
{
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        perror("native");
        abort();
    }
}

void native_run(const uint8_t *instruction, size_t length, struct native_registers *r)
{
    memcpy(page, instruction, length);
    page[length] = 0xc3;
    __builtin___clear_cache((char *)page, (char *)page + length + 1);
    native_enter(r, page);
}
