/* A service's threads take the first queue that has work, one piece of its work, and put the queue
 * behind the others: so a queue's work stays in order, and no queue starves another. */
#include "sched/work.h"

#include "base/errno.h"
#include "base/platform.h"
#include "mm/slab.h"

#include <string.h>

struct nk_work_service {
    struct nk_spinlock lock;    /* all below, and the queues */
    struct nk_list ready;       /* queues with work, which no thread is at */
    struct nk_semaphore posted; /* at least as many ups as there are queues on `ready` */
    unsigned queue_count, thread_count;
    bool stopping;
    uint64_t cpus;
    char name[NK_WORK_NAME_MAX];
    struct nk_thread *threads[NK_WORK_THREADS_MAX];
};

struct nk_work_queue {
    struct nk_work_service *service;
    struct nk_list link;  /* on service->ready */
    struct nk_list named; /* names_lock */
    struct nk_list work;
    const struct nk_work *running;
    struct nk_thread *runner; /* the thread that is at it; NULL: none */
    struct nk_event *gone;    /* set when it is at rest with nothing left; its owner waits */
    unsigned pending;
    uint64_t done;
    char name[NK_WORK_NAME_MAX];
};

/* Work that tells when its turn has come. */
struct marker {
    struct nk_work work;
    struct nk_event reached;
};

/* Outside of the services' locks. */
static struct nk_spinlock names_lock = NK_SPINLOCK_INIT(NK_RANK_THREAD);
static struct nk_list names = NK_LIST_INIT(names);

static void copy_name(char to[NK_WORK_NAME_MAX], const char *name)
{
    strncpy(to, name != NULL ? name : "", NK_WORK_NAME_MAX - 1);
    to[NK_WORK_NAME_MAX - 1] = '\0';
}

/* --- threads ---------------------------------------------------------------------------------- */

/* Lock held. True: the service's threads have one more thing to do. */
static bool make_ready(struct nk_work_queue *q)
{
    bool ready = q->runner == NULL && !nk_list_empty(&q->work) && nk_list_empty(&q->link);
    if (ready) {
        nk_list_push_back(&q->service->ready, &q->link);
    }
    return ready;
}

/* The next piece of work, whose queue is this thread's until finish(); NULL: there is none. */
static struct nk_work *take(struct nk_work_service *s, struct nk_work_queue **out)
{
    struct nk_work *w = NULL;
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    struct nk_list *link = nk_list_pop_front(&s->ready);
    if (link != NULL) {
        struct nk_work_queue *q = nk_list_entry(link, struct nk_work_queue, link);
        link = nk_list_pop_front(&q->work);
        if (link != NULL) { /* else all of it has been cancelled */
            w = nk_list_entry(link, struct nk_work, link);
            w->pending = false;
            q->pending--;
            q->done++;
            q->running = w;
            q->runner = nk_thread_current();
        }
        *out = q;
    }
    nk_spin_unlock_irqrestore(&s->lock, flags);
    return w;
}

/* The queue may be destroyed as soon as it is at rest, and is not touched after. */
static void finish(struct nk_work_service *s, struct nk_work_queue *q)
{
    struct nk_event *gone = NULL;
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    q->running = NULL;
    q->runner = NULL;
    bool more = make_ready(q);
    if (!more) {
        gone = q->gone;
    }
    nk_spin_unlock_irqrestore(&s->lock, flags);
    if (more) {
        nk_semaphore_up(&s->posted);
    } else if (gone != NULL) {
        nk_event_set(gone);
    }
}

static bool is_stopping(struct nk_work_service *s)
{
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    bool stopping = s->stopping;
    nk_spin_unlock_irqrestore(&s->lock, flags);
    return stopping;
}

static void serve(void *arg)
{
    struct nk_work_service *s = arg;
    for (;;) {
        struct nk_work_queue *q;
        nk_semaphore_down(&s->posted);
        struct nk_work *w = take(s, &q);
        if (w != NULL) {
            w->fn(w); /* w may be gone when it returns */
            finish(s, q);
        } else if (is_stopping(s)) {
            return;
        }
    }
}

static int start_thread(struct nk_work_service *s, const struct nk_work_service_attr *attr)
{
    struct nk_thread *t;
    const struct nk_thread_attr thread_attr = {
        .name = s->name, .cpu = NK_CPU_ANY, .priority = attr->priority, .fp = attr->fp};
    int err = nk_thread_create(&t, &thread_attr, serve, s);
    if (err != 0) {
        return err;
    }
    err = nk_thread_set_affinity(t, s->cpus);
    if (err != 0) {
        nk_assert(nk_thread_destroy(t) == 0);
        return err;
    }
    s->threads[s->thread_count++] = t;
    return nk_thread_run(t);
}

static void stop(struct nk_work_service *s)
{
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    s->stopping = true;
    nk_spin_unlock_irqrestore(&s->lock, flags);
    for (unsigned i = 0; i < s->thread_count; i++) {
        nk_semaphore_up(&s->posted);
    }
    for (unsigned i = 0; i < s->thread_count; i++) {
        nk_assert(nk_thread_join(s->threads[i]) == 0 && nk_thread_destroy(s->threads[i]) == 0);
    }
    kfree(s);
}

int nk_work_service_create(struct nk_work_service **out, const struct nk_work_service_attr *attr)
{
    const unsigned threads = attr->threads != 0 ? attr->threads : 1;
    if (threads > NK_WORK_THREADS_MAX) {
        return -EINVAL;
    }
    struct nk_work_service *s = kzalloc(sizeof(*s));
    if (s == NULL) {
        return -ENOMEM;
    }
    s->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_THREAD);
    nk_list_init(&s->ready);
    nk_semaphore_init(&s->posted, 0);
    s->cpus = attr->cpus != 0 ? attr->cpus : NK_AFFINITY_ANY;
    copy_name(s->name, attr->name);
    for (unsigned i = 0; i < threads; i++) {
        int err = start_thread(s, attr);
        if (err != 0) {
            stop(s);
            return err;
        }
    }
    *out = s;
    return 0;
}

int nk_work_service_destroy(struct nk_work_service *s)
{
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    bool busy = s->queue_count > 0;
    nk_spin_unlock_irqrestore(&s->lock, flags);
    if (busy) {
        return -EBUSY;
    }
    stop(s);
    return 0;
}

int nk_work_service_set_cpus(struct nk_work_service *s, uint64_t cpus)
{
    cpus = cpus != 0 ? cpus : NK_AFFINITY_ANY;
    for (unsigned i = 0; i < s->thread_count; i++) {
        int err = nk_thread_set_affinity(s->threads[i], cpus);
        if (err != 0) {
            return err; /* the first refuses, or none */
        }
    }
    __atomic_store_n(&s->cpus, cpus, __ATOMIC_RELAXED);
    return 0;
}

/* --- queues ----------------------------------------------------------------------------------- */

/* names_lock held. */
static struct nk_work_queue *find(const char *name)
{
    struct nk_list *link;
    nk_list_for_each(link, &names)
    {
        struct nk_work_queue *q = nk_list_entry(link, struct nk_work_queue, named);
        if (strncmp(q->name, name, NK_WORK_NAME_MAX - 1) == 0) {
            return q;
        }
    }
    return NULL;
}

int nk_work_queue_create(struct nk_work_queue **out, const char *name, struct nk_work_service *s)
{
    struct nk_work_queue *q = kzalloc(sizeof(*q));
    if (q == NULL) {
        return -ENOMEM;
    }
    q->service = s;
    nk_list_init(&q->link);
    nk_list_init(&q->work);
    copy_name(q->name, name);
    uint64_t flags = nk_spin_lock_irqsave(&names_lock);
    bool taken = find(name) != NULL;
    if (!taken) {
        nk_list_push_back(&names, &q->named);
        nk_spinlock_acquire(&s->lock);
        s->queue_count++;
        nk_spinlock_release(&s->lock);
    }
    nk_spin_unlock_irqrestore(&names_lock, flags);
    if (taken) {
        kfree(q);
        return -EEXIST;
    }
    *out = q;
    return 0;
}

void nk_work_queue_destroy(struct nk_work_queue *q)
{
    struct nk_work_service *s = q->service;
    struct nk_event gone;
    nk_event_init(&gone);
    uint64_t flags = nk_spin_lock_irqsave(&names_lock);
    nk_list_remove(&q->named);
    nk_spinlock_acquire(&s->lock);
    nk_assert(q->runner != nk_thread_current());
    bool at_rest = q->runner == NULL && nk_list_empty(&q->work);
    if (at_rest) {
        nk_list_remove(&q->link); /* cancelled work may have left it on `ready` */
    } else {
        q->gone = &gone;
    }
    nk_spinlock_release(&s->lock);
    nk_spin_unlock_irqrestore(&names_lock, flags);
    if (!at_rest) {
        nk_event_wait(&gone);
    }
    flags = nk_spin_lock_irqsave(&s->lock);
    s->queue_count--;
    nk_spin_unlock_irqrestore(&s->lock, flags);
    kfree(q);
}

struct nk_work_queue *nk_work_queue_find(const char *name)
{
    uint64_t flags = nk_spin_lock_irqsave(&names_lock);
    struct nk_work_queue *q = find(name);
    nk_spin_unlock_irqrestore(&names_lock, flags);
    return q;
}

bool nk_work_queue_get_info(unsigned n, struct nk_work_queue_info *out)
{
    bool found = false;
    struct nk_list *link;
    uint64_t flags = nk_spin_lock_irqsave(&names_lock);
    nk_list_for_each(link, &names)
    {
        if (n-- == 0) {
            struct nk_work_queue *q = nk_list_entry(link, struct nk_work_queue, named);
            struct nk_work_service *s = q->service;
            nk_spinlock_acquire(&s->lock);
            *out = (struct nk_work_queue_info){.threads = s->thread_count,
                                               .pending = q->pending,
                                               .cpus = s->cpus,
                                               .done = q->done,
                                               .running = q->runner != NULL};
            nk_spinlock_release(&s->lock);
            copy_name(out->name, q->name);
            copy_name(out->service, s->name);
            found = true;
            break;
        }
    }
    nk_spin_unlock_irqrestore(&names_lock, flags);
    return found;
}

/* --- work ------------------------------------------------------------------------------------- */

void nk_work_init(struct nk_work *w, void (*fn)(struct nk_work *w))
{
    nk_list_init(&w->link);
    w->fn = fn;
    w->pending = false;
}

static bool post(struct nk_work_queue *q, struct nk_work *w, bool first)
{
    struct nk_work_service *s = q->service;
    bool ready = false;
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    bool posted = !w->pending;
    if (posted) {
        w->pending = true;
        q->pending++;
        if (first) {
            nk_list_push_front(&q->work, &w->link);
        } else {
            nk_list_push_back(&q->work, &w->link);
        }
        ready = make_ready(q);
    }
    nk_spin_unlock_irqrestore(&s->lock, flags);
    if (ready) {
        nk_semaphore_up(&s->posted);
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
    nk_assert(q->runner != nk_thread_current());
    nk_work_init(&m.work, reach);
    nk_event_init(&m.reached);
    post(q, &m.work, first);
    nk_event_wait(&m.reached);
}

bool nk_work_cancel(struct nk_work_queue *q, struct nk_work *w)
{
    struct nk_work_service *s = q->service;
    uint64_t flags = nk_spin_lock_irqsave(&s->lock);
    bool pending = w->pending;
    if (pending) {
        nk_list_remove(&w->link);
        w->pending = false;
        q->pending--;
    }
    bool running = q->running == w && q->runner != nk_thread_current();
    nk_spin_unlock_irqrestore(&s->lock, flags);
    if (running) {
        wait_for_turn(q, true);
    }
    return pending;
}

void nk_work_flush(struct nk_work_queue *q)
{
    wait_for_turn(q, false);
}
