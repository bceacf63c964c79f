/* The paravirtual interface as a guest sees it: hypercalls (docs/hypercalls.md) and KVM's clock. */
#include "tests/guest/lib/guest.h"
#include "vmm/include/vmm/hypercall.h"

#define MSR_WALL_CLOCK  0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
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

void guest_main(void)
{
    if (!guest_in_vm()) {
        guest_die("there is no such interface on a bare machine");
    }
    check_hypercalls();
    check_clock();
    guest_check_summary();
}
