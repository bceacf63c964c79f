/* Code in ring 3. */
#include "tests/guest/lib/guest.h"

#define PAGE        4096
#define BACK_VECTOR 0x71

static void (*user_work)(void);
static uint64_t kernel_rsp;

static void on_back(struct guest_frame *frame)
{
    extern const uint8_t user_back[];
    frame->rip = (uint64_t)user_back;
    frame->cs = GUEST_CODE64;
    frame->ss = GUEST_DATA64;
    frame->rsp = kernel_rsp;
}

void guest_open_to_ring_3(void)
{
    const uint64_t user = 4, address = ~UINT64_C(0xfff);
    uint64_t *root = (uint64_t *)x86_read_cr3(), *pointers = (uint64_t *)(root[0] & address);
    root[0] |= user;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *directory = (uint64_t *)(pointers[i] & address);
        pointers[i] |= user;
        for (unsigned n = 0; n < 512; n++) {
            directory[n] |= user;
        }
    }
    x86_write_cr3(x86_read_cr3());
    guest_gate_for_all(BACK_VECTOR);
    guest_set_handler(BACK_VECTOR, on_back);
}

void guest_run_in_ring_3(void (*fn)(void))
{
    static uint8_t stack[PAGE] NK_ALIGNED(16);
    user_work = fn;
    __asm__ volatile("push %%rbp\n"
                     "mov %%rsp, %0\n"
                     "push %2\n"
                     "push %3\n"
                     "pushfq\n"
                     "push %4\n"
                     "lea 1f(%%rip), %%rax\n"
                     "push %%rax\n"
                     "iretq\n"
                     "1: call *%1\n"
                     "int %5\n"
                     ".globl user_back\n"
                     "user_back: pop %%rbp\n"
                     : "=m"(kernel_rsp)
                     : "m"(user_work), "i"(GUEST_USER64), "r"((uint64_t)(stack + PAGE)),
                       "i"(GUEST_USER_CODE64), "i"(BACK_VECTOR)
                     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
                       "r13", "r14", "r15", "memory", "cc");
}
