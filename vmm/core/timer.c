#include "core/timer.h"

#include "core/clock.h"
#include "core/irq.h"
#include "core/vm.h"

struct vmm_timer {
    struct vmm_timer *next; /* of the queue, while queued */
    struct vmm_timer_queue *queue;
    struct vdev *dev;
    void (*fn)(struct vdev *dev, void *arg);
    void *arg;
    uint64_t deadline; /* guest cycles */
    bool queued;
    bool due; /* taken off the queue, callback not yet begun; arm and cancel take it back */
    struct vmm_timer *next_due; /* of those that vmm_timers_run() has taken off */
    bool lockless;
};

struct vmm_timer_queue {
    struct vcpu *vcpu;
    struct vmm_host_timer *host_timer;
    struct vmm_lock lock;    /* protects: the list, its timers, vcpu->deadline */
    struct vmm_timer *first; /* by deadline: a handful, so a list */
    bool asleep; /* of a vCPU that ends_at_deadline: its thread needs the host's timer */
};

static void queue_lock(struct vmm_timer_queue *q)
{
    q->vcpu->ops->lock(q->vcpu->host, &q->lock);
}

static void queue_unlock(struct vmm_timer_queue *q)
{
    q->vcpu->ops->unlock(q->vcpu->host, &q->lock);
}

/* Interrupt context. */
static void queue_host_fired(void *arg)
{
    struct vmm_timer_queue *q = arg;

    vmm_vcpu_request(q->vcpu, VMM_REQ_TIMER);
}

static void arm_host(struct vmm_timer_queue *q)
{
    struct vcpu *v = q->vcpu;

    if (v->deadline == UINT64_MAX) {
        v->ops->timer_cancel(v->host, q->host_timer);
    } else {
        v->ops->timer_arm(v->host, q->host_timer, v->deadline);
    }
}

/* Whoever sets another deadline for a vCPU that ends_at_deadline stores it first and looks at
 * `asleep` and in_guest then; the vCPU the other way round. So either it sees the deadline, or the
 * other sees that it has to be told. */
static void tell(struct vmm_timer_queue *q)
{
    struct vcpu *v = q->vcpu;

    if (__atomic_load_n(&q->asleep, __ATOMIC_SEQ_CST)) {
        arm_host(q);
    } else if (__atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST) != 0) {
        vmm_vcpu_request(v, VMM_REQ_INTR);
    }
}

/* Have the run end, or the host's timer fire, at the first deadline. */
static void queue_program(struct vmm_timer_queue *q)
{
    struct vcpu *v = q->vcpu;
    uint64_t deadline = UINT64_MAX;
    int64_t at;

    if (q->first != NULL && v->vm->clock_paused_at == 0 &&
        !__builtin_add_overflow((int64_t)q->first->deadline, (int64_t)v->vm->clock_base_cycles,
                                &at)) {
        deadline = at < 0 ? 0 : (uint64_t)at; /* before the host's own time is past, too */
    }
    if (deadline == v->deadline) {
        return;
    }
    if (vmm_unlikely(v->ends_at_deadline)) {
        __atomic_store_n(&v->deadline, deadline, __ATOMIC_SEQ_CST);
        tell(q);
        return;
    }
    v->deadline = deadline;
    arm_host(q);
}

void vmm_timers_sleep(struct vcpu *v)
{
    struct vmm_timer_queue *q = v->timers;

    queue_lock(q);
    __atomic_store_n(&q->asleep, true, __ATOMIC_SEQ_CST);
    if (v->deadline != UINT64_MAX) {
        arm_host(q);
    }
    queue_unlock(q);
}

void vmm_timers_awake(struct vcpu *v)
{
    struct vmm_timer_queue *q = v->timers;

    __atomic_store_n(&q->asleep, false, __ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&v->requests, __ATOMIC_RELAXED) & VMM_REQ_TIMER) == 0) {
        v->ops->timer_cancel(v->host, q->host_timer); /* it has not fired: spare the interrupt */
    }
}

static void queue_remove(struct vmm_timer_queue *q, struct vmm_timer *t)
{
    struct vmm_timer **link = &q->first;

    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    t->queued = false;
}

static void queue_insert(struct vmm_timer_queue *q, struct vmm_timer *t, uint64_t deadline)
{
    struct vmm_timer **link = &q->first;

    if (t->queued) {
        queue_remove(q, t);
    }
    while (*link != NULL && (*link)->deadline <= deadline) {
        link = &(*link)->next;
    }
    t->deadline = deadline;
    t->next = *link;
    t->queued = true;
    *link = t;
}

int vmm_timers_create(struct vcpu *v)
{
    struct vmm_timer_queue *q = vmm_vm_alloc(v->vm, sizeof(*q));
    int error;

    if (q == NULL) {
        return -VMM_ENOMEM;
    }
    q->vcpu = v;
    v->deadline = UINT64_MAX;
    error = v->ops->timer_create(v->host, queue_host_fired, q, &q->host_timer);
    if (error != 0) {
        vmm_vm_free(v->vm, q, sizeof(*q));
        return error;
    }
    v->timers = q;
    return 0;
}

void vmm_timers_destroy(struct vcpu *v)
{
    struct vmm_timer_queue *q = v->timers;

    if (q == NULL) {
        return;
    }
    v->timers = NULL;
    v->ops->timer_destroy(v->host, q->host_timer);
    vmm_vm_free(v->vm, q, sizeof(*q));
}

static int timer_create(struct vdev *dev, struct vcpu *v, bool lockless,
                        void (*fn)(struct vdev *dev, void *arg), void *arg, struct vmm_timer **out)
{
    struct vmm_timer *t = vmm_vm_alloc(dev->vm, sizeof(*t));

    if (t == NULL) {
        return -VMM_ENOMEM;
    }
    t->queue = v->timers;
    t->dev = dev;
    t->fn = fn;
    t->arg = arg;
    t->lockless = lockless;
    *out = t;
    return 0;
}

int vmm_timer_create(struct vdev *dev, void (*fn)(struct vdev *dev, void *arg), void *arg,
                     struct vmm_timer **out)
{
    return timer_create(dev, dev->vm->vcpu[0], false, fn, arg, out);
}

int vmm_timer_create_lockless(struct vdev *dev, struct vcpu *v,
                              void (*fn)(struct vdev *dev, void *arg), void *arg,
                              struct vmm_timer **out)
{
    return timer_create(dev, v, true, fn, arg, out);
}

void vmm_timer_destroy(struct vmm_timer *t)
{
    if (t != NULL) {
        vmm_timer_cancel(t);
        vmm_vm_free(t->dev->vm, t, sizeof(*t));
    }
}

void vmm_timer_arm_cycles(struct vmm_timer *t, uint64_t deadline_cycles)
{
    struct vmm_timer_queue *q = t->queue;

    queue_lock(q);
    t->due = false;
    queue_insert(q, t, deadline_cycles);
    queue_program(q);
    queue_unlock(q);
}

void vmm_timer_arm(struct vmm_timer *t, uint64_t deadline_ns)
{
    uint64_t cycles = vmm_ns_to_cycles(deadline_ns, t->dev->vm->ops->cycles_khz);

    vmm_timer_arm_cycles(t, cycles < INT64_MAX ? cycles : INT64_MAX);
}

void vmm_timer_cancel(struct vmm_timer *t)
{
    struct vmm_timer_queue *q = t->queue;

    queue_lock(q);
    t->due = false;
    if (t->queued) {
        queue_remove(q, t);
        queue_program(q);
    }
    queue_unlock(q);
}

bool vmm_timer_armed(const struct vmm_timer *t)
{
    return t->queued || t->due;
}

void vmm_timer_run_soon(struct vmm_timer *t)
{
    struct vmm_timer_queue *q = t->queue;

    queue_lock(q);
    queue_insert(q, t, 0);
    queue_unlock(q);
    vmm_vcpu_request(q->vcpu, VMM_REQ_TIMER);
}

static void timer_run(struct vmm_timer *t)
{
    struct vdev *dev = t->dev;

    if (!t->lockless) {
        dev->vm->ops->lock(dev->vm->host, &dev->lock);
    }
    if (t->due) {
        t->due = false;
        t->fn(dev, t->arg);
    }
    if (!t->lockless) {
        dev->vm->ops->unlock(dev->vm->host, &dev->lock);
    }
}

void vmm_timers_run(struct vcpu *v)
{
    struct vmm_timer_queue *q = v->timers;
    struct vmm_timer *due = NULL, **end = &due;
    uint64_t now;

    queue_lock(q);
    now = vmm_clock_cycles(v->vm);
    if (v->deadline <= now + v->vm->clock_base_cycles) {
        v->deadline = UINT64_MAX; /* it has come */
    }
    while (q->first != NULL && q->first->deadline <= now) {
        struct vmm_timer *t = q->first;

        q->first = t->next;
        t->queued = false;
        t->due = true;
        *end = t;
        end = &t->next_due;
    }
    *end = NULL;
    queue_program(q);
    queue_unlock(q);
    /* One that its callback arms for now is not among these, and cannot hold the loop. */
    while (due != NULL) {
        struct vmm_timer *t = due;

        due = t->next_due;
        timer_run(t);
    }
}
