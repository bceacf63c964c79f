/* The I/O APIC: 24 pins, each with a redirection entry.
 * Spec: Intel 82093AA data sheet; Intel ICH9 data sheet section 13.5 (version 0x20, EOI register).
 *
 * A line's level means "asserted": the polarity bit of an entry says how a board would have wired
 * it, and there is no board. */
#include "dev/vioapic.h"

#include "core/irq.h"
#include "core/vm.h"
#include "dev/platform.h"
#include "dev/vlapic.h"

#define WINDOW_SIZE   0x1000
#define OFFSET_SELECT 0x00
#define OFFSET_DATA   0x10
#define OFFSET_EOI    0x40

#define REG_ID          0x00
#define REG_VERSION     0x01
#define REG_ARBITRATION 0x02
#define REG_REDIRECTION 0x10 /* two registers for each pin */
#define VERSION         (0x20 | (VIOAPIC_PINS - 1) << 16)
#define ID_VALID        0x0f000000

#define ENTRY_VECTOR     UINT64_C(0xff)
#define ENTRY_MODE(e)    ((e) >> 8 & 7)
#define ENTRY_LOGICAL    (UINT64_C(1) << 11)
#define ENTRY_STATUS     (UINT64_C(1) << 12)
#define ENTRY_REMOTE_IRR (UINT64_C(1) << 14)
#define ENTRY_LEVEL      (UINT64_C(1) << 15)
#define ENTRY_MASKED     (UINT64_C(1) << 16)
#define ENTRY_VALID      UINT64_C(0xff0000000001ffff)
#define ENTRY_READ_ONLY  (ENTRY_STATUS | ENTRY_REMOTE_IRR)

#define LINE0_PIN 2

struct vioapic {
    uint64_t entry[VIOAPIC_PINS];
    uint32_t line; /* asserted inputs */
    uint32_t id;
    uint32_t select;
};

static struct vioapic *vioapic_of(struct vm *vm)
{
    return vm->ioapic->state;
}

/* Only fixed and lowest-priority interrupts can be: data sheet section 3.2.4, delivery mode. */
static bool by_level(uint64_t entry)
{
    return (entry & ENTRY_LEVEL) != 0 && ENTRY_MODE(entry) <= VLAPIC_LOWEST;
}

static void pin_deliver(struct vm *vm, struct vioapic *io, unsigned pin)
{
    uint64_t entry = io->entry[pin];
    struct vmm_irq_message m = {
        .destination = (uint32_t)(entry >> 56),
        .vector = (uint8_t)entry,
        .delivery_mode = ENTRY_MODE(entry),
        .logical = (entry & ENTRY_LOGICAL) != 0,
        .level = by_level(entry),
    };

    if (m.level && vmm_irq_taken(vm, &m)) { /* else nobody would end it */
        io->entry[pin] |= ENTRY_REMOTE_IRR;
    }
    vmm_irq_deliver(vm, &m);
}

/* A level line asks again whenever nothing keeps it from doing so. */
static void pin_service_level(struct vm *vm, struct vioapic *io, unsigned pin)
{
    uint64_t entry = io->entry[pin];

    if ((io->line >> pin & 1) != 0 && by_level(entry) &&
        (entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) == 0) {
        pin_deliver(vm, io, pin);
    }
}

static void vioapic_lock(struct vm *vm)
{
    vm->ops->lock(vm->host, &vm->ioapic->lock);
}

static void vioapic_unlock(struct vm *vm)
{
    vm->ops->unlock(vm->host, &vm->ioapic->lock);
}

void vioapic_set_pin(struct vm *vm, unsigned pin, bool level)
{
    struct vioapic *io = vioapic_of(vm);
    uint32_t bit = 1u << pin;
    bool rising;

    vioapic_lock(vm);
    rising = level && (io->line & bit) == 0;
    io->line = level ? io->line | bit : io->line & ~bit;
    if (by_level(io->entry[pin])) {
        pin_service_level(vm, io, pin);
    } else if (rising && (io->entry[pin] & ENTRY_MASKED) == 0) {
        pin_deliver(vm, io, pin);
    }
    vioapic_unlock(vm);
}

bool vioapic_masked(struct vm *vm, unsigned pin)
{
    return (__atomic_load_n(&vioapic_of(vm)->entry[pin], __ATOMIC_RELAXED) & ENTRY_MASKED) != 0;
}

uint8_t vioapic_vector(struct vm *vm, unsigned pin)
{
    return (uint8_t)__atomic_load_n(&vioapic_of(vm)->entry[pin], __ATOMIC_RELAXED);
}

static void eoi_locked(struct vm *vm, struct vioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++) {
        uint64_t *entry = &io->entry[pin];

        if ((*entry & ENTRY_VECTOR) == vector && (*entry & ENTRY_REMOTE_IRR) != 0) {
            *entry &= ~ENTRY_REMOTE_IRR;
            pin_service_level(vm, io, pin);
        }
    }
}

void vioapic_eoi(struct vm *vm, uint8_t vector)
{
    vioapic_lock(vm);
    eoi_locked(vm, vioapic_of(vm), vector);
    vioapic_unlock(vm);
}

/* --- registers -------------------------------------------------------------------------------- */

static uint32_t read_register(const struct vioapic *io)
{
    unsigned pin = (io->select - REG_REDIRECTION) / 2;

    switch (io->select) {
    case REG_ID:
    case REG_ARBITRATION:
        return io->id;
    case REG_VERSION:
        return VERSION;
    default:
        if (io->select < REG_REDIRECTION || pin >= VIOAPIC_PINS) {
            return UINT32_MAX;
        }
        return (uint32_t)(io->entry[pin] >> (io->select % 2 * 32));
    }
}

static void write_entry(struct vm *vm, struct vioapic *io, unsigned pin, uint32_t value)
{
    uint64_t old = io->entry[pin];
    uint64_t entry = io->select % 2 != 0 ? (old & UINT32_MAX) | (uint64_t)value << 32
                                         : (old & ~(uint64_t)UINT32_MAX) | value;

    entry = (entry & ENTRY_VALID & ~ENTRY_READ_ONLY) | (old & ENTRY_READ_ONLY);
    if (!by_level(entry)) {
        entry &= ~ENTRY_REMOTE_IRR; /* systems switch to edge and back to clear it */
    }
    __atomic_store_n(&io->entry[pin], entry, __ATOMIC_RELAXED);
    pin_service_level(vm, io, pin);
    if ((old & ~entry & ENTRY_MASKED) != 0 && (pin == LINE0_PIN || pin == 0)) {
        vmm_irq_line0_unmasked(vm);
    }
}

/* Out of line, so that the choice of a register saves none for it. */
static __attribute__((noinline)) void write_register(struct vm *vm, struct vioapic *io,
                                                     uint32_t value)
{
    unsigned pin = (io->select - REG_REDIRECTION) / 2;

    if (io->select == REG_ID) {
        io->id = value & ID_VALID;
    } else if (io->select >= REG_REDIRECTION && pin < VIOAPIC_PINS) {
        write_entry(vm, io, pin, value);
    }
}

static void vioapic_access(struct vdev *dev, struct vdev_access *a)
{
    struct vioapic *io = vdev_state(dev);
    unsigned shift = a->offset % 16 * 8;
    uint32_t value = (uint32_t)a->value;

    if (!a->write) {
        switch (a->offset & ~UINT64_C(15)) {
        case OFFSET_SELECT:
            value = io->select;
            break;
        case OFFSET_DATA:
            value = read_register(io);
            break;
        default:
            value = 0;
            break;
        }
        a->value = shift < 32 ? value >> shift : 0;
        return;
    }
    if (vmm_likely(a->offset == OFFSET_SELECT)) {
        io->select = value & 0xff;
    } else if (a->offset == OFFSET_DATA && a->size >= 4) {
        write_register(dev->vm, io, value);
    } else if (a->offset == OFFSET_EOI) {
        eoi_locked(dev->vm, io, (uint8_t)value);
    }
}

/* --- class ------------------------------------------------------------------------------------ */

static void vioapic_reset(struct vdev *dev)
{
    struct vioapic *io = vdev_state(dev);

    *io = (struct vioapic){0};
    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++) {
        io->entry[pin] = ENTRY_MASKED;
    }
}

static int vioapic_create(struct vdev *dev)
{
    int error = vdev_claim(dev, VDEV_MMIO, PLATFORM_IOAPIC_BASE, WINDOW_SIZE, vioapic_access);

    if (error == 0) {
        dev->vm->ioapic = dev;
    }
    return error;
}

static int vioapic_transfer(struct vioapic *io, struct vdev_stream *s)
{
    int error = s->transfer(s, io->entry, sizeof(io->entry));

    if (error == 0) {
        error = s->transfer(s, &io->line, sizeof(io->line));
    }
    if (error == 0) {
        error = s->transfer(s, &io->id, sizeof(io->id));
    }
    if (error == 0) {
        error = s->transfer(s, &io->select, sizeof(io->select));
    }
    return error;
}

static int vioapic_save(struct vdev *dev, struct vdev_stream *out)
{
    return vioapic_transfer(vdev_state(dev), out);
}

static int vioapic_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vioapic *io = vdev_state(dev);
    int error = vioapic_transfer(io, in);

    io->select &= 0xff;
    return error;
}

const struct vdev_class vioapic_class = {
    .name = "vioapic",
    .state_size = sizeof(struct vioapic),
    .version = 1,
    .create = vioapic_create,
    .reset = vioapic_reset,
    .save = vioapic_save,
    .load = vioapic_load,
};
