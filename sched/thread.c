/* Threads from creation to destruction. */
#include "base/errno.h"
#include "base/percpu.h"
#include "base/x86.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/deadline.h"
#include "sched/registry.h"
#include "sched/rq.h"
#include "sched/waitqueue.h"

static struct slab_cache *thread_cache;
static struct nk_thread *graveyard; /* atomic; detached threads that are DONE, linked by next */

static const struct nk_thread_attr default_attr = {.cpu = NK_CPU_ANY};

void thread_init(void)
{
    thread_cache = slab_cache_create("thread", sizeof(struct nk_thread), 64);
}

static NK_NORETURN void thread_begin(void)
{
    x86_sti();
    struct nk_thread *t = nk_thread_current();
    t->fn(t->arg);
    nk_thread_exit();
}

/* What sched_switch() finds on the stack of a thread that has not run. */
struct first_frame {
    uint64_t r15, r14, r13, r12, rbx, rbp;
    void (*begin)(void);
    uint64_t return_address; /* 0, like rbp: backtraces end here */
};

void thread_prepare(struct nk_thread *t)
{
    struct first_frame *frame = (struct first_frame *)t->stack_top - 1;
    *frame = (struct first_frame){.begin = thread_begin};
    t->sp = (uint64_t)frame;
}

static void copy_name(char *to, const char *name)
{
    unsigned i = 0;
    for (; i < NK_THREAD_NAME_MAX - 1 && name[i] != '\0'; i++) {
        to[i] = name[i];
    }
    to[i] = '\0';
}

/* A stack of the node where the thread will run, or of another if there is none. */
static void *stack_near(int cpu)
{
    int node = cpu == NK_CPU_ANY ? BUDDY_NODE_ANY : (int)nk_cpu_table[cpu].node;
    void *top = paging_stack_alloc(node);
    return top != NULL || node == BUDDY_NODE_ANY ? top : paging_stack_alloc(BUDDY_NODE_ANY);
}

struct nk_thread *thread_make(const struct nk_thread_attr *attr, nk_thread_fn fn, void *arg,
                              bool with_stack)
{
    void *stack_top = with_stack ? stack_near(attr->cpu) : NULL;
    struct nk_thread *t = slab_alloc(thread_cache);
    if (t == NULL || (with_stack && stack_top == NULL)) {
        if (t != NULL) {
            slab_free(thread_cache, t);
        }
        if (stack_top != NULL) {
            paging_stack_free(stack_top);
        }
        return NULL;
    }
    *t = (struct nk_thread){
        .state = THREAD_STATE(NK_THREAD_NEW),
        .priority = (uint8_t)(attr->priority != 0 ? attr->priority : NK_PRIORITY_DEFAULT),
        .pinned = attr->cpu,
        .affinity = NK_AFFINITY_ANY,
        .wakes_on = attr->cpu,
        .cpu = this_cpu->id,
        .fn = fn,
        .arg = arg,
        .stack_top = stack_top,
    };
    copy_name(t->name, attr->name != NULL ? attr->name : "");
    nk_timer_init(&t->timer, sched_wait_timeout);
    nk_waitqueue_init(&t->done);
    t->own_priority = t->priority;
    t->own_urgency = t->priority;
    lending_init(t);
    t->parent = this_cpu->current != NULL ? this_cpu->current->id : 0;
    registry_add(t);
    return t;
}

static bool attr_valid(const struct nk_thread_attr *attr)
{
    return attr->priority <= NK_PRIORITY_MAX && attr->cpu >= NK_CPU_ANY &&
           attr->cpu < (int)nk_cpu_count;
}

int nk_thread_create(struct nk_thread **out, const struct nk_thread_attr *attr, nk_thread_fn fn,
                     void *arg)
{
    attr = attr != NULL ? attr : &default_attr;
    if (fn == NULL || !attr_valid(attr)) {
        return -EINVAL;
    }
    if (nk_unlikely(__atomic_load_n(&graveyard, __ATOMIC_RELAXED) != NULL)) {
        thread_reap();
    }
    struct nk_thread *t = thread_make(attr, fn, arg, true);
    if (t == NULL) {
        return -ENOMEM;
    }
    if (attr->fp && fp_alloc(t) != 0) {
        nk_assert(nk_thread_destroy(t) == 0);
        return -ENOMEM;
    }
    *out = t;
    return 0;
}

int nk_thread_run(struct nk_thread *t)
{
    uint64_t flags = nk_spin_lock_irqsave(&t->done.lock);
    if (thread_is_alive(t)) {
        nk_spin_unlock_irqrestore(&t->done.lock, flags);
        return -EBUSY;
    }
    thread_wait_off_cpu(t);
    thread_prepare(t);
    if (t->fp != NULL) {
        fp_reset(t);
    }
    t->park = t->wait = WAIT_NOTHING;
    t->attention = 0;
    t->slice_used = 0;
    t->priority = t->own_priority;
    sched_start_ready(t);
    nk_spinlock_release(&t->done.lock);
    sched_after_wake(flags);
    return 0;
}

int nk_thread_start(struct nk_thread **out, const struct nk_thread_attr *attr, nk_thread_fn fn,
                    void *arg)
{
    int err = nk_thread_create(out, attr, fn, arg);
    return err != 0 ? err : nk_thread_run(*out);
}

static void bury(struct nk_thread *t)
{
    struct nk_thread *head = __atomic_load_n(&graveyard, __ATOMIC_RELAXED);
    do {
        t->next = head;
    } while (!__atomic_compare_exchange_n(&graveyard, &head, t, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
}

void nk_thread_exit(void)
{
    struct nk_thread *t = nk_thread_current();
    nk_assert(nk_preempt_depth() == 0);
    tls_destroy_all(t);
    if (t->edf != NULL) {
        nk_thread_end_deadline();
    }
    if (t->reent != NULL) {
        nk_platform_reent_free(t->reent); /* may block */
        t->reent = NULL;
    }
    x86_cli();
    nk_spinlock_acquire(&t->done.lock);
    thread_set_state(t, NK_THREAD_DONE);
    bool detached = t->detached;
    struct nk_list joiners;
    waitqueue_take_all(&t->done, &joiners);
    nk_spinlock_release(&t->done.lock);
    waitqueue_signal_all(&joiners);
    if (detached) {
        bury(t); /* a thread cannot free the stack it runs on */
    }
    /* Whoever joins, runs or destroys it now waits until the switch below has left its stack. */
    sched_run_next(this_cpu->rq, t);
    __builtin_unreachable();
}

int nk_thread_join(struct nk_thread *t)
{
    if (t == nk_thread_current()) {
        return -EDEADLK;
    }
    waitqueue_lock_to_block(&t->done);
    enum nk_thread_state state = nk_thread_get_state(t);
    if (t->detached || state == NK_THREAD_NEW) {
        waitqueue_unlock(&t->done);
        return -EINVAL;
    }
    if (state == NK_THREAD_DONE) {
        waitqueue_unlock(&t->done);
        return 0;
    }
    waitqueue_sleep(&t->done);
    return 0;
}

void nk_thread_join_children(void)
{
    struct nk_thread *child;
    while ((child = registry_living_child(nk_thread_current()->id)) != NULL) {
        nk_assert(nk_thread_join(child) == 0);
    }
}

int nk_thread_clone(struct nk_thread **out, nk_thread_fn fn, void *arg)
{
    const struct nk_thread *self = nk_thread_current();
    const struct nk_thread_attr attr = {
        .name = self->name,
        .cpu = self->edf != NULL ? NK_CPU_ANY : self->pinned,
        .priority = self->own_priority,
        .fp = self->fp != NULL,
    };
    int err = nk_thread_create(out, &attr, fn, arg);
    if (err != 0) {
        return err;
    }
    (*out)->affinity = self->affinity;
    (*out)->partition = self->partition;
    return nk_thread_run(*out);
}

static void thread_free(struct nk_thread *t)
{
    thread_wait_off_cpu(t);
    lending_wait_told(t);
    registry_remove(t);
    kfree(t->fp);
    paging_stack_free(t->stack_top);
    slab_free(thread_cache, t);
}

int nk_thread_destroy(struct nk_thread *t)
{
    uint64_t flags = nk_spin_lock_irqsave(&t->done.lock); /* nk_thread_exit() has left it */
    bool alive = thread_is_alive(t);
    nk_spin_unlock_irqrestore(&t->done.lock, flags);
    if (alive) {
        return -EBUSY;
    }
    thread_free(t);
    return 0;
}

void nk_thread_detach(struct nk_thread *t)
{
    uint64_t flags = nk_spin_lock_irqsave(&t->done.lock);
    bool done = nk_thread_get_state(t) == NK_THREAD_DONE;
    t->detached = true;
    nk_spin_unlock_irqrestore(&t->done.lock, flags);
    if (done) {
        thread_free(t);
    }
}

void thread_reap(void)
{
    if (__atomic_load_n(&graveyard, __ATOMIC_RELAXED) == NULL) {
        return;
    }
    struct nk_thread *t = __atomic_exchange_n(&graveyard, NULL, __ATOMIC_ACQ_REL);
    while (t != NULL) {
        struct nk_thread *next = t->next;
        thread_free(t);
        t = next;
    }
}
