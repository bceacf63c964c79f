/* The whole PC on the bare VM of fixture.h, for the tests of its devices. */
#pragma once

#include "core/irq.h"
#include "dev/platform.h"
#include "fixture.h"

#define PC_RAM VMM_MIB(4)

struct fixture *pc_create(unsigned vcpu_count);

/* Time passes, and whatever asked to be run is run. */
void pc_advance_ns(struct fixture *f, uint64_t ns);
void pc_settle(struct fixture *f);

/* Take the interrupt that is pending: its vector, -1: none. */
int pc_take(struct vcpu *v);
/* The same, and tell LAPIC and PICs that it was served. */
int pc_serve(struct fixture *f, struct vcpu *v);
/* Which vCPUs take and serve this vector now, a bit for each; no other vector may be pending. */
unsigned pc_takers(struct fixture *f, int vector);
/* Both PICs with vectors 0x20 and 0x28, everything unmasked. */
void pc_init_pics(struct fixture *f);
/* Redirection entry of a pin: vector with flags. */
void pc_route(struct fixture *f, unsigned pin, uint64_t entry);

/* Do what any guest may do: `rounds` random accesses of all sizes to [base, base + length), with
 * time passing and interrupts taken in between. The seed is the range's base. */
void pc_fuzz_ports(struct fixture *f, uint16_t base, unsigned length, unsigned rounds);
void pc_fuzz_mmio(struct fixture *f, uint64_t base, unsigned length, unsigned rounds);

/* Save all devices, load them into a second machine of the same age, save that: the same bytes.
 * Then check that each cut-off stream is refused without harm. */
void pc_check_save(struct fixture *f);

/* What saving gives goes into another machine. */
void pc_copy_devices(struct fixture *from, struct fixture *to);

#define PC_TEST_MAIN(...)                                                                          \
    int main(void)                                                                                 \
    {                                                                                              \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                           \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }
