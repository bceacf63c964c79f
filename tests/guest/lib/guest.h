/* The library of the test guests: small 64-bit kernels that run in a VM and, from the same image,
 * on the bare machine (qemu-system-x86_64 -kernel).
 *
 * A guest is one file with guest_main(). The library has set up: an identity map of 4 GiB, an IDT,
 * COM1 at 115200 baud (polled), all PIC lines masked, the LAPIC on. Interrupts are off.
 * Threading: one CPU. Interrupt handlers run with interrupts off. */
#pragma once

#include "base/types.h"
#include "base/x86.h"

/* The guest itself. Its return powers the machine off. */
void guest_main(void);

/* --- machine (main.c) ------------------------------------------------------------------------- */

struct guest_e820 {
    uint64_t base, size;
    uint32_t type; /* 1 RAM, 2 reserved, 3 ACPI, 4 NVS */
} NK_PACKED;

unsigned guest_e820_count(void);
struct guest_e820 guest_e820(unsigned i);
const char *guest_cmdline(void);
uint64_t guest_entry_tsc(void); /* the TSC at the 64-bit entry */

/* The number behind "key=" on the command line. */
uint64_t guest_option(const char *key, uint64_t fallback);
bool guest_option_given(const char *key);
/* Does the command line say "key=value"? */
bool guest_option_is(const char *key, const char *value);

/* Under our VMM, as opposed to a bare machine or another hypervisor's. */
bool guest_in_vm(void);

/* An Intel processor, whose hypercall instruction is VMCALL? */
bool guest_is_intel(void);

NK_NORETURN void guest_power_off(void); /* S5; then halts, if that failed */
NK_NORETURN void guest_die(const char *why);

/* The next of a sequence (xorshift64*); *state is not 0. */
static inline uint64_t guest_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* --- text (print.c) --------------------------------------------------------------------------- */

/* %d %u %x with l, %s %c %p, width and zero padding. */
void guest_printf(const char *fmt, ...) NK_PRINTF(1, 2);

/* --- checks (check.c) ------------------------------------------------------------------------- */

/* One result in TAP: "ok 3 name", or "not ok 3 name" after a line "# why". */
void guest_check(bool ok, const char *name);
void guest_check_equal(uint64_t got, uint64_t expected, const char *name);
/* low <= got <= high */
void guest_check_between(uint64_t got, uint64_t low, uint64_t high, const char *name);
void guest_skip(const char *name, const char *why);
/* The plan "1..N" and the last line, "guest: P passed, F failed". */
void guest_check_summary(void);

/* Sorts the samples and prints "bench: name median". */
void guest_print_median(const char *name, uint64_t *sample, unsigned count);

/* --- exceptions and interrupts (trap.c) ------------------------------------------------------- */

struct guest_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

void guest_trap_init(void);
void guest_trap_load(void); /* on another CPU */
typedef void (*guest_handler)(struct guest_frame *frame);
void guest_set_handler(uint8_t vector, guest_handler fn);
/* The IDT's entry straight to `entry`, which ends with IRETQ: for measurements. */
void guest_set_gate(uint8_t vector, const void *entry);

/* An instruction that may fault: after it guest_fault_vector() is the exception's number, or
 * GUEST_NO_FAULT. Use: guest_fault_clear(); asm volatile(GUEST_MAY_FAULT("rdmsr") ...). */
#define GUEST_MAY_FAULT(insn)                                                                      \
    "1: " insn "\n2:\n.pushsection .fixups, \"a\"\n.quad 1b, 2b\n.popsection\n"
#define GUEST_NO_FAULT 0x100
void guest_fault_clear(void);
unsigned guest_fault_vector(void);
uint64_t guest_fault_error(void);

#define GUEST_DE  0
#define GUEST_DB  1
#define GUEST_NMI 2
#define GUEST_BP  3
#define GUEST_UD  6
#define GUEST_DF  8
#define GUEST_NP  11
#define GUEST_GP  13
#define GUEST_PF  14

unsigned guest_rdmsr(uint32_t msr, uint64_t *value); /* the fault's vector */
unsigned guest_wrmsr(uint32_t msr, uint64_t value);

/* Vectors that have an entry of the interrupt stack table, 1 to 7, change to that stack; 0 is none,
 * as it is at first. guest_stack() says where entry `ist` begins; guest_kernel_stack() where ring 3
 * leads. A descriptor of the task's state is loaded by the first call. */
void guest_set_ist(uint8_t vector, unsigned ist);
void guest_stack(unsigned ist, uint64_t top);
void guest_kernel_stack(uint64_t top);

/* lib/user.c: the identity map is ring 3's, too, and it can come back; then run fn() there. */
void guest_open_to_ring_3(void);
void guest_run_in_ring_3(void (*fn)(void));
void guest_gate_present(uint8_t vector, bool present);
void guest_gate_for_all(uint8_t vector); /* INT n reaches it from ring 3 */

#define GUEST_CODE64      0x10
#define GUEST_DATA64      0x18
#define GUEST_USER64      (0x28 | 3) /* the stack's selector */
#define GUEST_USER_CODE64 (0x30 | 3)

/* --- interrupt controllers (apic.c) ----------------------------------------------------------- */

#define GUEST_LAPIC_BASE  0xfee00000u
#define GUEST_IOAPIC_BASE 0xfec00000u

enum guest_lapic_register { /* APM vol. 2 table 16-2 */
                            LAPIC_ID = 0x20,
                            LAPIC_VERSION = 0x30,
                            LAPIC_TPR = 0x80,
                            LAPIC_PPR = 0xa0,
                            LAPIC_EOI = 0xb0,
                            LAPIC_LDR = 0xd0,
                            LAPIC_DFR = 0xe0,
                            LAPIC_SPURIOUS = 0xf0,
                            LAPIC_ISR = 0x100,
                            LAPIC_TMR = 0x180,
                            LAPIC_IRR = 0x200,
                            LAPIC_ESR = 0x280,
                            LAPIC_ICR_LOW = 0x300,
                            LAPIC_ICR_HIGH = 0x310,
                            LAPIC_TIMER = 0x320,
                            LAPIC_THERMAL = 0x330,
                            LAPIC_PERF = 0x340,
                            LAPIC_LINT0 = 0x350,
                            LAPIC_LINT1 = 0x360,
                            LAPIC_ERROR = 0x370,
                            LAPIC_TIMER_INITIAL = 0x380,
                            LAPIC_TIMER_CURRENT = 0x390,
                            LAPIC_TIMER_DIVIDE = 0x3e0,
};
#define LAPIC_TIMER_ONE_SHOT 0
#define LAPIC_TIMER_PERIODIC (1u << 17)
#define LAPIC_TIMER_DEADLINE (2u << 17)
#define LAPIC_MASKED         (1u << 16)
#define LAPIC_ENABLED        (1u << 8) /* of the spurious-interrupt register */
#define LAPIC_DELIVER_LOWEST (1u << 8)
#define LAPIC_DELIVER_NMI    (4u << 8)
#define LAPIC_DELIVER_EXTINT (7u << 8)
#define LAPIC_LOGICAL        (1u << 11)
#define LAPIC_ICR_BUSY       (1u << 12)
#define LAPIC_ICR_INIT       0x4500u /* assert */
#define LAPIC_ICR_STARTUP    0x4600u
#define LAPIC_ICR_SELF       (1u << 18)
#define LAPIC_ICR_ALL        (2u << 18)
#define LAPIC_ICR_OTHERS     (3u << 18)
#define MSR_X2APIC_ICR       0x830

void guest_lapic_init(void);
uint32_t guest_lapic_read(unsigned reg); /* through MMIO, or MSRs in x2APIC mode */
void guest_lapic_write(unsigned reg, uint32_t value);
bool guest_x2apic_available(void);
void guest_x2apic_enable(void); /* for good: there is no way back but a reset */
bool guest_x2apic_enabled(void);
void guest_eoi(void);
/* To a destination, by the ICR of the mode that the LAPIC is in. */
void guest_ipi(uint32_t destination, uint32_t command);

uint32_t guest_ioapic_read(unsigned reg);
void guest_ioapic_write(unsigned reg, uint32_t value);
/* Route a pin to a vector of this CPU; flags are the entry's low bits (level, low-active, masked).
 */
void guest_ioapic_route(unsigned pin, uint8_t vector, uint32_t flags);
#define IOAPIC_LOGICAL    (1u << 11)
#define IOAPIC_REMOTE_IRR (1u << 14)
#define IOAPIC_LEVEL      (1u << 15)
#define IOAPIC_MASKED     (1u << 16)
void guest_ioapic_eoi(uint8_t vector); /* its own register for it */

#define GUEST_PIC_VECTOR 0x20 /* IRQ n of the PICs is vector 0x20 + n */
void guest_pic_init(void);    /* ICW1-4, all lines masked */
void guest_pic_unmask(unsigned irq);
void guest_pic_mask_all(void);
void guest_pic_eoi(unsigned irq);

/* --- time (clock.c) --------------------------------------------------------------------------- */

#define GUEST_PM_TIMER_HZ 3579545u
#define GUEST_PIT_HZ      1193182u

uint32_t guest_pm_timer(void); /* 24 bits */

/* A clock's reading and the TSC it belongs to. A reading that took long, because the host ran
 * something else in between, is done again. */
struct guest_sample {
    uint64_t tsc;
    uint32_t count;
};
struct guest_sample guest_sample(uint32_t (*read)(void));

/* TSC ticks per second, measured once against the PM timer. */
uint64_t guest_tsc_hz(void);
void guest_delay_us(uint64_t us); /* by the TSC */
/* Interrupts on, polling, until *flag or the time is over; returns *flag. */
bool guest_wait(volatile uint32_t *flag, uint64_t timeout_us);
/* PIT channel 0: mode 2 with this divisor (0: 65536); channel 0 one-shot in mode 0. */
void guest_pit_periodic(uint16_t divisor);
void guest_pit_one_shot(uint16_t count);
uint8_t guest_cmos(uint8_t index);

/* COM1 as a source of interrupts: with its transmit interrupt enabled the line rises at once, and
 * stays up until it is disabled or the cause is read. */
#define GUEST_COM1_IRQ 4
void guest_com1_raise(void);
void guest_com1_lower(void);

/* --- other CPUs (smp.c; a guest that wants it names lib/ap.asm and lib/smp.c) -------------------
 */

#define GUEST_CPUS_MAX 64
#define GUEST_AP_START 0x8000 /* a page below 1 MiB that the start-up IPI can name */

/* Puts the code there that guest_ap_start() is reached by. */
void guest_ap_prepare(void);

/* Does that, and starts all other CPUs by INIT and a start-up IPI. */
void guest_ap_start_others(void);
/* The guest's own: where another CPU begins, in 64-bit mode, interrupts off, with the tables of the
 * first one but for the IDT. */
NK_NORETURN void guest_ap_start(uint32_t id);
uint32_t guest_cpu_id(void); /* initial APIC id */
