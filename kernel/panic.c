/* See panic.h. The first CPU to arrive reports; the others are stopped by NMI and are reported on.
 */

#include "kernel/panic.h"

#include <stdarg.h>
#include <string.h>

#include "base/layout.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "base/x86.h"
#include "boot/ap.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/kernel.h"
#include "kernel/log_keep.h"
#include "kernel/smp.h"
#include "kernel/symbols.h"
#include "kernel/trap.h"
#include "mm/paging.h"
#include "sched/thread.h"

#define NO_OWNER UINT32_MAX

static uint32_t owner = NO_OWNER; /* the CPU that reports */
static bool finishing;            /* the report itself failed once already */

/* Only the reporting CPU uses these. */
static char reason[512];
static char line[512];

void panic_print(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t len = nk_vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    len = len < sizeof(line) ? len : sizeof(line) - 1;
    log_keep_text(line, len);
    console_write_sync(line, len);
}

bool panic_readable(uint64_t va)
{
    if ((va & 7) != 0 || ((int64_t)(va << 16) >> 16) != (int64_t)va) {
        return false;
    }
    uint64_t entry = x86_read_cr3();
    for (int shift = 39; shift >= NK_PAGE_SHIFT; shift -= 9) {
        const uint64_t *table = nk_pa_to_va(NK_PA(entry & UINT64_C(0x000ffffffffff000)));
        entry = table[va >> shift & 511];
        if ((entry & 1) == 0) {
            return false;
        }
        if ((entry & 0x80) != 0 && shift > NK_PAGE_SHIFT) { /* a large page */
            return true;
        }
    }
    return true;
}

static NK_NORETURN void stop_here(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* For the reporting CPU to read: this one does nothing any more. */
static NK_NORETURN void leave_frame(const struct nk_trap_frame *f)
{
    __atomic_store_n(&this_cpu->self->panic_frame, f, __ATOMIC_RELEASE);
    stop_here();
}

void panic_stop_if_asked(const struct nk_trap_frame *f)
{
    if (__atomic_load_n(&owner, __ATOMIC_ACQUIRE) == NO_OWNER || owner == this_cpu->id) {
        return;
    }
    leave_frame(f);
}

static void print_place(const char *prefix, uint64_t rip)
{
    uint64_t offset;
    const char *name = nk_symbol_lookup(rip, &offset);
    if (name != NULL) {
        panic_print("%s0x%016lx %s+0x%lx\n", prefix, rip, name, offset);
    } else {
        panic_print("%s0x%016lx\n", prefix, rip);
    }
}

static const char *thread_name(const struct nk_cpu *cpu)
{
    return cpu->current != NULL ? nk_thread_name(cpu->current) : "none yet";
}

/* Makes this CPU the reporting one. A CPU that comes second is reported on; the reporting CPU
 * coming again means that the report faulted: it ends there. */
static void become_owner(const char *why, const struct nk_trap_frame *f)
{
    x86_cli();
    uint32_t none = NO_OWNER;
    if (__atomic_compare_exchange_n(&owner, &none, this_cpu->id, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return;
    }
    if (none != this_cpu->id) {
        leave_frame(f);
    }
    if (!finishing) {
        finishing = true;
        panic_print("\n*** the panic report itself failed: %s\n", why);
        print_place("  rip ", f->rip);
        nk_panic_finish();
    }
    stop_here();
}

static void print_registers(const struct nk_trap_frame *f)
{
    print_place("  rip ", f->rip);
    panic_print("  rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n"
                "  rsi %016lx  rdi %016lx  rbp %016lx  rsp %016lx\n",
                f->rax, f->rbx, f->rcx, f->rdx, f->rsi, f->rdi, f->rbp, f->rsp);
    panic_print("  r8  %016lx  r9  %016lx  r10 %016lx  r11 %016lx\n"
                "  r12 %016lx  r13 %016lx  r14 %016lx  r15 %016lx\n",
                f->r8, f->r9, f->r10, f->r11, f->r12, f->r13, f->r14, f->r15);
    panic_print("  rflags %08lx  cs %02lx  ss %02lx  error %lx\n", f->rflags, f->cs, f->ss,
                f->error);
}

static void print_control_registers(void)
{
    panic_print("  cr0 %08lx  cr2 %016lx  cr3 %08lx  cr4 %08lx\n", x86_read_cr0(), x86_read_cr2(),
                x86_read_cr3(), x86_read_cr4());
}

/* A function that has not made its frame yet, or an address that is no function, hides its caller
 * from the chain of frames; then the return address is still on top of the stack. */
static void print_stack_top(const struct nk_trap_frame *f)
{
    uint64_t offset;
    if (panic_readable(f->rsp)) {
        uint64_t top = *(const uint64_t *)f->rsp;
        if (nk_symbol_lookup(top, &offset) != NULL) {
            print_place("  top of stack ", top);
        }
    }
}

static bool is_guard(uint64_t va)
{
    uint64_t boot_guard = (uint64_t)boot_stack_guard;
    return paging_is_stack_guard(va) || (va >= boot_guard && va < boot_guard + NK_PAGE_SIZE);
}

/* What the address in CR2 says about a page fault, or about the double fault that follows when
 * there was no stack to take the page fault on. */
static void explain_fault(const struct nk_trap_frame *f)
{
    uint64_t address = x86_read_cr2();
    if (is_guard(address)) {
        panic_print("  stack overflow of thread \"%s\": 0x%lx is in the guard page\n",
                    thread_name(nk_this_cpu()), address);
        return;
    }
    if (f->vector != NK_EXCEPTION_PF) {
        return;
    }
    const char *what = f->error & 16 ? "execution of" : f->error & 2 ? "write to" : "read of";
    const char *why = f->error & 8   ? "page tables with a reserved bit set"
                      : f->error & 1 ? "memory whose rights forbid it"
                                     : "memory that is not mapped";
    panic_print("  %s 0x%016lx, %s%s\n", what, address, why,
                address < NK_PAGE_SIZE ? " (a null pointer)" : "");
}

static void report_other_cpus(void)
{
    smp_stop_others();
    for (unsigned i = 0; i < CONFIG_NR_CPUS; i++) {
        const struct nk_cpu *cpu = &nk_cpu_table[i];
        if (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE) || cpu == nk_this_cpu()) {
            continue;
        }
        const struct nk_trap_frame *f = __atomic_load_n(&cpu->panic_frame, __ATOMIC_ACQUIRE);
        panic_print("CPU %u, thread \"%s\"%s\n", i, thread_name(cpu),
                    f == NULL ? ": does not answer" : "");
        if (f != NULL) {
            print_registers(f);
            nk_backtrace(f->rip, f->rbp);
        }
    }
}

static NK_NORETURN void report(const struct nk_trap_frame *f, bool exception)
{
    panic_print("\n*** PANIC on CPU %u: %s\n", this_cpu->id, reason);
    panic_print("  thread \"%s\"\n", thread_name(nk_this_cpu()));
    if (exception) {
        explain_fault(f);
    }
    print_registers(f);
    print_control_registers();
    print_stack_top(f);
    panic_print("backtrace of CPU %u\n", this_cpu->id);
    nk_backtrace(f->rip, f->rbp);
    report_other_cpus();
    panic_print("*** end of panic report\n");
    finishing = true;
    nk_panic_finish();
}

void panic_exception(const struct nk_trap_frame *f)
{
    become_owner(trap_name((unsigned)f->vector), f);
    nk_snprintf(reason, sizeof(reason), "%s", trap_name((unsigned)f->vector));
    report(f, true);
}

/* From nk_panic() in entry.asm, with the caller's registers and, in them and on its stack, the
 * arguments behind fmt. Spec: System V ABI, AMD64 supplement, 3.5.7 "Variable Argument Lists". */
NK_NORETURN void panic_call(const char *fmt, const struct nk_trap_frame *f);
void panic_call(const char *fmt, const struct nk_trap_frame *f)
{
    become_owner(fmt, f);
    uint64_t registers[6] = {f->rdi, f->rsi, f->rdx, f->rcx, f->r8, f->r9};
    va_list ap;
    ap[0].reg_save_area = registers;
    ap[0].gp_offset = sizeof(registers[0]); /* fmt is the first */
    ap[0].fp_offset = sizeof(registers);    /* no SSE arguments */
    ap[0].overflow_arg_area = (void *)f->rsp;
    nk_vsnprintf(reason, sizeof(reason), fmt, ap);
    report(f, false);
}
