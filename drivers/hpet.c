#include "drivers/hpet.h"

#include "base/errno.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "kernel/acpi.h"
#include "kernel/irq.h"
#include "mm/paging.h"
#include "sched/sync.h"
#include "sched/timer.h"

enum hpet_register { /* section 2.3 */
                     HPET_CAPABILITIES = 0x000,
                     HPET_PERIOD = 0x004,
                     HPET_CONFIG = 0x010,
                     HPET_COUNTER = 0x0f0,
                     TIMER_CONFIG = 0x100,
                     TIMER_ROUTES = 0x104,
                     TIMER_COMPARATOR = 0x108,
                     TIMER_MESSAGE_DATA = 0x110,
                     TIMER_MESSAGE_ADDRESS = 0x114,
                     HPET_SIZE = 0x400,
};
#define TIMER_STRIDE 0x20

#define CONFIG_ENABLE UINT32_C(1)
#define CONFIG_LEGACY UINT32_C(2) /* takes the lines of the PIT and the RTC */

#define TIMER_ENABLED     (1u << 2)
#define TIMER_32_BITS     (1u << 8)
#define TIMER_ROUTE(gsi)  ((uint32_t)(gsi) << 9)
#define TIMER_MESSAGE     (1u << 14)
#define TIMER_CAN_MESSAGE (1u << 15)

#define FEMTOSECONDS    UINT64_C(1000000000000000)
#define PERIOD_MAX      UINT64_C(100000000) /* section 2.3.4: at least 10 MHz */
#define NEAREST_TICKS   64                  /* an event set nearer than that may be missed */
#define NS_PER_S        UINT64_C(1000000000)
#define LATE_NS         NS_PER_S
#define LEGACY_RTC_LINE 8

static volatile uint8_t *registers;
static uint64_t hz;

/* Comparator 0 serves. */
static struct {
    bool taken, message; /* taken: atomic; these three belong to who has it */
    unsigned irq;
    uint32_t config;         /* of the comparator, disabled */
    struct nk_spinlock lock; /* all below */
    void (*fired)(void *arg);
    void *arg;
    uint32_t due; /* counter, while `fired` is set */
} event = {.lock = NK_SPINLOCK_INIT(NK_RANK_DEVICE)};

static volatile uint32_t *reg(unsigned at)
{
    return (volatile uint32_t *)(registers + at);
}

bool hpet_open(void)
{
    if (hz != 0) {
        return true;
    }
    if (acpi.hpet_address == 0) {
        return false;
    }
    registers = paging_map_mmio(NK_PA(acpi.hpet_address), HPET_SIZE);
    if (registers == NULL) {
        return false;
    }
    uint64_t period = *reg(HPET_PERIOD);
    if (period == 0 || period > PERIOD_MAX) {
        nk_warn("hpet: left out, with a period of %lu fs", period);
        return false;
    }
    *reg(HPET_CONFIG) = (*reg(HPET_CONFIG) & ~CONFIG_LEGACY) | CONFIG_ENABLE;
    hz = FEMTOSECONDS / period;
    return true;
}

uint64_t hpet_hz(void)
{
    return hz;
}

uint32_t hpet_read(void)
{
    return *reg(HPET_COUNTER);
}

/* --- events ----------------------------------------------------------------------------------- */

static void write_message(void *arg, uint64_t address, uint32_t data, bool masked)
{
    (void)arg;
    (void)masked; /* the comparator is silent while no event is armed */
    *reg(TIMER_MESSAGE_DATA) = data;
    *reg(TIMER_MESSAGE_ADDRESS) = (uint32_t)address;
}

/* The event of this moment, if it is due, is the caller's to run. Lock held. */
static bool take_due(void (**fired)(void *arg), void **arg)
{
    if (event.fired == NULL || (int32_t)(hpet_read() - event.due) < 0) {
        return false;
    }
    *fired = event.fired;
    *arg = event.arg;
    event.fired = NULL;
    *reg(TIMER_CONFIG) = event.config;
    return true;
}

static bool interrupt(void *arg)
{
    void (*fired)(void *arg);
    nk_spinlock_acquire(&event.lock);
    bool due = take_due(&fired, &arg);
    nk_spinlock_release(&event.lock);
    if (due) {
        fired(arg);
    }
    return due;
}

/* An ISA line or an input that the comparator can be routed to, and that is edge-triggered as the
 * comparator is. The RTC keeps its own. */
static bool choose_line(uint32_t routes, unsigned *irq, unsigned *gsi)
{
    for (*irq = 0; *irq < 16; (*irq)++) {
        if (*irq != LEGACY_RTC_LINE && nk_irq_edge_input(*irq, gsi) && *gsi < 32 &&
            (routes >> *gsi & 1) != 0) {
            return true;
        }
    }
    return false;
}

/* A message, or else a line. */
static int find_interrupt(void)
{
    unsigned gsi;
    event.message = (*reg(TIMER_CONFIG) & TIMER_CAN_MESSAGE) != 0;
    if (event.message) {
        event.config = TIMER_32_BITS | TIMER_MESSAGE;
        return nk_irq_message_alloc(write_message, NULL, &event.irq);
    }
    if (!choose_line(*reg(TIMER_ROUTES), &event.irq, &gsi)) {
        return -ENODEV;
    }
    event.config = TIMER_32_BITS | TIMER_ROUTE(gsi);
    return 0;
}

static void release(void)
{
    if (event.message) {
        nk_irq_message_free(event.irq);
    }
    __atomic_store_n(&event.taken, false, __ATOMIC_RELEASE);
}

int hpet_event_open(void)
{
    if (!hpet_open()) {
        return -ENODEV;
    }
    if (__atomic_exchange_n(&event.taken, true, __ATOMIC_ACQUIRE)) {
        return -EBUSY;
    }
    int err = find_interrupt();
    if (err != 0) {
        __atomic_store_n(&event.taken, false, __ATOMIC_RELEASE);
        return err;
    }
    *reg(TIMER_CONFIG) = event.config;
    err = nk_irq_attach(event.irq, "hpet", interrupt, NULL);
    if (err != 0) {
        release();
    }
    return err;
}

void hpet_event_close(void)
{
    uint64_t flags = nk_spin_lock_irqsave(&event.lock);
    event.fired = NULL;
    *reg(TIMER_CONFIG) = event.config;
    nk_spin_unlock_irqrestore(&event.lock, flags);
    nk_irq_detach(event.irq, interrupt, NULL);
    release();
}

/* The comparator looks for equality: what it is told too late it never sees, so the distance grows
 * until the counter has not yet got there. Lock held. */
static void set_comparator(uint32_t ticks)
{
    do {
        ticks = ticks < NEAREST_TICKS ? NEAREST_TICKS : ticks;
        event.due = hpet_read() + ticks;
        *reg(TIMER_COMPARATOR) = event.due;
        *reg(TIMER_CONFIG) = event.config | TIMER_ENABLED;
        ticks *= 2;
    } while ((int32_t)(event.due - hpet_read()) <= 0 && ticks < INT32_MAX / 2);
}

int hpet_event_arm(uint64_t ns, void (*fired)(void *arg), void *arg)
{
    if (ns > INT32_MAX / 2 * NS_PER_S / hz) {
        return -EINVAL;
    }
    uint64_t flags = nk_spin_lock_irqsave(&event.lock);
    event.fired = fired;
    event.arg = arg;
    set_comparator((uint32_t)(ns * hz / NS_PER_S));
    nk_spin_unlock_irqrestore(&event.lock, flags);
    return 0;
}

static void set_event(void *arg)
{
    nk_event_set(arg);
}

int hpet_sleep(uint64_t ns)
{
    struct nk_event over;
    nk_event_init(&over);
    int err = hpet_event_open();
    if (err != 0) {
        return err;
    }
    err = hpet_event_arm(ns, set_event, &over);
    if (err == 0 && !nk_event_wait_until(&over, x86_rdtsc() + nk_ns_to_tsc(ns + LATE_NS))) {
        err = -ETIMEDOUT;
    }
    hpet_event_close();
    return err;
}
