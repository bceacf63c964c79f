#include "sched/registry.h"

#include "base/percpu.h"
#include "base/x86.h"
#include "sched/rq.h"

#include <string.h>

static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_THREAD);
static struct nk_list all = NK_LIST_INIT(all); /* by ascending id */
static uint64_t last_id;

void registry_add(struct nk_thread *t)
{
    nk_spin_lock(&lock);
    t->id = ++last_id;
    nk_list_push_back(&all, &t->registered);
    nk_spin_unlock(&lock);
}

void registry_remove(struct nk_thread *t)
{
    nk_spin_lock(&lock);
    nk_list_remove(&t->registered);
    nk_spin_unlock(&lock);
}

struct nk_thread *registry_living_child(uint64_t parent)
{
    struct nk_thread *found = NULL;
    struct nk_list *link;
    nk_spin_lock(&lock);
    nk_list_for_each(link, &all)
    {
        struct nk_thread *t = nk_list_entry(link, struct nk_thread, registered);
        if (t->parent == parent && !t->detached && thread_is_alive(t)) {
            found = t;
            break;
        }
    }
    nk_spin_unlock(&lock);
    return found;
}

static void describe(const struct nk_thread *t, struct nk_thread_info *out)
{
    *out = (struct nk_thread_info){
        .id = t->id,
        .state = nk_thread_get_state(t),
        .cpu = t->cpu,
        .priority = t->priority,
        .pinned = t->pinned != NK_CPU_ANY,
        .fp = t->fp != NULL,
        .cpu_ticks = thread_ticks(t),
        .switches = t->switches,
    };
    memcpy(out->name, t->name, sizeof(out->name));
}

uint64_t nk_thread_cpu_ticks(void)
{
    return thread_ticks(nk_thread_current());
}

bool nk_thread_next_info(uint64_t after, struct nk_thread_info *out)
{
    bool found = false;
    nk_spin_lock(&lock);
    struct nk_list *link;
    nk_list_for_each(link, &all)
    {
        const struct nk_thread *t = nk_list_entry(link, struct nk_thread, registered);
        if (t->id > after) {
            describe(t, out);
            found = true;
            break;
        }
    }
    nk_spin_unlock(&lock);
    return found;
}

const struct nk_thread *nk_thread_walk(const struct nk_thread *after)
{
    const struct nk_list *next = after != NULL ? after->registered.next : all.next;
    return next != &all ? nk_list_entry(next, struct nk_thread, registered) : NULL;
}

uint64_t nk_thread_id(const struct nk_thread *t)
{
    return t->id;
}

bool nk_thread_saved_context(const struct nk_thread *t, struct nk_thread_context *out)
{
    if (t->on_cpu != 0 || !thread_is_alive(t)) {
        return false;
    }
    memcpy(out, (const void *)t->sp, offsetof(struct nk_thread_context, rsp));
    out->rsp = t->sp + offsetof(struct nk_thread_context, rsp);
    return true;
}
