#include "drivers/block.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "drivers/devices.h"
#include "kernel/format.h"
#include "mm/slab.h"
#include "sched/sync.h"

#define DEVICES_MAX 32

static struct nk_block_device *device[DEVICES_MAX];
static unsigned device_count; /* atomic; registered one after the other, by the probing thread */

static bool is_direct(const void *buffer)
{
    uint64_t va = (uint64_t)buffer;
    return va >= NK_IMAGE_BASE || (va >= NK_DIRECT_BASE && va < NK_STACKS_BASE);
}

static int check(const struct nk_block_device *d, const struct nk_block_request *r)
{
    if (r->op == NK_BLOCK_FLUSH) {
        return 0;
    }
    bool in_range = r->sector <= d->sector_count && r->count <= d->sector_count - r->sector;
    if (r->count == 0 || r->count > d->request_sectors_max || !in_range || !is_direct(r->buffer)) {
        return -EINVAL;
    }
    return r->op == NK_BLOCK_WRITE && d->read_only ? -EROFS : 0;
}

/* Those that wait have no deadline: each that was started ends, and makes room. */
static struct nk_block_request *oldest(const struct nk_block_device *d)
{
    const struct nk_list *list = &d->started;
    return nk_list_empty(list) ? NULL : nk_list_entry(list->next, struct nk_block_request, node);
}

/* Lock held. One armed timer is enough: when it fires, the then oldest request is looked at. */
static void arm_timer(struct nk_block_device *d)
{
    const struct nk_block_request *r = oldest(d);
    if (r != NULL && !d->timer_armed && !d->resetting) {
        d->timer_armed = true;
        nk_timer_arm(&d->timer, r->deadline);
    }
}

/* Lock held. */
static void start_waiting(struct nk_block_device *d)
{
    while (!d->resetting && !nk_list_empty(&d->waiting)) {
        struct nk_list *node = d->waiting.next;
        struct nk_block_request *r = nk_list_entry(node, struct nk_block_request, node);
        nk_list_remove(node);
        nk_list_push_back(&d->started, node); /* where the driver may finish it at once */
        r->deadline = x86_rdtsc() + nk_ns_to_tsc(d->timeout_ns);
        int err = d->ops->start(d, r);
        if (err == -EBUSY) {
            nk_list_remove(node);
            nk_list_push_front(&d->waiting, node);
            return;
        }
        if (err != 0) {
            block_finish(d, r, err);
        }
    }
}

void block_finish(struct nk_block_device *d, struct nk_block_request *r, int status)
{
    r->status = status;
    nk_list_remove(&r->node);
    nk_list_push_back(&d->finished, &r->node);
    if (status != 0) {
        d->stats.errors++;
        return;
    }
    d->stats.reads += r->op == NK_BLOCK_READ;
    d->stats.writes += r->op == NK_BLOCK_WRITE;
    d->stats.flushes += r->op == NK_BLOCK_FLUSH;
}

/* Lock held; gives it up. */
static void unlock_and_tell(struct nk_block_device *d, uint64_t flags)
{
    struct nk_list finished = NK_LIST_INIT(finished);
    struct nk_list *node;
    while ((node = nk_list_pop_front(&d->finished)) != NULL) {
        nk_list_push_back(&finished, node);
    }
    nk_spin_unlock_irqrestore(&d->lock, flags);
    while ((node = nk_list_pop_front(&finished)) != NULL) {
        struct nk_block_request *r = nk_list_entry(node, struct nk_block_request, node);
        r->done(r);
    }
}

int nk_block_submit(struct nk_block_device *d, struct nk_block_request *r)
{
    int err = check(d, r);
    if (err != 0) {
        return err;
    }
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    if (d->gone) {
        nk_spin_unlock_irqrestore(&d->lock, flags);
        return -ENODEV;
    }
    nk_list_push_back(&d->waiting, &r->node);
    start_waiting(d);
    arm_timer(d);
    unlock_and_tell(d, flags);
    return 0;
}

/* Lock held. */
static void take_finished(struct nk_block_device *d)
{
    if (!d->resetting && !d->gone) {
        d->ops->reap(d);
        start_waiting(d);
    }
}

void block_service(struct nk_block_device *d)
{
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    take_finished(d);
    unlock_and_tell(d, flags);
}

static void timer_fired(struct nk_timer *t)
{
    /* Not under the lock: whoever arms the timer holds it and waits for this function to end. */
    nk_work_post(devices_queue, &NK_CONTAINER_OF(t, struct nk_block_device, timer)->recovery);
}

void nk_block_set_timeout(struct nk_block_device *d, uint64_t ns)
{
    nk_timer_cancel(&d->timer); /* it may be armed for much later */
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    d->timeout_ns = ns;
    d->timer_armed = false;
    arm_timer(d);
    nk_spin_unlock_irqrestore(&d->lock, flags);
}

static void fail_all(struct nk_block_device *d, struct nk_list *list, int status)
{
    while (!nk_list_empty(list)) {
        block_finish(d, nk_list_entry(list->next, struct nk_block_request, node), status);
    }
}

static void reset(struct nk_block_device *d)
{
    nk_warn("block: %s does not answer within %lu ms; it is reset", d->name,
            d->timeout_ns / 1000000);
    int err = d->ops->reset(d);
    if (err != 0) {
        nk_error("block: %s is gone (error %d)", d->name, err);
    }
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    d->resetting = false;
    d->stats.resets++;
    d->gone = err != 0;
    fail_all(d, &d->started, d->gone ? -ENODEV : -ETIMEDOUT);
    if (d->gone) {
        fail_all(d, &d->waiting, -ENODEV);
    }
    start_waiting(d);
    arm_timer(d);
    unlock_and_tell(d, flags);
}

/* The deadline of what was the oldest request has passed. */
static void recover(struct nk_work *w)
{
    struct nk_block_device *d = NK_CONTAINER_OF(w, struct nk_block_device, recovery);
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    take_finished(d);
    bool found = !nk_list_empty(&d->finished);
    const struct nk_block_request *r = oldest(d);
    d->timer_armed = false;
    d->stats.lost_interrupts += found;
    d->resetting = r != NULL && x86_rdtsc() >= r->deadline;
    bool overdue = d->resetting;
    arm_timer(d);
    unlock_and_tell(d, flags);
    if (found) {
        nk_warn("block: %s had finished requests without an interrupt", d->name);
    }
    if (overdue) {
        reset(d);
    }
}

void block_init(struct nk_block_device *d, const char *driver, const struct nk_block_ops *ops)
{
    d->driver = driver;
    d->ops = ops;
    d->timeout_ns = NK_BLOCK_TIMEOUT_NS;
    d->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_DEVICE);
    nk_list_init(&d->waiting);
    nk_list_init(&d->started);
    nk_list_init(&d->finished);
    nk_timer_init(&d->timer, timer_fired);
    nk_work_init(&d->recovery, recover);
}

int block_register(struct nk_block_device *d, const char *prefix)
{
    if (device_count == DEVICES_MAX) {
        return -ENOSPC;
    }
    unsigned number = 0;
    do {
        nk_snprintf(d->name, sizeof(d->name), "%s%u", prefix, number++);
    } while (nk_block_find(d->name) != NULL);
    device[device_count] = d;
    __atomic_store_n(&device_count, device_count + 1, __ATOMIC_RELEASE);
    nk_info("block: %s: %lu sectors of %u bytes%s, by %s", d->name, d->sector_count, d->sector_size,
            d->read_only ? ", read-only" : "", d->driver);
    return 0;
}

struct nk_block_device *nk_block_get(unsigned i)
{
    return i < __atomic_load_n(&device_count, __ATOMIC_ACQUIRE) ? device[i] : NULL;
}

struct nk_block_device *nk_block_find(const char *name)
{
    struct nk_block_device *d;
    for (unsigned i = 0; (d = nk_block_get(i)) != NULL; i++) {
        if (strcmp(d->name, name) == 0) {
            return d;
        }
    }
    return NULL;
}

static void set_event(struct nk_block_request *r)
{
    nk_event_set(r->arg);
}

/* No deadline here: the request is completed, whatever happens. */
static int run(struct nk_block_device *d, enum nk_block_op op, uint64_t sector, uint32_t count,
               void *buffer)
{
    struct nk_event event;
    nk_event_init(&event);
    struct nk_block_request r = {.op = op,
                                 .sector = sector,
                                 .count = count,
                                 .buffer = buffer,
                                 .done = set_event,
                                 .arg = &event};
    int err = nk_block_submit(d, &r);
    if (err != 0) {
        return err;
    }
    nk_event_wait(&event);
    return r.status;
}

/* In pieces that the device takes, through a buffer of our own if it cannot reach the caller's. */
static int transfer(struct nk_block_device *d, enum nk_block_op op, uint64_t sector, uint32_t count,
                    void *buffer)
{
    uint32_t step = count < d->request_sectors_max ? count : d->request_sectors_max;
    char *bounce = NULL;
    if (count == 0) {
        return -EINVAL;
    }
    if (!is_direct(buffer)) {
        bounce = kmalloc((size_t)step * d->sector_size);
        if (bounce == NULL) {
            return -ENOMEM;
        }
    }
    int err = 0;
    char *at = buffer;
    while (count > 0 && err == 0) {
        uint32_t now = count < step ? count : step;
        size_t bytes = (size_t)now * d->sector_size;
        if (bounce != NULL && op == NK_BLOCK_WRITE) {
            memcpy(bounce, at, bytes);
        }
        err = run(d, op, sector, now, bounce != NULL ? bounce : at);
        if (bounce != NULL && op == NK_BLOCK_READ && err == 0) {
            memcpy(at, bounce, bytes);
        }
        sector += now;
        count -= now;
        at += bytes;
    }
    kfree(bounce);
    return err;
}

int nk_block_read(struct nk_block_device *d, uint64_t sector, uint32_t count, void *buffer)
{
    return transfer(d, NK_BLOCK_READ, sector, count, buffer);
}

int nk_block_write(struct nk_block_device *d, uint64_t sector, uint32_t count, const void *buffer)
{
    return transfer(d, NK_BLOCK_WRITE, sector, count, (void *)buffer);
}

int nk_block_flush(struct nk_block_device *d)
{
    return run(d, NK_BLOCK_FLUSH, 0, 0, NULL);
}
