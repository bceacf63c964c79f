#include "sched/timer.h"

#include "base/percpu.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "base/x86.h"
#include "mm/slab.h"
#include "sched/thread_impl.h"

#define NS_PER_S UINT64_C(1000000000)
#define TO_TSC   30 /* binary places of tsc_per_ns: it holds up to 17 GHz */
#define TO_NS    32 /* of ns_per_tsc: from 1 MHz on */

/* A pairing heap: arming is O(1), taking the earliest off O(log n) amortised, and since its links
 * are in the timers, arming needs no memory. */
struct timer_queue {
    struct nk_spinlock lock;  /* all below, and the timers on the heap */
    struct nk_timer *root;    /* the earliest */
    struct nk_timer *running; /* whose callback is being called; read by cancelling CPUs */
    uint64_t programmed;      /* the deadline the hardware has; 0: none */
};

static uint64_t tsc_per_ns, ns_per_tsc, boot_tsc;

void timer_init(void)
{
    tsc_per_ns = (nk_tsc_hz << TO_TSC) / NS_PER_S;
    ns_per_tsc = (NS_PER_S << TO_NS) / nk_tsc_hz;
    boot_tsc = x86_rdtsc();
}

uint64_t nk_ns_to_tsc(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * tsc_per_ns >> TO_TSC);
}

uint64_t nk_tsc_to_ns(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * ns_per_tsc >> TO_NS);
}

uint64_t nk_now_ns(void)
{
    return nk_tsc_to_ns(x86_rdtsc() - boot_tsc);
}

struct timer_queue *timer_queue_create(void)
{
    struct timer_queue *q = kzalloc(sizeof(*q));
    if (q == NULL) {
        nk_panic("sched: no memory for a timer queue");
    }
    q->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_TIMER);
    return q;
}

/* Make the later of two heaps the first child of the other. */
static struct nk_timer *meld(struct nk_timer *a, struct nk_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (b->deadline < a->deadline) {
        struct nk_timer *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next != NULL) {
        b->next->link = &b->next;
    }
    a->child = b;
    b->link = &a->child;
    return a;
}

/* Make one heap of siblings: in pairs from the left, then all from the right. */
static struct nk_timer *meld_siblings(struct nk_timer *t)
{
    struct nk_timer *pairs = NULL; /* linked by next, the last first */
    while (t != NULL) {
        struct nk_timer *a = t, *b = a->next;
        t = b != NULL ? b->next : NULL;
        a->next = NULL;
        if (b != NULL) {
            b->next = NULL;
        }
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct nk_timer *root = NULL;
    while (pairs != NULL) {
        struct nk_timer *a = pairs;
        pairs = a->next;
        a->next = NULL;
        root = meld(root, a);
    }
    return root;
}

static void heap_insert(struct timer_queue *q, struct nk_timer *t)
{
    t->child = t->next = NULL;
    q->root = meld(q->root, t);
}

static void heap_remove(struct timer_queue *q, struct nk_timer *t)
{
    struct nk_timer *rest = meld_siblings(t->child);
    if (t == q->root) {
        q->root = rest;
        return;
    }
    *t->link = t->next;
    if (t->next != NULL) {
        t->next->link = t->link;
    }
    q->root = meld(q->root, rest);
}

/* Make this CPU's hardware agree with its queue. Lock held. */
static void program(struct timer_queue *q)
{
    uint64_t deadline = q->root != NULL ? q->root->deadline : 0;
    if (deadline != q->programmed) {
        q->programmed = deadline;
        nk_platform_timer_set(deadline);
    }
}

void nk_timer_init(struct nk_timer *t, void (*fn)(struct nk_timer *t))
{
    *t = (struct nk_timer){.fn = fn};
}

/* Take it off the queue it is on: true when it was on one. *running: its callback runs just now,
 * and may arm it again. */
static bool disarm(struct nk_timer *t, bool *running)
{
    struct timer_queue *q = nk_cpu_table[t->cpu].timers;
    nk_spinlock_acquire(&q->lock);
    bool armed = t->deadline != 0;
    *running = q->running == t;
    if (armed) {
        heap_remove(q, t);
        t->deadline = 0;
        if (q == this_cpu->timers) {
            program(q); /* another CPU's hardware may fire once for nothing */
        }
    }
    nk_spinlock_release(&q->lock);
    return armed;
}

void nk_timer_arm(struct nk_timer *t, uint64_t deadline_tsc)
{
    uint64_t flags = nk_irq_save();
    if (__atomic_load_n(&t->deadline, __ATOMIC_RELAXED) != 0) {
        bool running;
        disarm(t, &running);
    }
    struct timer_queue *q = this_cpu->timers;
    nk_spinlock_acquire(&q->lock);
    t->deadline = deadline_tsc != 0 ? deadline_tsc : 1;
    t->cpu = this_cpu->id;
    heap_insert(q, t);
    program(q);
    nk_spinlock_release(&q->lock);
    nk_irq_restore(flags);
}

/* A callback that runs on another CPU may arm its timer again: wait for its end and look again. On
 * its own CPU the callback is either over, or it is the caller. */
bool nk_timer_cancel(struct nk_timer *t)
{
    bool armed = false, running;
    do {
        uint64_t flags = nk_irq_save();
        armed |= disarm(t, &running);
        const struct timer_queue *q = nk_cpu_table[t->cpu].timers;
        running = running && t->cpu != this_cpu->id;
        nk_irq_restore(flags);
        while (running && __atomic_load_n(&q->running, __ATOMIC_ACQUIRE) == t) {
            x86_pause();
        }
    } while (running);
    return armed;
}

void nk_timer_interrupt(void)
{
    struct timer_queue *q = this_cpu->timers;
    nk_spinlock_acquire(&q->lock);
    q->programmed = 0; /* the hardware is one-shot, and has fired */
    struct nk_timer *t;
    while ((t = q->root) != NULL && t->deadline <= x86_rdtsc()) {
        heap_remove(q, t);
        t->deadline = 0;
        __atomic_store_n(&q->running, t, __ATOMIC_RELAXED);
        nk_spinlock_release(&q->lock);
        t->fn(t);
        nk_spinlock_acquire(&q->lock);
        __atomic_store_n(&q->running, NULL, __ATOMIC_RELEASE);
    }
    program(q);
    nk_spinlock_release(&q->lock);
}

bool nk_timer_next(unsigned cpu, uint64_t *deadline_tsc, void (**fn)(struct nk_timer *t))
{
    struct timer_queue *q = nk_cpu_table[cpu].timers;
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    bool armed = q->root != NULL;
    if (armed) {
        *deadline_tsc = q->root->deadline;
        *fn = q->root->fn;
    }
    nk_spin_unlock_irqrestore(&q->lock, flags);
    return armed;
}
