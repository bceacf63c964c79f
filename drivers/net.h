/* Network devices: Ethernet frames in and out. Nothing here blocks and nothing waits for a device:
 * a sender whose device has stopped taking frames gets -EBUSY, then the device is reset, and one
 * that does not come back is gone.
 * Threading: any context but NMI, except where said. */
#pragma once

#include "base/spinlock.h"
#include "base/types.h"
#include "sched/work.h"

#define NK_NET_MAC_BYTES       6
#define NK_NET_FRAME_MAX       1514 /* header included, check sequence not */
#define NK_NET_FRAME_MIN       14
#define NK_NET_SEND_TIMEOUT_NS UINT64_C(2000000000)

struct nk_net_device;

/* A frame came in; valid during the call. Interrupt context, under the device's lock: an answer has
 * to be sent by a thread. */
typedef void (*nk_net_receive_fn)(void *arg, const void *frame, size_t length);

/* The frame is copied and sent later. Errors: -EINVAL length, -EBUSY no room now, -ENODEV gone. */
int nk_net_send(struct nk_net_device *d, const void *frame, size_t length) NK_MUST_CHECK;

/* NULL: frames are dropped. On return the old function is not running. Thread context. */
void nk_net_set_receiver(struct nk_net_device *d, nk_net_receive_fn fn, void *arg);

bool nk_net_link_up(struct nk_net_device *d);

struct nk_net_device *nk_net_get(unsigned i); /* NULL past the last */
struct nk_net_device *nk_net_find(const char *name);

struct nk_net_stats {
    uint64_t sent, received; /* frames */
    uint64_t dropped;        /* received, but nobody wanted them */
    uint64_t busy, errors, resets;
};

/* ---- For drivers. */

struct nk_net_ops { /* lock held, but for reset */
    int (*send)(struct nk_net_device *d, const void *frame, size_t length); /* -EBUSY: no room */
    /* Take back what was sent; net_received() what came. */
    void (*reap)(struct nk_net_device *d);
    bool (*link_up)(struct nk_net_device *d);
    int (*reset)(struct nk_net_device *d); /* thread; 0: ready again, all frames forgotten */
};

struct nk_net_device {
    char name[16];
    const char *driver;
    uint8_t mac[NK_NET_MAC_BYTES];
    bool gone; /* written under lock */
    unsigned irq;
    uint64_t timeout_ns; /* without room for a frame, until the device is reset */
    const struct nk_net_ops *ops;
    struct nk_net_stats stats;

    struct nk_spinlock lock; /* all below, and the driver's rings */
    bool resetting;
    uint64_t busy_since; /* TSC; 0: it takes frames */
    nk_net_receive_fn receive;
    void *receive_arg;
    struct nk_work recovery;
};

/* First of all; the interrupt may come from then on. */
void net_init(struct nk_net_device *d, const char *driver, const struct nk_net_ops *ops);
/* The name is "eth" and a number. Errors: -ENOSPC too many devices. */
int net_register(struct nk_net_device *d) NK_MUST_CHECK;
void net_received(struct nk_net_device *d, const void *frame, size_t length); /* from reap */
void net_service(struct nk_net_device *d); /* from the interrupt handler */
