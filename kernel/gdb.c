/* Stopping the node for gdb, and letting it go on.
 *
 * A CPU that takes a breakpoint becomes the owner, stops the others by NMI and talks. A CPU that
 * takes one meanwhile waits like the others, and then looks whether it still stands. While one
 * instruction is stepped, the other CPUs stay where they are.
 *
 * Threading: everything here runs with interrupts off, in exception or NMI context. */
#include "kernel/gdb.h"

#include <string.h>

#include "base/platform.h"
#include "base/x86.h"
#include "drivers/uart_debug.h"
#include "kernel/gdb_impl.h"
#include "kernel/kernel.h"
#include "kernel/lapic.h"
#include "kernel/panic.h"

#define NOBODY      UINT32_MAX
#define ANSWER_SPIN 100000000u /* a CPU that does not take its NMI is left out */
#define INT3        0xcc
#define SIGNAL_INT  2
#define SIGNAL_TRAP 5

#define DR6_STEP  (UINT64_C(1) << 14)
#define DR6_HIT   UINT64_C(0xf)
#define DR_COUNT  4
#define DR7_FIXED (UINT64_C(1) << 10)

/* Opcodes that mean something special to a step with interrupts masked. */
#define OP_PUSHF 0x9c
#define OP_POPF  0x9d
#define OP_IRET  0xcf
#define OP_CLI   0xfa
#define OP_STI   0xfb

struct stopped_cpu {
    struct nk_trap_frame *frame; /* atomic; NULL: it runs */
    uint32_t nmi_sent;           /* atomic; an NMI of ours is on its way */
    uint64_t debug_generation;   /* of the debug registers it has loaded */
};

static struct {
    bool present;
    uint32_t owner;   /* atomic; the CPU that talks or steps, or NOBODY */
    bool interrupted; /* by gdb's Ctrl-C or its arrival, not by a breakpoint */
    bool stepping;
    bool step_had_interrupts;
    uint8_t step_opcode;
    struct stopped_cpu cpu[CONFIG_NR_CPUS];
    struct {
        uint64_t address;
        unsigned kind, length;
        bool used;
    } watch[DR_COUNT];
    uint64_t debug_generation;
} gdb = {.owner = NOBODY};

/* --- debug registers -------------------------------------------------------------------------- */

bool gdb_watch(uint64_t address, unsigned kind, unsigned length)
{
    if (length == 0 || length > 8 || (length & (length - 1)) || address % length != 0) {
        return false;
    }
    for (unsigned i = 0; i < DR_COUNT; i++) {
        if (!gdb.watch[i].used) {
            gdb.watch[i].address = address;
            gdb.watch[i].kind = kind;
            gdb.watch[i].length = length;
            gdb.watch[i].used = true;
            gdb.debug_generation++;
            return true;
        }
    }
    return false;
}

bool gdb_unwatch(uint64_t address, unsigned kind, unsigned length)
{
    for (unsigned i = 0; i < DR_COUNT; i++) {
        if (gdb.watch[i].used && gdb.watch[i].address == address && gdb.watch[i].kind == kind &&
            gdb.watch[i].length == length) {
            gdb.watch[i].used = false;
            gdb.debug_generation++;
            return true;
        }
    }
    return false;
}

/* AMD APM vol. 2, 13.1.1.4 "Debug-Control Register (DR7)". */
static void load_debug_registers(void)
{
    struct stopped_cpu *cpu = &gdb.cpu[this_cpu->id];
    if (cpu->debug_generation == gdb.debug_generation) {
        return;
    }
    cpu->debug_generation = gdb.debug_generation;
    static const uint8_t length_code_table[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    uint64_t dr7 = DR7_FIXED;
    for (unsigned i = 0; i < DR_COUNT; i++) {
        if (gdb.watch[i].used) {
            uint64_t length = gdb.watch[i].kind == 0 ? 0 : length_code_table[gdb.watch[i].length];
            dr7 |= UINT64_C(2) << 2 * i | (length << 2 | gdb.watch[i].kind) << (16 + 4 * i);
        }
    }
    __asm__ volatile("mov %0, %%dr7" : : "r"(DR7_FIXED));
    __asm__ volatile("mov %0, %%dr0" : : "r"(gdb.watch[0].address));
    __asm__ volatile("mov %0, %%dr1" : : "r"(gdb.watch[1].address));
    __asm__ volatile("mov %0, %%dr2" : : "r"(gdb.watch[2].address));
    __asm__ volatile("mov %0, %%dr3" : : "r"(gdb.watch[3].address));
    __asm__ volatile("mov %0, %%dr7" : : "r"(dr7));
}

/* Of the data breakpoint that was hit; 0: none was. */
static uint64_t watched_address(uint64_t dr6)
{
    for (unsigned i = 0; i < DR_COUNT; i++) {
        if ((dr6 >> i & 1) && gdb.watch[i].used && gdb.watch[i].kind != 0) {
            return gdb.watch[i].address;
        }
    }
    return 0;
}

static uint64_t take_dr6(void)
{
    uint64_t dr6;
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    __asm__ volatile("mov %0, %%dr6" : : "r"(UINT64_C(0xffff0ff0)));
    return dr6;
}

/* --- stopping --------------------------------------------------------------------------------- */

static uint32_t owner(void)
{
    return __atomic_load_n(&gdb.owner, __ATOMIC_ACQUIRE);
}

static void set_frame(unsigned cpu, struct nk_trap_frame *f)
{
    __atomic_store_n(&gdb.cpu[cpu].frame, f, __ATOMIC_RELEASE);
}

/* Stand still until nobody is the owner any more, or this CPU is made it, for a step. */
static void stand(struct nk_trap_frame *f)
{
    unsigned me = this_cpu->id;
    set_frame(me, f);
    while (owner() != NOBODY && owner() != me) {
        x86_pause();
    }
    set_frame(me, NULL);
    load_debug_registers();
}

static nk_trap_handler next_nmi;

static bool on_nmi(struct nk_trap_frame *f)
{
    struct stopped_cpu *cpu = &gdb.cpu[this_cpu->id];
    if (!__atomic_exchange_n(&cpu->nmi_sent, 0, __ATOMIC_ACQ_REL)) {
        return next_nmi && next_nmi(f);
    }
    if (!cpu->frame && owner() != this_cpu->id) { /* else it stands already, or it talks */
        stand(f);
    }
    return true;
}

static void stop_others(void)
{
    for (unsigned i = 0; i < CONFIG_NR_CPUS; i++) {
        if (nk_cpu_table[i].online && i != this_cpu->id && !gdb.cpu[i].frame) {
            __atomic_store_n(&gdb.cpu[i].nmi_sent, 1, __ATOMIC_RELEASE);
            lapic_send_nmi(nk_cpu_table[i].apic_id);
        }
    }
    for (unsigned i = 0; i < CONFIG_NR_CPUS; i++) {
        for (unsigned spin = 0;
             nk_cpu_table[i].online && i != this_cpu->id &&
             !__atomic_load_n(&gdb.cpu[i].frame, __ATOMIC_ACQUIRE) && spin < ANSWER_SPIN;
             spin++) {
            x86_pause();
        }
    }
}

struct nk_trap_frame *gdb_frame_of(const struct nk_thread *t, unsigned *cpu)
{
    for (unsigned i = 0; i < CONFIG_NR_CPUS; i++) {
        if ((nk_cpu_table[i].online || i == this_cpu->id) && nk_cpu_table[i].current == t) {
            *cpu = i;
            return __atomic_load_n(&gdb.cpu[i].frame, __ATOMIC_ACQUIRE);
        }
    }
    return NULL;
}

/* --- stepping --------------------------------------------------------------------------------- */

/* One instruction of the thread, not of the interrupts that come meanwhile: they stay masked, and
 * what the instruction does with the interrupt flag is put right afterwards. */
static void prepare_step(struct nk_trap_frame *f)
{
    const uint8_t *code = (const uint8_t *)f->rip;
    gdb.stepping = true;
    gdb.step_had_interrupts = f->rflags & X86_RFLAGS_IF;
    gdb.step_opcode = panic_readable(f->rip & ~UINT64_C(7)) ? code[0] : 0;
    if (gdb.step_opcode == 0x48 && panic_readable((f->rip + 1) & ~UINT64_C(7))) {
        gdb.step_opcode = code[1] == OP_IRET ? OP_IRET : 0x48;
    }
    f->rflags = (f->rflags & ~X86_RFLAGS_IF) | X86_RFLAGS_TF | X86_RFLAGS_RF;
}

static void finish_step(struct nk_trap_frame *f)
{
    gdb.stepping = false;
    f->rflags &= ~X86_RFLAGS_TF;
    if (gdb.step_opcode == OP_PUSHF) { /* it pushed the flags as they were for the step */
        uint64_t *pushed = (uint64_t *)f->rsp;
        *pushed = (*pushed & ~X86_RFLAGS_TF) | (gdb.step_had_interrupts ? X86_RFLAGS_IF : 0);
    }
    bool own = gdb.step_opcode == OP_POPF || gdb.step_opcode == OP_IRET ||
               gdb.step_opcode == OP_CLI || gdb.step_opcode == OP_STI;
    if (gdb.step_had_interrupts && !own) {
        f->rflags |= X86_RFLAGS_IF;
    }
}

/* --- entry ------------------------------------------------------------------------------------ */

/* Talk, as the owner, until gdb has decided. */
static void talk(struct nk_trap_frame *f, int signal, uint64_t watched)
{
    unsigned me = this_cpu->id;
    set_frame(me, f);
    stop_others();
    struct gdb_order order = gdb_talk(this_cpu->current, signal, watched);
    set_frame(me, NULL);
    f->rflags |= X86_RFLAGS_RF; /* the breakpoint at this very instruction was seen */
    load_debug_registers();
    if (order.action == GDB_CONTINUE) {
        __atomic_store_n(&gdb.owner, NOBODY, __ATOMIC_RELEASE);
        return;
    }
    if (order.cpu == me) {
        prepare_step(f);
        return;
    }
    prepare_step(__atomic_load_n(&gdb.cpu[order.cpu].frame, __ATOMIC_ACQUIRE));
    set_frame(me, f);
    __atomic_store_n(&gdb.owner, order.cpu, __ATOMIC_RELEASE);
    stand(f);
}

/* A breakpoint that another CPU's stop kept waiting: gdb may have removed it meanwhile, and then
 * the instruction it stood for comes first. */
static bool still_there(struct nk_trap_frame *f)
{
    if (f->vector != NK_EXCEPTION_BP || *(const uint8_t *)(f->rip - 1) == INT3) {
        return true;
    }
    f->rip--;
    return false;
}

static bool become_owner(struct nk_trap_frame *f)
{
    for (;;) {
        uint32_t nobody = NOBODY;
        if (owner() == this_cpu->id ||
            __atomic_compare_exchange_n(&gdb.owner, &nobody, this_cpu->id, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            return true;
        }
        stand(f);
        if (!still_there(f)) {
            return false;
        }
    }
}

static bool on_breakpoint(struct nk_trap_frame *f)
{
    if (become_owner(f)) {
        int signal = gdb.interrupted ? SIGNAL_INT : SIGNAL_TRAP;
        gdb.interrupted = false;
        talk(f, signal, 0);
    }
    return true;
}

static bool on_debug(struct nk_trap_frame *f)
{
    uint64_t dr6 = take_dr6();
    bool step = (dr6 & DR6_STEP) && gdb.stepping && owner() == this_cpu->id;
    if (!step && !(dr6 & DR6_HIT)) {
        return false;
    }
    if (step) {
        finish_step(f);
    }
    if (become_owner(f)) {
        talk(f, SIGNAL_TRAP, watched_address(dr6));
    }
    return true;
}

static void break_in(void)
{
    gdb.interrupted = true;
    __asm__ volatile("int3");
}

static void received(uint8_t byte)
{
    if (gdb_wants_stop(byte)) {
        break_in();
    }
}

void gdb_init(void)
{
    char mode[8];
    if (!nk_option("gdb", mode, sizeof(mode))) {
        return;
    }
    bool wait = strcmp(mode, "wait") == 0;
    if (!wait && strcmp(mode, "com2") != 0) {
        nk_warn("gdb=%s: not com2 or wait", mode);
        return;
    }
    if (!uart_debug_init()) {
        nk_warn("gdb=%s: there is no second serial port", mode);
        return;
    }
    gdb.present = true;
    nk_trap_set_handler(NK_EXCEPTION_BP, on_breakpoint);
    nk_trap_set_handler(NK_EXCEPTION_DB, on_debug);
    next_nmi = nk_trap_set_handler(NK_EXCEPTION_NMI, on_nmi);
    nk_info("gdb: %s on the second serial port", wait ? "waiting" : "listening");
    if (wait) {
        break_in();
    }
}

void gdb_listen(void)
{
    int err = gdb.present ? uart_debug_listen(received) : 0;
    if (err < 0) {
        nk_warn("gdb: no interrupt from the second serial port (error %d)", err);
    }
}
