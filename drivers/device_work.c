#include "drivers/device_work.h"

#include "base/platform.h"
#include "base/spinlock.h"
#include "sched/thread.h"

static struct nk_spinlock lock = NK_SPINLOCK_INIT(NK_RANK_DEVICE); /* the list */
static struct nk_list posted = NK_LIST_INIT(posted);
static struct nk_thread *worker;

static void work(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t flags = nk_spin_lock_irqsave(&lock);
        struct nk_list *node = nk_list_pop_front(&posted);
        nk_spin_unlock_irqrestore(&lock, flags);
        if (node == NULL) {
            nk_thread_park();
            continue;
        }
        struct device_work *w = nk_list_entry(node, struct device_work, node);
        w->fn(w);
    }
}

void device_work_start(void)
{
    struct nk_thread_attr attr = {.name = "devices", .cpu = NK_CPU_ANY};
    if (nk_thread_start(&worker, &attr, work, NULL) != 0) {
        nk_panic("no memory for the thread of the devices");
    }
}

void device_work_init(struct device_work *w, void (*fn)(struct device_work *w))
{
    nk_list_init(&w->node);
    w->fn = fn;
}

void device_work_post(struct device_work *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&lock);
    if (nk_list_empty(&w->node)) {
        nk_list_push_back(&posted, &w->node);
    }
    nk_spin_unlock_irqrestore(&lock, flags);
    nk_thread_wake(worker);
}
