/* Cross-CPU calls: a lock-free list per CPU, which callers push to and its CPU empties at once.
 * Only the push that finds the list empty sends an interrupt. */

#include "kernel/smp_call.h"

#include "base/errno.h"
#include "base/platform.h"
#include "base/x86.h"
#include "kernel/irq.h"
#include "kernel/lapic.h"
#include "kernel/smp.h"
#include "mm/paging.h"
#include "mm/slab.h"

struct cpu_call {
    struct cpu_call *next;
    void (*fn)(void *arg);
    void *arg;
    uint32_t *pending; /* counted down when fn returned; NULL: nobody waits, free the record */
};

static void push(struct nk_cpu *cpu, struct cpu_call *call)
{
    void *head = __atomic_load_n(&cpu->call_queue, __ATOMIC_RELAXED);
    do {
        call->next = head;
    } while (!__atomic_compare_exchange_n(&cpu->call_queue, &head, call, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    if (head == NULL) {
        lapic_send_ipi(cpu->apic_id, NK_VECTOR_CALL);
    }
}

/* The list has the last call first; calls run in the order they were made. */
static struct cpu_call *reversed(struct cpu_call *call)
{
    struct cpu_call *first = NULL;
    while (call != NULL) {
        struct cpu_call *next = call->next;
        call->next = first;
        first = call;
        call = next;
    }
    return first;
}

void smp_call_interrupt(uint64_t vector)
{
    (void)vector;
    struct cpu_call *call =
        reversed(__atomic_exchange_n(&this_cpu->self->call_queue, NULL, __ATOMIC_ACQUIRE));
    while (call != NULL) {
        struct cpu_call *next = call->next;
        uint32_t *pending = call->pending;
        call->fn(call->arg);
        if (pending == NULL) {
            kfree(call);
        } else { /* the caller may leave at once, and the record with it */
            __atomic_fetch_sub(pending, 1, __ATOMIC_RELEASE);
        }
        call = next;
    }
}

static void await(const uint32_t *pending)
{
    while (__atomic_load_n(pending, __ATOMIC_ACQUIRE) != 0) {
        x86_pause();
    }
}

static void call_here(void (*fn)(void *arg), void *arg)
{
    uint64_t flags = nk_irq_save();
    fn(arg);
    nk_irq_restore(flags);
}

int nk_cpu_call(unsigned cpu, void (*fn)(void *arg), void *arg, bool wait)
{
    if (cpu >= nk_cpu_count || fn == NULL) {
        return -EINVAL;
    }
    nk_preempt_disable();
    int err = 0;
    if (cpu == this_cpu->id) {
        call_here(fn, arg);
    } else if (wait) {
        nk_assert(nk_irqs_on()); /* two CPUs that wait for each other must both take the call */
        uint32_t pending = 1;
        struct cpu_call call = {NULL, fn, arg, &pending};
        push(&nk_cpu_table[cpu], &call);
        await(&pending);
    } else {
        struct cpu_call *call = kmalloc(sizeof(*call));
        if (call != NULL) {
            *call = (struct cpu_call){NULL, fn, arg, NULL};
            push(&nk_cpu_table[cpu], call);
        } else {
            err = -ENOMEM;
        }
    }
    nk_preempt_enable();
    return err;
}

void nk_cpu_call_others(void (*fn)(void *arg), void *arg)
{
    struct cpu_call call[CONFIG_NR_CPUS];
    nk_preempt_disable();
    nk_assert(nk_irqs_on() || nk_cpu_count == 1);
    uint32_t pending = nk_cpu_count - 1;
    for (unsigned id = 0; id < nk_cpu_count; id++) {
        if (id != this_cpu->id) {
            call[id] = (struct cpu_call){NULL, fn, arg, &pending};
            push(&nk_cpu_table[id], &call[id]);
        }
    }
    await(&pending);
    nk_preempt_enable();
}

struct shootdown {
    uint64_t va, size;
};

static void flush_range(void *arg)
{
    const struct shootdown *s = arg;
    paging_flush_local(s->va, s->size);
}

void smp_shootdown(uint64_t va, uint64_t size)
{
    struct shootdown s = {va, size};
    nk_cpu_call_others(flush_range, &s);
}

void nk_platform_kick_cpu(unsigned cpu)
{
    __atomic_store_n(&nk_cpu_table[cpu].kicked, true, __ATOMIC_RELAXED);
    lapic_send_ipi(nk_cpu_table[cpu].apic_id, NK_VECTOR_RESCHED);
}
