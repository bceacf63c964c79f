#include "sched/work.h"

#include "base/errno.h"
#include "base/platform.h"
#include "mm/slab.h"

struct nk_work_queue {
    struct nk_spinlock lock; /* list, running, stopping */
    struct nk_list list;
    struct nk_work *running;
    bool stopping;
    struct nk_semaphore posted; /* at least as many ups as there is work */
    struct nk_thread *thread;
};

/* Work that tells when its turn has come. */
struct marker {
    struct nk_work work;
    struct nk_event reached;
};

static void work_thread(void *arg)
{
    struct nk_work_queue *q = arg;
    for (;;) {
        nk_semaphore_down(&q->posted);
        uint64_t flags = nk_spin_lock_irqsave(&q->lock);
        struct nk_list *link = nk_list_pop_front(&q->list);
        struct nk_work *w = link != NULL ? nk_list_entry(link, struct nk_work, link) : NULL;
        bool stop = w == NULL && q->stopping;
        if (w != NULL) {
            w->pending = false;
        }
        q->running = w;
        nk_spin_unlock_irqrestore(&q->lock, flags);
        if (stop) {
            return;
        }
        if (w != NULL) {
            w->fn(w); /* w may be gone when it returns */
        }
    }
}

int nk_work_queue_create(struct nk_work_queue **out, const struct nk_thread_attr *attr)
{
    struct nk_work_queue *q = kzalloc(sizeof(*q));
    if (q == NULL) {
        return -ENOMEM;
    }
    q->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_THREAD);
    nk_list_init(&q->list);
    nk_semaphore_init(&q->posted, 0);
    int err = nk_thread_start(&q->thread, attr, work_thread, q);
    if (err != 0) {
        kfree(q);
        return err;
    }
    *out = q;
    return 0;
}

void nk_work_queue_destroy(struct nk_work_queue *q)
{
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    q->stopping = true;
    nk_spin_unlock_irqrestore(&q->lock, flags);
    nk_semaphore_up(&q->posted);
    nk_assert(nk_thread_join(q->thread) == 0 && nk_thread_destroy(q->thread) == 0);
    kfree(q);
}

void nk_work_init(struct nk_work *w, void (*fn)(struct nk_work *w))
{
    nk_list_init(&w->link);
    w->fn = fn;
    w->pending = false;
}

static bool post(struct nk_work_queue *q, struct nk_work *w, bool first)
{
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    bool posted = !w->pending;
    if (posted) {
        w->pending = true;
        if (first) {
            nk_list_push_front(&q->list, &w->link);
        } else {
            nk_list_push_back(&q->list, &w->link);
        }
    }
    nk_spin_unlock_irqrestore(&q->lock, flags);
    if (posted) {
        nk_semaphore_up(&q->posted);
    }
    return posted;
}

bool nk_work_post(struct nk_work_queue *q, struct nk_work *w)
{
    return post(q, w, false);
}

static void reach(struct nk_work *w)
{
    nk_event_set(&NK_CONTAINER_OF(w, struct marker, work)->reached);
}

static void wait_for_turn(struct nk_work_queue *q, bool first)
{
    struct marker m;
    nk_assert(nk_thread_current() != q->thread);
    nk_work_init(&m.work, reach);
    nk_event_init(&m.reached);
    post(q, &m.work, first);
    nk_event_wait(&m.reached);
}

bool nk_work_cancel(struct nk_work_queue *q, struct nk_work *w)
{
    uint64_t flags = nk_spin_lock_irqsave(&q->lock);
    bool pending = w->pending;
    if (pending) {
        nk_list_remove(&w->link);
        w->pending = false;
    }
    bool running = q->running == w && nk_thread_current() != q->thread;
    nk_spin_unlock_irqrestore(&q->lock, flags);
    if (running) {
        wait_for_turn(q, true);
    }
    return pending;
}

void nk_work_flush(struct nk_work_queue *q)
{
    wait_for_turn(q, false);
}
