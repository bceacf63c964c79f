/* Two CPUs: start by INIT and start-up IPI, interrupts from one to the other, one time for both.
 * Command line: bench=1 measures an interrupt's way from its sending to the other CPU's handler. */
#include "tests/guest/lib/guest.h"

#define PING_VECTOR   0x50
#define PONG_VECTOR   0x51
#define ROUND_TRIPS   200
#define WAIT_US       2000000
#define BENCH_SAMPLES 101

static volatile uint32_t ap_starts, ap_nmis, pings, pongs;
static volatile uint32_t ap_id, ap_cpuid_id;
static volatile uint64_t ap_tsc;

static void send(uint32_t id, uint32_t command)
{
    guest_lapic_write(LAPIC_ICR_HIGH, id << 24);
    guest_lapic_write(LAPIC_ICR_LOW, command);
    while (guest_lapic_read(LAPIC_ICR_LOW) & LAPIC_ICR_BUSY) {
        x86_pause();
    }
}

static void on_ping(struct guest_frame *frame)
{
    (void)frame;
    ap_tsc = x86_rdtsc();
    pings++;
    guest_eoi();
    send(0, PONG_VECTOR);
}

static void on_pong(struct guest_frame *frame)
{
    (void)frame;
    pongs++;
    guest_eoi();
}

static void on_nmi(struct guest_frame *frame)
{
    (void)frame;
    ap_nmis++;
}

/* The other CPU's code, for ever. */
void guest_ap_start(uint32_t id)
{
    guest_trap_load();
    guest_lapic_init();
    ap_id = guest_lapic_read(LAPIC_ID) >> 24;
    ap_cpuid_id = id;
    ap_starts++;
    for (;;) {
        __asm__ volatile("sti; hlt");
    }
}

/* Polls until the counter is beyond `value`. */
static bool beyond(volatile uint32_t *counter, uint32_t value)
{
    for (unsigned i = 0; i < WAIT_US / 1000 && *counter <= value; i++) {
        volatile uint32_t never = 0;
        guest_wait(&never, 1000);
    }
    return *counter > value;
}

static void check_round_trips(void)
{
    bool in_order = true, all = true;
    for (uint32_t i = 0; i < ROUND_TRIPS && all; i++) {
        uint64_t before = x86_rdtsc();
        send(ap_id, PING_VECTOR);
        all = guest_wait(&pongs, WAIT_US);
        in_order &= ap_tsc > before && ap_tsc < x86_rdtsc();
        pongs = 0;
    }
    guest_check(all, "smp: an answer to every interrupt");
    guest_check_equal(pings, ROUND_TRIPS, "smp: one interrupt for each sent");
    guest_check(in_order, "smp: both CPUs have the same time");
}

static void measure(void)
{
    static uint64_t samples[BENCH_SAMPLES];
    for (unsigned i = 0; i < BENCH_SAMPLES; i++) {
        uint64_t start = x86_rdtsc();
        send(ap_id, PING_VECTOR);
        guest_wait(&pongs, WAIT_US);
        samples[i] = ap_tsc - start;
        pongs = 0;
    }
    guest_print_median("ipi_to_other_vcpu", samples, BENCH_SAMPLES);
}

void guest_main(void)
{
    guest_set_handler(PING_VECTOR, on_ping);
    guest_set_handler(PONG_VECTOR, on_pong);
    guest_set_handler(2, on_nmi);
    guest_ap_start_others();
    guest_check(beyond(&ap_starts, 0), "smp: the other CPU starts");
    guest_check_equal(ap_id, 1, "smp: its LAPIC has the next id");
    guest_check_equal(ap_cpuid_id, 1, "smp: CPUID agrees");
    check_round_trips();
    if (guest_option("bench", 0)) {
        measure();
    }
    send(ap_id, LAPIC_DELIVER_NMI);
    guest_check(beyond(&ap_nmis, 0), "smp: NMI to the other CPU");
    guest_ap_start_others();
    guest_check(beyond(&ap_starts, 1), "smp: INIT and start-up start it again");
    send(ap_id, PING_VECTOR);
    guest_check(guest_wait(&pongs, WAIT_US), "smp: it takes interrupts then");
    guest_check_summary();
}
