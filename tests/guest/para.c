/* The paravirtual interface as a guest sees it: hypercalls (docs/hypercalls.md), KVM's
 * clock, EOI and steal time. */
#include "tests/guest/lib/guest.h"
#include "vmm/include/vmm/hypercall.h"

#define MSR_WALL_CLOCK  0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
#define MSR_STEAL_TIME  0x4b564d03
#define MSR_PV_EOI      0x4b564d04
#define CLOCK_STABLE    1
#define TEXT            "# written by a hypercall\n"

/* Linux Documentation/virt/kvm/x86/msr.rst */
struct system_time {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad[2];
} NK_PACKED;

struct wall_clock {
    uint32_t version, sec, nsec;
} NK_PACKED;

static int64_t hypercall(uint32_t number, uint64_t rdi, uint64_t rsi)
{
    int64_t rax = number;
    if (guest_is_intel()) {
        __asm__ volatile("vmcall" : "+a"(rax) : "D"(rdi), "S"(rsi) : "memory");
    } else {
        __asm__ volatile("vmmcall" : "+a"(rax) : "D"(rdi), "S"(rsi) : "memory");
    }
    return rax;
}

static void check_hypercalls(void)
{
    static const char text[] = TEXT;
    uint64_t rdi = 1, rsi = 2, rdx = 3, rax = VMM_HC_VERSION;
    if (guest_is_intel()) {
        __asm__ volatile("vmcall" : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx));
    } else {
        __asm__ volatile("vmmcall" : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx));
    }
    guest_check_equal(rax, VMM_HC_VERSION_1, "hypercall: version");
    guest_check(rdi == 1 && rsi == 2 && rdx == 3, "hypercall: arguments are kept");
    guest_check_equal((uint64_t)hypercall(VMM_HC(99), 0, 0), (uint64_t)VMM_HC_ENOTSUP,
                      "hypercall: unknown number");
    guest_check_equal((uint64_t)hypercall(1, 0, 0), (uint64_t)VMM_HC_ENOTSUP,
                      "hypercall: KVM's numbers are unknown");
    guest_check_equal((uint64_t)hypercall(VMM_HC_YIELD, 0, 0), 0, "hypercall: yield");
    guest_check_equal((uint64_t)hypercall(VMM_HC_CONSOLE_WRITE, (uint64_t)text, sizeof(text) - 1),
                      sizeof(text) - 1, "hypercall: console write");
    guest_check_equal((uint64_t)hypercall(VMM_HC_CONSOLE_WRITE, (uint64_t)text, 4097),
                      (uint64_t)VMM_HC_EINVAL, "hypercall: console write of too much");
    guest_check_equal((uint64_t)hypercall(VMM_HC_CONSOLE_WRITE, UINT64_C(1) << 45, 1),
                      (uint64_t)VMM_HC_EFAULT, "hypercall: console write from nowhere");
    guest_check_equal((uint64_t)hypercall(VMM_HC_CONSOLE_PUT, '\n', 0), 0,
                      "hypercall: console put");
    guest_check_equal((uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_VCPU_ID, 0), 0, "info: vCPU");
    guest_check_equal((uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_VCPU_COUNT, 0), 1,
                      "info: vCPUs");
    guest_check_equal((uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_RAM_BYTES, 0), NK_MIB(64),
                      "info: bytes of RAM");
    guest_check_equal((uint64_t)hypercall(VMM_HC_INFO, 99, 0), (uint64_t)VMM_HC_EINVAL,
                      "info: no such item");

    uint64_t before = (uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_CLOCK_NS, 0);
    guest_delay_us(20000);
    uint64_t after = (uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_CLOCK_NS, 0);
    guest_check_between(after - before, 19800000, UINT64_C(2000000000), "info: clock");
}

static volatile struct system_time clock NK_ALIGNED(64);

/* Nanoseconds since power-on by the shared record, as a kernel computes them. */
static uint64_t clock_ns(void)
{
    uint64_t delta = x86_rdtsc() - clock.tsc_timestamp;
    delta = clock.tsc_shift >= 0 ? delta << clock.tsc_shift : delta >> -clock.tsc_shift;
    return clock.system_time + (uint64_t)((unsigned __int128)delta * clock.tsc_to_system_mul >> 32);
}

static void check_clock(void)
{
    static volatile struct wall_clock wall NK_ALIGNED(64);
    if (!(x86_cpuid(0x40000101, 0).eax & 1u << 3)) {
        guest_skip("kvmclock", "not offered");
        return;
    }
    guest_check_equal(guest_wrmsr(MSR_SYSTEM_TIME, (uint64_t)&clock | 1), GUEST_NO_FAULT,
                      "kvmclock: switched on");
    guest_check(clock.version && !(clock.version & 1), "kvmclock: record written");
    guest_check((clock.flags & CLOCK_STABLE) != 0, "kvmclock: stable");
    uint64_t base = clock_ns(),
             hypercall_ns = (uint64_t)hypercall(VMM_HC_INFO, VMM_HC_INFO_CLOCK_NS, 0);
    guest_check_between(hypercall_ns - base, 0, 100000000, "kvmclock: agrees with the hypercall");
    uint64_t start = clock_ns();
    guest_delay_us(50000);
    /* Two calibrations stand between the delay and the clock: the node's and the guest's own. */
    guest_check_between(clock_ns() - start, 45000000, UINT64_C(2000000000), "kvmclock: goes on");

    guest_check_equal(guest_wrmsr(MSR_WALL_CLOCK, (uint64_t)&wall), GUEST_NO_FAULT,
                      "kvmclock: wall clock asked for");
    guest_check(wall.version && !(wall.version & 1) && wall.nsec < 1000000000,
                "kvmclock: wall clock written");
    guest_printf("# wall clock at power-on %u\n", wall.sec);
}

#define PV_EOI_VECTOR 0x50
#define LOW_VECTOR    0x40

static volatile uint32_t pv_eoi NK_ALIGNED(4);
static volatile uint32_t taken, taken_low, offered;

/* As Linux ends an interrupt. */
static void end_interrupt(void)
{
    uint32_t word = __atomic_fetch_and(&pv_eoi, ~1u, __ATOMIC_SEQ_CST);
    offered += word & 1;
    if ((word & 1) == 0) {
        guest_eoi();
    }
}

static void on_vector(struct guest_frame *frame)
{
    (void)frame;
    taken++;
    end_interrupt();
}

static void on_low_vector(struct guest_frame *frame)
{
    (void)frame;
    taken_low++;
    end_interrupt();
}

/* While the handler runs, one that must wait for its end is sent. */
static void on_vector_send_low(struct guest_frame *frame)
{
    (void)frame;
    taken++;
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | LOW_VECTOR);
    end_interrupt();
}

static void send_self(uint8_t vector)
{
    uint32_t before = taken;
    guest_lapic_write(LAPIC_ICR_LOW, LAPIC_ICR_SELF | vector);
    bool came;
    unsigned turns = 0;
    do { /* a turn more for what the handler sent */
        came = taken != before;
        /* Bochs looks for a virtual interrupt only where IF changes. */
        __asm__ volatile("sti; nop; pause; cli" : : : "memory");
    } while (!came && ++turns < 100000);
}

static void check_pv_eoi(void)
{
    uint64_t value = 0;
    if (!(x86_cpuid(0x40000101, 0).eax & 1u << 6)) {
        guest_skip("PV EOI", "not offered");
        return;
    }
    guest_set_handler(PV_EOI_VECTOR, on_vector);
    guest_set_handler(LOW_VECTOR, on_low_vector);
    guest_check_equal(guest_wrmsr(MSR_PV_EOI, (uint64_t)&pv_eoi | 3), GUEST_GP,
                      "PV EOI: reserved bit");
    guest_check_equal(guest_wrmsr(MSR_PV_EOI, (uint64_t)&pv_eoi | 1), GUEST_NO_FAULT,
                      "PV EOI: switched on");
    guest_check_equal(guest_rdmsr(MSR_PV_EOI, &value), GUEST_NO_FAULT, "PV EOI: read back");
    guest_check_equal(value, (uint64_t)&pv_eoi | 1, "PV EOI: its value");
    for (unsigned i = 0; i < 100; i++) {
        send_self(PV_EOI_VECTOR);
    }
    guest_check_equal(taken, 100, "PV EOI: every interrupt is taken");
    /* Hardware that spares the exit by itself does not ask. */
    guest_check(offered == 100 || offered == 0, "PV EOI: all without an exit, or none");
    guest_check_equal(guest_lapic_read(LAPIC_ISR + 0x20), 0, "PV EOI: none is left in service");

    taken = offered = 0;
    guest_set_handler(PV_EOI_VECTOR, on_vector_send_low);
    for (unsigned i = 0; i < 100; i++) {
        send_self(PV_EOI_VECTOR);
    }
    guest_check_equal(taken, 100, "PV EOI: with one that waits");
    guest_check_equal(taken_low, 100, "PV EOI: ... which comes then");
    guest_set_handler(PV_EOI_VECTOR, on_vector);
    guest_check_equal(guest_wrmsr(MSR_PV_EOI, 0), GUEST_NO_FAULT, "PV EOI: switched off");
    offered = taken = 0;
    send_self(PV_EOI_VECTOR);
    send_self(PV_EOI_VECTOR);
    guest_check(taken == 2 && offered == 0, "PV EOI: off");
}

static volatile struct steal_time {
    uint64_t steal;
    uint32_t version, flags;
    uint8_t preempted, pad[47];
} steal NK_ALIGNED(64);

static void check_steal_time(void)
{
    if (!(x86_cpuid(0x40000101, 0).eax & 1u << 5)) {
        guest_skip("steal time", "not offered");
        return;
    }
    guest_check_equal(guest_wrmsr(MSR_STEAL_TIME, (uint64_t)&steal | 5), GUEST_GP,
                      "steal time: reserved bit");
    guest_check_equal(guest_wrmsr(MSR_STEAL_TIME, (uint64_t)&steal | 1), GUEST_NO_FAULT,
                      "steal time: switched on");
    guest_set_handler(PV_EOI_VECTOR, on_vector);
    taken = 0;
    guest_lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
    guest_lapic_write(LAPIC_TIMER, LAPIC_TIMER_ONE_SHOT | PV_EOI_VECTOR);
    for (unsigned i = 0; i < 20; i++) {
        guest_lapic_write(LAPIC_TIMER_INITIAL, 1000000);
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    }
    guest_lapic_write(LAPIC_TIMER, LAPIC_MASKED);
    guest_check_equal(taken, 20, "steal time: halts end");
    guest_check((steal.version & 1) == 0 && steal.preempted == 0, "steal time: record at rest");
    /* Some 20 ms were slept: that is not stolen. A loaded emulator takes some all the same. */
    guest_printf("# %lu ns stolen\n", steal.steal);
    guest_check_equal(guest_wrmsr(MSR_STEAL_TIME, 0), GUEST_NO_FAULT, "steal time: off");
}

void guest_main(void)
{
    if (!guest_in_vm()) {
        guest_die("there is no such interface on a bare machine");
    }
    check_hypercalls();
    check_clock();
    check_pv_eoi();
    check_steal_time();
    guest_check_summary();
}
