/* The 8254 interval timer and port 0x61, which gates its channel 2.
 * Spec: Intel 8254 data sheet; Intel 82371AB (PIIX4) data sheet, NMI status and control register.
 *
 * Counters do not count: every value follows from the guest's clock and the tick at which the
 * counting began. Only channel 0 has a consumer, IRQ 0, and a timer is armed for it only while that
 * line can reach a CPU. */
#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"

#define PIT_HZ          1193182
#define PORT_CHANNELS   0x40
#define PORT_SPEAKER    0x61
#define IRQ0            0
#define CHANNELS        3
#define SPEAKER_CHANNEL 2

#define SPEAKER_GATE    0x01
#define SPEAKER_WRITE   0x0f
#define SPEAKER_REFRESH 0x10 /* toggles with each memory refresh */
#define SPEAKER_OUT     0x20
#define REFRESH_NS      15085

#define MIN_TICKS   60           /* between two interrupts, 50 us: a guest cannot ask for a storm */
#define MAX_BACKLOG (PIT_HZ / 2) /* ticks by which edges may be late; older ones are lost */

enum pit_access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

struct vpit_channel {
    uint8_t mode, bcd, access; /* of the control word */
    uint8_t gate;
    uint8_t write_high, write_low; /* the high byte comes next; the low one waits for it */
    uint8_t read_high;             /* the next unlatched read gives the high byte */
    uint8_t latched;               /* bytes left to read of the latched count */
    uint8_t status_latched, status;
    uint8_t loaded;    /* a count was written since the control word */
    uint8_t triggered; /* modes 1 and 5: the gate rose since */
    uint16_t latch;
    uint32_t reload;   /* 1 to 65536 */
    uint32_t previous; /* the reload value in effect until `start`, 0: none */
    uint64_t start;    /* tick at which reload was taken over */
    uint64_t held;     /* ticks counted when the gate stopped the count */
};

struct vpit {
    struct vpit_channel channel[CHANNELS];
    uint8_t speaker;
    uint8_t unseen; /* channel 0's line was masked everywhere when an edge came */
    uint64_t edge;  /* which edge of channel 0 comes next: edge_tick() */
    struct vmm_timer *timer;
};

static uint64_t pit_now(struct vdev *dev)
{
    return vmm_clock_ticks(dev->vm, PIT_HZ);
}

/* --- one channel ------------------------------------------------------------------------------ */

static bool is_periodic(const struct vpit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

static bool is_hardware_triggered(const struct vpit_channel *c)
{
    return c->mode == 1 || c->mode == 5;
}

static bool is_counting(const struct vpit_channel *c)
{
    return c->loaded && (is_hardware_triggered(c) ? c->triggered : c->gate);
}

/* Ticks since the counting began. */
static uint64_t elapsed(const struct vpit_channel *c, uint64_t now)
{
    if (!c->loaded || (is_hardware_triggered(c) && !c->triggered)) {
        return 0;
    }
    if (!is_counting(c)) {
        return c->held;
    }
    return now > c->start ? now - c->start : 0;
}

/* Modes 2 and 3 take a new count over at the end of a period: until then the old one runs. */
static bool runs_previous(const struct vpit_channel *c, uint64_t now)
{
    return is_counting(c) && now < c->start && c->previous != 0;
}

static uint32_t period_position(const struct vpit_channel *c, uint64_t now, uint32_t *period)
{
    if (runs_previous(c, now)) {
        *period = c->previous;
        return (uint32_t)(c->previous - (c->start - now));
    }
    *period = c->reload;
    return (uint32_t)(elapsed(c, now) % c->reload);
}

static bool channel_out(const struct vpit_channel *c, uint64_t now)
{
    uint64_t ticks = elapsed(c, now);
    uint32_t period, position;

    switch (c->mode) {
    case 0:
        return c->loaded && ticks >= c->reload;
    case 1:
        return !c->triggered || ticks >= c->reload;
    case 2:
    case 3:
        if (!is_counting(c)) {
            return true;
        }
        position = period_position(c, now, &period);
        return c->mode == 2 ? position != period - 1 : position < (period + 1) / 2;
    default: /* 4 and 5: low for one tick at the end */
        return !c->loaded || ticks != c->reload;
    }
}

static uint16_t to_bcd(uint32_t value)
{
    return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
                      value / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint16_t bcd)
{
    return (bcd & 15) + (bcd >> 4 & 15) * 10 + (bcd >> 8 & 15) * 100 + (bcd >> 12) * 1000u;
}

static uint16_t channel_count(const struct vpit_channel *c, uint64_t now)
{
    uint32_t modulus = c->bcd ? 10000 : 0x10000;
    uint32_t period, position, count;

    if (is_periodic(c)) {
        position = period_position(c, now, &period);
        count = period - position;
        if (c->mode == 3) { /* counts by two, twice in a period */
            count = position < (period + 1) / 2 ? period - 2 * position
                                                : period - 2 * (position - (period + 1) / 2);
            count &= ~UINT32_C(1);
        }
    } else {
        uint64_t gone = elapsed(c, now) % modulus;

        count = (uint32_t)((c->reload + modulus - gone) % modulus);
    }
    count %= modulus;
    return c->bcd ? to_bcd(count) : (uint16_t)count;
}

/* --- channel 0's interrupt -------------------------------------------------------------------- */

/* The tick, counted from start, of the n-th rising edge of OUT; UINT64_MAX: there is none. A
 * periodic count that replaced another has an edge at 0, where the last period of that one ends. */
static uint64_t edge_tick(const struct vpit_channel *c, uint64_t n)
{
    if (!is_counting(c) || is_hardware_triggered(c)) {
        return UINT64_MAX;
    }
    if (is_periodic(c)) {
        return n * c->reload;
    }
    return n == 1 ? (uint64_t)c->reload + (c->mode == 4) : UINT64_MAX;
}

/* Of edges that passed while the line was masked, the PIC would have latched one; of those that
 * wait for a guest that does not run, not more than a backlog is kept. */
static void skip_edges(struct vpit *p, uint64_t now)
{
    const struct vpit_channel *c = &p->channel[0];
    uint64_t last;

    if (is_periodic(c) && now > c->start) {
        last = (now - c->start) / c->reload;
        if (last > p->edge && (p->unseen || (last - p->edge) * c->reload > MAX_BACKLOG)) {
            p->edge = last;
        }
    }
    p->unseen = 0;
}

/* Give the edge that is due and arm the timer for the next one. While the guest has not taken the
 * last edge the next one waits, and is given late rather than merged: a guest that counts ticks
 * keeps the time. */
static void irq0_update(struct vdev *dev)
{
    struct vpit *p = vdev_state(dev);
    const struct vpit_channel *c = &p->channel[0];
    uint64_t now = pit_now(dev), not_before = 0;

    if (!vmm_irq_visible_legacy(dev->vm, IRQ0)) {
        p->unseen = 1;
        vmm_timer_cancel(p->timer);
        return;
    }
    skip_edges(p, now);
    if (edge_tick(c, p->edge) != UINT64_MAX && c->start + edge_tick(c, p->edge) <= now) {
        if (is_periodic(c) && vmm_irq_in_flight(dev->vm, IRQ0)) {
            not_before = now + (c->reload / 4 > MIN_TICKS ? c->reload / 4 : MIN_TICKS);
        } else {
            vmm_irq_set_legacy(dev->vm, IRQ0, false);
            vmm_irq_set_legacy(dev->vm, IRQ0, true);
            p->edge++;
            not_before = now + MIN_TICKS;
        }
    }
    if (edge_tick(c, p->edge) == UINT64_MAX) {
        vmm_timer_cancel(p->timer);
    } else {
        uint64_t next = c->start + edge_tick(c, p->edge);

        vmm_timer_arm(p->timer, vmm_ticks_to_ns(next > not_before ? next : not_before, PIT_HZ));
    }
}

static void irq0_timer(struct vdev *dev, void *arg)
{
    (void)arg;
    irq0_update(dev);
}

/* Channel 0 begins anew: OUT is what the mode says. */
static void irq0_restart(struct vdev *dev)
{
    struct vpit *p = vdev_state(dev);
    const struct vpit_channel *c = &p->channel[0];

    p->edge = is_periodic(c) && c->previous != 0 ? 0 : 1;
    vmm_irq_set_legacy(dev->vm, IRQ0, channel_out(c, pit_now(dev)));
    irq0_update(dev);
}

/* --- registers -------------------------------------------------------------------------------- */

static void load_count(struct vdev *dev, unsigned index, uint16_t value)
{
    struct vpit *p = vdev_state(dev);
    struct vpit_channel *c = &p->channel[index];
    uint64_t now = pit_now(dev);
    uint32_t count = c->bcd ? from_bcd(value) : value;
    uint32_t period, position;

    if (count == 0) {
        count = c->bcd ? 10000 : 0x10000;
    }
    if (is_periodic(c) && is_counting(c)) {
        position = period_position(c, now, &period);
        c->previous = period;
        c->start = now + (period - position);
    } else if (!is_hardware_triggered(c)) {
        c->start = now + 1; /* loaded by the next clock pulse */
        c->previous = 0;
        c->held = 0;
    }
    c->reload = count;
    c->loaded = 1;
    if (index == 0) {
        irq0_restart(dev);
    }
}

static void write_count(struct vdev *dev, unsigned index, uint8_t value)
{
    struct vpit *p = vdev_state(dev);
    struct vpit_channel *c = &p->channel[index];

    switch (c->access) {
    case ACCESS_LOW:
        load_count(dev, index, value);
        break;
    case ACCESS_HIGH:
        load_count(dev, index, (uint16_t)(value << 8));
        break;
    default:
        if (!c->write_high) {
            c->write_low = value;
            c->write_high = 1;
            if (c->mode == 0) { /* the first byte stops the count */
                c->loaded = 0;
            }
        } else {
            c->write_high = 0;
            load_count(dev, index, (uint16_t)(value << 8 | c->write_low));
        }
        break;
    }
}

static void latch_count(struct vpit_channel *c, uint64_t now)
{
    if (c->latched == 0) {
        c->latch = channel_count(c, now);
        c->latched = c->access == ACCESS_BOTH ? 2 : 1;
    }
}

/* Null count: the value written last is not in the counter yet. */
static void latch_status(struct vpit_channel *c, uint64_t now)
{
    bool null_count = !c->loaded || now < c->start;

    if (!c->status_latched) {
        c->status = (uint8_t)(channel_out(c, now) << 7 | null_count << 6 | c->access << 4 |
                              c->mode << 1 | c->bcd);
        c->status_latched = 1;
    }
}

static void read_back(struct vpit *p, uint8_t command, uint64_t now)
{
    for (unsigned i = 0; i < CHANNELS; i++) {
        if ((command >> (i + 1) & 1) == 0) {
            continue;
        }
        if ((command & 0x20) == 0) {
            latch_count(&p->channel[i], now);
        }
        if ((command & 0x10) == 0) {
            latch_status(&p->channel[i], now);
        }
    }
}

static void write_control(struct vdev *dev, uint8_t value)
{
    struct vpit *p = vdev_state(dev);
    unsigned index = value >> 6;
    struct vpit_channel *c = &p->channel[index % CHANNELS];
    uint8_t gate = c->gate;

    if (index == CHANNELS) {
        read_back(p, value, pit_now(dev));
        return;
    }
    if ((value >> 4 & 3) == ACCESS_LATCH) {
        latch_count(c, pit_now(dev));
        return;
    }
    *c = (struct vpit_channel){
        .mode = value >> 1 & 7,
        .bcd = value & 1,
        .access = value >> 4 & 3,
        .gate = gate,
        .reload = 0x10000,
    };
    if (c->mode > 5) { /* 6 and 7 are other names of 2 and 3 */
        c->mode -= 4;
    }
    if (index == 0) {
        irq0_restart(dev);
    }
}

static uint8_t read_count(struct vpit_channel *c, uint64_t now)
{
    uint16_t count;

    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->latched > 0) {
        bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->latched == 1);

        c->latched--;
        return (uint8_t)(high ? c->latch >> 8 : c->latch);
    }
    count = channel_count(c, now);
    if (c->access == ACCESS_BOTH) {
        c->read_high ^= 1;
        return (uint8_t)(c->read_high ? count : count >> 8);
    }
    return (uint8_t)(c->access == ACCESS_HIGH ? count >> 8 : count);
}

static void vpit_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpit *p = vdev_state(dev);

    if (a->offset == CHANNELS) {
        if (a->write) {
            write_control(dev, (uint8_t)a->value);
        }
    } else if (a->write) {
        write_count(dev, (unsigned)a->offset, (uint8_t)a->value);
    } else {
        a->value = read_count(&p->channel[a->offset], pit_now(dev));
    }
}

/* --- gate of channel 2, speaker --------------------------------------------------------------- */

static void set_gate(struct vpit_channel *c, bool gate, uint64_t now)
{
    if (gate == c->gate) {
        return;
    }
    if (!gate) {
        c->held = elapsed(c, now);
    }
    c->gate = gate;
    if (gate) {
        bool restarts = is_periodic(c) || is_hardware_triggered(c);

        c->start = restarts ? now + 1 : now - c->held;
        c->previous = 0;
        c->triggered = c->loaded;
    }
}

static void speaker_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpit *p = vdev_state(dev);
    struct vpit_channel *c = &p->channel[SPEAKER_CHANNEL];
    uint64_t now = pit_now(dev);

    if (a->write) {
        p->speaker = a->value & SPEAKER_WRITE;
        set_gate(c, (a->value & SPEAKER_GATE) != 0, now);
        return;
    }
    a->value = p->speaker | (channel_out(c, now) ? SPEAKER_OUT : 0) |
               (vmm_clock_ns(dev->vm) / REFRESH_NS % 2 != 0 ? SPEAKER_REFRESH : 0);
}

/* --- class ------------------------------------------------------------------------------------ */

static void vpit_reset(struct vdev *dev)
{
    struct vpit *p = vdev_state(dev);

    __builtin_memset(p, 0, offsetof(struct vpit, timer));
    for (unsigned i = 0; i < CHANNELS; i++) {
        struct vpit_channel *c = &p->channel[i];

        c->access = ACCESS_BOTH;
        c->gate = i != SPEAKER_CHANNEL;
        c->reload = 0x10000;
    }
    irq0_restart(dev);
}

static int vpit_create(struct vdev *dev)
{
    struct vpit *p = vdev_state(dev);
    int error = vmm_timer_create(dev, irq0_timer, NULL, &p->timer);

    if (error == 0) {
        dev->vm->irq->irq0_user = p->timer;
        error = vdev_claim_bytes(dev, PORT_CHANNELS, CHANNELS + 1, vpit_access);
    }
    if (error == 0) {
        error = vdev_claim_bytes(dev, PORT_SPEAKER, 1, speaker_access);
    }
    return error;
}

static void vpit_destroy(struct vdev *dev)
{
    struct vpit *p = vdev_state(dev);

    dev->vm->irq->irq0_user = NULL;
    vmm_timer_destroy(p->timer);
}

static int vpit_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), offsetof(struct vpit, timer));
}

static int vpit_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vpit *p = vdev_state(dev);
    int error = in->transfer(in, p, offsetof(struct vpit, timer));

    if (error != 0) {
        return error;
    }
    for (unsigned i = 0; i < CHANNELS; i++) {
        struct vpit_channel *c = &p->channel[i];

        if (c->mode > 5 || c->reload == 0 || c->access > ACCESS_BOTH) {
            return -VMM_EINVAL;
        }
    }
    vmm_timer_run_soon(p->timer); /* when everything is loaded */
    return 0;
}

const struct vdev_class vpit_class = {
    .name = "vpit",
    .state_size = sizeof(struct vpit),
    .version = 1,
    .create = vpit_create,
    .reset = vpit_reset,
    .destroy = vpit_destroy,
    .save = vpit_save,
    .load = vpit_load,
};
