/* Handlers in threads. The interrupt itself only notes that it came and wakes the thread. */

#include "base/errno.h"
#include "base/percpu.h"
#include "base/platform.h"
#include "kernel/irq_impl.h"
#include "mm/slab.h"
#include "sched/thread.h"

#define PRIORITY (NK_PRIORITY_COUNT - 4) /* above ordinary threads, as the interrupt would be */

struct nk_irq_thread {
    struct nk_thread *thread;
    struct irq_line *line;
    nk_irq_handler fn;
    void *arg;
    uint64_t raised;    /* atomic; TSC of the first interrupt not served yet, 0: none */
    bool holding;       /* atomic; the line is masked for us */
    bool stop;          /* atomic */
    bool served_before; /* what the handler said the last time: whether it was its device */
};

/* The device speaks for itself only in the thread. For the line's count of unhandled interrupts
 * its last answer must do. */
static bool note_and_wake(void *arg)
{
    struct nk_irq_thread *t = arg;
    uint64_t none = 0;
    if (t->line->level && !__atomic_exchange_n(&t->holding, true, __ATOMIC_ACQ_REL)) {
        irq_line_hold(t->line);
    }
    __atomic_compare_exchange_n(&t->raised, &none, x86_rdtsc(), false, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
    nk_thread_wake(t->thread);
    return __atomic_load_n(&t->served_before, __ATOMIC_RELAXED);
}

static void release(struct nk_irq_thread *t)
{
    if (__atomic_exchange_n(&t->holding, false, __ATOMIC_ACQ_REL)) {
        irq_line_release(t->line);
    }
}

static void serve(void *arg)
{
    struct nk_irq_thread *t = arg;
    while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
        uint64_t raised = __atomic_exchange_n(&t->raised, 0, __ATOMIC_ACQ_REL);
        if (raised == 0) {
            nk_thread_park();
            continue;
        }
        irq_line_note_ticks(t->line, x86_rdtsc() - raised);
        __atomic_store_n(&t->served_before, t->fn(t->arg), __ATOMIC_RELAXED);
        release(t);
    }
}

int nk_irq_attach_thread(struct nk_irq_thread **out, unsigned irq, const char *name,
                         nk_irq_handler fn, void *arg)
{
    if (irq >= NK_IRQ_COUNT || fn == NULL) {
        return -EINVAL;
    }
    struct nk_irq_thread *t = kzalloc(sizeof(*t));
    if (t == NULL) {
        return -ENOMEM;
    }
    t->line = &irq_lines[irq];
    t->fn = fn;
    t->arg = arg;
    t->served_before = true;
    struct nk_thread_attr attr = {.name = name, .cpu = NK_CPU_ANY, .priority = PRIORITY};
    int err = nk_thread_start(&t->thread, &attr, serve, t);
    if (err != 0) {
        kfree(t);
        return err;
    }
    err = nk_irq_attach(irq, name, note_and_wake, t);
    if (err != 0) {
        nk_irq_detach_thread(t);
        return err;
    }
    *out = t;
    return 0;
}

void nk_irq_detach_thread(struct nk_irq_thread *t)
{
    nk_irq_detach((unsigned)(t->line - irq_lines), note_and_wake, t);
    __atomic_store_n(&t->stop, true, __ATOMIC_RELEASE);
    nk_thread_wake(t->thread);
    int err = nk_thread_join(t->thread);
    nk_assert(err == 0);
    err = nk_thread_destroy(t->thread);
    nk_assert(err == 0);
    release(t);
    kfree(t);
}
