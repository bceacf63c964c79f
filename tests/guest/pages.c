/* Memory that the host takes away and brings back: two CPUs check and rewrite their pages for ever,
 * and whatever a page has been through, it holds what was written to it.
 * Without "talk=1" on the command line that is done some rounds, with checks. With it the guest
 * obeys what is typed on COM1: r rounds and faults so far, s stand still, g go on, w write to seven
 * pages, x look at the address "extra=", q end. */
#include "tests/guest/lib/guest.h"

#define COM1         0x3f8
#define COM1_LSR     (COM1 + 5)
#define LSR_RECEIVED 1

#define FIRST      0x2000000 /* of the pages, which the CPUs have in turn */
#define PAGE       4096
#define PAGES      2048
#define WRITTEN    0x3000000 /* seven pages, every second one */
#define WORDS      8         /* of a page that are looked at */
#define ROUNDS     20
#define WAIT_US    2000000
#define NOT_BACKED UINT64_MAX

static volatile uint32_t ap_runs, hold;
static volatile uint32_t rounds[2], held[2], faults;

static volatile uint64_t *word(unsigned page, unsigned i)
{
    return (volatile uint64_t *)(uint64_t)(FIRST + page * PAGE + i * (PAGE / WORDS));
}

/* What the page holds after a round; before the first, whatever was there. */
static uint64_t pattern(unsigned page, uint32_t round, unsigned i)
{
    return (uint64_t)round << 32 | page << 8 | i;
}

static void work(unsigned cpu)
{
    uint32_t round = rounds[cpu];
    for (unsigned page = cpu; page < PAGES; page += 2) {
        for (unsigned i = 0; i < WORDS; i++) {
            if (round != 0 && *word(page, i) != pattern(page, round, i)) {
                faults++;
            }
            *word(page, i) = pattern(page, round + 1, i);
        }
    }
    rounds[cpu] = round + 1;
}

static void work_unless_held(unsigned cpu)
{
    __asm__ volatile("sti; nop; cli"); /* Bochs lets the host have the CPU only then */
    held[cpu] = hold;
    if (held[cpu]) {
        x86_pause();
    } else {
        work(cpu);
    }
}

void guest_ap_start(uint32_t id)
{
    (void)id;
    guest_trap_load();
    ap_runs = 1;
    for (;;) {
        work_unless_held(1);
    }
}

static bool start_other(void)
{
    guest_ap_start_others();
    return guest_wait(&ap_runs, WAIT_US);
}

static void check(void)
{
    while (rounds[0] < ROUNDS || rounds[1] < ROUNDS) {
        work_unless_held(0);
    }
    guest_check_equal(faults, 0, "pages: every page holds what was written to it");
}

static void look_at_extra(void)
{
    volatile uint64_t *extra = (volatile uint64_t *)guest_option("extra", 0x20000000);
    uint64_t before = *extra;
    *extra = 0x1234;
    guest_printf("pages: extra %s, %s\n", before == NOT_BACKED ? "all ones" : "memory",
                 *extra == 0x1234 ? "written" : "not written");
}

static void write_seven(void)
{
    for (unsigned i = 0; i < 7; i++) {
        *(volatile uint64_t *)(uint64_t)(WRITTEN + 2 * i * PAGE + 8 * i) += 1;
    }
    guest_printf("pages: wrote\n");
}

/* False: the end. */
static bool obey(uint8_t order)
{
    switch (order) {
    case 'r':
        guest_printf("pages: rounds %u %u, faults %u\n", rounds[0], rounds[1], faults);
        return true;
    case 's':
        hold = 1;
        while (!held[1]) {
            x86_pause();
        }
        guest_printf("pages: standing\n");
        return true;
    case 'g':
        hold = 0;
        guest_printf("pages: going\n");
        return true;
    case 'w':
        write_seven();
        return true;
    case 'x':
        look_at_extra();
        return true;
    default:
        return order != 'q';
    }
}

static void talk(void)
{
    guest_printf("pages: ready\n");
    for (;;) {
        work_unless_held(0);
        if ((x86_inb(COM1_LSR) & LSR_RECEIVED) && !obey(x86_inb(COM1))) {
            return;
        }
    }
}

void guest_main(void)
{
    guest_check(start_other(), "pages: the other CPU starts");
    if (guest_option_given("talk")) {
        talk();
    } else {
        check();
    }
    guest_check_summary();
}
