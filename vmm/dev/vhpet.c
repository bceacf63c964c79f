/* The high precision event timer: a 100 MHz counter of 64 bits and three comparators.
 * Spec: Intel IA-PC HPET specification 1.0a.
 *
 * Nothing counts: the counter follows from the guest's clock, and one host timer waits for the next
 * comparator that would interrupt. */
#include "core/bus.h"
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/platform.h"

#define WINDOW_SIZE 0x400
#define TICK_NS     10
#define PERIOD_FS   (TICK_NS * UINT64_C(1000000))
#define TIMERS      3

#define REG_CAPABILITIES 0x000
#define REG_CONFIG       0x010
#define REG_STATUS       0x020
#define REG_COUNTER      0x0f0
#define REG_TIMERS       0x100
#define TIMER_STRIDE     0x20
#define TIMER_CONFIG     0x00
#define TIMER_COMPARATOR 0x08

#define CONFIG_ENABLE 0x1
#define CONFIG_LEGACY 0x2 /* timers 0 and 1 take the lines of PIT and RTC */

#define TIMER_LEVEL        (1u << 1)
#define TIMER_INTERRUPT    (1u << 2)
#define TIMER_PERIODIC     (1u << 3)
#define TIMER_CAN_PERIODIC (1u << 4)
#define TIMER_CAN_64BIT    (1u << 5)
#define TIMER_SET_VALUE    (1u << 6)
#define TIMER_32BIT        (1u << 8)
#define TIMER_ROUTE(c)     ((c) >> 9 & 31)
#define TIMER_WRITABLE     (TIMER_LEVEL | TIMER_INTERRUPT | TIMER_PERIODIC | TIMER_32BIT | 31u << 9)
#define ROUTES             UINT64_C(0x00f00000) /* GSIs 20 to 23; PCI has those below */

struct vhpet_timer {
    uint64_t config;
    uint64_t comparator;
    uint64_t period; /* what a periodic comparator moves on by */
    uint64_t match;  /* the counter's value at the next match, all 64 bits of it */
    uint8_t waits;   /* for that: the counter runs, and the match is not centuries away */
};

struct vhpet {
    uint64_t config, status;
    uint64_t counter; /* while it stands; while it runs: what to add to the clock's ticks */
    struct vhpet_timer timer[TIMERS];
    struct vmm_timer *host_timer;
};

static uint64_t clock_ticks(struct vdev *dev)
{
    return vmm_clock_ns(dev->vm) / TICK_NS;
}

static bool runs(const struct vhpet *h)
{
    return (h->config & CONFIG_ENABLE) != 0;
}

static uint64_t counter_now(struct vdev *dev)
{
    const struct vhpet *h = dev->state;

    return runs(h) ? clock_ticks(dev) + h->counter : h->counter;
}

static uint64_t timer_mask(const struct vhpet_timer *t)
{
    return (t->config & TIMER_32BIT) != 0 ? UINT32_MAX : UINT64_MAX;
}

/* --- interrupts ------------------------------------------------------------------------------- */

/* The line of a timer, -1: it has none. */
static int timer_gsi(const struct vhpet *h, unsigned index)
{
    unsigned route = TIMER_ROUTE((unsigned)h->timer[index].config);

    if ((h->config & CONFIG_LEGACY) != 0 && index < 2) {
        return index == 0 ? 0 : 8;
    }
    return (ROUTES >> route & 1) != 0 ? (int)route : -1;
}

static void update_line(struct vdev *dev, unsigned index)
{
    const struct vhpet *h = dev->state;
    const struct vhpet_timer *t = &h->timer[index];
    int gsi = timer_gsi(h, index);

    if (gsi >= 0 && (t->config & TIMER_LEVEL) != 0) {
        vmm_irq_set(dev->vm, (unsigned)gsi,
                    (h->status >> index & 1) != 0 && (t->config & TIMER_INTERRUPT) != 0);
    }
}

static void timer_match(struct vdev *dev, unsigned index)
{
    struct vhpet *h = dev->state;
    const struct vhpet_timer *t = &h->timer[index];
    int gsi = timer_gsi(h, index);

    if ((t->config & TIMER_LEVEL) != 0) {
        h->status |= UINT64_C(1) << index;
        update_line(dev, index);
    } else if (gsi >= 0) {
        vmm_irq_pulse(dev->vm, (unsigned)gsi);
    }
}

/* The match that comes next, seen from `now`. */
static void find_match(const struct vhpet *h, struct vhpet_timer *t, uint64_t now)
{
    uint64_t ahead = (t->comparator - now) & timer_mask(t);

    t->match = now + ahead;
    t->waits = runs(h) && ahead <= INT64_MAX / TICK_NS;
}

static void arm(struct vdev *dev, uint64_t now)
{
    struct vhpet *h = dev->state;
    uint64_t soonest = UINT64_MAX;

    for (unsigned i = 0; i < TIMERS; i++) {
        const struct vhpet_timer *t = &h->timer[i];

        if (t->waits && (t->config & TIMER_INTERRUPT) != 0 && t->match < soonest) {
            soonest = t->match;
        }
    }
    if (soonest == UINT64_MAX) {
        vmm_timer_cancel(h->host_timer);
        return;
    }
    soonest = soonest < now ? now : soonest;
    vmm_timer_arm(h->host_timer, (soonest - h->counter) * TICK_NS);
}

/* The match is past: say so, and find the next one. */
static void pass_match(struct vdev *dev, unsigned index, uint64_t now)
{
    struct vhpet *h = dev->state;
    struct vhpet_timer *t = &h->timer[index];
    uint64_t step = (t->config & TIMER_PERIODIC) != 0 && t->period != 0 ? t->period : 0;

    if ((t->config & TIMER_INTERRUPT) != 0) {
        timer_match(dev, index);
    }
    if (step != 0) {
        /* Too short a period would keep the host's CPU busy with this guest's interrupts alone. */
        uint64_t pause = step < PLATFORM_HPET_MIN_TICKS ? PLATFORM_HPET_MIN_TICKS : 0;

        step *= (now + pause - t->match) / step + 1;
        t->comparator = (t->comparator + step) & timer_mask(t);
        t->match += step;
        t->waits = t->match - now <= INT64_MAX / TICK_NS;
    } else if ((t->config & TIMER_32BIT) != 0) {
        t->match += UINT64_C(1) << 32; /* equal again when the lower half has gone round */
    } else {
        t->waits = 0;
    }
}

static void update(struct vdev *dev)
{
    struct vhpet *h = dev->state;
    uint64_t now = counter_now(dev);

    for (unsigned i = 0; i < TIMERS; i++) {
        if (h->timer[i].waits && h->timer[i].match <= now) {
            pass_match(dev, i, now);
        }
    }
    arm(dev, now);
}

static void host_timer_fired(struct vdev *dev, void *arg)
{
    (void)arg;
    update(dev);
}

/* --- registers -------------------------------------------------------------------------------- */

static void find_all_matches(struct vdev *dev)
{
    struct vhpet *h = dev->state;

    for (unsigned i = 0; i < TIMERS; i++) {
        find_match(h, &h->timer[i], counter_now(dev));
    }
}

static void write_config(struct vdev *dev, uint64_t value)
{
    struct vhpet *h = dev->state;
    uint64_t changed = h->config ^ value;

    if ((changed & CONFIG_ENABLE) != 0) { /* the counter stops, or goes on, where it is */
        h->counter = runs(h) ? counter_now(dev) : h->counter - clock_ticks(dev);
    }
    h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    vmm_irq_replace_legacy(dev->vm, (h->config & CONFIG_LEGACY) != 0);
    if ((changed & CONFIG_ENABLE) != 0) {
        find_all_matches(dev);
    }
}

static void write_counter(struct vdev *dev, uint64_t value)
{
    struct vhpet *h = dev->state;

    h->counter = runs(h) ? value - clock_ticks(dev) : value;
    find_all_matches(dev);
}

static void write_status(struct vdev *dev, uint64_t value)
{
    struct vhpet *h = dev->state;

    h->status &= ~value;
    for (unsigned i = 0; i < TIMERS; i++) {
        update_line(dev, i);
    }
}

static void write_timer_config(struct vdev *dev, unsigned index, uint64_t value)
{
    struct vhpet *h = dev->state;
    struct vhpet_timer *t = &h->timer[index];
    uint64_t writable = TIMER_WRITABLE | TIMER_SET_VALUE;
    int gsi = timer_gsi(h, index);

    if ((t->config & TIMER_LEVEL) != 0 && gsi >= 0) {
        vmm_irq_set(dev->vm, (unsigned)gsi, false); /* it may go elsewhere from here on */
    }
    t->config = (t->config & ~writable) | (value & writable);
    t->comparator &= timer_mask(t);
    t->period &= timer_mask(t);
    find_match(h, t, counter_now(dev));
    update_line(dev, index);
}

/* A periodic timer takes the comparator's value only behind TIMER_SET_VALUE, else its period. */
static void write_comparator(struct vdev *dev, unsigned index, uint64_t value)
{
    struct vhpet *h = dev->state;
    struct vhpet_timer *t = &h->timer[index];
    bool periodic = (t->config & TIMER_PERIODIC) != 0;

    value &= timer_mask(t);
    if (periodic) {
        t->period = value;
    }
    if (!periodic || (t->config & TIMER_SET_VALUE) != 0) {
        t->comparator = value;
    }
    t->config &= ~(uint64_t)TIMER_SET_VALUE;
    find_match(h, t, counter_now(dev));
}

static uint64_t read_register(struct vdev *dev, unsigned reg)
{
    struct vhpet *h = dev->state;
    unsigned index = (reg - REG_TIMERS) / TIMER_STRIDE;

    switch (reg) {
    case REG_CAPABILITIES:
        return PERIOD_FS << 32 | PLATFORM_HPET_ID;
    case REG_CONFIG:
        return h->config;
    case REG_STATUS:
        return h->status;
    case REG_COUNTER:
        return counter_now(dev);
    default:
        break;
    }
    if (reg < REG_TIMERS || index >= TIMERS) {
        return 0;
    }
    switch (reg % TIMER_STRIDE) {
    case TIMER_CONFIG:
        return ROUTES << 32 | TIMER_CAN_64BIT | TIMER_CAN_PERIODIC | h->timer[index].config;
    case TIMER_COMPARATOR:
        update(dev); /* a periodic one may have moved on unheard */
        return h->timer[index].comparator;
    default:
        return 0;
    }
}

static void write_register(struct vdev *dev, unsigned reg, uint64_t value)
{
    unsigned index = (reg - REG_TIMERS) / TIMER_STRIDE;

    update(dev); /* what happened before the write, as it was set before */
    switch (reg) {
    case REG_CONFIG:
        write_config(dev, value);
        break;
    case REG_STATUS:
        write_status(dev, value);
        break;
    case REG_COUNTER:
        write_counter(dev, value);
        break;
    default:
        if (reg >= REG_TIMERS && index < TIMERS && reg % TIMER_STRIDE == TIMER_CONFIG) {
            write_timer_config(dev, index, value);
        } else if (reg >= REG_TIMERS && index < TIMERS && reg % TIMER_STRIDE == TIMER_COMPARATOR) {
            write_comparator(dev, index, value);
        }
        break;
    }
    update(dev);
}

/* Halves of a register can be written one by one; narrower writes are none. */
static void vhpet_access(struct vdev *dev, struct vdev_access *a)
{
    unsigned reg = (unsigned)a->offset & ~7u, shift = a->offset % 8 * 8;
    uint64_t old;

    if (!a->write) {
        a->value = read_register(dev, reg) >> shift;
    } else if (a->size == 8 && shift == 0) {
        write_register(dev, reg, a->value);
    } else if (a->size == 4 && shift % 32 == 0) {
        /* The other half of the status is not to be cleared by writing back what it is. */
        old = reg == REG_STATUS ? 0 : read_register(dev, reg);
        old &= ~(UINT64_C(0xffffffff) << shift);
        write_register(dev, reg, old | (uint64_t)(uint32_t)a->value << shift);
    }
}

/* --- class ------------------------------------------------------------------------------------ */

static void vhpet_reset(struct vdev *dev)
{
    struct vhpet *h = dev->state;

    h->config = 0;
    h->status = 0;
    h->counter = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        h->timer[i] = (struct vhpet_timer){.comparator = UINT64_MAX};
    }
    vmm_irq_replace_legacy(dev->vm, false);
    vmm_timer_cancel(h->host_timer);
}

static int vhpet_create(struct vdev *dev)
{
    struct vhpet *h = dev->state;
    int error = vmm_timer_create(dev, host_timer_fired, NULL, &h->host_timer);

    if (error == 0) {
        error = vdev_claim(dev, VDEV_MMIO, PLATFORM_HPET_BASE, WINDOW_SIZE, vhpet_access);
    }
    return error;
}

static void vhpet_destroy(struct vdev *dev)
{
    struct vhpet *h = dev->state;

    vmm_timer_destroy(h->host_timer);
}

static int vhpet_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, dev->state, offsetof(struct vhpet, host_timer));
}

static int vhpet_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vhpet *h = dev->state;
    int error = in->transfer(in, h, offsetof(struct vhpet, host_timer));

    for (unsigned i = 0; error == 0 && i < TIMERS; i++) {
        const struct vhpet_timer *t = &h->timer[i];

        /* Beyond the clock's range its wake-up would be in the past, again and again. */
        if (t->waits && (!runs(h) || t->match - h->counter > INT64_MAX / TICK_NS)) {
            error = -VMM_EINVAL;
        }
    }
    if (error == 0) {
        vmm_timer_run_soon(h->host_timer); /* when everything is loaded */
    }
    return error;
}

const struct vdev_class vhpet_class = {
    .name = "vhpet",
    .state_size = sizeof(struct vhpet),
    .version = 1,
    .create = vhpet_create,
    .reset = vhpet_reset,
    .destroy = vhpet_destroy,
    .save = vhpet_save,
    .load = vhpet_load,
};
