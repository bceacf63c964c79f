#include "drivers/net.h"

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "drivers/devices.h"
#include "kernel/format.h"
#include "sched/timer.h"

#define DEVICES_MAX 16

static struct nk_net_device *device[DEVICES_MAX];
static unsigned device_count; /* atomic; registered one after the other, by the probing thread */

/* Lock held; no room for a frame. */
static void note_busy(struct nk_net_device *d)
{
    uint64_t now = x86_rdtsc();
    d->stats.busy++;
    if (d->busy_since == 0) {
        d->busy_since = now;
    } else if (now - d->busy_since > nk_ns_to_tsc(d->timeout_ns)) {
        nk_work_post(devices_queue, &d->recovery);
    }
}

int nk_net_send(struct nk_net_device *d, const void *frame, size_t length)
{
    if (length < NK_NET_FRAME_MIN || length > NK_NET_FRAME_MAX) {
        return -EINVAL;
    }
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    int err = d->gone ? -ENODEV : d->resetting ? -EBUSY : d->ops->send(d, frame, length);
    if (err == 0) {
        d->busy_since = 0;
        d->stats.sent++;
    } else if (err == -EBUSY && !d->resetting) {
        note_busy(d);
    }
    nk_spin_unlock_irqrestore(&d->lock, flags);
    return err;
}

void net_received(struct nk_net_device *d, const void *frame, size_t length)
{
    if (d->receive == NULL || length < NK_NET_FRAME_MIN) {
        d->stats.dropped++;
        return;
    }
    d->stats.received++;
    nk_net_receive_fn fn = d->receive;
    fn(d->receive_arg, frame, length);
}

void net_service(struct nk_net_device *d)
{
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    if (!d->resetting && !d->gone) {
        d->ops->reap(d);
    }
    nk_spin_unlock_irqrestore(&d->lock, flags);
}

static void recover(struct nk_work *w)
{
    struct nk_net_device *d = NK_CONTAINER_OF(w, struct nk_net_device, recovery);
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    d->resetting = d->busy_since != 0 && !d->gone;
    bool needed = d->resetting;
    nk_spin_unlock_irqrestore(&d->lock, flags);
    if (!needed) {
        return;
    }
    nk_warn("net: %s has not sent for %lu ms; it is reset", d->name, d->timeout_ns / 1000000);
    int err = d->ops->reset(d);
    if (err != 0) {
        nk_error("net: %s is gone (error %d)", d->name, err);
    }
    flags = nk_spin_lock_irqsave(&d->lock);
    d->resetting = false;
    d->busy_since = 0;
    d->gone = err != 0;
    d->stats.resets++;
    nk_spin_unlock_irqrestore(&d->lock, flags);
}

void nk_net_set_receiver(struct nk_net_device *d, nk_net_receive_fn fn, void *arg)
{
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    d->receive = fn;
    d->receive_arg = arg;
    nk_spin_unlock_irqrestore(&d->lock, flags);
}

bool nk_net_link_up(struct nk_net_device *d)
{
    uint64_t flags = nk_spin_lock_irqsave(&d->lock);
    bool up = !d->gone && !d->resetting && d->ops->link_up(d);
    nk_spin_unlock_irqrestore(&d->lock, flags);
    return up;
}

void net_init(struct nk_net_device *d, const char *driver, const struct nk_net_ops *ops)
{
    d->driver = driver;
    d->ops = ops;
    d->timeout_ns = NK_NET_SEND_TIMEOUT_NS;
    d->lock = (struct nk_spinlock)NK_SPINLOCK_INIT(NK_RANK_DEVICE);
    nk_work_init(&d->recovery, recover);
}

int net_register(struct nk_net_device *d)
{
    if (device_count == DEVICES_MAX) {
        return -ENOSPC;
    }
    nk_snprintf(d->name, sizeof(d->name), "eth%u", device_count);
    device[device_count] = d;
    __atomic_store_n(&device_count, device_count + 1, __ATOMIC_RELEASE);
    nk_info("net: %s: %02x:%02x:%02x:%02x:%02x:%02x, by %s", d->name, d->mac[0], d->mac[1],
            d->mac[2], d->mac[3], d->mac[4], d->mac[5], d->driver);
    return 0;
}

struct nk_net_device *nk_net_get(unsigned i)
{
    return i < __atomic_load_n(&device_count, __ATOMIC_ACQUIRE) ? device[i] : NULL;
}

struct nk_net_device *nk_net_find(const char *name)
{
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        if (strcmp(d->name, name) == 0) {
            return d;
        }
    }
    return NULL;
}
