/* Exceptions: handlers, fix-ups, and the panics that report them. */
#include "base/errno.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "kernel/cpu.h"
#include "kernel/smp.h"
#include "kernel/symbols.h"
#include "kernel/trap.h"
#include "mm/paging.h"
#include "sched/thread.h"
#include "tests/kernel/ktest.h"

#include <string.h>

#define MSR_EFER    0xc0000080u
#define MSR_GS_BASE 0xc0000101u

static struct nk_trap_frame seen;
static uint64_t skip_bytes;

static bool skip(struct nk_trap_frame *f)
{
    seen = *f;
    f->rip += skip_bytes;
    return true;
}

KTEST(trap_handlers)
{
    skip_bytes = 2;
    nk_trap_handler before = nk_trap_set_handler(NK_EXCEPTION_UD, skip);
    uint64_t in = 0x1122334455667788, out;
    __asm__ volatile("movq %1, %%r15; ud2; movq %%r15, %0" : "=r"(out) : "r"(in) : "r15");
    nk_trap_set_handler(NK_EXCEPTION_UD, before);
    EXPECT_EQ(out, in);
    EXPECT_EQ(seen.r15, in);
    EXPECT_EQ(seen.vector, NK_EXCEPTION_UD);
    EXPECT_EQ(seen.error, 0);

    skip_bytes = 0; /* a breakpoint is reported behind the instruction */
    before = nk_trap_set_handler(NK_EXCEPTION_BP, skip);
    __asm__ volatile("int3");
    nk_trap_set_handler(NK_EXCEPTION_BP, before);
    EXPECT_EQ(seen.vector, NK_EXCEPTION_BP);
}

static unsigned cpu_seen;

static bool note_cpu(struct nk_trap_frame *f)
{
    seen = *f;
    cpu_seen = this_cpu->id;
    return true;
}

/* As behind a guest's run: its GS is still there, and its single step comes to the host. */
static void debug_trap_with_foreign_gs(void)
{
    const uint64_t foreign = 0x00007fff12345000;
    uint64_t flags = nk_irq_save(), gs = x86_rdmsr(MSR_GS_BASE), left;
    uint32_t low, high;

    __asm__ volatile("wrmsr\n"
                     "int $1\n"
                     "rdmsr\n"
                     "mov %%eax, %0; mov %%edx, %1\n"
                     "mov %3, %%eax; mov %4, %%edx\n"
                     "wrmsr\n"
                     : "=&r"(low), "=&r"(high)
                     : "c"(MSR_GS_BASE), "r"((uint32_t)gs), "r"((uint32_t)(gs >> 32)),
                       "a"((uint32_t)foreign), "d"((uint32_t)(foreign >> 32))
                     : "memory");
    nk_irq_restore(flags);
    left = (uint64_t)high << 32 | low;
    EXPECT_EQ(left, foreign);
}

KTEST(trap_with_foreign_gs)
{
    cpu_seen = ~0u;
    nk_trap_handler before = nk_trap_set_handler(NK_EXCEPTION_DB, note_cpu);
    debug_trap_with_foreign_gs();
    nk_trap_set_handler(NK_EXCEPTION_DB, before);
    EXPECT_EQ(cpu_seen, this_cpu->id);
    EXPECT_EQ(seen.vector, NK_EXCEPTION_DB);
    debug_trap_with_foreign_gs(); /* nobody waits for it: it is ignored */
}

KTEST(trap_error_code)
{
    uint64_t nowhere = 0x00007fff12345000;
    uint64_t ignored;
    skip_bytes = 3; /* movq (%reg), %reg without displacement */
    nk_trap_handler before = nk_trap_set_handler(NK_EXCEPTION_PF, skip);
    __asm__ volatile("movq (%%rax), %%rcx" : "=c"(ignored) : "a"(nowhere));
    nk_trap_set_handler(NK_EXCEPTION_PF, before);
    EXPECT_EQ(seen.vector, NK_EXCEPTION_PF);
    EXPECT_EQ(seen.error, 0); /* read, not present, supervisor */
    EXPECT_EQ(x86_read_cr2(), nowhere);
}

KTEST(trap_msr_fixup)
{
    uint64_t value;
    EXPECT_EQ(nk_rdmsr_safe(MSR_EFER, &value), 0);
    EXPECT((value >> 10 & 1) != 0); /* LMA: this is long mode */
    EXPECT(nk_irqs_on());
    /* Emulators answer for every MSR: the fault itself is made up. */
    for (const struct trap_fixup *x = trap_fixup_table; x < trap_fixup_table_end; x++) {
        struct nk_trap_frame f = {.vector = NK_EXCEPTION_GP, .rip = x->fault};
        trap_dispatch(&f);
        EXPECT_EQ(f.rip, x->resume);
        EXPECT_EQ(((int (*)(void))x->resume)(), -EFAULT);
    }
}

KTEST(trap_symbols)
{
    uint64_t offset;
    const char *name = nk_symbol_lookup((uint64_t)nk_symbol_lookup + 1, &offset);
    ASSERT(name != NULL);
    EXPECT_STREQ(name, "nk_symbol_lookup");
    EXPECT_EQ(offset, 1);
    EXPECT(nk_symbol_lookup(0x1000, &offset) == NULL);
    EXPECT(nk_symbol_lookup((uint64_t)&seen, &offset) == NULL);
}

static NK_NOINLINE void innermost(void)
{
    __asm__ volatile("ud2");
}

KPANIC(invalid_opcode)
{
    innermost();
}

KPANIC(symbolised)
{
    innermost();
    __asm__ volatile(""); /* no tail call: this function belongs into the backtrace */
}

KPANIC(null_pointer)
{
    int *volatile near_null = (int *)8; /* not known to gcc */
    *near_null = 1;
}

KPANIC(write_to_text)
{
    *(volatile uint8_t *)(uint64_t)innermost = 0;
}

KPANIC(execute_data)
{
    static const uint8_t ret[] = {0xc3};
    static uint8_t data[1];
    memcpy(data, ret, 1);
    ((void (*)(void))(uint64_t)data)();
}

static NK_NOINLINE int use_stack(int depth)
{
    volatile char page[1024];
    page[0] = (char)depth;
    return depth == -1 ? 0 : use_stack(depth + 1) + page[0];
}

static void overflow(void *arg)
{
    (void)arg;
    use_stack(0);
}

KPANIC(stack_overflow)
{
    struct nk_thread_attr attr = {.name = "glutton", .cpu = NK_CPU_ANY};
    struct nk_thread *t;
    if (nk_thread_start(&t, &attr, overflow, NULL) != 0 || nk_thread_join(t) != 0) {
        ktest_note("the thread did not run");
    }
}

KPANIC(message)
{
    const char *what = "twelve";
    nk_panic("%s is not %d", what, 13);
}

static void panic_elsewhere(void *arg)
{
    (void)arg;
    innermost();
}

KPANIC(other_cpu)
{
    if (nk_cpu_call(1, panic_elsewhere, NULL, true) != 0) {
        ktest_note("there is no CPU 1");
    }
}

/* The report may not need any lock that the panicking CPU holds. */
KPANIC(locks_held)
{
    struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_LOG);
    nk_spin_lock(&lock);
    innermost();
}

/* Even then the reason is out, and the report ends. */
KPANIC(report_faults)
{
    this_cpu->current = (struct nk_thread *)0x10;
    nk_panic("the reason");
}
