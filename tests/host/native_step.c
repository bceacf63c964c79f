/* The instruction runs with TF set, all registers its own, the stack's pointer too: signals come on
 * another stack, and the handler sends the thread back to where it came from. */
#define _GNU_SOURCE
#include "native_step.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define TF         UINT64_C(0x100)
#define YMM_OFFSET 576 /* of the upper halves in an XSAVE area */

/* By assembly. */
struct native_registers_of_step {
    uint64_t gpr[16], rflags, target;
    struct vmm_vector ymm[16];
    uint64_t mm[8];
    uint32_t mxcsr, avx;
} step_registers;
uint64_t step_stack;
void step_enter(void);
extern const char step_back[];

static uint8_t *page;
static bool arrived;
static struct native_state *result;

__asm__(".text\n"
        ".globl step_enter, step_back\n"
        "step_enter:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    mov %rsp, step_stack(%rip)\n"
        "    lea step_registers(%rip), %rax\n"
        "    ldmxcsr 720(%rax)\n"
        "    cmpl $0, 724(%rax)\n"
        "    je 1f\n"
        "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "    vmovups 144+32*\\n(%rax), %ymm\\n\n"
        "    .endr\n"
        "    jmp 2f\n"
        "1:\n"
        "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "    movups 144+32*\\n(%rax), %xmm\\n\n"
        "    .endr\n"
        "2:\n"
        "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7\n"
        "    movq 656+8*\\n(%rax), %mm\\n\n"
        "    .endr\n"
        "    mov 8(%rax), %rcx;    mov 16(%rax), %rdx;   mov 24(%rax), %rbx\n"
        "    mov 40(%rax), %rbp;   mov 48(%rax), %rsi;   mov 56(%rax), %rdi\n"
        "    mov 64(%rax), %r8;    mov 72(%rax), %r9;    mov 80(%rax), %r10; mov 88(%rax), %r11\n"
        "    mov 96(%rax), %r12;   mov 104(%rax), %r13;  mov 112(%rax), %r14; mov 120(%rax), %r15\n"
        "    pushq 128(%rax)\n"
        "    mov 0(%rax), %rax\n"
        "    popfq\n"
        "    mov step_registers+32(%rip), %rsp\n"
        "    jmp *step_registers+136(%rip)\n"
        "step_back:\n"
        "    mov step_stack(%rip), %rsp\n"
        "    pushq $0x1f80\n"
        "    ldmxcsr (%rsp)\n"
        "    add $8, %rsp\n"
        "    fninit\n"
        "    cld\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n");

_Static_assert(offsetof(struct native_registers_of_step, ymm) == 144 &&
                   offsetof(struct native_registers_of_step, mm) == 656 &&
                   offsetof(struct native_registers_of_step, mxcsr) == 720,
               "as step_enter has them");

static void take_vectors(const mcontext_t *m, struct test_vector_file *out)
{
    const uint8_t *area = (const uint8_t *)m->fpregs;

    for (unsigned i = 0; i < 16; i++) {
        memcpy(&out->ymm[i], &m->fpregs->_xmm[i], 16);
        memcpy(&out->ymm[i].q[2], area + YMM_OFFSET + 16 * i, native_has_avx() ? 16 : 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&out->mm[i], m->fpregs->_st[i].significand, 8);
    }
    out->mxcsr = m->fpregs->mxcsr;
}

static int exception_of(int signal, const siginfo_t *info)
{
    switch (signal) {
    case SIGTRAP:
        return -1;
    case SIGILL:
        return 6;
    case SIGFPE:
        return 0;
    case SIGBUS: /* a non-canonical stack, alignment */
        return info->si_code == BUS_ADRALN ? 17 : 12;
    default:
        return info->si_code == SI_KERNEL ? 13 : 14;
    }
}

static void handler(int signal, siginfo_t *info, void *context)
{
    /* In the order of the encoding's numbers. */
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    greg_t *g = m->gregs;

    if (result == NULL) {
        abort(); /* the test itself failed */
    }
    if (signal == SIGTRAP && !arrived) {
        arrived = g[REG_RIP] == (greg_t)page;
        return;
    }
    for (unsigned i = 0; i < 16; i++) {
        result->gpr[i] = (uint64_t)g[order[i]];
    }
    result->rflags = (uint64_t)g[REG_EFL];
    result->length = (uint64_t)g[REG_RIP] - (uint64_t)page;
    result->vector_number = exception_of(signal, info);
    result->page_fault = result->vector_number == 14;
    take_vectors(m, &result->vector);
    g[REG_RIP] = (greg_t)step_back;
    g[REG_RSP] = (greg_t)step_stack;
    g[REG_EFL] = 2;
}

bool native_has_avx(void)
{
    unsigned a, b, c, d, low, high;

    __cpuid(1, a, b, c, d);
    if ((c & bit_OSXSAVE) == 0 || (c & bit_AVX) == 0) {
        return false;
    }
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

void native_step_create(void)
{
    static const int signals[] = {SIGTRAP, SIGILL, SIGFPE, SIGBUS, SIGSEGV};
    static uint8_t room[1 << 16];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || sigaltstack(&stack, NULL) != 0) {
        perror("native_step");
        abort();
    }
    for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
}

void native_step(const uint8_t *code, struct native_state *s)
{
    memset(page, 0xcc, 64);
    memcpy(page, code, 16);
    memcpy(step_registers.gpr, s->gpr, sizeof(s->gpr));
    step_registers.rflags = s->rflags | TF;
    step_registers.target = (uint64_t)page;
    memcpy(step_registers.ymm, s->vector.ymm, sizeof(step_registers.ymm));
    memcpy(step_registers.mm, s->vector.mm, sizeof(step_registers.mm));
    step_registers.mxcsr = s->vector.mxcsr;
    step_registers.avx = native_has_avx();
    arrived = false;
    result = s;
    step_enter();
    result = NULL;
}
