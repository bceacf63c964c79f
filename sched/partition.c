#include "sched/partition.h"

#include "base/errno.h"
#include "mm/slab.h"
#include "sched/rq.h"

struct held_queue {
    struct nk_thread *head, *tail; /* linked by next; tail is valid while head is */
};

/* A table in force. It belongs to its CPU, with interrupts off, as the run queue does. */
struct partition_state {
    unsigned slot, slot_count;
    bool slack;
    struct {
        unsigned partition;
        uint64_t ticks;
    } slots[NK_PARTITION_SLOTS_MAX];
    uint64_t slot_end;
    struct nk_timer timer;
    struct held_queue held[NK_PARTITION_MAX + 1]; /* READY threads whose slot it is not */
    struct nk_partition_info info;
};

static unsigned current_partition(const struct partition_state *p)
{
    return p->slots[p->slot].partition;
}

/* --- threads put by --------------------------------------------------------------------------- */

static void hold(struct partition_state *p, struct nk_thread *t, unsigned partition)
{
    struct held_queue *q = &p->held[partition];
    t->next = NULL;
    if (q->head == NULL) {
        q->head = t;
    } else {
        q->tail->next = t;
    }
    q->tail = t;
}

static void release(struct sched_rq *rq, struct held_queue *q)
{
    struct nk_thread *t = q->head;
    q->head = NULL;
    while (t != NULL) {
        struct nk_thread *next = t->next;
        sched_enqueue(rq, t);
        t = next;
    }
}

/* A thread that ran in slack has its priority back before anything is decided about it. */
bool partition_admits(struct sched_rq *rq, struct nk_thread *t)
{
    struct partition_state *p = rq->partitions;
    const unsigned partition = __atomic_load_n(&t->partition, __ATOMIC_ACQUIRE);
    if (partition != current_partition(p)) {
        if (t->slack) {
            partition_slack_over(t);
        }
        hold(p, t, partition);
        return false;
    }
    if (t->slack) {
        sched_enqueue(rq, t); /* its slot has come: it takes its place */
        return false;
    }
    return true;
}

/* With priority 0 it gives way to whatever of the slot's own partition wakes up. Threads with
 * deadlines are left alone: their place is by deadline. */
struct nk_thread *partition_slack(struct sched_rq *rq)
{
    struct partition_state *p = rq->partitions;
    if (!p->slack) {
        return NULL;
    }
    for (unsigned i = 0; i <= NK_PARTITION_MAX; i++) {
        struct held_queue *q = &p->held[i];
        struct nk_thread *t = q->head;
        if (t != NULL && t->priority != NK_PRIORITY_DEADLINE && t->attention == 0) {
            q->head = t->next;
            t->slack = true;
            t->priority = 0;
            __atomic_store_n(&t->wakes_on, WAKES_ASK, __ATOMIC_RELAXED);
            p->info.slack_run++;
            return t;
        }
    }
    return NULL;
}

void partition_slack_over(struct nk_thread *t)
{
    t->slack = false;
    sched_settle(t);
}

/* --- slots ------------------------------------------------------------------------------------ */

static void next_slot(struct partition_state *p)
{
    p->slot = p->slot + 1 < p->slot_count ? p->slot + 1 : 0;
    p->slot_end += p->slots[p->slot].ticks;
}

/* The grid is absolute: a slot that begins late ends when it should, and one that is over already
 * is skipped, so that no partition pays for what held up another. */
static void slot_begins(struct nk_timer *timer)
{
    struct partition_state *p = NK_CONTAINER_OF(timer, struct partition_state, timer);
    struct sched_rq *rq = this_cpu->rq;
    const uint64_t now = x86_rdtsc();
    uint64_t late = now - p->slot_end;
    next_slot(p);
    while (p->slot_end <= now) {
        late = now - p->slot_end;
        p->info.skipped++;
        next_slot(p);
    }
    p->info.slots++;
    p->info.late_max = late > p->info.late_max ? late : p->info.late_max;
    nk_timer_arm(timer, p->slot_end);
    release(rq, &p->held[current_partition(p)]);
    nk_resched_request();
}

/* --- changing the table ----------------------------------------------------------------------- */

struct change {
    struct sched_order order;
    struct partition_state *state; /* the new one; then the one that was there */
    struct nk_event done;
};

static void exchange(struct sched_rq *rq, struct sched_order *order)
{
    struct change *c = NK_CONTAINER_OF(order, struct change, order);
    struct partition_state *old = rq->partitions, *new = c->state;
    const uint64_t bit = UINT64_C(1) << rq->cpu;
    rq->partitions = new;
    rq->gated = new != NULL;
    sched_reserve_table(bit, new != NULL);
    if (old != NULL) {
        nk_timer_cancel(&old->timer);
        for (unsigned i = 0; i <= NK_PARTITION_MAX; i++) {
            release(rq, &old->held[i]);
        }
    }
    if (new != NULL) {
        new->slot_end = x86_rdtsc() + new->slots[0].ticks;
        nk_timer_arm(&new->timer, new->slot_end);
    }
    c->state = old;
    nk_resched_request();
    nk_event_set(&c->done);
}

static void change_table(unsigned cpu, struct partition_state *state)
{
    struct change c = {.order.fn = exchange, .state = state};
    nk_event_init(&c.done);
    uint64_t flags = nk_irq_save();
    sched_order(cpu, &c.order);
    sched_after_wake(flags);
    nk_event_wait(&c.done);
    kfree(c.state);
}

static const char *fault_of(unsigned cpu, const struct nk_partition_table *table)
{
    uint64_t sum = 0;
    if (cpu >= nk_cpu_count) {
        return "there is no such CPU";
    }
    if (table->slot_count == 0 || table->slot_count > NK_PARTITION_SLOTS_MAX) {
        return "a table has 1 to 32 slots";
    }
    for (unsigned i = 0; i < table->slot_count; i++) {
        if (table->slots[i].partition > NK_PARTITION_MAX) {
            return "a slot names a partition above 15";
        }
        if (table->slots[i].length_ns < NK_PARTITION_SLOT_MIN) {
            return "a slot is shorter than 50 us";
        }
        if (table->slots[i].length_ns > table->frame_ns - sum) {
            return "the slots are longer than the major frame";
        }
        sum += table->slots[i].length_ns;
    }
    return sum < table->frame_ns ? "the slots do not fill the major frame" : NULL;
}

int nk_partition_set_table(unsigned cpu, const struct nk_partition_table *table, const char **why)
{
    const char *fault = fault_of(cpu, table);
    struct partition_state *p = fault == NULL ? kzalloc(sizeof(*p)) : NULL;
    if (why != NULL) {
        *why = fault != NULL ? fault : p == NULL ? "out of memory" : NULL;
    }
    if (p == NULL) {
        return fault != NULL ? -EINVAL : -ENOMEM;
    }
    p->slack = table->slack;
    p->slot_count = table->slot_count;
    for (unsigned i = 0; i < table->slot_count; i++) {
        p->slots[i].partition = table->slots[i].partition;
        p->slots[i].ticks = nk_ns_to_tsc(table->slots[i].length_ns);
    }
    nk_timer_init(&p->timer, slot_begins);
    change_table(cpu, p);
    return 0;
}

void nk_partition_clear_table(unsigned cpu)
{
    nk_assert(cpu < nk_cpu_count);
    change_table(cpu, NULL);
}

int nk_partition_current(void)
{
    uint64_t flags = nk_irq_save();
    const struct partition_state *p = this_cpu->rq->partitions;
    int partition = p != NULL ? (int)current_partition(p) : -1;
    nk_irq_restore(flags);
    return partition;
}

void nk_partition_get_info(unsigned cpu, struct nk_partition_info *out)
{
    nk_assert(cpu < nk_cpu_count);
    uint64_t flags = nk_irq_save();
    const struct partition_state *p = nk_cpu_table[cpu].rq->partitions;
    *out = p != NULL ? p->info : (struct nk_partition_info){.slots = 0};
    nk_irq_restore(flags);
}
