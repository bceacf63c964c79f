/* Work stealing within a set of CPUs. A run queue is its CPU's own, so a thief takes nothing: it
 * orders the CPU with the most ready threads to send it one, once until it has been answered. */
#include "sched/rq.h"
#include "sched/sched.h"

static uint64_t set; /* atomic */

void sched_set_stealing(uint64_t cpus)
{
    __atomic_store_n(&set, cpus, __ATOMIC_RELAXED);
}

/* The thread that would wait longest: the last of the lowest priority that may go there. */
static struct nk_thread *choose(struct sched_rq *rq, unsigned thief)
{
    for (uint32_t mask = rq->ready_mask & ~(1u << NK_PRIORITY_DEADLINE); mask != 0;
         mask &= mask - 1) {
        struct nk_thread *found = NULL, *t = rq->queue[__builtin_ctz(mask)].head;
        for (; t != NULL; t = t->next) {
            if (t != this_cpu->current && t->attention == 0 && sched_allowed(t) >> thief & 1) {
                found = t;
            }
        }
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static void answer(struct sched_rq *rq, struct sched_order *order)
{
    struct sched_rq *thief = NK_CONTAINER_OF(order, struct sched_rq, steal);
    struct nk_thread *t = choose(rq, thief->cpu);
    __atomic_store_n(&thief->steal_asked, 0, __ATOMIC_RELEASE);
    if (t != NULL && sched_dequeue(rq, t)) {
        rq->stolen++;
        sched_send_to(thief->cpu, t);
    }
}

void sched_steal(struct sched_rq *rq)
{
    const uint64_t cpus = __atomic_load_n(&set, __ATOMIC_RELAXED);
    if (!(cpus >> rq->cpu & 1) || __atomic_load_n(&rq->steal_asked, __ATOMIC_ACQUIRE)) {
        return;
    }
    int victim = -1;
    uint32_t most = 0;
    for (unsigned i = 0; i < nk_cpu_count; i++) {
        const struct sched_rq *other = nk_cpu_table[i].rq;
        if (cpus >> i & 1 && i != rq->cpu && other != NULL && other->ready_count > most) {
            most = other->ready_count;
            victim = (int)i;
        }
    }
    if (victim >= 0) {
        rq->steal_asked = 1;
        rq->steal.fn = answer;
        sched_order((unsigned)victim, &rq->steal);
    }
}
