/* The gate is closed again while a vCPU leaves it: behind each of the instructions by which it
 * does. Either it still stands there for who closes it, and then goes no further, or it does not,
 * and is waited for. */
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>

#include "core/x86.h"
#include "scripted.h"

static struct scripted *m;
static unsigned steps;    /* until the gate is closed */
static bool closed, held; /* it was; and the vCPU seemed to stand there */
static unsigned returns, slips;

static void (*thread_set_xcr0)(void *host, uint64_t xcr0);
static void (*unlock)(void *host, struct vmm_lock *lock);

/* As vmm_vm_hold() does. */
static void close_gate(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    if (--steps == 0) {
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)X86_RFLAGS_TF;
        m->vm->paused = 1;
        closed = true;
        held = m->vm->vcpus_at_gate == m->vm->vcpu_count;
    }
}

/* The last that a vCPU does before it looks whether it may go. */
static void unlock_and_step(void *host, struct vmm_lock *lock)
{
    unlock(host, lock);
    if (lock == &m->vm->control && steps != 0 && !closed) {
        __asm__ volatile("pushf; orq %0, (%%rsp); popf" ::"i"(X86_RFLAGS_TF) : "memory", "cc");
    }
}

/* The first that it does when it goes. */
static void note_departure(void *host, uint64_t xcr0)
{
    __asm__ volatile("pushf; andq %0, (%%rsp); popf" ::"i"(~X86_RFLAGS_TF) : "memory", "cc");
    slips += held;
    thread_set_xcr0(host, xcr0);
}

/* It has come back: the gate opens again. */
static void open_gate(void *host)
{
    (void)host;
    returns++;
    held = false;
    m->vm->paused = 0;
}

static void nobody_slips_through(void **state)
{
    const struct sigaction stepping = {.sa_sigaction = close_gate, .sa_flags = SA_SIGINFO};
    unsigned turns = 0;

    (void)state;
    assert_int_equal(sigaction(SIGTRAP, &stepping, NULL), 0);
    m->vcpu->thread = m->vm->ops->thread_current(m->host);
    do {
        steps = ++turns;
        closed = held = false;
        m->vm->paused = 0;
        assert_true(vmm_vm_gate(m->vcpu));
        assert_int_equal(m->vm->vcpus_at_gate, 0);
    } while (closed);
    m->vcpu->thread = NULL;
    assert_true(returns > 10 && turns > returns);
    assert_int_equal(slips, 0);
}

static int setup(void **state)
{
    struct vmm_host_ops *ops;

    (void)state;
    m = scripted_create(1);
    ops = posix_host_ops(m->host);
    thread_set_xcr0 = ops->thread_set_xcr0;
    unlock = ops->unlock;
    ops->thread_set_xcr0 = note_departure;
    ops->thread_park = open_gate;
    ops->unlock = unlock_and_step;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scripted_destroy(m);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_slips_through, setup, teardown),
    };

    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
