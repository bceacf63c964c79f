/* Messages between threads: nothing is lost and nothing comes twice. Worth a run with
 * HOST_SANITIZE=thread, too. */
#include <pthread.h>
#include <stdatomic.h>
#include "dev/vlapic.h"
#include "pc.h"

#define SENDERS        3
#define ROUNDS         20000
#define VECTOR(sender) (0x30 + 0x10 * (sender))

struct sender {
    struct fixture *f;
    unsigned number;
    bool line; /* raises an edge at the IOAPIC, else sends a message */
};

static _Atomic unsigned taken[SENDERS];

/* One interrupt at a time: the next is sent when the last was taken. */
static void *sender_main(void *arg)
{
    struct sender *s = arg;
    struct vmm_irq_message m = {.vector = (uint8_t)VECTOR(s->number)};

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (s->line) {
            vmm_irq_pulse(s->f->vm, 10 + s->number);
        } else {
            vmm_irq_deliver(s->f->vm, &m);
        }
        while (atomic_load(&taken[s->number]) == i) {
        }
    }
    return NULL;
}

static void no_interrupt_is_lost(void **state)
{
    struct fixture *f = pc_create(1);
    struct sender sender[SENDERS];
    pthread_t thread[SENDERS];
    unsigned total = 0;

    (void)state;
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    for (unsigned i = 0; i < SENDERS; i++) {
        sender[i] = (struct sender){.f = f, .number = i, .line = i == 0};
        pc_route(f, 10 + i, VECTOR(i));
        assert_int_equal(pthread_create(&thread[i], NULL, sender_main, &sender[i]), 0);
    }
    while (total < SENDERS * ROUNDS) {
        int vector;

        /* As the run loop: look only when asked to. */
        if ((__atomic_exchange_n(&f->vcpu->requests, 0, __ATOMIC_SEQ_CST) & VMM_REQ_INTR) == 0) {
            continue;
        }
        vector = pc_take(f->vcpu);
        if (vector < 0) {
            continue;
        }
        fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xb0, 4, 0);
        atomic_fetch_add(&taken[(vector - 0x30) / 0x10], 1);
        total++;
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(taken[i], ROUNDS);
    }
    assert_int_equal(pc_take(f->vcpu), -1);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(no_interrupt_is_lost))
