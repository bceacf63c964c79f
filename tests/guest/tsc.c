/* One time for all CPUs: none ever reads a TSC that is less than what another one has read before,
 * whatever the host does with the VM meanwhile. Command line: cpus=N; rounds=N, of half a second.
 */
#include "tests/guest/lib/guest.h"

#define ROUND_US 500000

static volatile uint64_t latest;
static volatile uint32_t wrong, looks[GUEST_CPUS_MAX];

static uint64_t rdtsc_ordered(void)
{
    __asm__ volatile("lfence" : : : "memory");
    return x86_rdtsc();
}

static void look(uint32_t cpu)
{
    uint64_t before = latest, now = rdtsc_ordered();
    if (now < before) {
        __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
    }
    while (before < now && !__atomic_compare_exchange_n(&latest, &before, now, false,
                                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    looks[cpu]++;
    __asm__ volatile("sti; nop; cli; pause"); /* Bochs lets the host have the CPU only then */
}

void guest_ap_start(uint32_t id)
{
    guest_trap_load();
    for (;;) {
        look(id);
    }
}

static uint32_t fewest_looks(unsigned count)
{
    uint32_t fewest = UINT32_MAX;
    for (unsigned i = 0; i < count; i++) {
        fewest = looks[i] < fewest ? looks[i] : fewest;
    }
    return fewest;
}

void guest_main(void)
{
    unsigned count = (unsigned)guest_option("cpus", 1);
    uint64_t rounds = guest_option("rounds", 4), tick = guest_tsc_hz() / 1000000 * ROUND_US;
    uint64_t start = x86_rdtsc();
    if (count > 1) {
        guest_ap_start_others();
    }
    for (uint64_t i = 1; i <= rounds; i++) {
        while (x86_rdtsc() - start < i * tick) {
            look(0);
        }
        guest_printf("tsc: %lu ms, %u looks at least, %u wrong\n",
                     (x86_rdtsc() - start) / (guest_tsc_hz() / 1000), fewest_looks(count), wrong);
    }
    guest_check(fewest_looks(count) > 0, "tsc: every CPU looks");
    guest_check_equal(wrong, 0, "tsc: never less than another CPU's before");
    guest_check_summary();
}
