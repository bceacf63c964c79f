/* Block devices. Every request that was taken is completed exactly once, whatever the device does:
 * one that misses its deadline is looked for once more (a lost interrupt), and then the device is
 * reset and the request fails. A device that does not come back refuses all further requests.
 *
 * Threading: submit from any context but NMI; the rest from threads. */
#pragma once

#include "base/list.h"
#include "base/spinlock.h"
#include "base/types.h"
#include "sched/timer.h"
#include "sched/work.h"

#define NK_BLOCK_TIMEOUT_NS UINT64_C(10000000000)

enum nk_block_op { NK_BLOCK_READ, NK_BLOCK_WRITE, NK_BLOCK_FLUSH };

struct nk_block_device;

struct nk_block_request {
    enum nk_block_op op;
    uint64_t sector;
    uint32_t count; /* sectors */
    void *buffer;   /* contiguous memory of the direct map or the image (kmalloc, static) */
    void (*done)(struct nk_block_request *r); /* interrupt context; the request may be reused */
    void *arg;
    int status; /* 0, or -EIO the device says so, -ETIMEDOUT, -ENODEV it is gone */

    struct nk_list node; /* from here on: drivers/block.c and the driver */
    uint64_t deadline;
    unsigned slot;
};

/* Errors, without `done` being called: -EINVAL range, count or buffer, -EROFS, -ENODEV gone. */
int nk_block_submit(struct nk_block_device *d, struct nk_block_request *r) NK_MUST_CHECK;

/* Wait for the end; any buffer and number of sectors. Errors: those above, and those of status;
 * -ENOMEM none for a bounce buffer. */
int nk_block_read(struct nk_block_device *d, uint64_t sector, uint32_t count,
                  void *buffer) NK_MUST_CHECK;
int nk_block_write(struct nk_block_device *d, uint64_t sector, uint32_t count,
                   const void *buffer) NK_MUST_CHECK;
int nk_block_flush(struct nk_block_device *d) NK_MUST_CHECK;

/* Of requests that begin from now on. */
void nk_block_set_timeout(struct nk_block_device *d, uint64_t ns);

struct nk_block_device *nk_block_get(unsigned i); /* NULL past the last */
struct nk_block_device *nk_block_find(const char *name);

struct nk_block_stats {
    uint64_t reads, writes, flushes; /* requests that ended well */
    uint64_t errors;
    uint64_t lost_interrupts; /* times a request turned out to be done at its deadline */
    uint64_t resets;
};

/* ---- For drivers. The device's memory outlives everything: devices are not unregistered. */

struct nk_block_ops {
    /* Hand a request to the hardware; lock held. -EBUSY: no room until something has ended. */
    int (*start)(struct nk_block_device *d, struct nk_block_request *r);
    /* block_finish() what the hardware has done; lock held. */
    void (*reap)(struct nk_block_device *d);
    /* On return the hardware touches no buffer any more and has forgotten all requests; 0 when it
     * is ready for new ones. Thread context, no lock held; may take a second, not more. */
    int (*reset)(struct nk_block_device *d);
};

struct nk_block_device {
    char name[16];
    const char *driver;
    uint32_t sector_size;
    uint64_t sector_count;
    uint32_t request_sectors_max;
    bool read_only;
    bool gone; /* written under lock */
    unsigned irq;
    uint64_t timeout_ns; /* of each request, from when the device has it */
    const struct nk_block_ops *ops;
    struct nk_block_stats stats;

    struct nk_spinlock lock;         /* all below, and the driver's rings */
    struct nk_list waiting, started; /* requests, oldest first */
    struct nk_list finished;         /* `done` not called yet */
    bool resetting, timer_armed;
    struct nk_timer timer;
    struct nk_work recovery;
};

/* First of all; the interrupt may come from then on. */
void block_init(struct nk_block_device *d, const char *driver, const struct nk_block_ops *ops);
/* `prefix` and a number make the name. Errors: -ENOSPC too many devices. */
int block_register(struct nk_block_device *d, const char *prefix) NK_MUST_CHECK;
void block_finish(struct nk_block_device *d, struct nk_block_request *r,
                  int status);                 /* lock held */
void block_service(struct nk_block_device *d); /* from the interrupt handler */
